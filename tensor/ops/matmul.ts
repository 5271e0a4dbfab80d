/** Matrix product, batched, in all four transposes. */

import { type Call, primitive } from "../op.ts";
import { asRows } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import * as wasm from "./wasm/matmul.ts";
import * as wgsl from "./wgsl/matmul.ts";

/**
 * C = A·B over the last two axes; leading axes broadcast. dA = G·Bᵀ, dB = Aᵀ·G.
 * A transposed view costs nothing: transposing is a way of packing.
 */
export const matmul: Call<[a: Tensor, b: Tensor]> = primitive({
  shape: "... m k, ... k n -> ... m n",
  types: { inputs: ["real", "real"], outputs: ["f32"] },
  flops: ({ batch, m, k, n }) => 2 * batch * m * k * n,
  reference: ({ dims: { batch, m, k, n }, inputs: [a, b], outputs: [c] }) => {
    for (let at = 0; at < batch; at++) {
      for (let i = 0; i < m; i++) {
        for (let j = 0; j < n; j++) {
          let total = 0;
          for (let p = 0; p < k; p++) {
            total += a!.data[(at * m + i) * k + p]! * b!.data[(at * k + p) * n + j]!;
          }
          c!.data[(at * m + i) * n + j] = total;
        }
      }
    }
  },
  vjp: (g, [a, b]) => [g.matmul(b!.transpose()), weightGradient(g, a!, b!)],
  tolerance: 1e-4, // f32 sums over k
  wasm: wasm.matmul,
  wgsl: wgsl.matmul,
});

function weightGradient(g: Tensor, a: Tensor, b: Tensor): Tensor {
  // One matrix for all of the batch: a single product over all rows, not one for each and a sum.
  const shared = b.rank === 2 && a.rank > 2;
  const rows = shared ? a.reshape(asRows(a.shape)) : a;
  const from = shared ? g.reshape(asRows(g.shape)) : g;
  // For a transposed view dBᵀ is computed, so that the gradient of the stored matrix is packed.
  const transposed = b.strides.at(-1) !== 1 && b.strides.at(-2) === 1;
  return transposed ? from.transpose().matmul(rows).transpose() : rows.transpose().matmul(from);
}
