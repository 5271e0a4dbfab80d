/** The loop of a run: ask, answer, reward, update; validate, log and save along the way. */

import { greedyAnswers, type Model } from "../eval/accuracy.ts";
import { mismatchText } from "../eval/engines/mismatch.ts";
import type { Task, TaskQuestion } from "../eval/task.ts";
import { type Schedule, warmupConstant, warmupCosine, warmupLinear } from "../model/schedule.ts";
import { latestCheckpoint } from "./checkpoints.ts";
import { seedsOf, type TrainConfig } from "./config.ts";
import { shuffledLabels } from "./controls.ts";
import { accuracyOf, asking, routerMetrics, validate } from "./evaluate.ts";
import { healthOf, healthText, type Metrics, newsOf } from "./health.ts";
import { engineMismatch, mismatchMetrics } from "./importance.ts";
import type { Interrupt } from "./interrupt.ts";
import { openReward } from "./judge_reward.ts";
import { methodOf } from "./methods/mod.ts";
import { type HeldTrainer, localTrainer } from "./policy_trainer.ts";
import type { Progress } from "./progress.ts";
import { questionsOf, validationQuestions } from "./questions.ts";
import { openSampler } from "./remote_sampler.ts";
import type { Rollout } from "./rollout.ts";
import type { Run } from "./run.ts";
import { checkpointFiles, type TrainState } from "./state.ts";
import type { Tracker } from "./tracking.ts";
import { UserError } from "./user_error.ts";

export interface Training {
  readonly run: Run<TrainConfig>;
  readonly task: Task;
  /** What training asks. */
  readonly questions: readonly TaskQuestion[];
  /** Trained in place. */
  readonly policy: Model;
  /** Where training started: the reference of a KL penalty. */
  readonly base: Model;
  readonly state: TrainState;
  /** A server that trains; absent: this process. */
  readonly trainer?: HeldTrainer | undefined;
  readonly progress: Progress;
  readonly interrupt: Interrupt;
  readonly tracker: Tracker;
}

/** Trains until the last step, or until validation stops improving. False: interrupted, and saved. */
export async function trainPolicy(training: Training): Promise<boolean> {
  const { run, state, progress, interrupt } = training;
  const { config } = run;
  const { train, evaluate, checkpoint } = config;
  const seed = seedsOf(config).rl;
  const asked = training.questions;
  const questions = train.labels === "gold" ? asked : shuffledLabels(asked, seed);
  const method = methodOf(config);
  const warmth = warmthOf(config);
  const print = (text: string) => progress.print(text);
  await using answering = openSampler({ ...training, config, dir: run.dir, print });
  const { sampler } = answering;
  const { optimizer, memory } = state;
  const trainer = training.trainer ?? localTrainer(training.policy, optimizer);
  const shared = { ...training, config, sampler, trainer, questions, seed };
  using paid = await openReward(config, run.dir, print);
  const { reward } = paid;
  const rows: Metrics[] = run.metrics.rows().filter(({ step }) => (step as number) >= 0);
  // Once: a run that was stopped in its first step has this row and its checkpoint.
  if (state.bestScore === Number.NEGATIVE_INFINITY) await validated(training);
  const first = state.step;
  using stage = progress.stage(config.method, train.steps, { from: state.step });
  // Asked before each step: a run that stopped early and was killed behind it takes no more of them.
  const stale = () => evaluate.patience > 0 && state.sinceBest >= evaluate.patience;
  interrupt.saves = true;
  while (state.step < train.steps && !stale()) {
    const { step } = state;
    const started = performance.now();
    // 1. Ask and learn: what a step does is the method's.
    const context = { ...shared, optimizer, memory, reward, step, warmth: warmth(step) };
    const { rollouts, metrics } = await answering
      .prepare(step)
      .then(() => method.step(context))
      .catch(stopped(run, step));
    const apart = engineMismatch(rollouts);
    if (apart && step === first) print(`${sampler.name} and we: ${mismatchText(apart)}`);
    // 2. Write down what happened.
    state.step++;
    for (const { question, judgement } of rollouts) {
      if (judgement.correct && !state.firstSolved.has(question.id)) {
        state.firstSolved.set(question.id, step);
      }
    }
    const figures = {
      ...{ step, ...rolloutMetrics(rollouts, train.groupSize), ...metrics },
      ...(apart && mismatchMetrics(apart)),
      learning_rate: warmth(step) * config.optimizer.learningRate,
      step_time: (performance.now() - started) / 1000,
    };
    const verdicts = healthOf([...rows, figures], config);
    const row = { ...figures, health: verdicts.map(({ id }) => id) };
    const news = newsOf(verdicts, rows);
    if (news.length > 0) progress.print(`step ${step}: ${healthText(news)}`);
    rows.push(row);
    // Before any checkpoint of this step, which says how long the logs are.
    if (rollouts.length > 0) run.rollouts.append(...sampleRows(rollouts, step));
    const last = state.step === train.steps;
    const validation =
      last || state.step % evaluate.every === 0
        ? await validated(training, row).catch(stopped(run, step))
        : undefined;
    if (validation === undefined) record(training, row);
    stage.update(state.step, {
      ...(figures.reward === undefined
        ? { loss: (metrics.loss ?? 0).toFixed(3) }
        : { reward: figures.reward?.toFixed(3) ?? "none" }),
      ...(validation && { validation: `${(100 * validation.accuracy).toFixed(1)} %` }),
    });
    // 3. Save, and stop where asked to.
    const stopping = await interrupt.check();
    const due = state.step % checkpoint.every === 0 || last || stopping;
    if (due && validation === undefined) await save(training, null);
    if (stopping && !last) return false;
  }
  if (stale()) {
    progress.print(`no better validation for ${evaluate.patience} in a row: stopped early`);
  }
  stage.finish();
  interrupt.saves = false;
  return true;
}

/** What went wrong in a step, and where to go on from: the checkpoints are whole. */
const stopped = (run: Run<TrainConfig>, step: number) => (error: unknown) => {
  if (!(error instanceof Error)) throw error;
  const last = latestCheckpoint(run.checkpoints);
  const rest =
    last === null
      ? "no checkpoint was saved yet"
      : `the checkpoint of step ${last.step} is whole: --resume ${run.dir} goes on from it`;
  const told = `step ${step}: ${error.message}; ${rest}`;
  if (error instanceof UserError) throw new UserError(told);
  error.message = told;
  throw error;
};

/** Measures the validation questions, logs them with `row`, and saves a checkpoint with its score. */
async function validated(training: Training, row?: Record<string, unknown>) {
  const { run, task, policy, state } = training;
  const validation = await validate(policy, task, run.config);
  const better = validation.score > state.bestScore;
  state.bestScore = Math.max(state.bestScore, validation.score);
  state.sinceBest = better ? 0 : state.sinceBest + 1;
  record(training, {
    ...(row ?? { step: -1 }),
    "validation/accuracy": validation.accuracy,
    "validation/probability": validation.probability,
    ...(training.trainer === undefined &&
      (await routerMetrics(policy, validationQuestions(task, run.config)))),
    ...(run.config.evaluate.curves && (await curvePoints(training))),
  });
  await save(training, validation.score);
  return validation;
}

/** Two more points of the run's curves. Nothing reads them: weights are chosen on validation alone. */
async function curvePoints({ run, task, questions, policy }: Training) {
  const accuracy = async (asked: readonly TaskQuestion[]): Promise<number> =>
    accuracyOf(await greedyAnswers(asking(policy, task, asked, run.config)));
  return {
    "heldout/accuracy": await accuracy(questionsOf(task, run.config, "test")),
    "train/accuracy": await accuracy(questions),
  };
}

function record({ run, tracker }: Training, row: Metrics): void {
  run.metrics.append(row);
  tracker.log(row);
}

async function save(training: Training, score: number | null): Promise<void> {
  const { run, task, policy, state, trainer } = training;
  const { data } = run.config;
  const files = await checkpointFiles(policy, task, state, data?.model ?? null, trainer);
  run.saveCheckpoint(state.step, files, { score, keep: run.config.checkpoint.keep });
}

const mean = (values: readonly number[]): number =>
  values.reduce((total, value) => total + value, 0) / Math.max(values.length, 1);

/** What the policy answered in a step, under the names that other trainers' dashboards know. */
export function rolloutMetrics(rollouts: readonly Rollout[], groupSize: number) {
  if (rollouts.length === 0) return {};
  const scores = rollouts.map(({ judgement }) => judgement.score);
  const scored = scores.filter((score) => score !== null);
  const reward = scored.length === 0 ? null : mean(scored);
  const lengths = rollouts.map(({ tokens }) => tokens.length);
  const groups = Array.from({ length: rollouts.length / groupSize }, (_, g) =>
    scores.slice(g * groupSize, (g + 1) * groupSize).filter((score) => score !== null),
  ).filter((group) => group.length > 0);
  const flat = groups.filter((group) => group.every((score) => score === group[0]));
  const logProbs = rollouts.flatMap((rollout) => rollout.logProbs);
  return {
    reward,
    reward_std:
      reward === null ? null : Math.sqrt(mean(scored.map((score) => (score - reward) ** 2))),
    reward_null: scores.length - scored.length,
    frac_reward_zero_std: groups.length === 0 ? null : flat.length / groups.length,
    "completions/mean_length": mean(lengths),
    "completions/clipped_ratio": rollouts.filter((r) => !r.finished).length / rollouts.length,
    // -log π of what was sampled: its mean estimates the entropy of a token.
    entropy: -mean(logProbs),
    num_tokens: lengths.reduce((total, n) => total + n, 0),
  };
}

/** The share of its peak that each optimizer's rate has at a step. */
function warmthOf({ train: { steps }, optimizer }: TrainConfig): Schedule {
  const { warmup, schedule, finalFraction } = optimizer;
  const rise = { peak: 1, warmup };
  if (schedule === "constant" || warmup === steps) return warmupConstant(rise);
  const decay = { ...rise, steps, floor: finalFraction };
  return schedule === "cosine" ? warmupCosine(decay) : warmupLinear(decay);
}

/** One group a step, in full: enough to read what the policy says and what it is paid for. */
function sampleRows(rollouts: readonly Rollout[], step: number): Record<string, unknown>[] {
  const { question } = rollouts[0]!;
  return rollouts
    .filter((rollout) => rollout.question === question)
    .map(({ text, judgement, logProbs, engineLogProbs, finished }) => ({
      ...{ step, question: question.promptText, gold: question.gold, answer: text },
      ...{ score: judgement.score, reason: judgement.reason, finished, logProbs },
      ...(engineLogProbs && { engineLogProbs }),
    }));
}
