/** Softmax kernels: a row's maximum, its sum of exponentials, then what the op makes of them. */

import type { View } from "../../device/device.ts";
import {
  type FunctionBuilder,
  f32,
  f32x4,
  i32,
  i32x4,
  type Local,
  v128,
} from "../../device/wasm/assembler.ts";
import type { WasmKernel } from "../../device/wasm/kernel.ts";
import { address } from "../../device/wasm/launch.ts";
import type { Machine } from "../../device/wasm/machine.ts";
import { expNonPositive4, log4 } from "../../device/wasm/math.ts";
import {
  accumulators,
  elementAt,
  first,
  firstLanes,
  fold,
  type I32,
  launchRows,
  MAX,
  rowAt,
  rowKernel,
  type Step,
  SUM,
  sweep,
  type Vector,
} from "../../device/wasm/rows.ts";
import { sizeOf } from "../../shape.ts";
import { checkIndices } from "../gather.ts";

/** Rough nanoseconds for an element with one exponential; for a pass without. */
const EXP_COST = 1;
const PASS_COST = 0.1;
const ROW_COST = 20;

/** The row's maximum, or 0 where that is -∞, so that x - shift is never ∞ - ∞ there. */
export function emitShift(f: FunctionBuilder, x: I32, n: I32): Local<"v128"> {
  const top = fold(f, n, MAX, (step) => step.load(x));
  return f.local("v128", v128.andnot(top, f32x4.eq(top, -Infinity)), "shift");
}

/** Σ exp(x - shift), each exponential given to `use`. Unrolled it is 1.35 times slower in JSC. */
export function emitTotal(
  f: FunctionBuilder,
  x: I32,
  n: I32,
  shift: Vector,
  use: (step: Step, e: Vector) => void = () => {},
): Local<"v128"> {
  const parts = accumulators(f, SUM, 1);
  sweep(f, n, 1, (step) => {
    const e = f.local("v128", expNonPositive4(f, f32x4.sub(step.load(x), shift)), "e");
    use(step, e);
    parts.add(step, e);
  });
  return parts.total();
}

/** a / total, and 0 where the total is 0: a row of nothing but -∞ has no mass. */
const overTotal = (a: Vector, total: Vector): Vector =>
  v128.andnot(f32x4.div(a, total), f32x4.eq(total, 0));

/** Multiplies a row in place. */
const scale = (f: FunctionBuilder, y: I32, n: I32, factor: Vector): void =>
  sweep(f, n, 4, (step) => step.store(y, f32x4.mul(step.load(y), factor)));

export const softmax: WasmKernel = {
  emit: (m) =>
    rowKernel(m, "f32_softmax", ["x", "y"], (f, p, row) => {
      const [x, y] = [rowAt(f, p.x, row, p.n), rowAt(f, p.y, row, p.n)];
      const shift = emitShift(f, x, p.n);
      const total = emitTotal(f, x, p.n, shift, (step, e) => step.store(y, e));
      scale(f, y, p.n, f.local("v128", overTotal(f32x4.const(1), total), "factor"));
    }),
  run: (machine, call) => launchRows(machine, "f32_softmax", call, call.dims.n!, EXP_COST),
};

export const softmaxVjp: WasmKernel = {
  emit: (m) =>
    rowKernel(m, "f32_softmax_vjp", ["g", "y", "dx"], (f, p, row) => {
      const [g, y, dx] = [p.g, p.y, p.dx].map((a) => rowAt(f, a, row, p.n)) as [I32, I32, I32];
      const dot = fold(f, p.n, SUM, (step) => f32x4.mul(step.load(g), step.load(y)));
      sweep(f, p.n, 2, (step) => {
        step.store(dx, f32x4.mul(step.load(y), f32x4.sub(step.load(g), dot)));
      });
    }),
  run: (machine, call) => launchRows(machine, "f32_softmax_vjp", call, call.dims.n!, 3 * PASS_COST),
};

/** ln of a row's total, and `empty` where that is 0. */
export function logTotal(f: FunctionBuilder, total: Vector, empty: number): Local<"v128"> {
  const log = log4(f, total);
  return f.local("v128", v128.bitselect(f32x4.const(empty), log, f32x4.eq(total, 0)), "log");
}

export const logSoftmax: WasmKernel = {
  emit: (m) =>
    rowKernel(m, "f32_log_softmax", ["x", "y"], (f, p, row) => {
      const [x, y] = [rowAt(f, p.x, row, p.n), rowAt(f, p.y, row, p.n)];
      const shift = emitShift(f, x, p.n);
      const log = logTotal(f, emitTotal(f, x, p.n, shift), 0);
      sweep(f, p.n, 4, (step) => {
        step.store(y, f32x4.sub(f32x4.sub(step.load(x), shift), log));
      });
    }),
  run: (machine, call) => launchRows(machine, "f32_log_softmax", call, call.dims.n!, EXP_COST),
};

export const logSumExp: WasmKernel = {
  emit: (m) =>
    rowKernel(m, "f32_log_sum_exp", ["x", "y"], (f, p, row) => {
      const x = rowAt(f, p.x, row, p.n);
      const shift = emitShift(f, x, p.n);
      const log = logTotal(f, emitTotal(f, x, p.n, shift), -Infinity);
      f.store("f32", elementAt(p.y, row), first(f32x4.add(shift, log)));
    }),
  run: (machine, call) => launchRows(machine, "f32_log_sum_exp", call, call.dims.n!, EXP_COST),
};

/** Refuses a target that is no class; a negative one means "ignore". */
export function checkTargets(machine: Machine, op: string, targets: View, classes: number): void {
  const at = address(targets) / 4;
  const found = machine.i32.subarray(at, at + sizeOf(targets.shape));
  checkIndices(
    op,
    found.map((target) => Math.max(target, 0)),
    classes,
  );
}

/** log softmax(x)[target] of rows of v logits; byte addresses. */
export function logProbRows(
  machine: Machine,
  args: readonly [x: number, targets: number, y: number],
  rows: number,
  v: number,
): void {
  const work = rows * (ROW_COST + EXP_COST * v);
  machine.parallel("f32_gather_log_prob", [...args, v], rows, { grain: 1, work });
}

/** dx = g(onehot(target) - softmax(x)); dx may be x itself. */
export function logProbVjpRows(
  machine: Machine,
  args: readonly [g: number, x: number, targets: number, dx: number],
  rows: number,
  v: number,
): void {
  const work = rows * (ROW_COST + EXP_COST * v);
  machine.parallel("f32_gather_log_prob_vjp", [...args, v], rows, { grain: 1, work });
}

export const gatherLogProb: WasmKernel = {
  emit: (m) =>
    rowKernel(m, "f32_gather_log_prob", ["x", "targets", "y"], (f, p, row) => {
      const target = f.local("i32", i32.load(elementAt(p.targets, row)), "target");
      const y = f.local("i32", elementAt(p.y, row), "y");
      f.store("f32", y, 0);
      f.if(i32.geS(target, 0), () => {
        const x = rowAt(f, p.x, row, p.n);
        const shift = emitShift(f, x, p.n);
        const log = logTotal(f, emitTotal(f, x, p.n, shift), 0);
        const own = f32.sub(f32.load(elementAt(x, target)), first(shift));
        f.store("f32", y, f32.sub(own, first(log)));
      });
    }),
  run(machine, { inputs: [x, targets], outputs: [y], dims }) {
    const { batch, v } = dims as { batch: number; v: number };
    checkTargets(machine, "gatherLogProb", targets!, v);
    logProbRows(machine, [address(x!), address(targets!), address(y!)], batch, v);
  },
};

export const gatherLogProbVjp: WasmKernel = {
  emit: (m) =>
    rowKernel(m, "f32_gather_log_prob_vjp", ["g", "x", "targets", "dx"], (f, p, row) => {
      const target = f.local("i32", i32.load(elementAt(p.targets, row)), "target");
      const [x, dx] = [rowAt(f, p.x, row, p.n), rowAt(f, p.dx, row, p.n)];
      const g = f.local("f32", f32.load(elementAt(p.g, row)), "g");
      // Rows that a loss masks out are many, and cost no exponential.
      const counts = i32.and(i32.geS(target, 0), f32.ne(g, 0));
      const gradient = () => {
        const shift = emitShift(f, x, p.n);
        const total = emitTotal(f, x, p.n, shift, (step, e) => step.store(dx, e));
        const factor = overTotal(f32x4.splat(f32.neg(g)), total);
        scale(f, dx, p.n, f.local("v128", factor, "factor"));
        const hit = f.local("i32", elementAt(dx, target), "hit");
        f.store("f32", hit, f32.add(f32.load(hit), g));
      };
      f.if(counts, gradient, () => f.fill(dx, 0, i32.shl(p.n, 2)));
    }),
  run(machine, { inputs: [g, x, targets], outputs: [dx], dims }) {
    const { batch, v } = dims as { batch: number; v: number };
    checkTargets(machine, "gatherLogProbVjp", targets!, v);
    const args = [address(g!), address(x!), address(targets!), address(dx!)] as const;
    logProbVjpRows(machine, args, batch, v);
  },
};

/** Running sums of four lanes: lane k holds e0 + ... + ek. */
function prefix(f: FunctionBuilder, e: Local<"v128">): Local<"v128"> {
  const zero = f32x4.const(0);
  const pairs = f.local("v128", f32x4.add(e, v128.shuffle(zero, e, 0, 4, 5, 6)), "pairs");
  return f.local("v128", f32x4.add(pairs, v128.shuffle(zero, pairs, 0, 0, 4, 5)), "prefix");
}

export const categorical: WasmKernel = {
  emit: (m) =>
    rowKernel(m, "f32_categorical", ["x", "u", "y"], (f, p, row) => {
      const x = rowAt(f, p.x, row, p.n);
      const shift = emitShift(f, x, p.n);
      const total = emitTotal(f, x, p.n, shift);
      const goal = f.local("v128", f32x4.mul(total, v128.load32Splat(elementAt(p.u, row))), "goal");
      const reached = f.local("v128", f32x4.const(0), "reached");
      const [last, at, left] = [
        f.local("i32", 0, "last"),
        f.local("i32", 0, "at"),
        f.local("i32", p.n, "left"),
      ];
      f.while(i32.gtS(left, 0), () => {
        const raw = expNonPositive4(f, f32x4.sub(v128.load(elementAt(x, at)), shift));
        const e = f.local("v128", v128.and(raw, firstLanes(left)), "e");
        const mass = f.local("v128", f32x4.gt(e, 0), "mass");
        const sums = f.local("v128", f32x4.add(reached, prefix(f, e)), "sums");
        const hits = f.local("i32", i32x4.bitmask(v128.and(f32x4.gt(sums, goal), mass)), "hits");
        const some = f.local("i32", i32x4.bitmask(mass), "some");
        // Rounding may leave the sum below u: then the last class that has any mass is taken.
        f.if(some, () => f.set(last, i32.add(at, i32.sub(31, i32.clz(some)))));
        f.set(left, i32.sub(left, 4));
        f.if(hits, () => {
          f.set(last, i32.add(at, i32.ctz(hits)));
          f.set(left, 0);
        });
        f.set(reached, v128.shuffle(sums, sums, 3, 3, 3, 3));
        f.set(at, i32.add(at, 4));
      });
      f.store("i32", elementAt(p.y, row), last);
    }),
  run: (machine, call) => launchRows(machine, "f32_categorical", call, call.dims.n!, 2 * EXP_COST),
};
