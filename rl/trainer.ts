/** The loop of a run: ask, answer, reward, update; validate, log and save along the way. */

import type { Model } from "../eval/accuracy.ts";
import type { World } from "../eval/worlds/world.ts";
import { warmupConstant } from "../model/schedule.ts";
import { seedsOf, type TrainConfig } from "./config.ts";
import { requireQuestions, validate } from "./evaluate.ts";
import { advantagesOf, type UpdateReport, updatePolicy } from "./grpo.ts";
import type { Interrupt } from "./interrupt.ts";
import type { Progress } from "./progress.ts";
import { rewardOf } from "./reward.ts";
import { questionsOfStep, type Rollout, rollOut } from "./rollout.ts";
import type { Run } from "./run.ts";
import { checkpointFiles, type TrainState } from "./state.ts";

export interface Training {
  readonly run: Run<TrainConfig>;
  readonly world: World;
  /** Trained in place. */
  readonly policy: Model;
  /** Where training started: the reference of a KL penalty. */
  readonly base: Model;
  readonly state: TrainState;
  readonly progress: Progress;
  readonly interrupt: Interrupt;
}

/** Trains until the last step, or until validation stops improving. False: interrupted, and saved. */
export async function trainPolicy(training: Training): Promise<boolean> {
  const { run, world, policy, state, progress, interrupt } = training;
  const { config } = run;
  const { grpo: settings, evaluate, checkpoint } = config;
  const questions = requireQuestions(world, "train");
  const seed = seedsOf(config).rl;
  const reward = rewardOf(config);
  const schedule = warmupConstant({ peak: settings.learningRate, warmup: settings.warmup });
  if (state.step === 0) await validated(training);
  using stage = progress.stage(config.method, settings.steps, { from: state.step });
  while (state.step < settings.steps) {
    const { step } = state;
    const started = performance.now();
    // 1. Ask: some questions, a group of sampled answers to each.
    const asked = questionsOfStep(questions, { seed, step, count: settings.questionsPerStep });
    const rollouts = await rollOut(policy, world, asked, reward, { ...settings, seed, step });
    // 2. Learn: answers that did better than their group become likelier.
    const reference = settings.klCoefficient > 0 ? training.base.parameters : undefined;
    const learningRate = schedule(step);
    const updates = await updatePolicy(policy, state.optimizer, rollouts, settings, {
      learningRate,
      reference,
    });
    // 3. Write down what happened.
    state.step++;
    for (const { question, judgement } of rollouts) {
      if (judgement.correct && !state.firstSolved.has(question.id)) {
        state.firstSolved.set(question.id, step);
      }
    }
    const metrics = metricsOf(rollouts, updates, settings);
    const seconds = (performance.now() - started) / 1000;
    const row = { step, ...metrics, learning_rate: learningRate, step_time: seconds };
    const last = state.step === settings.steps;
    const validation =
      last || state.step % evaluate.every === 0 ? await validated(training, row) : undefined;
    if (validation === undefined) run.metrics.append(row);
    run.rollouts.append(...sampleRows(rollouts, step));
    stage.update(state.step, {
      reward: metrics.reward.toFixed(3),
      ...(validation && { validation: `${(100 * validation.accuracy).toFixed(1)} %` }),
    });
    // 4. Save, and stop where asked to.
    const stopping = await interrupt.check();
    const due = state.step % checkpoint.every === 0 || last || stopping;
    if (due && validation === undefined) await save(training, null);
    if (stopping && !last) return false;
    if (evaluate.patience > 0 && state.sinceBest >= evaluate.patience) {
      progress.print(`no better validation for ${evaluate.patience} in a row: stopped early`);
      break;
    }
  }
  stage.finish();
  return true;
}

/** Measures the validation questions, logs them with `row`, and saves a checkpoint with its score. */
async function validated(training: Training, row?: Record<string, unknown>) {
  const { run, world, policy, state } = training;
  const validation = await validate(policy, world, run.config);
  const better = validation.score > state.bestScore;
  state.bestScore = Math.max(state.bestScore, validation.score);
  state.sinceBest = better ? 0 : state.sinceBest + 1;
  run.metrics.append({
    ...(row ?? { step: -1 }),
    "validation/accuracy": validation.accuracy,
    "validation/probability": validation.probability,
  });
  await save(training, validation.score);
  return validation;
}

async function save({ run, world, policy, state }: Training, score: number | null): Promise<void> {
  const files = await checkpointFiles(policy, world, state);
  run.saveCheckpoint(state.step, files, { score, keep: run.config.checkpoint.keep });
}

const mean = (values: readonly number[]): number =>
  values.reduce((total, value) => total + value, 0) / Math.max(values.length, 1);

/** A step's figures, under the names that other trainers' dashboards know. */
function metricsOf(
  rollouts: readonly Rollout[],
  updates: readonly UpdateReport[],
  settings: TrainConfig["grpo"],
) {
  const scores = rollouts.map(({ judgement }) => judgement.score);
  const scored = scores.filter((score) => score !== null);
  const reward = mean(scored);
  const lengths = rollouts.map(({ tokens }) => tokens.length);
  const groups = rollouts.length / settings.groupSize;
  const advantages = advantagesOf(rollouts, settings);
  const flat = Array.from({ length: groups }, (_, g) =>
    advantages.subarray(g * settings.groupSize, (g + 1) * settings.groupSize).every((a) => a === 0),
  );
  const logProbs = rollouts.flatMap((rollout) => rollout.logProbs);
  return {
    reward,
    reward_std: Math.sqrt(mean(scored.map((score) => (score - reward) ** 2))),
    reward_null: scores.length - scored.length,
    frac_reward_zero_std: flat.filter(Boolean).length / groups,
    "completions/mean_length": mean(lengths),
    "completions/clipped_ratio": rollouts.filter((r) => !r.finished).length / rollouts.length,
    // -log π of what was sampled: its mean estimates the entropy of a token.
    entropy: -mean(logProbs),
    num_tokens: lengths.reduce((total, n) => total + n, 0),
    loss: mean(updates.map((update) => update.loss)),
    grad_norm: mean(updates.map((update) => update.gradNorm)),
    "clip_ratio/low_mean": mean(updates.map((update) => update.clippedLow)),
    "clip_ratio/high_mean": mean(updates.map((update) => update.clippedHigh)),
    "ratio/first_log_max": updates[0]?.maxLogRatio ?? 0,
    kl: updates.at(-1)?.kl ?? null,
  };
}

/** One group a step, in full: enough to read what the policy says and what it is paid for. */
function sampleRows(rollouts: readonly Rollout[], step: number): Record<string, unknown>[] {
  const { question } = rollouts[0]!;
  return rollouts
    .filter((rollout) => rollout.question === question)
    .map(({ text, judgement, logProbs, finished }) => ({
      ...{ step, question: question.promptText, gold: question.gold, answer: text },
      ...{ score: judgement.score, reason: judgement.reason, finished, logProbs },
    }));
}
