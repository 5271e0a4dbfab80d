/** Reductions down the columns of row-major data, in fixed blocks of rows and of columns. */

import {
  type FunctionBuilder,
  f32x4,
  i32,
  type Local,
  type ModuleBuilder,
  v128,
} from "../../device/wasm/assembler.ts";
import { i32s } from "../../device/wasm/launch.ts";
import type { Machine } from "../../device/wasm/machine.ts";
import { elementAt, type Fold, type I32, sweep, type Vector } from "../../device/wasm/rows.ts";

/** Nanoseconds per element. */
const COST = 0.1;
/** More rows are reduced in blocks of this many, and then the blocks' results. */
const ROWS = 64;
/** Columns that a thread does at a time. */
const COLUMNS = 256;
/** Vectors of four columns that are kept in registers on the way down. */
const WIDTH = 4;

/** Calls `body` with the address of temporary memory for `elements` numbers. */
export function withTemporary(
  machine: Machine,
  elements: number,
  body: (address: number) => void,
): void {
  const memory = machine.arena.allocate(4 * elements);
  try {
    body(memory);
  } finally {
    machine.arena.free(memory);
  }
}

const PARAMETERS = i32s("x", "y", "n", "inner", "block", "blocks", "chunks", "begin", "end");

/** Unit (o, b, c): column chunk c of row block b of matrix o; y is [outer blocks inner]. */
export function emitColumns(m: ModuleBuilder, name: string, fold: Fold): void {
  m.function(name, PARAMETERS, (f, p) => {
    const unit = f.local("i32", undefined, "unit");
    const clipped = (from: I32, size: number | I32, n: I32): I32 => {
      const count = f.local("i32", i32.sub(n, from), "count");
      f.if(i32.gtU(count, size), () => f.set(count, size));
      return count;
    };
    f.for(unit, p.begin, p.end, 1, () => {
      const block = f.local("i32", i32.divU(unit, p.chunks), "at");
      const chunk = i32.sub(unit, i32.mul(block, p.chunks));
      const column = f.local("i32", i32.mul(chunk, COLUMNS), "column");
      const columns = clipped(column, COLUMNS, p.inner);
      const row = f.local("i32", i32.mul(i32.remU(block, p.blocks), p.block), "row");
      const rows = clipped(row, p.block, p.n);
      const above = i32.add(i32.mul(i32.divU(block, p.blocks), p.n), row);
      const x = f.local("i32", elementAt(p.x, i32.add(i32.mul(above, p.inner), column)), "from");
      const y = f.local("i32", elementAt(p.y, i32.add(i32.mul(block, p.inner), column)), "to");
      const stride = f.local("i32", i32.shl(p.inner, 2), "stride");
      const left = f.local("i32", columns, "left");
      f.while(i32.geU(left, 4 * WIDTH), () => {
        const sums = down(f, x, rows, stride, WIDTH, fold, v128.load);
        for (const [k, sum] of sums.entries()) f.store("v128", y, sum, 16 * k);
        for (const at of [x, y]) f.set(at, i32.add(at, 16 * WIDTH));
        f.set(left, i32.sub(left, 4 * WIDTH));
      });
      sweep(f, left, 1, (step) => {
        const [sum] = down(f, x, rows, stride, 1, fold, step.load);
        step.store(y, sum!);
      });
    });
  });
}

/** Folds `width` neighbouring vectors of columns, from the first row to the last. */
function down(
  f: FunctionBuilder,
  top: I32,
  rows: I32,
  stride: I32,
  width: number,
  { start, combine }: Fold,
  load: (row: I32, offset: number) => Vector,
): Local<"v128">[] {
  const sums = Array.from({ length: width }, () => f.local("v128", f32x4.const(start), "sum"));
  const [at, i] = [f.local("i32", top, "p"), f.local("i32", undefined, "i")];
  f.for(i, 0, rows, 1, () => {
    for (const [k, sum] of sums.entries()) f.set(sum, combine(sum, load(at, 16 * k)));
    f.set(at, i32.add(at, stride));
  });
  return sums;
}

/** x [outer n inner] -> y [outer inner], by the kernels of the reduction `name`. */
export function reduceColumns(
  machine: Machine,
  name: string,
  x: number,
  [outer, n, inner]: readonly [number, number, number],
  y: number,
): void {
  const blocks = n > 2 * ROWS ? Math.ceil(n / ROWS) : 1;
  const chunks = Math.ceil(inner / COLUMNS);
  const stage = (target: number) => {
    const args = [x, target, n, inner, blocks === 1 ? n : ROWS, blocks, chunks];
    const total = outer * blocks * chunks;
    const work = COST * outer * n * inner + 10 * total;
    machine.parallel(`f32_${name}_columns`, args, total, { grain: 1, work });
  };
  if (blocks === 1) stage(y);
  else {
    withTemporary(machine, outer * blocks * inner, (parts) => {
      stage(parts);
      reduceColumns(machine, name, parts, [outer, blocks, inner], y);
    });
  }
}
