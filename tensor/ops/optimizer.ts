/** Optimizer steps, in place on parameter and moments. */

import { type Call, missing, primitive } from "../op.ts";
import type { Tensor } from "../tensor.ts";
import * as wasm from "./wasm/optimizer.ts";

export interface AdamWOptions {
  readonly learningRate: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly eps: number;
  /** Decoupled: the parameter shrinks by learningRate · weightDecay before the step. */
  readonly weightDecay: number;
  /** 1 for the first update; the bias correction depends on it. */
  readonly step: number;
}

/**
 * One AdamW update (https://arxiv.org/abs/1711.05101) in place, for g = gradient · scale:
 * w ← w(1 - lr·wd); m ← β₁m + (1-β₁)g; v ← β₂v + (1-β₂)g²; w ← w - lr·m̂ / (√v̂ + eps) with m̂ =
 * m/(1-β₁ᵗ), v̂ = v/(1-β₂ᵗ). `scale` is a tensor of one element (the clipping factor), so that no
 * value has to be read back.
 */
export const adamW: Call<
  [weight: Tensor, gradient: Tensor, m: Tensor, v: Tensor, scale: Tensor, options: AdamWOptions],
  unknown
> = primitive<AdamWOptions>({
  arity: 5,
  shape: ([weight, ...others]) => {
    others.slice(0, 3).forEach((shape, i) => {
      if (`${shape}` !== `${weight}`) {
        const name = ["the gradient", "m", "v"][i];
        throw new Error(`adamW: ${name} has shape [${shape}], the weight [${weight}]`);
      }
    });
    return [];
  },
  types: { inputs: ["f32", "f32", "f32", "f32", "f32"], outputs: [] },
  updates: [0, 2, 3],
  reference: ({ inputs: [weight, gradient, m, v, scale], options }) => {
    const { learningRate, beta1, beta2, eps, weightDecay, step } = options;
    const [c1, c2] = [1 - beta1 ** step, 1 - beta2 ** step];
    for (let i = 0; i < weight!.data.length; i++) {
      const g = gradient!.data[i]! * scale!.data[0]!;
      m!.data[i] = beta1 * m!.data[i]! + (1 - beta1) * g;
      v!.data[i] = beta2 * v!.data[i]! + (1 - beta2) * g * g;
      const update = m!.data[i]! / c1 / (Math.sqrt(v!.data[i]! / c2) + eps);
      weight!.data[i] = weight!.data[i]! * (1 - learningRate * weightDecay) - learningRate * update;
    }
  },
  vjp: missing("writes in place"),
  wasm: wasm.adamW,
  sample: (draw) => {
    const shape = draw.shape(0, 2);
    const options = {
      learningRate: 0.1,
      beta1: 0.9,
      beta2: 0.95,
      eps: 1e-8,
      weightDecay: 0.01,
      step: draw.int(1, 5),
    };
    const v = { shape, low: 0.01, high: 1 };
    return { inputs: [{ shape }, { shape }, { shape }, v, { shape: [] }], options };
  },
});
