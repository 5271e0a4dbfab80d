/** Softmax and its kin over the last axis; log-probability of one class; sampling a class. */

import { broadcasting, type Call, fused, missing, primitive, type Unary } from "../op.ts";
import type { Tensor } from "../tensor.ts";
import * as wasm from "./wasm/softmax.ts";
import * as wgsl from "./wgsl/softmax.ts";

/** max and Σ exp(x - max) of one row; the sum is 0 where the row holds only -∞ or nothing. */
function rowStatistics(
  data: Float64Array,
  from: number,
  n: number,
): { top: number; total: number } {
  let top = -Infinity;
  for (let i = 0; i < n; i++) top = Math.max(top, data[from + i]!);
  let total = 0;
  // Not `top >`: a NaN among the elements makes the sum NaN.
  if (top !== -Infinity) for (let i = 0; i < n; i++) total += Math.exp(data[from + i]! - top);
  return { top, total };
}

/** exp(x - max) / Σ exp(x - max). A row of nothing but -∞ gives zeros, never NaN. */
export const softmax: Unary = primitive({
  shape: "... n -> ... n",
  reference: ({ inputs: [x], outputs: [y], dims: { batch, n } }) => {
    for (let row = 0; row < batch; row++) {
      const { top, total } = rowStatistics(x!.data, row * n, n);
      for (let i = row * n; i < (row + 1) * n; i++) {
        y!.data[i] = total === 0 ? 0 : Math.exp(x!.data[i]! - top) / total;
      }
    }
  },
  vjp: (g, _, { outputs: [y] }) => [g.softmaxVjp(y!)],
  keeps: "outputs",
  wasm: wasm.softmax,
  wgsl: wgsl.softmax,
});

/** dx = y(g - Σ g·y) for y = softmax(x). */
export const softmaxVjp: Call<[g: Tensor, y: Tensor]> = fused({
  shape: "... n, ... n -> ... n",
  composed: ([g, y]) => y!.mul(g!.sub(g!.mul(y!).sum({ axes: -1, keepDims: true }))),
  wasm: wasm.softmaxVjp,
  wgsl: wgsl.softmaxVjp,
});

/** x - max - log Σ exp(x - max). */
export const logSoftmax: Unary = primitive({
  shape: "... n -> ... n",
  reference: ({ inputs: [x], outputs: [y], dims: { batch, n } }) => {
    for (let row = 0; row < batch; row++) {
      const { top, total } = rowStatistics(x!.data, row * n, n);
      const shift = total === 0 ? 0 : top + Math.log(total);
      for (let i = row * n; i < (row + 1) * n; i++) y!.data[i] = x!.data[i]! - shift;
    }
  },
  vjp: (g, _, { outputs: [y] }) => [g.sub(y!.exp().mul(g.sum({ axes: -1, keepDims: true })))],
  keeps: "outputs",
  wasm: wasm.logSoftmax,
  wgsl: wgsl.logSoftmax,
});

/** log Σ exp(x), computed as max + log Σ exp(x - max); -∞ for a row of nothing but -∞. */
export const logSumExp: Unary = primitive({
  shape: "... n -> ...",
  reference: ({ inputs: [x], outputs: [y], dims: { batch, n } }) => {
    for (let row = 0; row < batch; row++) {
      const { top, total } = rowStatistics(x!.data, row * n, n);
      y!.data[row] = total === 0 ? -Infinity : top + Math.log(total);
    }
  },
  vjp: (g, [x]) => [g.reshape([...g.shape, 1]).mul(x!.softmax())],
  wasm: wasm.logSumExp,
  wgsl: wgsl.logSumExp,
});

/**
 * log softmax(logits)[target]: minus the cross-entropy, one number a row, and no array of
 * log-probabilities. A negative target means "ignore": 0, with gradient 0.
 */
export const gatherLogProb: Call<[logits: Tensor, targets: Tensor]> = fused({
  shape: "... v, ... -> ...",
  types: { inputs: ["f32", "i32"], outputs: ["f32"] },
  composed: ([logits, targets]) => {
    const index = targets!.maximum(0).reshape([...targets!.shape, 1]);
    const found = logits!.logSoftmax().takeAlong(index);
    return targets!.greaterEqual(0).where(found.reshape(found.shape.slice(0, -1)), 0);
  },
  vjp: (g, [logits, targets]) => [g.gatherLogProbVjp(logits!, targets!), null],
  wasm: wasm.gatherLogProb,
  wgsl: wgsl.gatherLogProb,
  sample: (draw) => {
    const shape = draw.shape(0, 2);
    const v = Math.max(1, draw.size());
    const own = { shape: broadcasting(draw, shape), dtype: "i32" } as const;
    const logits = { shape: [...broadcasting(draw, shape), v] };
    return { inputs: [logits, { ...own, low: -1, high: v - 1 }], options: undefined };
  },
});

/** dlogits = g·(onehot(target) - softmax(logits)); rows with a negative target give 0. */
export const gatherLogProbVjp: Call<[g: Tensor, logits: Tensor, targets: Tensor]> = fused({
  shape: "..., ... v, ... -> ... v",
  types: { inputs: ["f32", "f32", "i32"], outputs: ["f32"] },
  composed: ([g, logits, targets]) => {
    const classes = logits!.shape.at(-1)!;
    const kept = targets!.greaterEqual(0).where(g!, 0);
    const column = [...kept.shape, 1];
    const target = targets!.maximum(0).expand(kept.shape).reshape(column);
    const hit = kept.reshape(column).scatterAlong(target, classes);
    return hit.sub(kept.reshape(column).mul(logits!.softmax()));
  },
  wasm: wasm.gatherLogProbVjp,
  wgsl: wgsl.gatherLogProbVjp,
  sample: (draw) => {
    const shape = draw.shape(0, 2);
    const v = Math.max(1, draw.size());
    const own = { shape: broadcasting(draw, shape), dtype: "i32" } as const;
    const logits = { shape: [...broadcasting(draw, shape), v] };
    const g = { shape: broadcasting(draw, shape) };
    return { inputs: [g, logits, { ...own, low: -1, high: v - 1 }], options: undefined };
  },
});

/**
 * Draws a class from softmax(logits) by inversion: the first i with Σ_{j<=i} pⱼ > u, u in [0, 1).
 * The same logits and u give the same class.
 */
export const categorical: Call<[logits: Tensor, u: Tensor]> = primitive({
  shape: "... n, ... -> ...",
  types: { inputs: ["f32", "f32"], outputs: ["i32"] },
  reference: ({ inputs: [logits, u], outputs: [out], dims: { batch, n } }) => {
    for (let row = 0; row < batch; row++) {
      const { top, total } = rowStatistics(logits!.data, row * n, n);
      const goal = u!.data[row]! * total;
      let reached = 0;
      let last = 0;
      for (let i = 0; i < n && reached <= goal; i++) {
        const p = total === 0 ? 0 : Math.exp(logits!.data[row * n + i]! - top);
        // Rounding may leave the sum below u: then the last class that has any mass is taken.
        if (p > 0) last = i;
        reached += p;
      }
      out!.data[row] = last;
    }
  },
  vjp: missing("a sample is not differentiable"),
  wasm: wasm.categorical,
  wgsl: wgsl.categorical,
  sample: (draw) => {
    const shape = draw.shape(0, 2);
    const logits = { shape: [...shape, Math.max(1, draw.size())] };
    return { inputs: [logits, { shape, low: 0, high: 0.999 }], options: undefined };
  },
});
