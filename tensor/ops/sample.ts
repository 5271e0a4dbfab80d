/** Drawing classes from rows of logits: what decoding does with each new token. */

import { type Call, missing, primitive } from "../op.ts";
import { formatShape, ShapeError } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { checkIndices } from "./gather.ts";
import * as wasm from "./wasm/sample.ts";
import * as wgsl from "./wgsl/sample.ts";

/**
 * Draws sample i from softmax(logits[rows[i]]) by inversion: the first class whose running sum of
 * probabilities exceeds u = bits[i] / 2³² (bits read as unsigned). Gives the classes, and their
 * log-probabilities with the bits of gatherLogProb. The sums run in f64; a row of which nothing has
 * mass, or with a NaN, gives class 0 and a log-probability that is not finite.
 * logits [r v], rows and bits i32 [n] -> classes i32 [n], logProbs f32 [n].
 */
export const drawClasses: Call<
  [logits: Tensor, rows: Tensor, bits: Tensor],
  [classes: Tensor, logProbs: Tensor]
> = primitive({
  arity: 3,
  shape: ([logits, rows, bits]) => {
    const fits = logits!.length === 2 && logits![1]! > 0 && rows!.length === 1;
    if (fits && `${rows!}` === `${bits!}`) return [rows!, rows!];
    const shapes = [logits!, rows!, bits!].map(formatShape).join(", ");
    throw new ShapeError(`drawClasses: got ${shapes}, expected [r v], [n], [n] with v > 0`);
  },
  types: { inputs: ["f32", "i32", "i32"], outputs: ["i32", "f32"] },
  reference: ({ inputs: [logits, rows, bits], outputs: [classes, logProbs] }) => {
    const [r, v] = logits!.shape as [number, number];
    checkIndices("drawClasses", rows!.data, r);
    rows!.data.forEach((row, i) => {
      const line = logits!.data.subarray(row * v, (row + 1) * v);
      const top = line.reduce((most, x) => Math.max(most, x), -Infinity);
      const shift = top === -Infinity ? 0 : top;
      const total = line.reduce((sum, x) => sum + Math.exp(x - shift), 0);
      const goal = ((bits!.data[i]! >>> 0) / 2 ** 32) * total;
      let reached = 0;
      const found = line.findIndex((x) => {
        reached += Math.exp(x - shift);
        return reached > goal;
      });
      classes!.data[i] = Math.max(found, 0);
      logProbs!.data[i] = line[Math.max(found, 0)]! - shift - (total === 0 ? 0 : Math.log(total));
    });
  },
  vjp: missing("a sample is not differentiable"),
  wasm: wasm.drawClasses,
  wgsl: wgsl.drawClasses,
  sample: (draw) => {
    const [r, v] = [draw.int(1, 4), Math.max(1, draw.size())];
    const n = draw.size();
    const rows = { shape: [n], dtype: "i32", low: 0, high: r - 1 } as const;
    const bits = { shape: [n], dtype: "i32", low: -(2 ** 31), high: 2 ** 31 - 1 } as const;
    return { inputs: [{ shape: [r, v] }, rows, bits], options: undefined };
  },
});
