/** f16 in memory, f32 in kernels: the two casts, and running any kernel on operands of two bytes. */

import type { KernelCall } from "../../op.ts";
import { sizeOf } from "../../shape.ts";
import type { View } from "../device.ts";
import {
  type FunctionBuilder,
  f32x4,
  i16x8,
  i32,
  i32x4,
  type ModuleBuilder,
  type Value,
  v128,
} from "./assembler.ts";
import { address, i32s } from "./launch.ts";
import type { Machine } from "./machine.ts";

type Vector = Value<"v128">;

/** Elements of a turn, one vector of halves; and nanoseconds for an element. */
const TURN = 8;
const COST = 0.4;

/** Exponent fields of f32: all ones (infinity), of 2^16 and of 2^-14. */
const [INFINITE, TOO_LARGE, NORMAL] = [0x7f800000, 0x47800000, 0x38800000];

/** Halves in u32 lanes -> f32. The exponent is off by 112 when its bits have been moved. */
function widen4(f: FunctionBuilder, lanes: Vector): Vector {
  const half = f.local("v128", lanes, "half");
  const moved = i32x4.shl(v128.and(half, 0x7fff), 13);
  const value = f.local("v128", f32x4.mul(moved, 2 ** 112), "value");
  const beyond = v128.and(f32x4.ge(value, 65536), INFINITE);
  const nan = v128.and(
    i32x4.shl(i32x4.gtS(v128.and(half, 0x7fff), 0x7c00), 22),
    INFINITE + 0x400000,
  );
  const sign = i32x4.shl(v128.and(half, 0x8000), 16);
  return v128.or(v128.or(value, nan), v128.or(beyond, sign));
}

/** f32 -> halves in u32 lanes, to nearest even: the sum 0.5 + x rounds x to steps of 2^-24. */
function narrow4(f: FunctionBuilder, lanes: Vector): Vector {
  const x = f.local("v128", lanes, "x");
  const size = f.local("v128", v128.and(x, 0x7fffffff), "size");
  const odd = v128.and(i32x4.shrU(size, 13), 1);
  const rounded = i32x4.add(i32x4.add(size, odd), (0xc8000000 + 0xfff) | 0);
  const subnormal = i32x4.sub(f32x4.add(size, 0.5), 0x3f000000);
  const small = i32x4.ltS(size, NORMAL);
  const finite = v128.bitselect(subnormal, i32x4.shrU(rounded, 13), small);
  const large = v128.bitselect(i32x4.const(0x7c00), finite, i32x4.geS(size, TOO_LARGE));
  const nan = v128.and(i32x4.gtS(size, INFINITE), 0x7e00);
  return v128.or(v128.or(large, nan), v128.and(i32x4.shrU(x, 16), 0x8000));
}

/** f16_widen and f16_narrow(source, target, begin, end): elements one behind the other. */
export function emitHalves(m: ModuleBuilder): void {
  for (const [name, from, to] of [
    ["f16_widen", 1, 2],
    ["f16_narrow", 2, 1],
  ] as const) {
    m.function(name, i32s("source", "target", "begin", "end"), (f, p) => {
      const at = f.local("i32", i32.add(p.source, i32.shl(p.begin, from)), "at");
      const out = f.local("i32", i32.add(p.target, i32.shl(p.begin, to)), "out");
      const left = f.local("i32", i32.sub(p.end, p.begin), "left");
      const step = (count: number) => {
        f.set(at, i32.add(at, count << from));
        f.set(out, i32.add(out, count << to));
        f.set(left, i32.sub(left, count));
      };
      f.while(i32.geS(left, TURN), () => {
        if (name === "f16_widen") {
          const eight = f.local("v128", v128.load(at), "eight");
          f.store("v128", out, widen4(f, i32x4.extendLowI16x8U(eight)));
          f.store("v128", out, widen4(f, i32x4.extendHighI16x8U(eight)), 16);
        } else {
          const low = f.local("v128", narrow4(f, v128.load(at)), "low");
          const high = narrow4(f, v128.load(at, 16));
          f.store("v128", out, i16x8.narrowI32x4U(low, high));
        }
        step(TURN);
      });
      f.while(left, () => {
        if (name === "f16_widen") {
          f.store("i32", out, i32x4.extractLane(widen4(f, i32x4.splat(i32.load16U(at))), 0));
        } else {
          f.store("i16", out, i32x4.extractLane(narrow4(f, v128.load32Zero(at)), 0));
        }
        step(1);
      });
    });
  }
}

/** Elements from a view's first to its last in memory. */
const spanOf = ({ shape, strides }: View): number =>
  sizeOf(shape) === 0 ? 0 : shape.reduce((span, n, axis) => span + (n - 1) * strides[axis]!, 1);

const cast = (machine: Machine, kernel: string, from: number, to: number, count: number): void =>
  machine.parallel(kernel, [from, to], count, { grain: TURN, work: COST * count });

/** An f16 view as an f32 view of the same strides, on memory of its own that the caller frees. */
export function widened(machine: Machine, view: View): View & { readonly memory: number } {
  const elements = spanOf(view);
  const memory = machine.arena.allocate(4 * elements);
  cast(machine, "f16_widen", address(view), memory, elements);
  const buffer = { memory, elements, dtype: "f32" } as const;
  return { ...view, buffer, dtype: "f32", offset: 0, memory };
}

const isHalf = ({ dtype }: View): boolean => dtype === "f16";
export const hasHalves = ({ inputs, outputs }: KernelCall): boolean =>
  inputs.some(isHalf) || outputs.some(isHalf);

/** Runs a kernel that knows f32 only: f16 inputs are widened before, f16 outputs narrowed after. */
export function withHalves(
  machine: Machine,
  call: KernelCall,
  launch: (call: KernelCall) => void,
): void {
  const temporary: number[] = [];
  try {
    const inputs = call.inputs.map((view) => {
      if (!isHalf(view)) return view;
      const wide = widened(machine, view);
      temporary.push(wide.memory);
      return wide;
    });
    const outputs = call.outputs.map((view): View => {
      if (!isHalf(view)) return view;
      const elements = sizeOf(view.shape);
      const memory = machine.arena.allocate(4 * elements);
      temporary.push(memory);
      return { ...view, buffer: { memory, elements, dtype: "f32" }, dtype: "f32", offset: 0 };
    });
    launch({ ...call, inputs, outputs });
    call.outputs.forEach((view, k) => {
      if (!isHalf(view)) return;
      cast(machine, "f16_narrow", address(outputs[k]!), address(view), sizeOf(view.shape));
    });
  } finally {
    for (const memory of temporary) machine.arena.free(memory);
  }
}
