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

/**
 * Mean of log ρ over each sequence's tokens, [b t] -> [b 1]: GSPO's ratio is exp of it
 * (https://arxiv.org/abs/2507.18071 eq. 7). A sequence without tokens has 0.
 */
export function sequenceLogRatio(logRatio: Tensor, mask: Tensor): Tensor {
  const lengths = mask.toF32().sum({ axes: -1, keepDims: true });
  return logRatio.sum({ axes: -1, keepDims: true }).div(lengths.maximum(1));
}

export interface ClipRange {
  readonly low: number;
  readonly high: number;
  /** Ratios beyond it count as this one, clipped or not (TRL's delta); above 1 + high. */
  readonly ratioCap?: number | null;
  /** Where A < 0 the loss is at most -C·A: dual clip, https://arxiv.org/abs/1912.09729 eq. 10. */
  readonly dualClip?: number | null;
}

/**
 * -min(ρA, clip(ρ, 1-low, 1+high)·A) per token. PPO eq. 7, https://arxiv.org/abs/1707.06347; unequal
 * bounds: https://arxiv.org/abs/2503.14476. logRatio [b t] or [b 1], advantage [b 1] or [b t].
 */
export function clippedSurrogate(logRatio: Tensor, advantage: Tensor, clip: ClipRange): Tensor {
  const { low, high, ratioCap = null, dualClip = null } = clip;
  const ratio = logRatio.exp();
  const clipped = ratio.clamp(1 - low, 1 + high);
  const free = ratioCap === null ? ratio : ratio.minimum(ratioCap);
  const loss = free.mul(advantage).minimum(clipped.mul(advantage)).neg();
  if (dualClip === null) return loss;
  return advantage.less(0).where(loss.minimum(advantage.mul(-dualClip)), loss);
}

/**
 * CISPO: -sg(min(ρ, cap))·A·log π, so that a token with a large ratio keeps its gradient
 * (https://arxiv.org/abs/2506.13585 eq. 4). `cap` bounds the ratio itself: TRL's convention;
 * open-instruct's cap is 1 + its setting. logProbs must be 0 outside of the mask.
 */
export function cispo(
  logRatio: Tensor,
  logProbs: Tensor,
  advantage: Tensor,
  { cap }: { readonly cap: number },
): Tensor {
  const weight = logRatio.exp().minimum(cap).detach();
  return weight.mul(advantage).mul(logProbs).neg();
}

export interface SoftGate {
  /** Temperatures of the gate where A > 0, and where it is not. */
  readonly positive: number;
  readonly negative: number;
}

/**
 * SAPO: -(4/τ)·σ(τ(ρ - 1))·A, a gate that closes smoothly in place of a clip
 * (https://arxiv.org/abs/2511.20347). At ρ = 1 its gradient is that of -ρA.
 */
export function softSurrogate(logRatio: Tensor, advantage: Tensor, gate: SoftGate): Tensor {
  const distance = logRatio.exp().sub(1);
  const side = (τ: number) =>
    distance
      .mul(τ)
      .sigmoid()
      .mul(4 / τ);
  return advantage.greater(0).where(side(gate.positive), side(gate.negative)).mul(advantage).neg();
}

export type KlEstimator = "k1" | "k2" | "k3" | "ratioK3";

/**
 * KL(π ‖ reference) per token from d = log π - log reference on tokens of π: k1 = d, k2 = d²/2,
 * k3 = e^{-d} - 1 + d (http://joschu.net/blog/kl-approx.html), ratioK3 = ρ·k3. As a loss on on-policy
 * tokens their expected gradients differ: k1 gives 0, k2 and ratioK3 give ∇KL(π ‖ reference), k3
 * gives ∇KL(reference ‖ π). ratioK3 needs logRatio, whose gradient is what it is for.
 */
export function klPenalty(d: Tensor, estimator: KlEstimator, logRatio?: Tensor): Tensor {
  if (estimator === "k1") return d;
  if (estimator === "k2") return d.square().mul(0.5);
  const k3 = d.neg().exp().sub(1).add(d);
  if (estimator === "k3") return k3;
  if (logRatio === undefined) throw new TypeError("klPenalty: ratioK3 needs the log-ratio");
  return logRatio.exp().mul(k3);
}

/**
 * ½·max((V - R)², (clip(V, V_old ± range) - R)²) per token; range null: ½(V - R)². All [b t], 0
 * outside of the mask. PPO's value loss as OpenAI's baselines have it.
 */
export function valueLoss(
  values: Tensor,
  old: Tensor,
  returns: Tensor,
  { range }: { readonly range: number | null },
): Tensor {
  const free = values.sub(returns).square();
  if (range === null) return free.mul(0.5);
  const near = old.add(values.sub(old).clamp(-range, range));
  return free.maximum(near.sub(returns).square()).mul(0.5);
}

/** -Σ p·log p of softmax(logits), in nats: [… v] -> […]. */
export function entropy(logits: Tensor): Tensor {
  const logProbs = logits.logSoftmax();
  return logProbs.exp().mul(logProbs).sum({ axes: -1 }).neg();
}
