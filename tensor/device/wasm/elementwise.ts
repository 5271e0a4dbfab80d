/** Elementwise kernels, emitted from a row's expression; broadcasting by row and column strides. */

import type { DType } from "../../dtype.ts";
import { Expression } from "../../expression.ts";
import type { Definition, KernelCall } from "../../op.ts";
import { broadcastStrides, isContiguous, type Shape, sizeOf } from "../../shape.ts";
import { parseSignature } from "../../signature.ts";
import type { View } from "../device.ts";
import { i32, type Local, type ModuleBuilder, scratch, v128 } from "./assembler.ts";
import { address, packTo } from "./launch.ts";
import type { Machine } from "./machine.ts";
import { scalarEmitter } from "./scalar.ts";

/** A row whose kernel comes from its expression. */
export type Expressed = Definition & {
  readonly expression: (...inputs: Expression[]) => Expression | readonly Expression[];
};
export const isExpressed = (definition: Definition): definition is Expressed =>
  "expression" in definition && definition.expression !== undefined;

/** Packed data is cut into rows of this many elements, so that one kernel serves all layouts. */
const CHUNK = 4096;

/** The types that "T" stands for: one kernel each. */
const variants = ({ types }: Definition): readonly DType[] =>
  types?.inputs.includes("T") ? (types.T ?? ["f32"]) : ["f32"];

const kernelName = (name: string, T: DType) => `${T}_${name}`;

export function emitElementwise(m: ModuleBuilder, definition: Expressed): void {
  for (const T of variants(definition)) emitVariant(m, definition, T);
}

function emitVariant(m: ModuleBuilder, definition: Expressed, T: DType): void {
  const { types, shape } = definition;
  const signature = parseSignature(shape as string);
  const inputs = signature.inputs.map((_, i) => {
    const dtype = types?.inputs[i] ?? "f32";
    return Expression.input(i, dtype === "T" ? T : dtype);
  });
  const results = [definition.expression(...inputs)].flat() as Expression[];
  const parameters: Record<string, "i32"> = {};
  for (const i of inputs.keys()) {
    parameters[`in${i}`] = "i32";
    parameters[`row${i}`] = "i32"; // bytes from one row to the next
    parameters[`step${i}`] = "i32"; // 16, or 0: one element for the whole row
  }
  for (const k of results.keys()) parameters[`out${k}`] = "i32";
  Object.assign(parameters, { cols: "i32", total: "i32", begin: "i32", end: "i32" });
  m.function(kernelName(definition.name, T), parameters, (f, p) => {
    const at = (name: string) => p[name]!;
    const row = f.local("i32", at("begin"), "row");
    const pointers = inputs.map((_, i) => f.local("i32", undefined, `p${i}`));
    const targets = results.map((_, k) => f.local("i32", undefined, `q${k}`));
    const left = f.local("i32", undefined, "left");
    f.for(row, row, at("end"), 1, () => {
      const first = f.local("i32", i32.mul(row, at("cols")), "first");
      inputs.forEach((_, i) => {
        f.set(pointers[i]!, i32.add(at(`in${i}`), i32.mul(row, at(`row${i}`))));
        f.if(i32.eqz(at(`step${i}`)), () => {
          const slot = f.local("i32", i32.add(scratch, 16 * i), "slot");
          f.store("v128", slot, v128.load32Splat(pointers[i]!));
          f.set(pointers[i]!, slot);
        });
      });
      results.forEach((_, k) => {
        f.set(targets[k]!, i32.add(at(`out${k}`), i32.shl(first, 2)));
      });
      const rest = f.local("i32", i32.sub(at("total"), first), "rest");
      f.set(left, at("cols"));
      f.if(i32.ltU(rest, left), () => f.set(left, rest));
      f.while(i32.gtS(left, 0), () => {
        const loaded = pointers.map((pointer) => f.local("v128", v128.load(pointer)));
        const emit = scalarEmitter(f, loaded);
        const values = results.map((result) => f.local("v128", emit(result)));
        f.if(
          i32.geU(left, 4),
          () => {
            targets.forEach((target, k) => {
              f.store("v128", target, values[k]!);
            });
          },
          () => storePart(f, targets, values, left),
        );
        pointers.forEach((pointer, i) => {
          f.set(pointer, i32.add(pointer, at(`step${i}`)));
        });
        for (const target of targets) f.set(target, i32.add(target, 16));
        f.set(left, i32.sub(left, 4));
      });
    });
  });
}

/** Stores the 1 to 3 elements of a row's end, through scratch, and nothing behind them. */
function storePart(
  f: import("./assembler.ts").FunctionBuilder,
  targets: readonly Local<"i32">[],
  values: readonly Local<"v128">[],
  left: Local<"i32">,
): void {
  const spare = f.local("i32", i32.add(scratch, 1024), "spare");
  targets.forEach((target, k) => {
    f.store("v128", spare, values[k]!);
    f.copy(target, spare, i32.shl(left, 2));
  });
}

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
  const temporary: number[] = [];
  try {
    const T = typeOf(definition, call);
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
    launch(machine, kernelName(definition.name, T), plan, inputs, call.outputs);
  } finally {
    for (const memory of temporary) machine.arena.free(memory);
  }
}

const fits = ({ outer, strides }: Nest): boolean =>
  outer.reduce((product, n) => product * n, 1) <= MAXIMUM_TURNS &&
  strides.every((walk) => walk.at(-1)! <= 1);

const packedStrides = (shape: Shape): number[] =>
  shape.map((_, axis) => shape.slice(axis + 1).reduce((product, n) => product * n, 1));

function typeOf(definition: Definition, { inputs }: KernelCall): DType {
  const at = definition.types?.inputs.indexOf("T") ?? -1;
  return at < 0 ? "f32" : inputs[at]!.dtype;
}

function launch(
  machine: Machine,
  kernel: string,
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
  const work = total * 0.3 * (inputs.length + outputs.length);
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
