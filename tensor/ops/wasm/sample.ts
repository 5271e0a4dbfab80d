/** Drawing a class: exponentials and their f64 sum once a row, then a search along the sums. */

import {
  type FunctionBuilder,
  f32,
  f32x4,
  f64x2,
  i32,
  type Local,
  scratch,
  type Value,
  v128,
} from "../../device/wasm/assembler.ts";
import type { WasmKernel } from "../../device/wasm/kernel.ts";
import { address, i32s } from "../../device/wasm/launch.ts";
import { SCRATCH_BYTES } from "../../device/wasm/machine.ts";
import { elementAt, first, type I32, rowAt } from "../../device/wasm/rows.ts";
import { checkIndices } from "../gather.ts";
import { emitShift, emitTotal, logTotal } from "./softmax.ts";

/** Rough nanoseconds of a row, and of one of its elements. */
const ROW_COST = 60;
const ELEMENT_COST = 1.4;

type Double = Local<"v128">;

/** The last two f32 lanes as f64. */
const promoteHigh = (x: Double): Value<"v128"> =>
  f64x2.promoteLowF32x4(v128.shuffle(x, x, 2, 3, 2, 3));
const swapped = (x: Double): Value<"v128"> => v128.shuffle(x, x, 2, 3, 0, 1);
/** (e0 + e2) + (e1 + e3), in both lanes. */
function sumOfFour(f: FunctionBuilder, e: Double): Value<"v128"> {
  const pairs = f.local("v128", f64x2.add(f64x2.promoteLowF32x4(e), promoteHigh(e)), "pairs");
  return f64x2.add(pairs, swapped(pairs));
}

/** Index of the first weight at which the running sum exceeds `goal`. */
function search(f: FunctionBuilder, weights: I32, n: I32, goal: Double): I32 {
  const found = f.local("i32", 0, "found");
  const reached = f.local("v128", f64x2.const(0), "reached");
  const at = f.local("i32", 0, "at");
  const e = f.local("v128", undefined, "e");
  const exceeds = (sum: Value<"v128">) => v128.anyTrue(f64x2.gt(sum, goal));
  f.while(i32.ltU(at, n), () => {
    f.set(e, v128.load(elementAt(weights, at)));
    const sum = f.local("v128", f64x2.add(reached, sumOfFour(f, e)), "sum");
    f.if(
      exceeds(sum),
      () => {
        for (let lane = 0; lane < 4; lane++) {
          // The sum of four was rounded in another order: the last lane with mass is the limit.
          const mass = f32.gt(f32x4.extractLane(e, lane), 0);
          f.if(i32.and(mass, i32.eqz(exceeds(reached))), () => {
            f.set(found, i32.add(at, lane));
            const own = v128.shuffle(e, e, lane, lane, lane, lane);
            f.set(reached, f64x2.add(reached, f64x2.promoteLowF32x4(own)));
          });
        }
        f.set(at, n);
      },
      () => {
        f.set(reached, sum);
        f.set(at, i32.add(at, 4));
      },
    );
  });
  return found;
}

export const drawClasses: WasmKernel = {
  emit: (m) => {
    const arrays = i32s("logits", "rows", "bits", "classes", "logProbs");
    const parameters = { ...arrays, ...i32s("v", "begin", "end") };
    m.function("f32_draw_classes", parameters, (f, p) => {
      const weights = f.local("i32", scratch, "weights");
      const last = f.local("i32", -1, "last");
      const [x, shift] = [f.local("i32", 0, "line"), f.local("f32", 0, "top")];
      const [log, total] = [f.local("f32", 0, "logOfTotal"), f.local("v128", undefined, "mass")];
      const i = f.local("i32", undefined, "i");
      // Lanes behind the last class have no weight.
      f.store("v128", elementAt(weights, i32.and(p.v, -4)), f32x4.const(0));
      f.for(i, p.begin, p.end, 1, () => {
        const row = f.local("i32", i32.load(elementAt(p.rows, i)), "row");
        // Samples of one row follow each other, and share its exponentials.
        f.if(i32.ne(row, last), () => {
          f.set(last, row);
          f.set(x, rowAt(f, p.logits, row, p.v));
          f.set(total, f64x2.const(0));
          const top = emitShift(f, x, p.v);
          const sum = emitTotal(f, x, p.v, top, (step, e) => {
            const own = f.local("v128", step.keep(e), "own");
            step.store(weights, own);
            const doubles = f64x2.add(f64x2.promoteLowF32x4(own), promoteHigh(own));
            f.set(total, f64x2.add(total, doubles));
          });
          f.set(total, f64x2.add(total, swapped(total)));
          f.set(shift, first(top));
          f.set(log, first(logTotal(f, sum, 0)));
        });
        const words = v128.load32Splat(elementAt(p.bits, i));
        const u = f64x2.mul(f64x2.convertLowI32x4U(words), f64x2.const(2 ** -32));
        const goal = f.local("v128", f64x2.mul(u, total), "goal");
        const found = search(f, weights, p.v, goal);
        f.store("i32", elementAt(p.classes, i), found);
        const own = f32.sub(f32.load(elementAt(x, found)), shift);
        f.store("f32", elementAt(p.logProbs, i), f32.sub(own, log));
      });
    });
  },
  run(machine, { inputs, outputs }) {
    const [logits, rows] = inputs as [(typeof inputs)[0], (typeof inputs)[0]];
    const [r, v] = logits.shape as [number, number];
    const n = rows.shape[0]!;
    if (4 * (v + 4) > SCRATCH_BYTES) {
      const most = SCRATCH_BYTES / 4 - 4;
      throw new RangeError(`drawClasses: ${v} classes, a thread has scratch memory for ${most}`);
    }
    const at = address(rows) / 4;
    checkIndices("drawClasses", machine.i32.subarray(at, at + n), r);
    const work = n * (ROW_COST + ELEMENT_COST * v);
    const args = [...[...inputs, ...outputs].map(address), v];
    machine.parallel("f32_draw_classes", args, n, { grain: 1, work });
  },
};
