/** Optimizer steps, in place on parameter and moments. */

import { type Block, type Call, missing, primitive } from "../op.ts";
import { type Shape, sizeOf } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import * as wasm from "./wasm/optimizer.ts";
import * as wgsl from "./wgsl/optimizer.ts";

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
    const scale = others[3]!;
    if (sizeOf(scale) !== 1) {
      throw new Error(`adamW: the scale has shape [${scale}], expected one element`);
    }
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
  reference: ({ inputs: [weight, gradient, m, v, scale], options }) =>
    update([weight!, gradient!, m!, v!], scale!.data[0]!, options),
  vjp: missing("writes in place"),
  wasm: wasm.adamW,
  wgsl: wgsl.adamW,
  sample: (draw) => {
    const shape = draw.shape(0, 2);
    const options = { ...sampleRates, weightDecay: 0.01, step: draw.int(1, 5) };
    return { inputs: [...drawnState(shape), { shape: [] }], options };
  },
});

/** adamW of all parameters in one launch; one weight decay for each of them. */
export interface AdamWAllOptions extends Omit<AdamWOptions, "weightDecay"> {
  readonly weightDecay: readonly number[];
}

/** adamW on each of [scale, weight, gradient, m, v, weight, gradient, m, v, …]. */
export const adamWAll: Call<[tensors: readonly Tensor[], options: AdamWAllOptions], unknown> =
  primitive<AdamWAllOptions>({
    arity: "list",
    shape: ([scale, ...shapes], { weightDecay }) => {
      const count = weightDecay.length;
      if (`${scale}` !== "" || shapes.length !== 4 * count) {
        throw new Error(
          `adamWAll: got a scale of shape [${scale}], ${shapes.length} tensors and ${count} ` +
            "weight decays; expected a scalar, and weight, gradient, m and v for each decay",
        );
      }
      shapes.forEach((shape, i) => {
        const weight = shapes[i - (i % 4)]!;
        if (`${shape}` === `${weight}`) return;
        const name = `${["weight", "gradient", "m", "v"][i % 4]} ${Math.floor(i / 4)}`;
        throw new Error(`adamWAll: ${name} has shape [${shape}], the weight [${weight}]`);
      });
      return [];
    },
    types: { inputs: ["f32"], outputs: [] },
    updates: (count) => Array.from({ length: count }, (_, i) => i).filter((i) => i % 4 !== 2 && i),
    reference: ({ inputs: [scale, ...state], options }) => {
      for (const [k, weightDecay] of options.weightDecay.entries()) {
        const own = state.slice(4 * k, 4 * k + 4);
        update(own, scale!.data[0]!, { ...options, weightDecay });
      }
    },
    vjp: missing("writes in place"),
    wasm: wasm.adamWAll,
    wgsl: wgsl.adamWAll,
    sample: (draw) => {
      const shapes = Array.from({ length: draw.int(1, 3) }, () => draw.shape(0, 2));
      const weightDecay = shapes.map((_, k) => 0.01 * k);
      const options = { ...sampleRates, weightDecay, step: draw.int(1, 5) };
      return { inputs: [{ shape: [] }, ...shapes.flatMap(drawnState)], options };
    },
  });

function update(
  [weight, gradient, m, v]: readonly Block[],
  scale: number,
  { learningRate, beta1, beta2, eps, weightDecay, step }: AdamWOptions,
): void {
  const [c1, c2] = [1 - beta1 ** step, 1 - beta2 ** step];
  for (let i = 0; i < weight!.data.length; i++) {
    const g = gradient!.data[i]! * scale;
    m!.data[i] = beta1 * m!.data[i]! + (1 - beta1) * g;
    v!.data[i] = beta2 * v!.data[i]! + (1 - beta2) * g * g;
    const change = m!.data[i]! / c1 / (Math.sqrt(v!.data[i]! / c2) + eps);
    weight!.data[i] = weight!.data[i]! * (1 - learningRate * weightDecay) - learningRate * change;
  }
}

const sampleRates = { learningRate: 0.1, beta1: 0.9, beta2: 0.95, eps: 1e-8 };
/** A weight, its gradient and moments, the second one positive. */
const drawnState = (shape: Shape) => [
  { shape },
  { shape },
  { shape },
  { shape, low: 0.01, high: 1 },
];
