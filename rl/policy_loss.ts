/** The loss of policy-gradient methods for each token: ratio, surrogate, correction, KL, in this order. */

import type { Tensor } from "../tensor/mod.ts";
import {
  cispo,
  clippedSurrogate,
  type KlEstimator,
  klPenalty,
  logRatio,
  sequenceLogRatio,
  softSurrogate,
} from "./loss.ts";

export interface PolicyLossForm {
  /** ρ of each token, or of the sequence: exp of the mean of log ρ (GSPO). */
  readonly ratioLevel: "token" | "sequence";
  readonly surrogate: "clip" | "cispo" | "soft";
  readonly clipLow: number;
  readonly clipHigh: number;
  /** Largest ratio: of cispo's weight, or before the clip (TRL's delta); null: none. */
  readonly ratioCap: number | null;
  /** Where A < 0 the loss is at most -dualClip·A; null: off. */
  readonly dualClip: number | null;
  /** τ of the soft gate where A > 0, and where it is not. */
  readonly softPositive: number;
  readonly softNegative: number;
  readonly klCoefficient: number;
  readonly klEstimator: KlEstimator | null;
}

/** What a batch brings: all f32 [b t] but mask (bool [b t]) and advantage ([b 1] or [b t]). */
export interface PolicyParts {
  readonly logProbs: Tensor;
  readonly old: Tensor;
  readonly mask: Tensor;
  readonly advantage: Tensor;
  /** Log-probabilities of the reference: the KL term's; undefined: none. */
  readonly reference?: Tensor | undefined;
  /** Importance weights of the answers, see importance.ts; undefined: 1. */
  readonly importance?: Tensor | undefined;
}

export interface TokenLosses {
  /** [b t]; 0 outside of the mask, whatever stands there. */
  readonly values: Tensor;
  /** log ρ of each token, [b t]; or of each sequence, [b 1]. */
  readonly ratio: Tensor;
  /** The KL estimate of each token, without its coefficient. */
  readonly kl: Tensor | undefined;
}

/** importance · surrogate(ρ, A) + β·KL for each token. */
export function policyTokenLosses(parts: PolicyParts, form: PolicyLossForm): TokenLosses {
  const { logProbs, old, mask, advantage, reference, importance } = parts;
  const tokens = logRatio(logProbs, old, mask);
  const ratio = form.ratioLevel === "token" ? tokens : sequenceLogRatio(tokens, mask);
  let values = surrogate(ratio, mask.where(logProbs, 0), advantage, form);
  if (importance !== undefined) values = values.mul(importance);
  values = mask.where(values, 0);
  if (reference === undefined || form.klEstimator === null) return { values, ratio, kl: undefined };
  const difference = mask.where(logProbs.sub(reference), 0);
  const kl = klPenalty(difference, form.klEstimator, tokens);
  return { values: values.add(kl.mul(form.klCoefficient)), ratio, kl };
}

function surrogate(
  ratio: Tensor,
  logProbs: Tensor,
  advantage: Tensor,
  form: PolicyLossForm,
): Tensor {
  const { clipLow, clipHigh, ratioCap, dualClip, softPositive, softNegative } = form;
  switch (form.surrogate) {
    case "clip":
      return clippedSurrogate(ratio, advantage, {
        ...{ low: clipLow, high: clipHigh, ratioCap, dualClip },
      });
    case "cispo":
      return cispo(ratio, logProbs, advantage, { cap: ratioCap ?? Number.MAX_VALUE });
    case "soft":
      return softSurrogate(ratio, advantage, { positive: softPositive, negative: softNegative });
  }
}
