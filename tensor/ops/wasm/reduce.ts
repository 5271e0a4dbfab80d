/** Reductions in fixed blocks, so that sums don't depend on threads; arg-max, top-k, running sums. */

import { f32, f32x4, i32, i32x4, type ModuleBuilder, v128 } from "../../device/wasm/assembler.ts";
import type { WasmKernel } from "../../device/wasm/kernel.ts";
import { address, i32s } from "../../device/wasm/launch.ts";
import type { Machine } from "../../device/wasm/machine.ts";
import {
  elementAt,
  type Fold,
  first,
  fold,
  launchRows,
  rowAt,
  rowKernel,
  SUM,
  type Vector,
} from "../../device/wasm/rows.ts";
import { sizeOf } from "../../shape.ts";
import { type Axes, reducedAxes } from "../axes.ts";
import { larger } from "../order.ts";
import { emitColumns, reduceColumns, withTemporary } from "./columns.ts";
import { blocksOf, launchTable } from "./lists.ts";

/** Nanoseconds per element. */
const COST = 0.1;
/** Longer rows are reduced in blocks of this many elements, and then the blocks' results. */
const BLOCK = 8192;

/** Unit (o, b): folds block b of row o; its result is element o · blocks + b of y. */
function emitRows(m: ModuleBuilder, name: string, kind: Fold, map = (x: Vector) => x): void {
  const parameters = i32s("x", "y", "n", "block", "blocks", "begin", "end");
  m.function(name, parameters, (f, { x, y, n, block, blocks, begin, end }) => {
    const unit = f.local("i32", undefined, "unit");
    f.for(unit, begin, end, 1, () => {
      const at = f.local("i32", i32.mul(i32.remU(unit, blocks), block), "at");
      const start = i32.add(rowAt(f, x, i32.divU(unit, blocks), n), i32.shl(at, 2));
      const from = f.local("i32", start, "from");
      const count = f.local("i32", i32.sub(n, at), "count");
      f.if(i32.gtU(count, block), () => f.set(count, block));
      const total = fold(f, count, kind, (step) => map(f.local("v128", step.load(from))));
      f.store("f32", elementAt(y, unit), first(total));
    });
  });
}

/** x [outer n] -> y [outer]; `kernel` maps and folds the blocks, `again` folds their results. */
function reduceRows(
  machine: Machine,
  kernel: string,
  again: string,
  x: number,
  [outer, n]: readonly [number, number],
  y: number,
): void {
  const blocks = n > 2 * BLOCK ? Math.ceil(n / BLOCK) : 1;
  const stage = (target: number) => {
    const args = [x, target, n, blocks === 1 ? n : BLOCK, blocks];
    const work = outer * (n * COST + 10 * blocks);
    machine.parallel(kernel, args, outer * blocks, { grain: 1, work });
  };
  if (blocks === 1) stage(y);
  else {
    withTemporary(machine, outer * blocks, (parts) => {
      stage(parts);
      reduceRows(machine, again, again, parts, [outer, blocks], y);
    });
  }
}

/** A run of neighbouring axes that are all reduced, or all kept. */
interface Run {
  readonly n: number;
  readonly reduced: boolean;
}

function runsOf(shape: readonly number[], axes: readonly number[]): Run[] {
  const runs: Run[] = [];
  shape.forEach((n, axis) => {
    const reduced = axes.includes(axis);
    const last = runs.at(-1);
    if (last?.reduced === reduced) runs[runs.length - 1] = { n: last.n * n, reduced };
    else if (n !== 1) runs.push({ n, reduced });
  });
  return runs;
}

/** Reduces the last run that is reduced, then the others. */
function reduceRuns(machine: Machine, name: string, x: number, runs: readonly Run[], y: number) {
  const product = (list: readonly Run[]) => list.reduce((size, { n }) => size * n, 1);
  const last = runs.findLastIndex(({ reduced }) => reduced);
  const [before, after] = [runs.slice(0, Math.max(last, 0)), runs.slice(last + 1)];
  const n = last < 0 ? 1 : runs[last]!.n;
  const [outer, inner] = [product(before), product(after)];
  const stage = (target: number) => {
    if (inner === 1)
      reduceRows(machine, `f32_${name}_rows`, `f32_${name}_rows`, x, [outer, n], target);
    else reduceColumns(machine, name, x, [outer, n, inner], target);
  };
  if (!before.some(({ reduced }) => reduced)) stage(y);
  else {
    withTemporary(machine, outer * inner, (parts) => {
      stage(parts);
      reduceRuns(machine, name, parts, [...before, ...after], y);
    });
  }
}

const reduction = (name: string, kind: Fold): WasmKernel => ({
  emit: (m) => {
    emitRows(m, `f32_${name}_rows`, kind);
    emitColumns(m, `f32_${name}_columns`, kind);
  },
  run(machine, { inputs: [x], outputs: [y], options }) {
    const { axes } = reducedAxes(x!.shape.length, options as Axes);
    reduceRuns(machine, name, address(x!), runsOf(x!.shape, axes), address(y!));
  },
});

export const sum: WasmKernel = reduction("sum", SUM);
// Not the fold of the row kernels: a NaN among the elements is the result.
const LARGEST: Fold = { start: -Infinity, combine: f32x4.max };
export const max: WasmKernel = reduction("max", LARGEST);
export const min: WasmKernel = reduction("min", { start: Infinity, combine: f32x4.min });

export const sumOfSquares: WasmKernel = {
  emit: (m) => emitRows(m, "f32_squares_rows", SUM, (x) => f32x4.mul(x, x)),
  run(machine, { inputs: [x], outputs: [y] }) {
    const n = sizeOf(x!.shape);
    reduceRows(machine, "f32_squares_rows", "f32_sum_rows", address(x!), [1, n], address(y!));
  },
};

/** Squares are summed block by block, then the blocks' sums from the first to the last tensor. */
export const globalNorm: WasmKernel = {
  emit: (m) => {
    const parameters = i32s("table", "sums", "begin", "end");
    m.function("f32_squares_listed", parameters, (f, { table, sums, begin, end }) => {
      const unit = f.local("i32", undefined, "unit");
      f.for(unit, begin, end, 1, () => {
        const row = elementAt(table, i32.shl(unit, 1));
        const from = f.local("i32", i32.load(row), "from");
        const count = f.local("i32", i32.load(row, 4), "count");
        const total = fold(f, count, SUM, (step) => {
          const x = f.local("v128", step.load(from), "x");
          return f32x4.mul(x, x);
        });
        f.store("f32", elementAt(sums, unit), first(total));
      });
    });
    m.function("f32_root_of_sum", i32s("x", "y", "n"), (f, { x, y, n }) => {
      const total = fold(f, n, SUM, (step) => step.load(x));
      f.store("f32", y, f32.sqrt(first(total)));
    });
  },
  run(machine, { inputs, outputs: [y] }) {
    const bases = inputs.map(address);
    const blocks = blocksOf(inputs.map(({ shape }) => sizeOf(shape)));
    withTemporary(machine, blocks.length, (sums) => {
      launchTable(machine, {
        ...{ kernel: "f32_squares_listed", args: [sums], blocks, words: 2, cost: COST },
        write: ({ array, from, count }, at) => {
          machine.i32[at] = bases[array]! + 4 * from;
          machine.i32[at + 1] = count;
        },
      });
      machine.call("f32_root_of_sum", sums, address(y!), blocks.length);
    });
  },
};

export const argmax: WasmKernel = {
  emit: (m) =>
    rowKernel(m, "f32_argmax", ["x", "y"], (f, p, row) => {
      const x = rowAt(f, p.x, row, p.n);
      const top = fold(f, p.n, LARGEST, (step) => step.load(x));
      const [at, hits] = [f.local("i32", 0, "at"), f.local("i32", 0, "hits")];
      f.while(i32.and(i32.ltU(at, p.n), i32.eqz(hits)), () => {
        // Where the largest is a NaN, it is the one that does not equal itself.
        const four = f.local("v128", v128.load(elementAt(x, at)), "four");
        f.set(hits, i32x4.bitmask(v128.or(f32x4.eq(four, top), f32x4.ne(four, four))));
        f.set(at, i32.add(at, 4));
      });
      f.store("i32", elementAt(p.y, row), i32.add(i32.sub(at, 4), i32.ctz(hits)));
    }),
  run(machine, call) {
    const n = call.inputs[0]!.shape.at(-1)!;
    const dims = { batch: sizeOf(call.outputs[0]!.shape) };
    launchRows(machine, "f32_argmax", { ...call, dims }, n, 2 * COST);
  },
};

/** Puts (value, index) into the sorted first `count` entries of a list of k; returns its length. */
function insert(
  values: Float32Array,
  indices: Int32Array,
  count: number,
  value: number,
  index: number,
): number {
  let [low, high] = [0, count];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (larger(value, values[middle]!)) high = middle;
    else low = middle + 1;
  }
  const kept = Math.min(count, values.length - 1);
  values.copyWithin(low + 1, low, kept);
  indices.copyWithin(low + 1, low, kept);
  values[low] = value;
  indices[low] = index;
  return kept + 1;
}

/** In JavaScript: after the first k elements few enter the list, so a row costs about 1 ns each. */
export const topK: WasmKernel = {
  run(machine, { inputs: [x], outputs: [values, indices], options }) {
    const k = options as number;
    if (k === 0) return;
    const n = x!.shape.at(-1)!;
    const rows = values!.shape.slice(0, -1).reduce((size, axis) => size * axis, 1);
    const at = (base: number, length: number, row: number) => base / 4 + row * length;
    for (let row = 0; row < rows; row++) {
      const from = at(address(x!), n, row);
      const line = machine.f32.subarray(from, from + n);
      const to = [at(address(values!), k, row), at(address(indices!), k, row)] as const;
      const best = machine.f32.subarray(to[0], to[0] + k);
      const places = machine.i32.subarray(to[1], to[1] + k);
      let count = 0;
      for (let i = 0; i < n; i++) {
        const value = line[i]!;
        if (count < k || larger(value, best[k - 1]!)) count = insert(best, places, count, value, i);
      }
    }
  },
};

export const cumulativeSum: WasmKernel = {
  // `first` and `step` are byte offsets: of the element with which a row starts, and to the next.
  emit: (m) => {
    const parameters = i32s("x", "y", "n", "first", "step", "begin", "end");
    m.function("f32_cumulative_sum", parameters, (f, { x, y, n, first, step, begin, end }) => {
      const row = f.local("i32", undefined, "r");
      f.for(row, begin, end, 1, () => {
        const from = f.local("i32", i32.add(rowAt(f, x, row, n), first), "from");
        const to = f.local("i32", i32.add(rowAt(f, y, row, n), first), "to");
        const total = f.local("f32", 0, "total");
        const i = f.local("i32", undefined, "i");
        f.for(i, 0, n, 1, () => {
          f.set(total, f32.add(total, f32.load(from)));
          f.store("f32", to, total);
          f.set(from, i32.add(from, step));
          f.set(to, i32.add(to, step));
        });
      });
    });
  },
  run(machine, { inputs: [x], outputs: [y], dims, options }) {
    const { batch, n } = dims as { batch: number; n: number };
    const reverse = (options as { reverse: boolean } | undefined)?.reverse === true;
    const walk = reverse ? [4 * (n - 1), -4] : [0, 4];
    const args = [address(x!), address(y!), n, ...walk];
    machine.parallel("f32_cumulative_sum", args, batch, { grain: 1, work: batch * n });
  },
};
