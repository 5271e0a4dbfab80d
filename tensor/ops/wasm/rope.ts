/** WASM rotary positions: turns pairs (x[i], x[i + d/2]) by the angle of their position. */

import type { View } from "../../device/device.ts";
import {
  type Callable,
  f32,
  f32x4,
  i32,
  type ModuleBuilder,
  v128,
} from "../../device/wasm/assembler.ts";
import type { WasmKernel } from "../../device/wasm/kernel.ts";
import { address, i32s, packed, packTo } from "../../device/wasm/launch.ts";
import type { Machine } from "../../device/wasm/machine.ts";
import { sweep } from "../../device/wasm/rows.ts";
import { rowMajor, sizeOf } from "../../shape.ts";
import { checkIndices } from "../gather.ts";

/** Rough nanoseconds of a row of d elements. */
const rowCost = (d: number): number => 5 + 0.4 * d;

export const rope: WasmKernel = {
  strided: true,
  emit(m) {
    const rotate = emitRotate(m);
    emitRope(m, rotate);
    emitExtend(m, rotate);
  },
  run(machine, { inputs, outputs: [out], options }) {
    withPacked(machine, inputs, 1, ([x, positions, cos, sin]) => {
      const [b, h, t, d] = x!.shape as [number, number, number, number];
      checkPositions(machine, "rope", positions!, cos!.shape[0]!);
      const tables = [positions!, cos!, sin!, out!].map(address);
      const { inverse = false } = (options ?? {}) as { inverse?: boolean };
      const args = [address(x!), ...tables, h, t, 2 * d, ...strides(x!), inverse ? -1 : 1];
      machine.parallel("f32_rope", args, b * h, { grain: 1, work: b * h * t * rowCost(d) });
    });
  },
};

/** Its kernel is emitted with that of rope: they share the rotation of a row. */
export const extendCache: WasmKernel = {
  strided: true,
  run(machine, { inputs, outputs: [out] }) {
    withPacked(machine, inputs, 3, (views) => {
      const [q, k, v, keys, values, positions, cos, sin] = views;
      const [b, h, t, d] = q!.shape as [number, number, number, number];
      const [, g, s] = keys!.shape as [number, number, number];
      checkPositions(machine, "extendCache", positions!, Math.min(s, cos!.shape[0]!));
      const memory = [q, k, v, keys, values, positions, cos, sin, out].map((x) => address(x!));
      const args = [...memory, h, g, t, 4 * s * d, 2 * d, ...[q!, k!, v!].flatMap(strides)];
      const work = b * (h + 2 * g) * t * rowCost(d);
      machine.parallel("f32_extend_cache", args, b, { grain: 1, work });
    });
  },
};

/** Byte strides of the axes in front of a row. */
const strides = ({ strides }: View): number[] => strides.slice(0, 3).map((n) => 4 * n);

function checkPositions(machine: Machine, op: string, positions: View, limit: number): void {
  const at = address(positions) / 4;
  checkIndices(op, machine.i32.subarray(at, at + sizeOf(positions.shape)), limit);
}

/** Runs `use` on views of which the first ones have whole rows, and the others lie packed. */
function withPacked(
  machine: Machine,
  inputs: readonly View[],
  rows: number,
  use: (views: readonly View[]) => void,
): void {
  const temporary: number[] = [];
  try {
    const views = inputs.map((view, i) => {
      const fits = i < rows ? view.strides.at(-1) === 1 || view.shape.at(-1)! <= 1 : packed(view);
      return fits ? view : copy(machine, view, temporary);
    });
    use(views);
  } finally {
    for (const memory of temporary) machine.arena.free(memory);
  }
}

function copy(machine: Machine, view: View, temporary: number[]): View {
  const { dtype, shape } = view;
  const elements = sizeOf(shape);
  const memory = machine.arena.allocate(4 * elements);
  temporary.push(memory);
  packTo(machine, view, memory);
  const buffer = { memory, elements, dtype };
  return { buffer, dtype, shape, strides: rowMajor(shape), offset: 0 };
}

/** f32_rotate: y = x turned by the angles of one position, times `sign`; `half`: bytes of d/2. */
function emitRotate(m: ModuleBuilder): Callable<"void"> {
  const parameters = { ...i32s("x", "y", "cos", "sin", "half"), sign: "f32" } as const;
  return m.function("f32_rotate", parameters, (f, { x, y, cos, sin, half, sign }) => {
    const whole = f.local("i32", i32.and(half, -16), "whole");
    const x2 = f.local("i32", i32.add(x, half), "x2");
    const y2 = f.local("i32", i32.add(y, half), "y2");
    const signs = f.local("v128", f32x4.splat(sign), "signs");
    const at = f.local("i32", undefined, "at");
    f.for(at, 0, whole, 16, () => {
      const load = (base: typeof x) => f.local("v128", v128.load(i32.add(base, at)));
      const [first, second, c] = [load(x), load(x2), load(cos)];
      const s = f.local("v128", f32x4.mul(load(sin), signs));
      f.store("v128", i32.add(y, at), f32x4.sub(f32x4.mul(first, c), f32x4.mul(second, s)));
      f.store("v128", i32.add(y2, at), f32x4.add(f32x4.mul(second, c), f32x4.mul(first, s)));
    });
    f.for(at, at, half, 4, () => {
      const load = (base: typeof x) => f.local("f32", f32.load(i32.add(base, at)));
      const [first, second, c] = [load(x), load(x2), load(cos)];
      const s = f.local("f32", f32.mul(load(sin), sign));
      f.store("f32", i32.add(y, at), f32.sub(f32.mul(first, c), f32.mul(second, s)));
      f.store("f32", i32.add(y2, at), f32.add(f32.mul(second, c), f32.mul(first, s)));
    });
  });
}

/** Planes [begin, end) of [b h]; `half` is the bytes of d/2 elements. */
function emitRope(m: ModuleBuilder, rotate: Callable<"void">): void {
  const parameters = {
    ...i32s("x", "positions", "cos", "sin", "target", "h", "t", "half"),
    ...i32s("inBatch", "inHead", "inTime"),
    ...({ sign: "f32" } as const),
    ...i32s("begin", "end"),
  };
  m.function("f32_rope", parameters, (f, p) => {
    const [plane, time] = [f.local("i32", undefined, "plane"), f.local("i32", undefined, "time")];
    f.for(plane, p.begin, p.end, 1, () => {
      const batch = f.local("i32", i32.divU(plane, p.h), "batch");
      const head = i32.sub(plane, i32.mul(batch, p.h));
      const offset = i32.add(i32.mul(batch, p.inBatch), i32.mul(head, p.inHead));
      const x = f.local("i32", i32.add(p.x, offset), "row");
      const rowBytes = i32.shl(p.half, 1);
      const y = f.local("i32", i32.add(p.target, i32.mul(i32.mul(plane, p.t), rowBytes)), "y");
      const seen = i32.add(p.positions, i32.shl(i32.mul(batch, p.t), 2));
      const position = f.local("i32", seen, "position");
      f.for(time, 0, p.t, 1, () => {
        const entry = f.local("i32", i32.mul(i32.load(position), p.half), "entry");
        f.call(rotate, x, y, i32.add(p.cos, entry), i32.add(p.sin, entry), p.half, p.sign);
        f.set(x, i32.add(x, p.inTime));
        f.set(y, i32.add(y, rowBytes));
        f.set(position, i32.add(position, 4));
      });
    });
  });
}

/** Sequences [begin, end): a position's rows one after the other, so that the last one stays. */
function emitExtend(m: ModuleBuilder, rotate: Callable<"void">): void {
  const arrays = i32s("q", "k", "v", "keys", "values", "positions", "cos", "sin", "target");
  const parameters = {
    ...arrays,
    ...i32s("h", "g", "t", "plane", "half", "qBatch", "qHead", "qTime"),
    ...i32s("kBatch", "kHead", "kTime", "vBatch", "vHead", "vTime", "begin", "end"),
  };
  m.function("f32_extend_cache", parameters, (f, p) => {
    const local = (name: string) => f.local("i32", undefined, name);
    const [batch, time, head] = [local("batch"), local("time"), local("head")];
    const [from, to] = [local("from"), local("to")];
    const rowBytes = f.local("i32", i32.shl(p.half, 1), "rowBytes");
    const width = f.local("i32", i32.shrU(p.half, 1), "width");
    const ofTime = f.local("i32", i32.mul(p.t, rowBytes), "ofTime");
    type I32 = typeof from;
    const start = (at: I32, inBatch: I32, inTime: I32) =>
      f.set(from, i32.add(at, i32.add(i32.mul(batch, inBatch), i32.mul(time, inTime))));
    f.for(batch, p.begin, p.end, 1, () => {
      const seen = i32.add(p.positions, i32.shl(i32.mul(batch, p.t), 2));
      const position = f.local("i32", seen, "position");
      f.for(time, 0, p.t, 1, () => {
        const place = f.local("i32", i32.load(position), "place");
        const cos = f.local("i32", i32.add(p.cos, i32.mul(place, p.half)), "cosRow");
        const sin = f.local("i32", i32.add(p.sin, i32.mul(place, p.half)), "sinRow");
        start(p.q, p.qBatch, p.qTime);
        const row = i32.add(i32.mul(i32.mul(batch, p.h), ofTime), i32.mul(time, rowBytes));
        f.set(to, i32.add(p.target, row));
        f.for(head, 0, p.h, 1, () => {
          f.call(rotate, from, to, cos, sin, p.half, f32.const(1));
          f.set(from, i32.add(from, p.qHead));
          f.set(to, i32.add(to, ofTime));
        });
        const slot = i32.add(i32.mul(i32.mul(batch, p.g), p.plane), i32.mul(place, rowBytes));
        const inCache = f.local("i32", slot, "inCache");
        start(p.k, p.kBatch, p.kTime);
        f.set(to, i32.add(p.keys, inCache));
        f.for(head, 0, p.g, 1, () => {
          f.call(rotate, from, to, cos, sin, p.half, f32.const(1));
          f.set(from, i32.add(from, p.kHead));
          f.set(to, i32.add(to, p.plane));
        });
        start(p.v, p.vBatch, p.vTime);
        f.set(to, i32.add(p.values, inCache));
        f.for(head, 0, p.g, 1, () => {
          sweep(f, width, 2, (step) => step.store(to, step.load(from)));
          f.set(from, i32.add(from, p.vHead));
          f.set(to, i32.add(to, p.plane));
        });
        f.set(position, i32.add(position, 4));
      });
    });
  });
}
