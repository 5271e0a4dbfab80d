/** The only way from per-token losses to a scalar: three means that are often confused. */

import type { Tensor } from "../tensor/mod.ts";

export type Aggregation = "tokenMean" | "sequenceMean" | "fixedLength";

/** What a step divides by; counted over the whole optimizer step before it is split. */
export interface Denominator {
  /** Tokens under the mask. */
  readonly tokens: number;
  readonly sequences: number;
  /** Longest answer that could have been given. */
  readonly maxLength: number;
}

/**
 * A weight for each token, so that the loss is Σ weight · value whatever part of the batch it is
 * computed on: it does not depend on order, padding, or the split into micro-batches.
 * tokenMean: 1/tokens (DAPO). sequenceMean: 1/(sequences · length of its sequence) (GRPO).
 * fixedLength: 1/(sequences · maxLength) (Dr. GRPO).
 */
export function tokenWeight(
  aggregation: Aggregation,
  length: number,
  { tokens, sequences, maxLength }: Denominator,
): number {
  if (length === 0) return 0;
  if (aggregation === "tokenMean") return 1 / tokens;
  if (aggregation === "sequenceMean") return 1 / (sequences * length);
  return 1 / (sequences * maxLength);
}

/** Σ weights · values over all tokens. values, weights [b t] -> scalar. */
export const weightedSum = (values: Tensor, weights: Tensor): Tensor => values.mul(weights).sum();
