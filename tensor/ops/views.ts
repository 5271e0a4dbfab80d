/** Views: reshape, transpose, slice, expand move no element; contiguous and pad copy. */

import { type Call, primitive, viewing } from "../op.ts";
import {
  broadcastShapes,
  broadcastStrides,
  formatShape,
  normalAxis,
  reshapeStrides,
  type Shape,
  ShapeError,
  sameShape,
  sizeOf,
} from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import * as wasm from "./wasm/views.ts";
import * as wgsl from "./wgsl/views.ts";

const ANY = ["f32", "i32", "bool", "f16"] as const;

type View<O> = Call<[x: Tensor, options: O]>;

/** The same elements in row-major order under another shape; one size may be -1. */
export const reshape: View<Shape> = viewing<Shape>({
  shape: ([from], to) => [resolve(from!, to)],
  types: { inputs: ["T"], outputs: ["T"], T: ANY },
  view: ({ shape, strides, offset }, to) => {
    const target = resolve(shape, to);
    const stepped = reshapeStrides(shape, strides, target);
    return stepped && { shape: target, strides: stepped, offset };
  },
  vjp: (g, [x]) => [g.reshape(x!.shape)],
  keeps: "nothing",
  sample: (draw) => {
    const shape = draw.shape(0, 3);
    return { inputs: [{ shape }], options: [...shape].reverse() };
  },
});

const isSize = (n: number): boolean => Number.isInteger(n) && n >= 0;

function resolve(from: Shape, to: Shape): Shape {
  const known = sizeOf(to.filter((n) => n !== -1));
  const target = to.map((n) => (n === -1 ? sizeOf(from) / known : n));
  const unknowns = to.filter((n) => n === -1).length;
  if (unknowns > 1 || sizeOf(target) !== sizeOf(from) || !target.every(isSize)) {
    throw new ShapeError(`reshape: ${formatShape(from)} doesn't fit ${formatShape(to)}`);
  }
  return target;
}

/** Axes in another order; without an order the last two change places. */
export const transpose: Call<[x: Tensor, order?: readonly number[]]> = viewing<
  readonly number[] | undefined
>({
  shape: ([shape], order) => [orderOf(shape!, order).map((axis) => shape![axis]!)],
  types: { inputs: ["T"], outputs: ["T"], T: ANY },
  view: ({ shape, strides, offset }, order) => {
    const axes = orderOf(shape, order);
    return { shape: axes.map((a) => shape[a]!), strides: axes.map((a) => strides[a]!), offset };
  },
  vjp: (g, [x], { options }) => {
    const order = orderOf(x!.shape, options);
    return [g.transpose(order.map((_, axis) => order.indexOf(axis)))];
  },
  keeps: "nothing",
  sample: (draw) => {
    const shape = draw.shape(2, 4);
    const turn = draw.int(0, shape.length - 1);
    return { inputs: [{ shape }], options: shape.map((_, i) => (i + turn) % shape.length) };
  },
});

function orderOf({ length: rank }: Shape, order?: readonly number[]): number[] {
  if (order === undefined) {
    if (rank < 2) throw new ShapeError(`transpose: rank ${rank} has no two axes to exchange`);
    return Array.from({ length: rank }, (_, i) => (i < rank - 2 ? i : 2 * rank - 3 - i));
  }
  const axes = order.map((axis) => normalAxis(axis, rank, "transpose"));
  if (axes.length !== rank || new Set(axes).size !== rank) {
    throw new ShapeError(`transpose: order [${order}] doesn't name each of ${rank} axes once`);
  }
  return axes;
}

/** For each leading axis: all of it (null), or [from, to) with an optional step >= 1; negative counts from the end. */
export type Ranges = readonly (readonly [from: number, to?: number, step?: number] | null)[];

/** A window on the input. Axes keep their place; an axis cut to one element stays, with size 1. */
export const slice: View<Ranges> = viewing<Ranges>({
  shape: ([shape], ranges) => [windows(shape!, ranges).map(({ size }) => size)],
  types: { inputs: ["T"], outputs: ["T"], T: ANY },
  view: ({ shape, strides, offset }, ranges) => {
    const axes = windows(shape, ranges);
    return {
      shape: axes.map(({ size }) => size),
      strides: axes.map(({ step }, i) => strides[i]! * step),
      offset: axes.reduce((at, { from, size }, i) => (size ? at + from * strides[i]! : at), offset),
    };
  },
  vjp: (g, [x], { options }) => [
    g.scatterSlice({ shape: x!.shape, windows: windows(x!.shape, options) }),
  ],
  keeps: "nothing",
  sample: (draw) => {
    const shape = draw.shape(1, 3);
    const options = shape.map((n) => {
      const from = draw.int(0, n);
      return [from, draw.int(from, n), draw.int(1, 3)] as const;
    });
    return { inputs: [{ shape }], options };
  },
});

export interface Window {
  readonly from: number;
  readonly size: number;
  readonly step: number;
}

function windows(shape: Shape, ranges: Ranges): Window[] {
  if (ranges.length > shape.length) {
    throw new ShapeError(`slice: ${ranges.length} ranges for shape ${formatShape(shape)}`);
  }
  return shape.map((n, axis) => {
    const [first, last = n, step = 1] = ranges[axis] ?? [0];
    const from = first < 0 ? first + n : first;
    const to = last < 0 ? last + n : last;
    const whole = [first, last, step].every(Number.isInteger);
    if (!whole || from < 0 || to > n || from > to || step < 1) {
      throw new ShapeError(`slice: [${first}, ${last}, ${step}] of axis ${axis} with size ${n}`);
    }
    return { from, size: Math.ceil((to - from) / step), step };
  });
}

/** Repeats axes of size 1 (and new leading axes) to `shape`, by strides of 0. */
export const expand: View<Shape> = viewing<Shape>({
  shape: ([from], to) => {
    if (!to.every(isSize) || !sameShape(broadcastShapes([from!, to], "expand"), to)) {
      throw new ShapeError(`expand: ${formatShape(from!)} doesn't expand to ${formatShape(to)}`);
    }
    return [to];
  },
  types: { inputs: ["T"], outputs: ["T"], T: ANY },
  view: ({ shape, strides, offset }, to) => {
    return { shape: to, strides: broadcastStrides(shape, strides, to), offset };
  },
  vjp: (g) => [g],
  keeps: "nothing",
  sample: (draw) => {
    const shape = draw.shape(0, 3).map((n, i) => (i % 2 === 0 ? 1 : n));
    return {
      inputs: [{ shape }],
      options: [draw.size(), ...shape.map((n) => (n === 1 ? draw.size() : n))],
    };
  },
});

/** Zeros of `shape` with the input written at the windows: the transpose of slice. */
export const scatterSlice: View<{ shape: Shape; windows: readonly Window[] }> = primitive<{
  shape: Shape;
  windows: readonly Window[];
}>({
  arity: 1,
  shape: (_, { shape }) => [shape],
  reference: ({ inputs: [x], outputs: [out], options: { shape, windows } }) => {
    x!.data.forEach((value, i) => {
      let rest = i;
      let at = 0;
      let stride = 1;
      for (let axis = shape.length - 1; axis >= 0; axis--) {
        const { from, size, step } = windows[axis]!;
        at += (from + (rest % size) * step) * stride;
        rest = Math.floor(rest / size);
        stride *= shape[axis]!;
      }
      out!.data[at] = value;
    });
  },
  vjp: (g, _, { options: { windows } }) => [
    g.slice(
      windows.map(({ from, size, step }) => [
        from,
        size ? from + (size - 1) * step + 1 : from,
        step,
      ]),
    ),
  ],
  keeps: "nothing",
  wasm: wasm.scatterSlice,
  wgsl: wgsl.scatterSlice,
  sample: (draw) => {
    const windows = draw
      .shape(1, 3)
      .map((size) => ({ from: draw.int(0, 2), size, step: draw.int(1, 2) }));
    const shape = windows.map(({ from, size, step }) => from + size * step + 1);
    return { inputs: [{ shape: windows.map((w) => w.size) }], options: { shape, windows } };
  },
});

/** A packed row-major copy. */
export const contiguous: Call<[x: Tensor]> = primitive({
  shape: "... -> ...",
  types: { inputs: ["T"], outputs: ["T"], T: ANY },
  reference: ({ inputs: [x], outputs: [out] }) => out!.data.set(x!.data),
  vjp: (g) => [g],
  keeps: "nothing",
  wasm: wasm.contiguous,
  wgsl: wgsl.contiguous,
});

/**
 * A packed copy in two bytes an element: rounded to nearest even, subnormals kept, infinite from
 * 65,520 on. Rounding is ignored by the gradient, which is f32.
 */
export const toF16: Call<[x: Tensor]> = primitive({
  shape: "... -> ...",
  types: { inputs: ["f32"], outputs: ["f16"] },
  reference: ({ inputs: [x], outputs: [out] }) => out!.data.set(x!.data), // the device rounds
  vjp: (g) => [g],
  keeps: "nothing",
  straightThrough: "rounding is ignored",
  wasm: wasm.contiguous,
  wgsl: wgsl.contiguous,
});
