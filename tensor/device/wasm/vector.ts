/** One row times a matrix, C[1 x n] = A[1 x k] B: B is read once, in place, at memory speed. */
import type { Callable, FunctionBuilder, Local, ModuleBuilder, Value } from "./assembler.ts";
import { f32x4, i32, minimum, scratch, v128 } from "./assembler.ts";
import type { Profile } from "./tile.ts";
import { multiplyAdd } from "./tile.ts";

const PARAMETERS = {
  k: "i32",
  n: "i32",
  a: "i32",
  /** Bytes from one step of k to the next, in A and in B; and from column to column in B. */
  aStep: "i32",
  b: "i32",
  bStep: "i32",
  bColumn: "i32",
  c: "i32",
  /** 1: C is overwritten; 0: added to. */
  fresh: "i32",
} as const;

type Fma = Pick<Profile, "fma">;

/** Stores the first `count` lanes, all four where more are asked for. */
function storeLanes(
  f: FunctionBuilder,
  to: Value<"i32">,
  value: Local<"v128">,
  count: Value<"i32">,
) {
  const lanes = () => {
    for (let lane = 0; lane < 3; lane++) {
      f.if(i32.gtU(count, lane), () =>
        f.store("f32", to, f32x4.extractLane(value, lane), 4 * lane),
      );
    }
  };
  f.if(i32.geU(count, 4), () => f.store("v128", to, value), lanes);
}

const ROWS_AT_ONCE = 8;

/** B's rows are contiguous: eight at a time are read side by side, the sums stay in C (L1). */
export function emitVectorRows(m: ModuleBuilder, fma: Fma): Callable<"void"> {
  return m.function("f32_vector_matrix_rows", PARAMETERS, (f, p) => {
    const { k, n, a, aStep, b, bStep, c, fresh } = p;
    const width = f.local("i32", i32.shl(n, 2), "width");
    const whole = f.local("i32", i32.and(width, -32), "whole");
    const [at, step] = [f.local("i32", undefined, "at"), f.local("i32", 0, "step")];
    f.if(fresh, () => f.fill(c, 0, width));
    const factors = Array.from({ length: ROWS_AT_ONCE }, () => f.local("v128"));
    const rows = Array.from({ length: ROWS_AT_ONCE }, () => f.local("i32"));
    const sums = [f.local("v128", undefined, "sum0"), f.local("v128", undefined, "sum1")];
    const group = (count: number) => {
      for (let row = 0; row < count; row++) {
        f.set(factors[row]!, v128.load32Splat(a));
        f.set(rows[row]!, b);
        f.set(a, i32.add(a, aStep));
        f.set(b, i32.add(b, bStep));
      }
      const columns = (vectors: number, store: (to: Value<"i32">) => void) => {
        const to = f.local("i32", i32.add(c, at), "to");
        for (let v = 0; v < vectors; v++) f.set(sums[v]!, v128.load(to, 16 * v));
        for (let row = 0; row < count; row++) {
          const from = f.local("i32", i32.add(rows[row]!, at), "from");
          for (let v = 0; v < vectors; v++) {
            const term = v128.load(from, 16 * v);
            f.set(sums[v]!, multiplyAdd(fma, factors[row]!, term, sums[v]!));
          }
        }
        store(to);
      };
      f.for(at, 0, whole, 32, () =>
        columns(2, (to) => {
          for (const [v, sum] of sums.entries()) f.store("v128", to, sum, 16 * v);
        }),
      );
      f.for(at, at, width, 16, () =>
        columns(1, (to) => storeLanes(f, to, sums[0]!, i32.shrU(i32.sub(width, at), 2))),
      );
      f.set(step, i32.add(step, count));
    };
    f.while(i32.leU(i32.add(step, ROWS_AT_ONCE), k), () => group(ROWS_AT_ONCE));
    f.while(i32.ltU(step, k), () => group(1));
  });
}

/** Columns and steps of k that are transposed into scratch memory at a time: half of L1. */
const COLUMNS = 32;
const STEPS = 64;

/** B's columns are contiguous: blocks of it are transposed, then used as rows while in L1. */
export function emitVectorColumns(
  m: ModuleBuilder,
  rows: Callable<"void">,
  packColumns: Callable<"void">,
): Callable<"void"> {
  return m.function("f32_vector_matrix_columns", PARAMETERS, (f, p) => {
    const { k, n, a, aStep, b, bColumn, c, fresh } = p;
    const [j, at] = [f.local("i32", undefined, "j"), f.local("i32", undefined, "at")];
    const start = f.local("i32", undefined, "start");
    f.for(j, 0, n, COLUMNS, () => {
      const columns = f.local("i32", minimum(i32.sub(n, j), i32.const(COLUMNS)), "columns");
      f.for(start, 0, k, STEPS, () => {
        const steps = f.local("i32", minimum(i32.sub(k, start), i32.const(STEPS)), "steps");
        f.for(at, 0, columns, 4, () => {
          const column = i32.mul(i32.add(j, at), bColumn);
          const from = i32.add(i32.add(b, column), i32.shl(start, 2));
          const to = i32.add(scratch, i32.shl(at, 2));
          f.call(packColumns, from, bColumn, i32.sub(columns, at), steps, to, 4 * COLUMNS);
        });
        const x = i32.add(a, i32.mul(start, aStep));
        const first = i32.and(fresh, i32.eqz(start));
        const target = i32.add(c, i32.shl(j, 2));
        f.call(rows, steps, columns, x, aStep, scratch, 4 * COLUMNS, 4, target, first);
      });
    });
  });
}
