/** Running elementwise rows: layouts brought to rows and columns, broadcasting by their strides. */

import type { DType } from "../../dtype.ts";
import type { KernelCall } from "../../op.ts";
import { broadcastStrides, isContiguous, type Shape, sameShape, sizeOf } from "../../shape.ts";
import type { View } from "../device.ts";
import { type Expressed, elementCost, kernelName } from "./elementwise_kernel.ts";
import { address, packTo } from "./launch.ts";
import type { Machine } from "./machine.ts";

export { emitElementwise, isExpressed } from "./elementwise_kernel.ts";

/** Packed data is cut into rows of this many elements, so that one kernel serves all layouts. */
const CHUNK = 4096;

/** A nest of loops over the outputs: `outer` in JavaScript, rows and columns in the kernel. */
interface Nest {
  readonly outer: readonly number[];
  readonly rows: number;
  readonly cols: number;
  /** Strides in elements for each input: outer axes, then rows, then columns. */
  readonly strides: readonly (readonly number[])[];
}

/** Merges axes that all inputs walk through evenly; the last two that remain are rows and columns. */
export function nest(shape: Shape, strides: readonly (readonly number[])[]): Nest {
  const sizes: number[] = [];
  const walks: number[][] = strides.map(() => []);
  shape.forEach((n, axis) => {
    if (n === 1) return;
    const last = sizes.length - 1;
    const mergeable = last >= 0 && strides.every((s, i) => walks[i]![last] === s[axis]! * n);
    if (mergeable) {
      sizes[last]! *= n;
      strides.forEach((s, i) => {
        walks[i]![last] = s[axis]!;
      });
    } else {
      sizes.push(n);
      strides.forEach((s, i) => {
        walks[i]!.push(s[axis]!);
      });
    }
  });
  while (sizes.length < 2) {
    sizes.unshift(1);
    for (const walk of walks) walk.unshift(0);
  }
  const [cols, rows] = [sizes.pop()!, sizes.pop()!];
  return { outer: sizes, rows, cols, strides: walks };
}

/** Outer loops run in JavaScript: beyond this many turns a packed copy is cheaper. */
const MAXIMUM_TURNS = 64;

/** Runs a row's elementwise kernel on inputs that broadcast to the outputs' shape. */
export function runElementwise(machine: Machine, definition: Expressed, call: KernelCall): void {
  const { shape } = call.outputs[0]!;
  const T = typeOf(definition, call);
  const plain = (view: View) =>
    sameShape(view.shape, shape) && isContiguous(view.shape, view.strides);
  if (call.inputs.every(plain)) {
    const plan = {
      outer: [],
      rows: 1,
      cols: sizeOf(shape),
      strides: call.inputs.map(() => [0, 1]),
    };
    launch(machine, definition, T, plan, call.inputs, call.outputs);
    return;
  }
  const temporary: number[] = [];
  try {
    const strides = (view: View) => broadcastStrides(view.shape, view.strides, shape);
    const pack = (view: View): View => {
      const memory = machine.arena.allocate(sizeOf(view.shape) * 4);
      temporary.push(memory);
      packTo(machine, view, memory);
      const buffer = { memory, elements: sizeOf(view.shape), dtype: view.dtype };
      return { ...view, buffer, offset: 0, strides: packedStrides(view.shape) };
    };
    // A column stride other than 0 or 1 would need gathers.
    let inputs = call.inputs.map((view) => {
      const { strides: walks } = nest(shape, [strides(view)]);
      return walks[0]!.at(-1)! > 1 ? pack(view) : view;
    });
    let plan = nest(shape, inputs.map(strides));
    if (!fits(plan)) {
      inputs = inputs.map((view) => {
        return isContiguous(view.shape, view.strides) ? view : pack(view);
      });
      plan = nest(shape, inputs.map(strides));
    }
    if (!fits(plan)) {
      inputs = inputs.map((view) => pack({ ...view, shape, strides: strides(view) }));
      plan = nest(shape, inputs.map(strides));
    }
    launch(machine, definition, T, plan, inputs, call.outputs);
  } finally {
    for (const memory of temporary) machine.arena.free(memory);
  }
}

const fits = ({ outer, strides }: Nest): boolean =>
  outer.reduce((product, n) => product * n, 1) <= MAXIMUM_TURNS &&
  strides.every((walk) => walk.at(-1)! <= 1);

const packedStrides = (shape: Shape): number[] =>
  shape.map((_, axis) => shape.slice(axis + 1).reduce((product, n) => product * n, 1));

function typeOf(definition: Expressed, { inputs }: KernelCall): DType {
  const at = definition.types?.inputs.indexOf("T") ?? -1;
  return at < 0 ? "f32" : inputs[at]!.dtype;
}

function launch(
  machine: Machine,
  definition: Expressed,
  T: DType,
  plan: Nest,
  inputs: readonly View[],
  outputs: readonly View[],
): void {
  const { outer, strides } = plan;
  let { rows, cols } = plan;
  const total = rows * cols;
  const packed = rows === 1;
  if (packed) [rows, cols] = [Math.ceil(cols / CHUNK), Math.min(cols, CHUNK)];
  const turns = outer.reduce((product, n) => product * n, 1);
  const kernel = kernelName(definition.name, T);
  const work = total * elementCost(definition);
  const index = outer.map(() => 0);
  for (let turn = 0; turn < turns; turn++) {
    const args = inputs.flatMap((view, i) => {
      const walk = strides[i]!;
      const start = index.reduce((at, n, axis) => at + n * walk[axis]!, 0);
      const step = walk.at(-1)!;
      const row = packed ? step * cols : walk.at(-2)!;
      return [address(view) + start * 4, row * 4, step * 16];
    });
    for (const view of outputs) args.push(address(view) + turn * total * 4);
    machine.parallel(kernel, [...args, cols, total], rows, { grain: 1, work });
    for (let axis = outer.length - 1; axis >= 0 && ++index[axis]! === outer[axis]; axis--) {
      index[axis] = 0;
    }
  }
}
