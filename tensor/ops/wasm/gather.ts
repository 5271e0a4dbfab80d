/** Kernels of indexed reads and writes. Indices are checked before a kernel sees them. */

import type { View } from "../../device/device.ts";
import { f32, f32x4, i32 } from "../../device/wasm/assembler.ts";
import type { WasmKernel } from "../../device/wasm/kernel.ts";
import { address, copyStrided, i32s } from "../../device/wasm/launch.ts";
import type { Machine } from "../../device/wasm/machine.ts";
import { elementAt, rowAt, sweep } from "../../device/wasm/rows.ts";
import { normalAxis, rowMajor, sizeOf } from "../../shape.ts";
import { checkIndices } from "../gather.ts";

/** Nanoseconds to move an element in a run, to fetch one alone, and to start with a row. */
const RUN_COST = 0.15;
const SINGLE_COST = 1;
const ROW_COST = 5;
/** A cache line of columns: the least that a thread is given. */
const LINE = 16;

function check(machine: Machine, op: string, indices: View, n: number): void {
  const at = address(indices) / 4;
  checkIndices(op, machine.i32.subarray(at, at + sizeOf(indices.shape)), n);
}

export const embedding: WasmKernel = {
  emit: (m) => {
    const parameters = i32s("table", "ids", "y", "d", "begin", "end");
    m.function("f32_embedding", parameters, (f, { table, ids, y, d, begin, end }) => {
      const i = f.local("i32", undefined, "i");
      f.for(i, begin, end, 1, () => {
        const from = rowAt(f, table, i32.load(elementAt(ids, i)), d);
        const to = rowAt(f, y, i, d);
        sweep(f, d, 2, (step) => step.store(to, step.load(from)));
      });
    });
  },
  run(machine, { inputs: [table, ids], outputs: [y] }) {
    const [rows, d] = table!.shape as [number, number];
    check(machine, "embedding", ids!, rows);
    const count = sizeOf(ids!.shape);
    const args = [address(table!), address(ids!), address(y!), d];
    const work = count * (ROW_COST + RUN_COST * d);
    machine.parallel("f32_embedding", args, count, { grain: 1, work });
  },
};

/** Threads share the columns, so that each sum has one owner and the order of the ids. */
export const scatterRows: WasmKernel = {
  emit: (m) => {
    const parameters = i32s("x", "ids", "y", "count", "rows", "d", "begin", "end");
    m.function("f32_scatter_rows", parameters, (f, p) => {
      const columns = f.local("i32", i32.sub(p.end, p.begin), "columns");
      const x = f.local("i32", elementAt(p.x, p.begin), "from");
      const y = f.local("i32", elementAt(p.y, p.begin), "to");
      const i = f.local("i32", undefined, "i");
      f.for(i, 0, p.rows, 1, () => {
        f.fill(rowAt(f, y, i, p.d), 0, i32.shl(columns, 2));
      });
      f.for(i, 0, p.count, 1, () => {
        const from = rowAt(f, x, i, p.d);
        const to = rowAt(f, y, i32.load(elementAt(p.ids, i)), p.d);
        sweep(f, columns, 2, (step) => step.store(to, f32x4.add(step.load(to), step.load(from))));
      });
    });
  },
  run(machine, { inputs: [x, ids], outputs: [y], options }) {
    const rows = options as number;
    const [count, d] = [sizeOf(ids!.shape), x!.shape.at(-1)!];
    check(machine, "scatterRows", ids!, rows);
    const args = [address(x!), address(ids!), address(y!), count, rows, d];
    const work = (count + rows) * (ROW_COST + RUN_COST * d);
    machine.parallel("f32_scatter_rows", args, d, { grain: LINE, work });
  },
};

export const takeAlong: WasmKernel = {
  emit: (m) => {
    const parameters = i32s("x", "indices", "y", "n", "k", "begin", "end");
    m.function("f32_take_along", parameters, (f, { x, indices, y, n, k, begin, end }) => {
      const row = f.local("i32", undefined, "r");
      f.for(row, begin, end, 1, () => {
        const from = rowAt(f, x, row, n);
        const [at, to] = [rowAt(f, indices, row, k), rowAt(f, y, row, k)];
        const last = f.local("i32", elementAt(at, k), "last");
        f.for(at, at, last, 4, () => {
          f.store("f32", to, f32.load(elementAt(from, i32.load(at))));
          f.set(to, i32.add(to, 4));
        });
      });
    });
  },
  run(machine, { inputs: [x, indices], outputs: [y], dims }) {
    const { batch, n, k } = dims as { batch: number; n: number; k: number };
    check(machine, "takeAlong", indices!, n);
    const args = [address(x!), address(indices!), address(y!), n, k];
    const work = batch * (ROW_COST + SINGLE_COST * k);
    machine.parallel("f32_take_along", args, batch, { grain: 1, work });
  },
};

export const scatterAlong: WasmKernel = {
  emit: (m) => {
    const parameters = i32s("x", "indices", "y", "n", "k", "begin", "end");
    m.function("f32_scatter_along", parameters, (f, { x, indices, y, n, k, begin, end }) => {
      const row = f.local("i32", undefined, "r");
      f.fill(rowAt(f, y, begin, n), 0, i32.shl(i32.mul(i32.sub(end, begin), n), 2));
      f.for(row, begin, end, 1, () => {
        const to = rowAt(f, y, row, n);
        const [at, from] = [rowAt(f, indices, row, k), rowAt(f, x, row, k)];
        const last = f.local("i32", elementAt(at, k), "last");
        f.for(at, at, last, 4, () => {
          const target = f.local("i32", elementAt(to, i32.load(at)), "target");
          f.store("f32", target, f32.add(f32.load(target), f32.load(from)));
          f.set(from, i32.add(from, 4));
        });
      });
    });
  },
  run(machine, { inputs: [x, indices], outputs: [y], options }) {
    const n = options as number;
    const [rows, k] = [sizeOf(x!.shape.slice(0, -1)), x!.shape.at(-1)!];
    check(machine, "scatterAlong", indices!, n);
    const args = [address(x!), address(indices!), address(y!), n, k];
    const work = rows * (ROW_COST + SINGLE_COST * k + RUN_COST * n);
    machine.parallel("f32_scatter_along", args, rows, { grain: 1, work });
  },
};

/** Each part is one strided copy, also where it is a view. */
export const concat: WasmKernel = {
  strided: true,
  run(machine, { inputs, outputs: [y], options }) {
    const axis = normalAxis(options as number, y!.shape.length, "concat");
    const strides = rowMajor(y!.shape);
    let at = address(y!);
    for (const part of inputs) {
      copyStrided(
        machine,
        part.shape,
        { at: address(part), strides: part.strides },
        { at, strides },
      );
      at += 4 * part.shape[axis]! * strides[axis]!;
    }
  },
};

/** Unit: one head of one sequence, whose rows are written in order, so that the last one stays. */
export const writeRows: WasmKernel = {
  emit: (m) => {
    const parameters = i32s("cache", "x", "positions", "g", "s", "t", "d", "begin", "end");
    m.function(
      "f32_write_rows",
      parameters,
      (f, { cache, x, positions, g, s, t, d, begin, end }) => {
        const [head, i] = [f.local("i32", undefined, "head"), f.local("i32", undefined, "i")];
        f.for(head, begin, end, 1, () => {
          const own = rowAt(f, positions, i32.divU(head, g), t);
          f.for(i, 0, t, 1, () => {
            const from = rowAt(f, x, i32.add(i32.mul(head, t), i), d);
            const position = i32.load(elementAt(own, i));
            const to = rowAt(f, cache, i32.add(i32.mul(head, s), position), d);
            sweep(f, d, 2, (step) => step.store(to, step.load(from)));
          });
        });
      },
    );
  },
  run(machine, { inputs: [cache, x, positions] }) {
    const [b, g, s, d] = cache!.shape as [number, number, number, number];
    const t = x!.shape[2]!;
    check(machine, "writeRows", positions!, s);
    const args = [cache!, x!, positions!].map(address);
    const work = b * g * t * (ROW_COST + RUN_COST * d);
    machine.parallel("f32_write_rows", [...args, g, s, t, d], b * g, { grain: 1, work });
  },
};
