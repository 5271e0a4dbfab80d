/** WASM rotary positions: turns pairs (x[i], x[i + d/2]) by the angle of their position. */

import type { View } from "../../device/device.ts";
import { f32, f32x4, i32, type ModuleBuilder, v128 } from "../../device/wasm/assembler.ts";
import type { WasmKernel } from "../../device/wasm/kernel.ts";
import { address, i32s, packed, packTo } from "../../device/wasm/launch.ts";
import type { Machine } from "../../device/wasm/machine.ts";
import { rowMajor, sizeOf } from "../../shape.ts";
import { checkIndices } from "../gather.ts";

export const rope: WasmKernel = {
  strided: true,
  emit: emitRope,
  run(machine, { inputs, outputs: [out] }) {
    const temporary: number[] = [];
    const copied = (view: View) => copy(machine, view, temporary);
    try {
      const [given, ...rest] = inputs as [View, View, View, View];
      const x = given.strides[3] === 1 ? given : copied(given);
      const [positions, cos, sin] = rest.map((view) => (packed(view) ? view : copied(view)));
      const [b, h, t, d] = x.shape as [number, number, number, number];
      const at = address(positions!) / 4;
      checkIndices("rope", machine.i32.subarray(at, at + b * t), cos!.shape[0]!);
      const tables = [positions!, cos!, sin!, out!].map(address);
      const strides = x.strides.slice(0, 3).map((n) => 4 * n);
      const args = [address(x), ...tables, h, t, 2 * d, ...strides];
      const shares = { grain: 1, work: b * h * t * (5 + 0.4 * d) };
      machine.parallel("f32_rope", args, b * h, shares);
    } finally {
      for (const memory of temporary) machine.arena.free(memory);
    }
  },
};

function copy(machine: Machine, view: View, temporary: number[]): View {
  const { dtype, shape } = view;
  const elements = sizeOf(shape);
  const memory = machine.arena.allocate(4 * elements);
  temporary.push(memory);
  packTo(machine, view, memory);
  const buffer = { memory, elements, dtype };
  return { buffer, dtype, shape, strides: rowMajor(shape), offset: 0 };
}

/** Planes [begin, end) of [b h]; `half` is the bytes of d/2 elements. */
function emitRope(m: ModuleBuilder): void {
  const parameters = {
    ...i32s("x", "positions", "cos", "sin", "target", "h", "t", "half"),
    ...i32s("inBatch", "inHead", "inTime", "begin", "end"),
  };
  m.function("f32_rope", parameters, (f, p) => {
    const plane = f.local("i32", undefined, "plane");
    const time = f.local("i32", undefined, "time");
    const at = f.local("i32", undefined, "at");
    const whole = f.local("i32", i32.and(p.half, -16), "whole");
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
        const [c, s] = [p.cos, p.sin].map((table) => f.local("i32", i32.add(table, entry)));
        const x2 = f.local("i32", i32.add(x, p.half), "x2");
        const y2 = f.local("i32", i32.add(y, p.half), "y2");
        f.for(at, 0, whole, 16, () => {
          const load = (base: typeof x) => f.local("v128", v128.load(i32.add(base, at)));
          const [first, second, cos, sin] = [load(x), load(x2), load(c!), load(s!)];
          const low = f32x4.sub(f32x4.mul(first, cos), f32x4.mul(second, sin));
          const high = f32x4.add(f32x4.mul(second, cos), f32x4.mul(first, sin));
          f.store("v128", i32.add(y, at), low);
          f.store("v128", i32.add(y2, at), high);
        });
        f.for(at, at, p.half, 4, () => {
          const load = (base: typeof x) => f.local("f32", f32.load(i32.add(base, at)));
          const [first, second, cos, sin] = [load(x), load(x2), load(c!), load(s!)];
          f.store("f32", i32.add(y, at), f32.sub(f32.mul(first, cos), f32.mul(second, sin)));
          f.store("f32", i32.add(y2, at), f32.add(f32.mul(second, cos), f32.mul(first, sin)));
        });
        f.set(x, i32.add(x, p.inTime));
        f.set(y, i32.add(y, rowBytes));
        f.set(position, i32.add(position, 4));
      });
    });
  });
}
