/** Causal attention with grouped heads and a KV cache, and SwiGLU. */

import { arange } from "../create.ts";
import { type Call, type Draw, fused, missing } from "../op.ts";
import { formatShape, ShapeError, sameShape } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import * as wasm from "./wasm/attention.ts";
import * as wgsl from "./wgsl/attention.ts";
import { causalSoftmax as causalSoftmaxWgsl } from "./wgsl/softmax.ts";

/**
 * softmax(scale · scores) over the keys that each query may see: key j is visible to query t of
 * row b iff j <= positions[b, t]. Invisible keys get exactly 0. scores [b h t s], positions i32 [b t].
 */
export const causalSoftmax: Call<[scores: Tensor, positions: Tensor, options: { scale: number }]> =
  fused<{ scale: number }, "b h t s, b t -> b h t s">({
    shape: "b h t s, b t -> b h t s",
    types: { inputs: ["f32", "i32"], outputs: ["f32"] },
    composed: ([scores, positions], { scale }) => {
      const [b, , t, s] = scores!.shape as [number, number, number, number];
      const last = positions!.reshape([b, 1, t, 1]);
      const keys = arange(s, { device: positions!.device }).reshape([1, 1, 1, s]);
      return keys.lessEqual(last).where(scores!.mul(scale), -Infinity).softmax();
    },
    vjp: (g, _, { outputs: [p], options }) => [g.softmaxVjp(p!).mul(options.scale), null],
    keeps: "outputs",
    wasm: wasm.causalSoftmax,
    wgsl: causalSoftmaxWgsl,
    sample: (draw) => {
      const [b, h, t, s] = [draw.int(1, 2), draw.int(1, 2), draw.size(), Math.max(1, draw.size())];
      const positions = { shape: [b, t], dtype: "i32", low: 0, high: s - 1 } as const;
      return { inputs: [{ shape: [b, h, t, s] }, positions], options: { scale: 0.5 } };
    },
  });

/**
 * softmax(scale · q·kᵀ, causal) · v for each query head; `h / g` neighbouring query heads share a
 * key-value head (GQA, https://arxiv.org/abs/2305.13245).
 * q [b h t d], k and v [b g s d], positions i32 [b t] (see causalSoftmax) -> [b h t d].
 */
export const attention: Call<
  [q: Tensor, k: Tensor, v: Tensor, positions: Tensor, options: { scale: number }]
> = fused<{ scale: number }>({
  arity: 4,
  shape: ([q, k, v, positions]) => {
    const [b, h, t, d] = q!;
    const [, g, s] = k!;
    const rows = q!.length === 4 && sameShape(k!, [b!, g!, s!, d!]) && sameShape(v!, k!);
    if (rows && h! % g! === 0 && sameShape(positions!, [b!, t!])) return [q!];
    const shapes = [q!, k!, v!, positions!].map(formatShape).join(", ");
    throw new ShapeError(
      `attention: got ${shapes}, expected [b h t d], [b g s d], [b g s d], [b t] with g dividing h`,
    );
  },
  types: { inputs: ["real", "real", "real", "i32"], outputs: ["f32"] },
  composed: ([q, k, v, positions], { scale }) => {
    const [b, h, t, d] = q!.shape as [number, number, number, number];
    const [, g, s] = k!.shape as [number, number, number];
    // [b g (h/g·t) d]: the query heads of one group stand behind one another as more rows.
    const rows = q!.reshape([b, g, (h / g) * t, d]);
    const scores = rows.matmul(k!.transpose()).reshape([b, h, t, s]);
    const weights = scores.causalSoftmax(positions!, { scale });
    return weights
      .reshape([b, g, (h / g) * t, s])
      .matmul(v!)
      .reshape([b, h, t, d]);
  },
  vjp: (g, [q, k, v, positions], { options }) => [
    ...g.attentionVjp(q!, k!, v!, positions!, options),
    null,
  ],
  wasm: wasm.attention,
  wgsl: wgsl.attention,
  tolerance: 1e-4,
  sample: (draw) => {
    const { query, cache, positions } = drawAttention(draw);
    return { inputs: [query, cache, cache, positions], options: { scale: 0.5 } };
  },
});

function drawAttention(draw: Draw) {
  const [b, g, per, d] = [draw.int(1, 2), draw.int(1, 2), draw.int(1, 3), draw.int(1, 9)];
  const [t, s] = [draw.size(), Math.max(1, draw.size())];
  const positions = { shape: [b, t], dtype: "i32", low: 0, high: s - 1 } as const;
  return { query: { shape: [b, g * per, t, d] }, cache: { shape: [b, g, s, d] }, positions };
}

/**
 * Gradients of `attention` for the cotangent g of its result. With P the weights and dP = g·vᵀ:
 * dS = P(dP - Σ P·dP), dq = scale·dS·k, dk = scale·dSᵀ·q, dv = Pᵀ·g; dk and dv are summed over the
 * heads of a group. P is computed anew, so nothing of size [t s] outlives the forward pass.
 */
export const attentionVjp: Call<
  [g: Tensor, q: Tensor, k: Tensor, v: Tensor, positions: Tensor, options: { scale: number }],
  [dq: Tensor, dk: Tensor, dv: Tensor]
> = fused<{ scale: number }>({
  arity: 5,
  shape: ([g, q, k, v]) => {
    if (sameShape(g!, q!)) return [q!, k!, v!];
    const [got, want] = [formatShape(g!), formatShape(q!)];
    throw new ShapeError(`attentionVjp: the cotangent has shape ${got}, expected q's ${want}`);
  },
  types: { inputs: ["f32", "real", "real", "real", "i32"], outputs: ["f32", "f32", "f32"] },
  composed: ([cotangent, q, k, v, positions], { scale }) => {
    const [b, h, t, d] = q!.shape as [number, number, number, number];
    const [, groups, s] = k!.shape as [number, number, number];
    const asRows = [b, groups, (h / groups) * t, d];
    const [rows, g] = [q!.reshape(asRows), cotangent!.reshape(asRows)];
    const scores = rows.matmul(k!.transpose()).reshape([b, h, t, s]);
    const weights = scores
      .causalSoftmax(positions!, { scale })
      .reshape([b, groups, (h / groups) * t, s]);
    const slopes = g.matmul(v!.transpose()).softmaxVjp(weights).mul(scale);
    return [
      slopes.matmul(k!).reshape([b, h, t, d]),
      slopes.transpose().matmul(rows),
      weights.transpose().matmul(g),
    ];
  },
  wasm: wasm.attentionVjp,
  wgsl: wgsl.attentionVjp,
  tolerance: 1e-4,
  sample: (draw) => {
    const { query, cache, positions } = drawAttention(draw);
    return { inputs: [query, query, cache, cache, positions], options: { scale: 0.5 } };
  },
});

/** silu(gate) · up: the gated unit of https://arxiv.org/abs/2002.05202. */
export const swiGlu: Call<[gate: Tensor, up: Tensor]> = fused({
  shape: "..., ... -> ...",
  types: { inputs: ["real", "real"], outputs: ["f32"] },
  composed: ([gate, up]) => gate!.silu().mul(up!),
  expression: (gate, up) => gate.mul(gate.sigmoid()).mul(up),
  vjp: (g, [gate, up]) => g.swiGluVjp(gate!, up!),
  wasm: missing("emitted from the expression"),
  wgsl: missing("emitted from the expression"),
});

/** With s = sigmoid(gate): dgate = g·up·s(1 + gate(1 - s)), dup = g·gate·s. */
export const swiGluVjp: Call<[g: Tensor, gate: Tensor, up: Tensor], [dgate: Tensor, dup: Tensor]> =
  fused({
    shape: "..., ..., ... -> ..., ...",
    types: { inputs: ["f32", "real", "real"], outputs: ["f32", "f32"] },
    composed: ([g, gate, up]) => {
      const s = gate!.sigmoid();
      const slope = s.mul(gate!.mul(s.neg().add(1)).add(1));
      return [g!.mul(up!).mul(slope), g!.mul(gate!.mul(s))];
    },
    expression: (g, gate, up) => {
      const s = gate.sigmoid();
      const slope = s.mul(gate.mul(s.neg().add(1)).add(1));
      return [g.mul(up).mul(slope), g.mul(gate.mul(s))];
    },
    wasm: missing("emitted from the expression"),
    wgsl: missing("emitted from the expression"),
  });
