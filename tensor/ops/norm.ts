/** RMSNorm and LayerNorm over the last axis, with their backward passes as fused ops. */

import { type Call, fused } from "../op.ts";
import { asRows } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import * as wasm from "./wasm/norm.ts";
import * as wgsl from "./wgsl/norm.ts";

export interface Epsilon {
  readonly eps: number;
}
const last = { axes: -1, keepDims: true } as const;

/** Σ over all axes but the last: the gradient of a weight that every row shares. */
const overRows = (t: Tensor): Tensor => t.reshape(asRows(t.shape)).sum(0);

/** x / √(mean x² + eps) · w, https://arxiv.org/abs/1910.07467. */
export const rmsNorm: Call<[x: Tensor, weight: Tensor, options: Epsilon]> = fused<
  Epsilon,
  "... n, n -> ... n"
>({
  shape: "... n, n -> ... n",
  composed: ([x, w], { eps }) => x!.mul(x!.square().mean(last).add(eps).rsqrt()).mul(w!),
  vjp: (g, [x, w], { options }) => g.rmsNormVjp(x!, w!, options),
  sampleOptions: { eps: 0.1 },
  wasm: wasm.rmsNorm,
  wgsl: wgsl.rmsNorm,
});

/** With r = 1/√(mean x² + eps), x̂ = x·r: dx = r(g·w - x̂·mean(g·w·x̂)), dw = Σ g·x̂. */
export const rmsNormVjp: Call<
  [g: Tensor, x: Tensor, weight: Tensor, options: Epsilon],
  [dx: Tensor, dw: Tensor]
> = fused<Epsilon, "... n, ... n, n -> ... n, n">({
  shape: "... n, ... n, n -> ... n, n",
  composed: ([g, x, w], { eps }) => {
    const r = x!.square().mean(last).add(eps).rsqrt();
    const unit = x!.mul(r);
    const gw = g!.mul(w!);
    return [r.mul(gw.sub(unit.mul(gw.mul(unit).mean(last)))), overRows(g!.mul(unit))];
  },
  sampleOptions: { eps: 0.1 },
  tolerance: 1e-4, // sums over all rows in f32
  wasm: wasm.rmsNormVjp,
  wgsl: wgsl.rmsNormVjp,
});

/** (x - mean) / √(variance + eps) · w + b, https://arxiv.org/abs/1607.06450. */
export const layerNorm: Call<[x: Tensor, weight: Tensor, bias: Tensor, options: Epsilon]> = fused<
  Epsilon,
  "... n, n, n -> ... n"
>({
  shape: "... n, n, n -> ... n",
  // Two passes: E[x²] - E[x]² cancels in f32 where |mean| is much larger than the deviation.
  composed: ([x, w, b], { eps }) => {
    const centred = x!.sub(x!.mean(last));
    return centred.mul(centred.square().mean(last).add(eps).rsqrt()).mul(w!).add(b!);
  },
  vjp: (g, [x, w], { options }) => g.layerNormVjp(x!, w!, options),
  sampleOptions: { eps: 0.1 },
  tolerance: 1e-4, // a row of almost equal values is divided by its small deviation
  wasm: wasm.layerNorm,
  wgsl: wgsl.layerNorm,
});

/** With x̂ = (x - mean)·r: dx = r(g·w - mean(g·w) - x̂·mean(g·w·x̂)), dw = Σ g·x̂, db = Σ g. */
export const layerNormVjp: Call<
  [g: Tensor, x: Tensor, weight: Tensor, options: Epsilon],
  [dx: Tensor, dw: Tensor, db: Tensor]
> = fused<Epsilon, "... n, ... n, n -> ... n, n, n">({
  shape: "... n, ... n, n -> ... n, n, n",
  composed: ([g, x, w], { eps }) => {
    const centred = x!.sub(x!.mean(last));
    const r = centred.square().mean(last).add(eps).rsqrt();
    const unit = centred.mul(r);
    const gw = g!.mul(w!);
    const dx = r.mul(gw.sub(gw.mean(last)).sub(unit.mul(gw.mul(unit).mean(last))));
    return [dx, overRows(g!.mul(unit)), overRows(g!.expand(dx.shape))];
  },
  sampleOptions: { eps: 0.1 },
  tolerance: 1e-3, // as layerNorm, and sums over all rows
  wasm: wasm.layerNormVjp,
  wgsl: wgsl.layerNormVjp,
});
