/** An optimizer step of a policy-gradient method, and what it looked like. */

import type { Model } from "../eval/accuracy.ts";
import type { Mismatch } from "../eval/engines/mismatch.ts";
import type { Optimizer } from "../model/optimizer.ts";
import type { ParameterTree } from "../model/parameters.ts";
import { batchLogProbs, batchScores } from "../model/score.ts";
import { noGrad, type Tensor } from "../tensor/mod.ts";
import { weightedSum } from "./aggregate.ts";
import { type PolicyLossForm, policyTokenLosses } from "./policy_loss.ts";
import {
  type Answer,
  batchOf,
  maskOf,
  microBatches,
  placed,
  policyUpdate,
  tokensOf,
  weightsOf,
} from "./update.ts";

/** An answer of the policy, with all that its loss needs. */
export interface PolicyAnswer extends Answer {
  /** log π_old of its tokens, and their advantages. */
  readonly old: readonly number[];
  readonly advantages: readonly number[];
  /** Importance weights of its tokens; undefined: 1. */
  readonly importance: readonly number[] | undefined;
}

export interface PolicySettings extends PolicyLossForm {
  readonly temperature: number;
  readonly entropyCoefficient: number;
}

export interface PolicyReport {
  readonly loss: number;
  /** NaN: a server that trains does not say. */
  readonly gradNorm: number;
  /** Share of trained tokens whose ratio was clipped from below and from above; null: no clip. */
  readonly clippedLow: number | null;
  readonly clippedHigh: number | null;
  /** max |log ρ|: 0 in the first update of a step, for one engine samples and trains. */
  readonly maxLogRatio: number;
  /** Mean of (ρ - 1) - log ρ over tokens: how far the policy has moved from the one that sampled. */
  readonly approximateKl: number;
  /** Mean KL estimate per token against the reference; null without a KL term. */
  readonly kl: number | null;
  /** Mean entropy of a token's distribution; null where none is asked for. */
  readonly entropy: number | null;
  /** What sampled against what trains, where a server does both by engines of their own. */
  readonly mismatch?: Mismatch;
}

/** One step on Σ weight · (losses - c·entropy); `reference` undefined: no KL term. */
export async function policyStep(
  policy: Model,
  optimizer: Optimizer,
  answers: readonly PolicyAnswer[],
  settings: PolicySettings,
  { learningRate, reference }: { learningRate: number; reference: ParameterTree | undefined },
): Promise<PolicyReport> {
  const micros = microBatches(answers, policy);
  const update = await policyUpdate(policy, optimizer, micros, learningRate, (micro) =>
    microLoss(policy, micro, settings, reference),
  );
  const whole = settings.ratioLevel === "sequence";
  const logRatios: number[][] = [];
  const sums = { kl: 0, entropy: 0, tokens: 0 };
  update.observed.forEach(([ratios, kls, entropies], m) => {
    const micro = micros[m]!;
    micro.forEach(({ count, tokens }, i) => {
      logRatios.push(whole ? tokens.map(() => ratios![i]!) : tokensOf(ratios!, micro, i));
      sums.tokens += count * tokens.length;
      const total = (values: ArrayLike<number>) =>
        count * tokensOf(values, micro, i).reduce((a, b) => a + b, 0);
      if (reference) sums.kl += total(kls!);
      if (settings.entropyCoefficient > 0) sums.entropy += total(entropies!);
    });
  });
  const share = (n: number): number => (sums.tokens === 0 ? 0 : n / sums.tokens);
  return {
    ...{ loss: update.loss, gradNorm: update.gradNorm },
    ...ratioFigures(micros.flat(), logRatios, settings),
    kl: reference ? share(sums.kl) : null,
    entropy: settings.entropyCoefficient > 0 ? share(sums.entropy) : null,
  };
}

/** How far the ratios are from 1. `logRatios` has log ρ of each token of each answer. */
export function ratioFigures(
  answers: readonly PolicyAnswer[],
  logRatios: readonly (readonly number[])[],
  { surrogate, clipLow, clipHigh }: Pick<PolicySettings, "surrogate" | "clipLow" | "clipHigh">,
): Pick<PolicyReport, "clippedLow" | "clippedHigh" | "maxLogRatio" | "approximateKl"> {
  const sums = { low: 0, high: 0, largest: 0, moved: 0, tokens: 0 };
  answers.forEach(({ advantages, count }, i) => {
    logRatios[i]!.forEach((log, t) => {
      const ratio = Math.exp(log);
      const advantage = advantages[t]!;
      if (advantage < 0 && ratio < 1 - clipLow) sums.low += count;
      if (advantage > 0 && ratio > 1 + clipHigh) sums.high += count;
      sums.largest = Math.max(sums.largest, Math.abs(log));
      sums.moved += count * (ratio - 1 - log);
      sums.tokens += count;
    });
  });
  const share = (n: number): number => (sums.tokens === 0 ? 0 : n / sums.tokens);
  return {
    // CISPO and the soft gate have no such bounds.
    ...(surrogate === "clip"
      ? { clippedLow: share(sums.low), clippedHigh: share(sums.high) }
      : { clippedLow: null, clippedHigh: null }),
    ...{ maxLogRatio: sums.largest, approximateKl: share(sums.moved) },
  };
}

function microLoss(
  policy: Model,
  answers: readonly PolicyAnswer[],
  settings: PolicySettings,
  reference: ParameterTree | undefined,
): { loss: Tensor; observed: Tensor[] } {
  const { temperature, entropyCoefficient } = settings;
  const batch = batchOf(answers);
  const { parameters, config } = policy;
  const { logProbs, entropies } =
    entropyCoefficient > 0
      ? batchScores(parameters, config, batch, { temperature })
      : {
          logProbs: batchLogProbs(parameters, config, batch, { temperature }),
          entropies: undefined,
        };
  const weights = weightsOf(answers, batch);
  const corrected = answers.some(({ importance }) => importance !== undefined);
  const { values, ratio, kl } = policyTokenLosses(
    {
      ...{ logProbs, mask: maskOf(batch), old: placed(answers, batch, ({ old }) => old) },
      advantage: placed(answers, batch, ({ advantages }) => advantages),
      reference:
        reference && noGrad(() => batchLogProbs(reference, config, batch, { temperature })),
      importance: corrected
        ? placed(answers, batch, ({ importance, tokens }) => importance ?? tokens.map(() => 1))
        : undefined,
    },
    settings,
  );
  const losses = entropies ? values.sub(entropies.mul(entropyCoefficient)) : values;
  return { loss: weightedSum(losses, weights), observed: [ratio, kl ?? ratio, entropies ?? ratio] };
}
