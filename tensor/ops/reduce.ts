/** Reductions: sum, mean, max, min over any axes; argmax, top-k and running sums over the last. */

import { type Call, fused, missing, primitive, type ReferenceCall, type Unary } from "../op.ts";
import { formatShape, rowMajor, type Shape, ShapeError } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { type Axes, reducedAxes } from "./axes.ts";
import { larger } from "./order.ts";
import * as wasm from "./wasm/reduce.ts";
import * as norms from "./wgsl/norms.ts";
import * as wgsl from "./wgsl/reduce.ts";

type Reduction = Call<[x: Tensor, axes?: Axes]>;

function reducedShape(shape: Shape, options: Axes): number[] {
  const { axes, keepDims } = reducedAxes(shape.length, options);
  return shape.flatMap((n, axis) => (axes.includes(axis) ? (keepDims ? [1] : []) : [n]));
}

/** For each input element: calls `visit` with its place in the output. */
function eachReduced(
  { inputs: [x], outputs: [out], options }: ReferenceCall<Axes, string>,
  visit: (value: number, at: number, out: Float64Array) => void,
): void {
  const { shape, data } = x!;
  const { axes } = reducedAxes(shape.length, options);
  const kept = rowMajor(shape.map((n, axis) => (axes.includes(axis) ? 1 : n)));
  const strides = rowMajor(shape);
  data.forEach((value, i) => {
    let at = 0;
    for (let axis = 0; axis < shape.length; axis++) {
      if (!axes.includes(axis)) at += (Math.floor(i / strides[axis]!) % shape[axis]!) * kept[axis]!;
    }
    visit(value, at, out!.data);
  });
}

/** The reduced tensor with its axes put back as size 1, so that it broadcasts with the input. */
function restored(t: Tensor, x: Tensor, options: Axes): Tensor {
  return t.reshape(
    reducedShape(x.shape, { axes: reducedAxes(x.rank, options).axes, keepDims: true }),
  );
}

const sampleAxes = (least: number) => (draw: import("../op.ts").Draw) => {
  const shape = draw.shape(0, 3).map((n) => Math.max(n, least));
  const axes = shape.map((_, i) => i).filter(() => draw.int(0, 1) === 1);
  return { inputs: [{ shape }], options: { axes, keepDims: draw.int(0, 1) === 1 } as Axes };
};

/** Σ x over `axes`; over no element it is 0. */
export const sum: Reduction = primitive<Axes>({
  arity: 1,
  shape: ([x], options) => [reducedShape(x!, options)],
  reference: (call) =>
    eachReduced(call, (value, at, out) => {
      out[at]! += value;
    }),
  vjp: (g, [x], { options }) => [restored(g, x!, options)],
  keeps: "nothing",
  wasm: wasm.sum,
  wgsl: wgsl.sum,
  sample: sampleAxes(0),
});

/** Σ x / n over `axes`; over no element it is NaN. */
export const mean: Reduction = fused<Axes>({
  arity: 1,
  shape: ([x], options) => [reducedShape(x!, options)],
  composed: ([x], options) => {
    const { axes } = reducedAxes(x!.rank, options);
    return x!.sum(options).mul(1 / axes.reduce((n, axis) => n * x!.shape[axis]!, 1));
  },
  wasm: missing("a sum and one multiplication"),
  wgsl: missing("a sum and one multiplication"),
  sample: sampleAxes(1),
});

function extremum(
  name: string,
  start: number,
  pick: (a: number, b: number) => number,
  kernel: typeof wasm.max,
  program: typeof wgsl.max,
) {
  return primitive<Axes>({
    arity: 1,
    shape: ([x], options) => {
      const { axes } = reducedAxes(x!.length, options);
      const empty = axes.find((axis) => x![axis] === 0);
      if (empty !== undefined) throw new ShapeError(`${name}: axis ${empty} has no element`);
      return [reducedShape(x!, options)];
    },
    reference: (call) => {
      call.outputs[0]!.data.fill(start);
      eachReduced(call, (value, at, out) => {
        out[at] = pick(out[at]!, value);
      });
    },
    vjp: (g, [x], { outputs: [y], options }) => {
      const { axes } = reducedAxes(x!.rank, options);
      const hit = x!.equal(restored(y!, x!, options)).toF32();
      return [hit.mul(restored(g, x!, options)).div(hit.sum({ axes, keepDims: true }))];
    },
    keeps: "both",
    wasm: kernel,
    wgsl: program,
    sample: sampleAxes(1),
  });
}

/** The largest element over `axes`; equal ones share the gradient. */
export const max: Reduction = extremum("max", -Infinity, Math.max, wasm.max, wgsl.max);

/** The smallest element over `axes`; equal ones share the gradient. */
export const min: Reduction = extremum("min", Infinity, Math.min, wasm.min, wgsl.min);

/** Σ x² of all elements: one number. */
export const sumOfSquares: Unary = fused({
  arity: 1,
  shape: () => [[]],
  composed: ([x]) => x!.square().sum(),
  wasm: wasm.sumOfSquares,
  wgsl: norms.sumOfSquares,
  sample: (draw) => ({ inputs: [{ shape: draw.shape(0, 3) }], options: undefined }),
});

/** √(Σ x²) over all elements of a list of tensors: one number. */
export const globalNorm: Call<[tensors: readonly Tensor[]]> = fused({
  arity: "list",
  shape: () => [[]],
  composed: (tensors) =>
    tensors
      .map((t) => t.sumOfSquares())
      .reduce((total, square) => total.add(square))
      .sqrt(),
  vjp: (g, tensors, { outputs: [norm] }) => {
    // At 0, where the norm has a kink, the gradient is 0.
    const slope = norm!.equal(0).where(0, g.div(norm!.equal(0).where(1, norm!)));
    return tensors.map((t) => t.mul(slope));
  },
  keeps: "both",
  wasm: wasm.globalNorm,
  wgsl: norms.globalNorm,
  sample: (draw) => {
    const inputs = Array.from({ length: draw.int(1, 3) }, () => ({ shape: draw.shape(0, 2) }));
    return { inputs, options: undefined };
  },
});

/** Index of the largest element of the last axis, the first of equal ones; a NaN is the largest. */
export const argmax: Unary = primitive({
  arity: 1,
  shape: ([x]) => {
    if (x!.length === 0 || x!.at(-1) === 0) {
      throw new ShapeError(`argmax: the last axis of ${formatShape(x!)} has no element`);
    }
    return [x!.slice(0, -1)];
  },
  types: { inputs: ["f32"], outputs: ["i32"] },
  reference: ({ inputs: [x], outputs: [out] }) => {
    const n = x!.shape.at(-1)!;
    for (let row = 0; row < out!.data.length; row++) {
      let best = 0;
      for (let i = 1; i < n; i++) {
        if (larger(x!.data[row * n + i]!, x!.data[row * n + best]!)) best = i;
      }
      out!.data[row] = best;
    }
  },
  vjp: missing("an index is not differentiable"),
  wasm: wasm.argmax,
  wgsl: wgsl.argmax,
  sample: (draw) => {
    const shape = [...draw.shape(0, 2), Math.max(1, draw.size())];
    return { inputs: [{ shape }], options: undefined };
  },
});

/**
 * The k largest of the last axis, largest first, and their indices: [values, indices]. Of equal ones
 * the first comes first; NaN counts as larger than every number.
 */
export const topK: Call<[x: Tensor, k: number], [values: Tensor, indices: Tensor]> =
  primitive<number>({
    arity: 1,
    shape: ([x], k) => {
      const n = x!.at(-1) ?? 0;
      if (!(Number.isInteger(k) && k >= 0 && k <= n)) {
        throw new ShapeError(`topK: k is ${k}, the last axis has ${n} elements`);
      }
      const shape = [...x!.slice(0, -1), k];
      return [shape, shape];
    },
    types: { inputs: ["f32"], outputs: ["f32", "i32"] },
    reference: ({ inputs: [x], outputs: [values, indices], options: k }) => {
      const n = x!.shape.at(-1)!;
      for (let row = 0; row * n < x!.data.length; row++) {
        const line = x!.data.subarray(row * n, (row + 1) * n);
        const order = Array.from(line.keys()).sort((a, b) => {
          const [x, y] = [line[a]!, line[b]!];
          return Number(larger(y, x)) - Number(larger(x, y)) || a - b;
        });
        for (let i = 0; i < k; i++) {
          values!.data[row * k + i] = line[order[i]!]!;
          indices!.data[row * k + i] = order[i]!;
        }
      }
    },
    vjp: (g, [x], { outputs: [, indices] }) => [g.scatterAlong(indices!, x!.shape.at(-1)!)],
    keeps: "both",
    wasm: wasm.topK,
    wgsl: wgsl.topK,
    sample: (draw) => {
      const shape = [...draw.shape(0, 2), Math.max(1, draw.size())];
      return { inputs: [{ shape }], options: draw.int(1, shape.at(-1)!) };
    },
  });

/** Running sum over the last axis: yᵢ = Σ_{j<=i} xⱼ, or with `reverse` Σ_{j>=i} xⱼ. */
export const cumulativeSum: Call<[x: Tensor, options?: { reverse: boolean }]> = primitive<
  { reverse: boolean } | undefined,
  "... n -> ... n"
>({
  shape: "... n -> ... n",
  reference: ({ inputs: [x], outputs: [out], dims: { batch, n }, options }) => {
    for (let row = 0; row < batch; row++) {
      let total = 0;
      for (let i = 0; i < n; i++) {
        const at = row * n + (options?.reverse ? n - 1 - i : i);
        total += x!.data[at]!;
        out!.data[at] = total;
      }
    }
  },
  vjp: (g, _, { options }) => [g.cumulativeSum({ reverse: !options?.reverse })],
  keeps: "nothing",
  sampleOptions: { reverse: true },
  tolerance: 1e-4, // f32 running sums
  wasm: wasm.cumulativeSum,
  wgsl: wgsl.cumulativeSum,
});
