/** What the row kernels share: loops over a row's vectors with a masked end, lane-wise reductions. */

import type { KernelCall } from "../../op.ts";
import {
  type FunctionBuilder,
  f32x4,
  i32,
  i32x4,
  type Local,
  type ModuleBuilder,
  type Value,
  v128,
} from "./assembler.ts";
import { address, i32s } from "./launch.ts";
import type { Machine } from "./machine.ts";

export type I32 = Local<"i32">;
export type Vector = Value<"v128">;

/** Four neighbouring elements of a row, or its last one to three. */
export interface Step {
  /** Which vector of an unrolled turn this is: picks the accumulator. */
  readonly slot: number;
  /** The four elements of an array whose row starts at byte address `row`. */
  load(row: I32): Vector;
  /** Stores four elements, at the end of a row only those that belong to it. */
  store(row: I32, value: Vector): void;
  /** The value with `fill` in the lanes behind the row's end, so that they can't count. */
  keep(value: Vector, fill?: number): Vector;
}

/** Visits a row of n elements: `unroll` vectors a turn, then single ones, then the masked end. */
export function sweep(
  f: FunctionBuilder,
  n: I32,
  unroll: number,
  visit: (step: Step) => void,
): void {
  const at = f.local("i32", 0, "at");
  const whole = (slot: number): Step => ({
    slot,
    load: (row) => v128.load(i32.add(row, at), 16 * slot),
    store: (row, value) => f.store("v128", i32.add(row, at), value, 16 * slot),
    keep: (value) => value,
  });
  if (unroll > 1) {
    const turns = f.local("i32", i32.shl(i32.and(n, -4 * unroll), 2), "turns");
    f.for(at, at, turns, 16 * unroll, () => {
      for (let slot = 0; slot < unroll; slot++) visit(whole(slot));
    });
  }
  const end = f.local("i32", i32.shl(i32.and(n, -4), 2), "end4");
  f.for(at, at, end, 16, () => visit(whole(0)));
  const rest = f.local("i32", i32.and(n, 3), "rest");
  f.if(rest, () => {
    const mask = f.local("v128", firstLanes(rest), "mask");
    visit({
      slot: 0,
      load: (row) => v128.load(i32.add(row, at)),
      store: (row, value) => storeFirst(f, i32.add(row, at), value, rest),
      keep: (value, fill = 0) =>
        fill === 0 ? v128.and(value, mask) : v128.bitselect(value, f32x4.const(fill), mask),
    });
  });
}

/** A mask of the first `count` lanes: all of them from 4 on. */
export const firstLanes = (count: Value<"i32">): Vector =>
  i32x4.gtS(i32x4.splat(count), i32x4.const(0, 1, 2, 3));

/** Stores the first one to three lanes. */
function storeFirst(f: FunctionBuilder, address: Value<"i32">, value: Vector, count: I32): void {
  const to = f.local("i32", address, "to");
  const lanes = f.local("v128", value, "lanes");
  f.store("i32", to, i32x4.extractLane(lanes, 0));
  for (const lane of [1, 2]) {
    f.if(i32.gtU(count, lane), () => {
      f.store("i32", to, i32x4.extractLane(lanes, lane), 4 * lane);
    });
  }
}

/** A way to combine elements in any order, and the value that changes nothing. */
export interface Fold {
  readonly start: number;
  readonly combine: (a: Vector, b: Vector) => Vector;
}
export const SUM: Fold = { start: 0, combine: f32x4.add };
// NaN never replaces what is there: pmax(a, b) is b only where a < b.
export const MAX: Fold = { start: -Infinity, combine: f32x4.pmax };

/** Accumulators for the slots of a sweep: independent chains hide the latency of `combine`. */
export function accumulators(f: FunctionBuilder, { start, combine }: Fold, slots: number) {
  const parts = Array.from({ length: slots }, () => f.local("v128", f32x4.const(start), "part"));
  return {
    add({ slot, keep }: Step, value: Vector): void {
      const part = parts[slot % slots]!;
      f.set(part, combine(part, keep(value, start)));
    },
    /** Everything combined, in all four lanes. */
    total(): Local<"v128"> {
      for (let width = slots / 2; width >= 1; width /= 2) {
        for (let k = 0; k < width; k++) f.set(parts[k]!, combine(parts[k]!, parts[k + width]!));
      }
      const all = f.local("v128", parts[0]!, "all");
      f.set(all, combine(all, v128.shuffle(all, all, 2, 3, 0, 1)));
      f.set(all, combine(all, v128.shuffle(all, all, 1, 0, 3, 2)));
      return all;
    },
  };
}

/** Combines value(step) over a row of n elements; the result stands in all four lanes. */
export function fold(
  f: FunctionBuilder,
  n: I32,
  kind: Fold,
  value: (step: Step) => Vector,
  unroll = 4,
): Local<"v128"> {
  const parts = accumulators(f, kind, unroll);
  sweep(f, n, unroll, (step) => parts.add(step, value(step)));
  return parts.total();
}

/** Byte address of row `row` of a packed array with n elements a row. */
export const rowAt = (f: FunctionBuilder, base: I32, row: Value<"i32">, n: I32): I32 =>
  f.local("i32", i32.add(base, i32.shl(i32.mul(row, n), 2)), "row");

/** Byte address of element `index`. */
export const elementAt = (base: I32, index: Value<"i32">): Value<"i32"> =>
  i32.add(base, i32.shl(index, 2));

/** The f32 number in the first lane. */
export const first = (x: Vector): Value<"f32"> => f32x4.extractLane(x, 0);

/** Defines a kernel over rows: parameters are the addresses of `arrays`, n, and a range of rows. */
export function rowKernel<K extends string>(
  m: ModuleBuilder,
  name: string,
  arrays: readonly K[],
  body: (f: FunctionBuilder, p: Readonly<Record<K | "n", I32>>, row: I32) => void,
): void {
  const parameters = { ...i32s(...arrays), ...i32s("n", "begin", "end") };
  m.function(name, parameters, (f, all) => {
    const p = all as Readonly<Record<K | "n" | "begin" | "end", I32>>;
    const row = f.local("i32", undefined, "r");
    f.for(row, p.begin, p.end, 1, () => body(f, p, row));
  });
}

const ROW_COST = 20;

/** Launches a row kernel on the inputs, then the outputs; `cost` in nanoseconds per element. */
export function launchRows(
  machine: Machine,
  kernel: string,
  { inputs, outputs, dims }: KernelCall,
  n: number,
  cost: number,
): void {
  const rows = dims.batch!;
  const args = [...[...inputs, ...outputs].map(address), n];
  machine.parallel(kernel, args, rows, { grain: 1, work: rows * (ROW_COST + cost * n) });
}
