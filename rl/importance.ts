/** Weights for answers that another policy sampled than the one that trains on them. */

import type { Model } from "../eval/accuracy.ts";
import { type Mismatch, mismatch } from "../eval/engines/mismatch.ts";
import type { TrainConfig } from "./config.ts";
import { ownLogProbs, type Rollout } from "./rollout.ts";

export interface ImportanceForm {
  /** A ratio for each token, or one for each answer: the product over its tokens. */
  readonly level: "token" | "sequence";
  /** Ratios beyond the cap count as the cap, or not at all. */
  readonly mode: "truncate" | "mask";
  readonly cap: number;
}

/**
 * π_old/π_rollout for each token of each answer, bounded: what a term of the loss is multiplied by
 * where an engine's log-probabilities (`rollout`) differ from the trainer's (`old`). They carry no
 * gradient. All answers must be as long in both.
 */
export function importanceWeights(
  old: readonly (readonly number[])[],
  rollout: readonly (readonly number[])[],
  { level, mode, cap }: ImportanceForm,
): number[][] {
  const bounded = (ratio: number): number => (ratio <= cap ? ratio : mode === "truncate" ? cap : 0);
  return old.map((line, i) => {
    const other = rollout[i]!;
    if (other.length !== line.length) {
      throw new RangeError(
        `importanceWeights: answer ${i} has ${line.length} and ${other.length} log-probabilities`,
      );
    }
    const differences = line.map((x, t) => x - other[t]!);
    if (level === "token") return differences.map((d) => bounded(Math.exp(d)));
    const whole = bounded(Math.exp(differences.reduce((a, b) => a + b, 0)));
    return differences.map(() => whole);
  });
}

/** The trainer's own log π_old, and weights for where the sampler's differ; undefined: none asked. */
export async function correctionOf(
  policy: Model,
  rollouts: readonly Rollout[],
  { grpo, train }: TrainConfig,
): Promise<{ old: readonly (readonly number[])[]; weights: number[][] } | undefined> {
  const { importance: level, importanceMode: mode, importanceCap: cap } = grpo;
  if (level === "none") return undefined;
  const engine = rollouts.flatMap(({ engineLogProbs }) => (engineLogProbs ? [engineLogProbs] : []));
  const own = rollouts.map(({ logProbs }) => logProbs);
  const [old, sampled] =
    engine.length === rollouts.length
      ? [own, engine]
      : [await ownLogProbs(policy, rollouts, train.temperature), own];
  return { old, weights: importanceWeights(old, sampled, { level, mode, cap }) };
}

/** The factor of a token's loss, for the header of a run. */
export function importanceText(grpo: TrainConfig["grpo"]): string {
  const { importance, importanceMode, importanceCap } = grpo;
  if (importance === "none") return "";
  const beyond = importanceMode === "mask" ? "0 beyond" : "at most";
  return `, times π_old/π_sampler of the ${importance}, ${beyond} ${importanceCap}`;
}

/** How far the engine that sampled is from the trainer; undefined where they are one, or of none. */
export function engineMismatch(rollouts: readonly Rollout[]): Mismatch | undefined {
  const engine = rollouts.flatMap(({ engineLogProbs }) => (engineLogProbs ? [engineLogProbs] : []));
  if (engine.length === 0) return undefined;
  return mismatch(
    rollouts.map(({ logProbs }) => logProbs),
    engine,
  );
}

/** Under the names of TRL and prime-rl. */
export const mismatchMetrics = ({ meanLogRatio, maxLogRatio, kl }: Mismatch) => ({
  "sampling/sampling_logp_difference/mean": meanLogRatio,
  "sampling/sampling_logp_difference/max": maxLogRatio,
  mismatch_kl: kl,
});
