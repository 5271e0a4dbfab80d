/** How far an engine's log-probabilities are from ours: the importance ratios of its samples. */

import type { ModelConfig } from "../../model/config.ts";
import type { ParameterTree } from "../../model/parameters.ts";
import type { Samples } from "../../model/sample.ts";
import { sequenceLogProbs } from "../../model/score.ts";

export interface Mismatch {
  readonly tokens: number;
  /** Mean and largest |log(ours / theirs)| of a token. */
  readonly meanLogRatio: number;
  readonly maxLogRatio: number;
  /** Mean of ρ - 1 - log ρ with ρ = ours / theirs: estimates KL(theirs ‖ ours) of a token. */
  readonly kl: number;
  /** Share of tokens whose ratio is outside of [0.9, 1.1]. */
  readonly outside: number;
  /**
   * (Σw)² / (n·Σw²) of the answers' ratios w = ours / theirs, in (0, 1]: what share of the samples
   * is left of them once they are re-weighted (Kish's effective sample size).
   */
  readonly effectiveShare: number;
}

/**
 * Compares log-probabilities of the same tokens, an answer a row. 0, 0 and 1 where one engine samples
 * and trains; bf16 on a GPU moves single tokens by several hundredths. A RangeError where the shapes
 * differ or there is no token.
 */
export function mismatch(
  ours: readonly (readonly number[])[],
  theirs: readonly (readonly number[])[],
): Mismatch {
  if (ours.length !== theirs.length) {
    throw new RangeError(`mismatch: ${ours.length} answers of ours, ${theirs.length} of theirs`);
  }
  const sums: number[] = [];
  let [tokens, total, largest, kl, outside] = [0, 0, 0, 0, 0];
  ours.forEach((row, i) => {
    if (row.length !== theirs[i]!.length) {
      throw new RangeError(
        `mismatch: answer ${i} has ${row.length} and ${theirs[i]!.length} tokens`,
      );
    }
    let sum = 0;
    row.forEach((own, t) => {
      const d = own - theirs[i]![t]!;
      sum += d;
      total += Math.abs(d);
      largest = Math.max(largest, Math.abs(d));
      kl += Math.expm1(d) - d;
      if (d < Math.log(0.9) || d > Math.log(1.1)) outside++;
      tokens++;
    });
    sums.push(sum);
  });
  if (tokens === 0) throw new RangeError("mismatch: no tokens to compare");
  // Shifted by the largest, so that no weight overflows; the share does not depend on it.
  const top = sums.reduce((a, b) => Math.max(a, b));
  const weights = sums.map((sum) => Math.exp(sum - top));
  const sum = weights.reduce((a, b) => a + b, 0);
  const squares = weights.reduce((a, b) => a + b * b, 0);
  return {
    tokens,
    meanLogRatio: total / tokens,
    maxLogRatio: largest,
    kl: kl / tokens,
    outside: outside / tokens,
    effectiveShare: (sum * sum) / (weights.length * squares),
  };
}

/** Scores an engine's samples with our own weights; `samplesPerPrompt` of each prompt in order. */
export async function mismatchOf(
  { parameters, config }: { parameters: ParameterTree; config: ModelConfig },
  prompts: readonly (readonly number[])[],
  { tokens, logProbs }: Pick<Samples, "tokens" | "logProbs">,
  { temperature = 1 }: { temperature?: number } = {},
): Promise<Mismatch> {
  const each = tokens.length / prompts.length;
  const repeated = tokens.map((_, row) => prompts[Math.floor(row / each)]!);
  const ours = await sequenceLogProbs(parameters, config, repeated, tokens, { temperature });
  return mismatch(ours, logProbs);
}

/** One line for a log. */
export const mismatchText = (m: Mismatch): string =>
  `|log(ours/theirs)| of ${m.tokens} tokens: mean ${m.meanLogRatio.toExponential(1)}, max ` +
  `${m.maxLogRatio.toExponential(1)}; ${(100 * m.outside).toFixed(1)} % outside [0.9, 1.1]; ` +
  `effective sample size ${(100 * m.effectiveShare).toFixed(1)} %`;
