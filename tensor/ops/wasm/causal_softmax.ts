/** WASM causal softmax: mask by position, scale and softmax in one pass over a row. */

import {
  f32,
  f32x4,
  i32,
  i32x4,
  type ModuleBuilder,
  select,
  v128,
} from "../../device/wasm/assembler.ts";
import type { WasmKernel } from "../../device/wasm/kernel.ts";
import { address, i32s } from "../../device/wasm/launch.ts";
import { expNonPositive4 } from "../../device/wasm/math.ts";
import { sumLanes } from "./attention_tiles.ts";

export const causalSoftmax: WasmKernel = {
  emit: emitCausalSoftmax,
  run(machine, { inputs: [scores, positions], outputs: [out], options }) {
    const [b, h, t, s] = scores!.shape as [number, number, number, number];
    const { scale } = options as { scale: number };
    const args = [address(scores!), address(positions!), address(out!), h * t, t, s, scale];
    const work = b * h * t * (s + 10);
    machine.parallel("f32_causal_softmax", args, b * h * t, { grain: 1, work });
  },
};

/** Rows [begin, end) of [b h t s]; only the visible elements of a row are read. */
function emitCausalSoftmax(m: ModuleBuilder): void {
  const parameters = {
    ...i32s("scores", "positions", "target", "perBatch", "t", "s"),
    ...({ scale: "f32" } as const),
    ...i32s("begin", "end"),
  };
  m.function("f32_causal_softmax", parameters, (f, p) => {
    const factor = f.local("v128", f32x4.splat(p.scale), "factor");
    const row = f.local("i32", undefined, "row");
    const at = f.local("i32", undefined, "at");
    f.for(row, p.begin, p.end, 1, () => {
      const place = i32.add(i32.mul(i32.divU(row, p.perBatch), p.t), i32.remU(row, p.t));
      const position = i32.load(i32.add(p.positions, i32.shl(place, 2)));
      const last = f.local("i32", position, "last");
      const count = i32.mul(i32.add(last, 1), i32.geS(last, 0));
      const visible = f.local("i32", select(i32.geS(last, p.s), p.s, count), "visible");
      const start = f.local("i32", i32.shl(i32.mul(row, p.s), 2), "start");
      const x = f.local("i32", i32.add(p.scores, start), "x");
      const y = f.local("i32", i32.add(p.target, start), "y");
      const rowBytes = f.local("i32", i32.shl(p.s, 2), "rowBytes");
      const bytes = f.local("i32", i32.shl(visible, 2), "bytes");
      const whole = f.local("i32", i32.and(bytes, -16), "whole");
      const scaled = () => f32x4.mul(v128.load(i32.add(x, at)), factor);
      // Lanes of the last vector that are still visible.
      const lanes = i32x4.gtS(i32x4.splat(i32.and(visible, 3)), i32x4.const(0, 1, 2, 3));
      const mask = f.local("v128", lanes, "mask");
      const masked = () => v128.bitselect(scaled(), f32x4.const(-Infinity), mask);
      const top = f.local("v128", f32x4.const(-Infinity), "top");
      f.for(at, 0, whole, 16, () => f.set(top, f32x4.pmax(top, scaled())));
      f.if(i32.ltU(whole, bytes), () => f.set(top, f32x4.pmax(top, masked())));
      f.set(top, f32x4.pmax(top, v128.shuffle(top, top, 2, 3, 0, 1)));
      f.set(top, f32x4.pmax(top, v128.shuffle(top, top, 1, 0, 3, 2)));
      // A row of -∞ alone would give -∞ - -∞ = NaN.
      f.set(top, v128.and(top, f32x4.gt(top, -Infinity)));
      const sums = f.local("v128", f32x4.const(0), "sums");
      const e = f.local("v128", f32x4.const(0), "e");
      f.for(at, 0, whole, 16, () => {
        f.set(e, expNonPositive4(f, f32x4.sub(scaled(), top)));
        f.set(sums, f32x4.add(sums, e));
        f.store("v128", i32.add(y, at), e);
      });
      f.if(i32.ltU(whole, bytes), () => {
        f.set(e, expNonPositive4(f, f32x4.sub(masked(), top)));
        f.set(sums, f32x4.add(sums, e));
      });
      const total = f.local("f32", sumLanes(sums), "total");
      const inverse = f.local("f32", f32.div(f32.const(1), total), "inverse");
      f.if(f32.eq(total, 0), () => f.set(inverse, 0));
      const share = f.local("v128", f32x4.splat(inverse), "share");
      f.for(at, 0, whole, 16, () => {
        const to = i32.add(y, at);
        f.store("v128", to, f32x4.mul(v128.load(to), share));
      });
      // The rest of the row: up to three visible lanes, one at a time, and zeros.
      f.set(e, f32x4.mul(e, share));
      f.for(at, at, bytes, 4, () => {
        f.store("f32", i32.add(y, at), f32x4.extractLane(e, 0));
        f.set(e, v128.shuffle(e, e, 1, 2, 3, 0));
      });
      f.fill(i32.add(y, bytes), 0, i32.sub(rowBytes, bytes));
    });
  });
}
