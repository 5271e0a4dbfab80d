/**
 * Group relative policy optimisation and its family: one step, from questions to new weights.
 *
 * Follows https://arxiv.org/abs/2402.03300 with the later variants as explicit settings. Differs
 * from the usual trainers: one engine samples and trains, to the same bits (where a server samples,
 * log π_old is computed here), so on policy the ratio is exactly 1; rollouts whose advantage is 0 are
 * not computed (their term is 0), though they count in every mean; equal rollouts are computed once,
 * with the weight of all; and normalisation is over the whole optimizer step, never over a micro-batch.
 */

import type { Model } from "../../eval/accuracy.ts";
import { mergedWeight } from "../../model/lora.ts";
import {
  cloneParameters,
  disposeParameters,
  type ParameterTree,
  parameter,
} from "../../model/parameters.ts";
import { batchLogProbs } from "../../model/score.ts";
import { noGrad, scope } from "../../tensor/mod.ts";
import { groupAdvantages } from "../advantage.ts";
import type { TrainConfig } from "../config.ts";
import { correctionOf, importanceText, mismatchMetrics } from "../importance.ts";
import { klPenalty } from "../loss.ts";
import type { PolicyAnswer, PolicyReport } from "../policy_step.ts";
import type { PolicyOptions, Trainer } from "../policy_trainer.ts";
import { ofDistinct, questionsOfStep, type Rollout, rollOut } from "../rollout.ts";
import { batchOf, microBatches, miniBatches, weighed } from "../update.ts";
import { aggregationText, klText, samplingText } from "./mathematics.ts";
import { emptyMemory, type Method, type StepContext } from "./method.ts";

const ASKED = "asked";
const REFERENCE = "reference";
/** Steps that no other draw of randomness has, so that further rounds differ from the first. */
const ROUND = 10_000_000;

export const grpo: Method = {
  start({ grpo: { klCoefficient, reference } }, base) {
    const memory = emptyMemory();
    memory.numbers.set(ASKED, 0);
    if (klCoefficient > 0 && reference === "ema") {
      memory.trees.set(REFERENCE, cloneParameters(base.parameters));
    }
    return memory;
  },

  async step(context) {
    const { config, policy, base, trainer, memory, warmth } = context;
    // 1. Ask: some questions, a group of sampled answers to each.
    const { rollouts, asked } = await groups(context);
    // 2. Learn: answers that did better than their group become likelier.
    const reference =
      config.grpo.klCoefficient === 0
        ? undefined
        : (memory.trees.get(REFERENCE) ?? base.parameters);
    const learningRate = warmth * config.optimizer.learningRate;
    const updates = await updatePolicy(policy, trainer, rollouts, config, {
      learningRate,
      reference,
    });
    // 3. Remember.
    memory.numbers.set(ASKED, (memory.numbers.get(ASKED) ?? 0) + asked);
    follow(context);
    const { groupSize } = config.train;
    return { rollouts, metrics: { ...metricsOf(updates), num_asked: asked * groupSize } };
  },

  mathematics(config) {
    const { grpo, train } = config;
    return [
      `advantage    ${advantageText(grpo)}; a group is ${train.groupSize} answers to one question`,
      `token loss   ${surrogateText(grpo)}${updatesText(config)}`,
      `aggregation  ${aggregationText(grpo.aggregation, train)}`,
      `KL           ${klText(grpo)}`,
      ...(grpo.entropyCoefficient > 0 ? [`entropy      ${grpo.entropyCoefficient} · H added`] : []),
      ...(grpo.resampleRounds > 0
        ? [
            `resampling   groups without variance make room for others, ${grpo.resampleRounds} rounds`,
          ]
        : []),
      ...samplingText(config),
    ];
  },
};

/**
 * The groups that a step trains on, and how many questions were asked for them. With resampleRounds,
 * groups whose answers are all paid alike are left out and other questions asked in their place
 * (DAPO's dynamic sampling).
 */
async function groups(context: StepContext): Promise<{ rollouts: Rollout[]; asked: number }> {
  const { config, sampler, task, questions, reward, seed, step, memory } = context;
  const { questionsPerStep, groupSize } = config.train;
  const { resampleRounds } = config.grpo;
  const kept: Rollout[][] = [];
  let asked = 0;
  for (let round = 0; round <= resampleRounds && kept.length < questionsPerStep; round++) {
    const from = (memory.numbers.get(ASKED) ?? 0) + asked;
    const order = { seed, step, count: questionsPerStep, from };
    const draw = { ...config.train, seed, step: step + round * ROUND };
    const rollouts = await rollOut(sampler, task, questionsOfStep(questions, order), reward, draw);
    asked += questionsPerStep;
    const all = Array.from({ length: questionsPerStep }, (_, g) =>
      rollouts.slice(g * groupSize, (g + 1) * groupSize),
    );
    kept.push(...(resampleRounds === 0 ? all : all.filter(varies)));
  }
  return { rollouts: kept.slice(0, questionsPerStep).flat(), asked };
}

const varies = (group: readonly Rollout[]): boolean => {
  const scores = group.map(({ judgement }) => judgement.score).filter((score) => score !== null);
  return scores.some((score) => score !== scores[0]);
};

/** The moving average of the policy takes its step. */
function follow({ config, policy, memory }: StepContext): void {
  const average = memory.trees.get(REFERENCE);
  if (average === undefined) return;
  const keep = config.grpo.referenceDecay;
  const { lora, parameters } = policy;
  const now = (name: string) => (lora ? mergedWeight(lora, name) : parameter(parameters, name));
  const next = noGrad(
    () =>
      new Map(
        [...average].map(([name, t]) => [
          name,
          scope(() => t.mul(keep).add(now(name).mul(1 - keep))),
        ]),
      ),
  );
  disposeParameters(average);
  memory.trees.set(REFERENCE, next);
}

/** Rewards of groups -> advantages; a KL penalty in the reward is taken off first. */
export function advantagesOf(
  rollouts: readonly Rollout[],
  { grpo, train }: TrainConfig,
  penalties?: readonly number[],
): Float64Array {
  const rewards = rollouts.map(({ judgement: { score } }, i) =>
    score === null ? null : score - (penalties?.[i] ?? 0),
  );
  const { advantage: form, stdDdof, stdEpsilon, sign } = grpo;
  const ddof = stdDdof === 0 ? 0 : 1;
  const found = groupAdvantages(rewards, train.groupSize, { form, ddof, epsilon: stdEpsilon });
  if (sign === "both") return found;
  return found.map((a) => (a > 0 === (sign === "positive") ? a : 0));
}

/** Updates the policy on one batch of rollouts: `epochs` passes of `miniBatches` steps each. */
export async function updatePolicy(
  policy: Model,
  trainer: Trainer,
  rollouts: readonly Rollout[],
  config: TrainConfig,
  { learningRate, reference }: PolicyOptions,
): Promise<PolicyReport[]> {
  const { grpo, train } = config;
  const inLoss = grpo.klCoefficient > 0 && grpo.klPlacement === "loss" ? reference : undefined;
  const inReward = grpo.klCoefficient > 0 && grpo.klPlacement === "reward" ? reference : undefined;
  const penalties =
    inReward && (await ofDistinct(rollouts, (own) => klOfRollouts(policy, inReward, own, config)));
  const advantages = advantagesOf(rollouts, config, penalties);
  const correction = await correctionOf(policy, rollouts, config);
  const all = rollouts.map((rollout, i) => ({
    ...{ rollout, advantage: advantages[i]!, tokens: rollout.tokens },
    ...{ old: correction?.old[i] ?? rollout.logProbs, importance: correction?.weights[i] },
  }));
  // Here equal answers have equal probabilities; a server may say others of each (batches, bf16).
  const seen = (old: readonly number[]) => (config.trainer === undefined ? "" : old.join());
  const keepAll = inLoss !== undefined || grpo.entropyCoefficient > 0;
  const steps = miniBatches(all, train.miniBatches).map((part) =>
    weighed(
      part.filter(({ rollout }) => rollout.judgement.score !== null),
      grpo.aggregation,
      train.maxNewTokens,
      ({ rollout, advantage, importance, old }) =>
        advantage === 0 && !keepAll
          ? undefined
          : `${rollout.question.id} ${advantage} ${rollout.tokens.join()} ${importance?.join()} ${seen(old)}`,
      ({ rollout, advantage, tokens, old, importance }, _, count, weight): PolicyAnswer => ({
        ...{ prompt: rollout.question.prompt, tokens, count, weight, old, importance },
        advantages: tokens.map(() => advantage),
      }),
    ),
  );
  const settings = { ...grpo, temperature: train.temperature };
  const reports: PolicyReport[] = [];
  for (let epoch = 0; epoch < train.epochs; epoch++) {
    for (const answers of steps) {
      const options = { learningRate, reference: inLoss };
      reports.push(await trainer.policyStep(answers, settings, options));
    }
  }
  return reports;
}

/** β·Σ KL estimate over each rollout's tokens: what a KL penalty takes off its reward. */
async function klOfRollouts(
  policy: Model,
  reference: ParameterTree,
  rollouts: readonly Rollout[],
  { grpo, train }: TrainConfig,
): Promise<number[]> {
  const penalties: number[] = [];
  const { temperature } = train;
  const answers = rollouts.map(({ question: { prompt }, tokens }) => ({ prompt, tokens }));
  for (const micro of microBatches(answers, policy)) {
    const batch = batchOf(micro);
    const values = scope(() =>
      noGrad(() => {
        const now = batchLogProbs(policy.parameters, policy.config, batch, { temperature });
        const base = batchLogProbs(reference, policy.config, batch, { temperature });
        // Outside of the answer both are 0, and so is every estimate.
        return klPenalty(now.sub(base), grpo.klEstimator ?? "k1")
          .sum(-1)
          .mul(grpo.klCoefficient);
      }),
    );
    penalties.push(...(await values.data()));
    values.dispose();
  }
  return penalties;
}

const mean = (values: readonly number[]): number =>
  values.reduce((total, value) => total + value, 0) / Math.max(values.length, 1);

/** null where the loss has no such bound. */
const meanOf = (shares: readonly (number | null)[]): number | null => {
  const some = shares.filter((share) => share !== null);
  return some.length < shares.length ? null : mean(some);
};

/** null where a server that trains does not say. */
export const known = (figure: number): number | null => (Number.isNaN(figure) ? null : figure);

/** What the updates of a step looked like, under TRL's names; "first" is the first of them. */
export function metricsOf(updates: readonly PolicyReport[]): Record<string, number | null> {
  return {
    loss: mean(updates.map((update) => update.loss)),
    grad_norm: known(mean(updates.map((update) => update.gradNorm))),
    "clip_ratio/low_mean": meanOf(updates.map((update) => update.clippedLow)),
    "clip_ratio/high_mean": meanOf(updates.map((update) => update.clippedHigh)),
    "ratio/first_log_max": updates[0]?.maxLogRatio ?? 0,
    approximate_kl: updates.at(-1)?.approximateKl ?? 0,
    kl: updates.at(-1)?.kl ?? null,
    ...(updates[0]?.mismatch && mismatchMetrics(updates[0].mismatch)),
  };
}

function advantageText({ advantage, stdDdof, stdEpsilon, sign }: TrainConfig["grpo"]): string {
  const forms = {
    reward: "A = r",
    centred: "A = r - mean(r)",
    std: `A = (r - mean(r)) / (std(r) + ${stdEpsilon}), std over n - ${stdDdof}`,
    leaveOneOut: "A = r - mean(r of the others)",
    batchStd: `A = (r - mean(r)) / (std(all r of the step) + ${stdEpsilon}), std over n - ${stdDdof}`,
  };
  return forms[advantage] + (sign === "both" ? "" : `, only where ${sign}`);
}

function updatesText({ train, trainer }: TrainConfig): string {
  const updates = train.epochs * train.miniBatches;
  if (updates > 1) return `; ${updates} updates a step`;
  // A server samples and trains by engines of their own, which need not agree.
  return `; one update a step${trainer === undefined ? ", so ρ = 1 exactly" : ""}`;
}

function surrogateText(grpo: TrainConfig["grpo"]): string {
  const { ratioLevel, surrogate, clipLow, clipHigh, ratioCap, dualClip } = grpo;
  const ratio =
    ratioLevel === "token" ? "ρ = π/π_old" : "ρ = exp(mean of log π/π_old over the answer)";
  const free = ratioCap === null ? "ρ" : `min(ρ, ${ratioCap})`;
  const forms = {
    clip: `-min(${free}A, clip(ρ, ${1 - clipLow}, ${1 + clipHigh})·A), ${ratio}`,
    cispo: `-sg(min(ρ, ${ratioCap}))·A·log π, ${ratio}`,
    soft: `-(4/τ)σ(τ(ρ - 1))·A, τ ${grpo.softPositive} where A > 0, else ${grpo.softNegative}, ${ratio}`,
  };
  const bound =
    dualClip === null || surrogate !== "clip" ? "" : `, at most -${dualClip}A where A < 0`;
  return forms[surrogate] + bound + importanceText(grpo);
}
