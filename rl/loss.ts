/** Policy losses, one value for each token, never reduced: aggregate.ts is the only way to a scalar. */

import type { Tensor } from "../tensor/mod.ts";

/**
 * log ρ = log π - log π_old, and 0 outside of the mask. The mask comes before any exp: a padded
 * position may hold anything, and exp of it would be infinite, with a NaN gradient.
 * logProbs, old: f32 [b t]; mask: bool [b t].
 */
export function logRatio(logProbs: Tensor, old: Tensor, mask: Tensor): Tensor {
  return mask.where(logProbs.sub(old), 0);
}

export interface ClipRange {
  readonly low: number;
  readonly high: number;
}

/**
 * -min(ρA, clip(ρ, 1-low, 1+high)·A) per token. PPO eq. 7, https://arxiv.org/abs/1707.06347; unequal
 * bounds: https://arxiv.org/abs/2503.14476. logRatio [b t], advantage [b 1] or [b t] -> [b t].
 */
export function clippedSurrogate(logRatio: Tensor, advantage: Tensor, clip: ClipRange): Tensor {
  const ratio = logRatio.exp();
  const clipped = ratio.clamp(1 - clip.low, 1 + clip.high);
  return ratio.mul(advantage).minimum(clipped.mul(advantage)).neg();
}

export type KlEstimator = "k1" | "k2" | "k3";

/**
 * KL(π ‖ reference) per token from d = log π - log reference on tokens of π: k1 = d, k2 = d²/2,
 * k3 = e^{-d} - 1 + d (http://joschu.net/blog/kl-approx.html). As a loss on on-policy tokens their
 * expected gradients differ: k1 gives 0, k2 gives ∇KL(π ‖ reference), k3 gives ∇KL(reference ‖ π).
 */
export function klPenalty(d: Tensor, estimator: KlEstimator): Tensor {
  if (estimator === "k1") return d;
  if (estimator === "k2") return d.square().mul(0.5);
  return d.neg().exp().sub(1).add(d);
}
