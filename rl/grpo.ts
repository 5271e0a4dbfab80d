/**
 * Group relative policy optimisation: one step, from questions to new weights.
 *
 * Follows https://arxiv.org/abs/2402.03300 with the later variants as explicit settings. Differs
 * from the usual trainers: one engine samples and trains, to the same bits, so on policy the ratio
 * is exactly 1; rollouts whose advantage is 0 are not computed (their term is 0), though they count
 * in every mean; equal rollouts are computed once, with the weight of all; and normalisation is over
 * the whole optimizer step, never over a micro-batch.
 */

import type { Model } from "../eval/accuracy.ts";
import { type Batch, completionBatch } from "../model/batch.ts";
import type { AdamW } from "../model/optimizer.ts";
import { gradientsOf, type ParameterTree, requireGradients } from "../model/parameters.ts";
import { batchLogProbs } from "../model/score.ts";
import { noGrad, scope, type Tensor, tensor } from "../tensor/mod.ts";
import { groupAdvantages } from "./advantage.ts";
import { tokenWeight, weightedSum } from "./aggregate.ts";
import type { TrainConfig } from "./config.ts";
import { clippedSurrogate, klPenalty, logRatio } from "./loss.ts";
import type { Rollout } from "./rollout.ts";

export type GrpoSettings = TrainConfig["grpo"];

/** Equal rollouts (same question, answer and advantage) with all that their loss needs. */
export interface Example {
  readonly rollout: Rollout;
  readonly advantage: number;
  /** How many rollouts it stands for. */
  readonly count: number;
  /** Weight of each of its tokens in the loss of its optimizer step, for all of them together. */
  readonly weight: number;
}

export interface UpdateReport {
  readonly loss: number;
  readonly gradNorm: number;
  /** Share of trained tokens whose ratio was clipped from below and from above. */
  readonly clippedLow: number;
  readonly clippedHigh: number;
  /** max |log ρ|: 0 in the first update of a step, for one engine samples and trains. */
  readonly maxLogRatio: number;
  /** Mean KL estimate per token; null without a reference. */
  readonly kl: number | null;
}

/** Sequences that go through the model at a time; changes no result beyond rounding. */
const MICRO_BATCH = 256;

/** Rewards of a group -> advantages; a KL penalty in the reward is taken off first. */
export function advantagesOf(
  rollouts: readonly Rollout[],
  settings: GrpoSettings,
  penalties?: readonly number[],
): Float64Array {
  const rewards = rollouts.map(({ judgement: { score } }, i) =>
    score === null ? null : score - (penalties?.[i] ?? 0),
  );
  const { advantage: form, stdDdof, stdEpsilon } = settings;
  const ddof = stdDdof === 0 ? 0 : 1;
  return groupAdvantages(rewards, settings.groupSize, { form, ddof, epsilon: stdEpsilon });
}

/** Updates the policy on one batch of rollouts: `epochs` passes of `miniBatches` steps each. */
export async function updatePolicy(
  policy: Model,
  optimizer: AdamW,
  rollouts: readonly Rollout[],
  settings: GrpoSettings,
  options: { learningRate: number; reference: ParameterTree | undefined },
): Promise<UpdateReport[]> {
  const { epochs, miniBatches, klCoefficient, klPlacement } = settings;
  const penalised = klCoefficient > 0 && klPlacement === "reward" && options.reference;
  const penalties = penalised
    ? await klOfRollouts(policy, penalised, rollouts, settings)
    : undefined;
  const advantages = advantagesOf(rollouts, settings, penalties);
  const size = rollouts.length / miniBatches;
  const steps = Array.from({ length: miniBatches }, (_, i) =>
    examplesOf(rollouts.slice(i * size, (i + 1) * size), advantages.subarray(i * size), settings, {
      keepAll: klInLoss(settings),
    }),
  );
  const reports: UpdateReport[] = [];
  for (let epoch = 0; epoch < epochs; epoch++) {
    for (const examples of steps) {
      reports.push(await optimizerStep(policy, optimizer, examples, settings, options));
    }
  }
  return reports;
}

const klInLoss = ({ klCoefficient, klEstimator, klPlacement }: GrpoSettings): boolean =>
  klCoefficient > 0 && klPlacement === "loss" && klEstimator !== null;

/** Weights come from all rollouts of the optimizer step; those that can't move it are left out. */
function examplesOf(
  rollouts: readonly Rollout[],
  advantages: Float64Array,
  { aggregation, maxNewTokens }: GrpoSettings,
  { keepAll }: { keepAll: boolean },
): Example[] {
  const scored = rollouts.filter(({ judgement }) => judgement.score !== null);
  const tokens = scored.reduce((total, rollout) => total + rollout.tokens.length, 0);
  const denominator = { tokens, sequences: scored.length, maxLength: maxNewTokens };
  const distinct = new Map<string, Example>();
  rollouts.forEach((rollout, i) => {
    const advantage = advantages[i]!;
    if (advantage === 0 && !(keepAll && rollout.judgement.score !== null)) return;
    const key = `${rollout.question.id} ${advantage} ${rollout.tokens.join()}`;
    const count = (distinct.get(key)?.count ?? 0) + 1;
    const weight = count * tokenWeight(aggregation, rollout.tokens.length, denominator);
    distinct.set(key, { rollout, advantage, count, weight });
  });
  return [...distinct.values()];
}

interface StepOptions {
  readonly learningRate: number;
  readonly reference: ParameterTree | undefined;
}

/** One optimizer step: gradients of all micro-batches summed, clipped, applied; then it is observed. */
async function optimizerStep(
  policy: Model,
  optimizer: AdamW,
  examples: readonly Example[],
  settings: GrpoSettings,
  { learningRate, reference }: StepOptions,
): Promise<UpdateReport> {
  const sums = { loss: 0, low: 0, high: 0, largest: 0, kl: 0, tokens: 0 };
  requireGradients(policy.parameters);
  const batches = microBatches(examples);
  const { parts, norm } = scope(() => {
    let total: Map<string, Tensor> | undefined;
    const parts = batches.map((micro) => {
      const [observed, sum] = scope(() => {
        const { loss, ratio, kl } = microLoss(policy, micro, settings, reference);
        const sum = gradientsOf(loss, policy.parameters, total);
        return [[loss, ratio, kl].map((t) => t?.detach()), sum] as const;
      });
      total = sum;
      return observed;
    });
    // No rollout had an advantage: there is nothing to learn from, and no step is taken.
    return { parts, norm: total && optimizer.update(total, learningRate) };
  });
  for (const [i, [loss, ratio, kl]] of parts.entries()) {
    sums.loss += (await loss!.data())[0]!;
    sums.kl += (await kl?.data())?.[0] ?? 0;
    observe(sums, await ratio!.data(), batches[i]!, settings);
    for (const t of [loss, ratio, kl]) t?.dispose();
  }
  const gradNorm = (await norm?.data())?.[0] ?? 0;
  norm?.dispose();
  const share = (n: number): number => (sums.tokens === 0 ? 0 : n / sums.tokens);
  return {
    loss: sums.loss,
    gradNorm,
    clippedLow: share(sums.low),
    clippedHigh: share(sums.high),
    maxLogRatio: sums.largest,
    kl: klInLoss(settings) ? share(sums.kl) : null,
  };
}

/** Σ weight · (clipped surrogate + β·KL) over the tokens of a micro-batch. */
function microLoss(
  policy: Model,
  examples: readonly Example[],
  settings: GrpoSettings,
  reference: ParameterTree | undefined,
): { loss: Tensor; ratio: Tensor; kl: Tensor | undefined } {
  const { temperature, clipLow, clipHigh, klCoefficient, klEstimator } = settings;
  const batch = batchOf(examples);
  const logProbs = batchLogProbs(policy.parameters, policy.config, batch, { temperature }); // [b t]
  const { device } = logProbs;
  const mask = tensor(
    batch.targets.map((target) => Number(target >= 0)),
    batch.shape,
    {
      dtype: "bool",
      device,
    },
  );
  const rows = examples.length;
  const advantage = tensor(
    examples.map((e) => e.advantage),
    [rows, 1],
    { device },
  );
  const weight = tensor(
    examples.map((e) => e.weight),
    [rows, 1],
    { device },
  );
  const ratio = logRatio(logProbs, sampledLogProbs(examples, batch), mask);
  let kl: Tensor | undefined;
  let values = clippedSurrogate(ratio, advantage, { low: clipLow, high: clipHigh });
  if (reference !== undefined && klEstimator !== null && klInLoss(settings)) {
    const base = noGrad(() => batchLogProbs(reference, policy.config, batch, { temperature }));
    const penalty = klPenalty(mask.where(logProbs.sub(base), 0), klEstimator);
    values = values.add(penalty.mul(klCoefficient));
    const counts = tensor(
      examples.map((e) => e.count),
      [rows, 1],
      { device },
    );
    kl = penalty.mul(counts).sum();
  }
  return { loss: weightedSum(values, mask.toF32().mul(weight)), ratio, kl };
}

function observe(
  sums: { low: number; high: number; largest: number; tokens: number },
  logRatios: ArrayLike<number>,
  examples: readonly Example[],
  { clipLow, clipHigh }: GrpoSettings,
): void {
  const width = logRatios.length / examples.length;
  examples.forEach(({ rollout, advantage, count }, i) => {
    const start = i * width + rollout.question.prompt.length - 1;
    for (let t = start; t < start + rollout.tokens.length; t++) {
      const ratio = Math.exp(logRatios[t]!);
      if (advantage < 0 && ratio < 1 - clipLow) sums.low += count;
      if (advantage > 0 && ratio > 1 + clipHigh) sums.high += count;
      sums.largest = Math.max(sums.largest, Math.abs(logRatios[t]!));
      sums.tokens += count;
    }
  });
}

/**
 * log π_old where the targets stand, [b t]: what the sampler reported. The model computes the same
 * bits when it samples and when it is trained, so before the first update the ratio is exactly 1.
 */
function sampledLogProbs(examples: readonly Example[], { shape }: Batch): Tensor {
  const [, width] = shape;
  const values = new Float64Array(shape[0] * width);
  examples.forEach(({ rollout }, i) => {
    values.set(rollout.logProbs, i * width + rollout.question.prompt.length - 1);
  });
  return tensor(values, shape);
}

/** β·Σ KL estimate over each rollout's tokens: what a KL penalty takes off its reward. */
async function klOfRollouts(
  policy: Model,
  reference: ParameterTree,
  rollouts: readonly Rollout[],
  settings: GrpoSettings,
): Promise<number[]> {
  const penalties: number[] = [];
  const { temperature, klEstimator, klCoefficient } = settings;
  const all = rollouts.map((rollout) => ({ rollout, advantage: 0, count: 1, weight: 0 }));
  for (const micro of microBatches(all)) {
    const batch = batchOf(micro);
    const values = scope(() =>
      noGrad(() => {
        const now = batchLogProbs(policy.parameters, policy.config, batch, { temperature });
        const base = batchLogProbs(reference, policy.config, batch, { temperature });
        // Outside of the answer both are 0, and so is every estimate.
        return klPenalty(now.sub(base), klEstimator ?? "k1")
          .sum(-1)
          .mul(klCoefficient);
      }),
    );
    penalties.push(...(await values.data()));
    values.dispose();
  }
  return penalties;
}

const batchOf = (examples: readonly Example[]) =>
  completionBatch(
    examples.map(({ rollout }) => rollout.question.prompt),
    examples.map(({ rollout }) => rollout.tokens),
  );

function microBatches<T>(examples: readonly T[]): T[][] {
  const count = Math.ceil(examples.length / MICRO_BATCH);
  return Array.from({ length: count }, (_, i) => {
    return examples.slice(i * MICRO_BATCH, (i + 1) * MICRO_BATCH);
  });
}
