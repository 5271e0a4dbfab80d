/** Preference losses on pairs of answers, one value for each pair. */

import type { Tensor } from "../tensor/mod.ts";

export const preferenceForms = ["sigmoid", "hinge", "ipo", "ipoMean"] as const;

export interface PreferenceForm {
  readonly form: (typeof preferenceForms)[number];
  readonly beta: number;
  /** Probability that a pair's labels are swapped (sigmoid only). */
  readonly labelSmoothing: number;
}

/**
 * Losses of pairs from Δ = (log π - log ref)(chosen) - (log π - log ref)(rejected), [n] -> [n].
 * sigmoid: -(1 - s)·log σ(βΔ) - s·log σ(-βΔ) (DPO, https://arxiv.org/abs/2305.18290 eq. 7; smoothed:
 * cDPO). hinge: max(0, 1 - βΔ) (https://arxiv.org/abs/2305.10425). ipo: (Δ - 1/(2β))²
 * (https://arxiv.org/abs/2310.12036 eq. 17), with log-probabilities summed over tokens as the paper
 * and OpenRLHF have it; ipoMean: the same on means over tokens, as TRL has it.
 */
export function preferenceLoss(delta: Tensor, form: PreferenceForm): Tensor {
  const { beta, labelSmoothing: s } = form;
  switch (form.form) {
    case "sigmoid": {
      // -log σ(x) = softplus(-x), which neither overflows nor loses small values.
      const margin = delta.mul(beta);
      const right = margin.neg().softplus();
      return s === 0 ? right : right.mul(1 - s).add(margin.softplus().mul(s));
    }
    case "hinge":
      return delta.mul(-beta).add(1).relu();
    case "ipo":
    case "ipoMean":
      return delta.sub(1 / (2 * beta)).square();
  }
}
