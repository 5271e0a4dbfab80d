/** Products with few rows (or columns) of C: the large operand is read once, in place. */
import type { Callable, ModuleBuilder, Value } from "./assembler.ts";
import { f32, i32, minimum, scratch, select } from "./assembler.ts";
import { emitThinColumns, thinColumnsHeight } from "./thin_columns.ts";
import { emitThinRows, thinRowsHeight } from "./thin_rows.ts";
import type { Profile } from "./tile.ts";

/**
 * A product is thin up to this many rows of C where B's rows are contiguous (to fewer where a
 * product and a sum are two instructions); as a transposed product, up to this many columns, for
 * those fill the tiles sooner. Measured against the tiles: bench/gemm.ts --shape.
 */
export const THIN_ROWS = 12;
const THIN_ROWS_SEPARATE = 7;
const THIN_COLUMNS = 7;

/** Columns of C that are summed at a time, and steps of k between visits to A. */
const N_BLOCK = 1024;
const K_BLOCK = 128;
/** One row is not packed: longer runs. */
const K_BLOCK_ONE_ROW = 4096;
/** The rows of C in scratch are a cache line longer, lest they share one set of L1. */
const PAD = 64;

/** Scratch memory: a block of A, then one of C. */
const SUMS = 4 * THIN_ROWS * K_BLOCK;

const PARAMETERS = {
  m: "i32",
  k: "i32",
  n: "i32",
  a: "i32",
  aRow: "i32",
  aCol: "i32",
  b: "i32",
  bRow: "i32",
  bCol: "i32",
  c: "i32",
  cRow: "i32",
  cCol: "i32",
  fresh: "i32",
} as const;

/** Are B's rows contiguous (whatever the strides of an axis of size 1)? Else its columns are. */
const contiguousRows = (bCol: Value<"i32">, n: Value<"i32">) =>
  i32.or(i32.eq(bCol, 4), i32.eq(n, 1));

/** Does f32_matmul_thin take a product of `m` rows, perhaps the transpose of the one asked for? */
export function isThin(
  profile: Profile,
  { m, n, bCol }: Readonly<Record<"m" | "n" | "bCol", Value<"i32">>>,
  transposed = false,
): Value<"i32"> {
  const byRows = transposed ? THIN_COLUMNS : profile.fma ? THIN_ROWS : THIN_ROWS_SEPARATE;
  const byColumns = i32.const(thinColumnsHeight(profile));
  return i32.leU(m, select(contiguousRows(bCol, n), i32.const(byRows), byColumns));
}

/**
 * C[m x n] = A B, or += where not `fresh`, with few rows and any strides of C, so that a product
 * with few columns can pass as its transpose. Strides in bytes.
 */
export function emitThin(m: ModuleBuilder, profile: Profile): Callable<"void"> {
  const rows = Array.from({ length: thinRowsHeight(profile) }, (_, at) =>
    emitThinRows(m, at + 1, profile),
  );
  const passes = emitPasses(m, rows);
  const columns = Array.from({ length: thinColumnsHeight(profile) }, (_, at) =>
    emitThinColumns(m, at + 1, profile),
  );
  const [packA, copy] = [emitPack(m), emitCopy(m)];
  return m.function("f32_matmul_thin", PARAMETERS, (f, p) => {
    const local = (value: Value<"i32">, name: string) => f.local("i32", value, name);
    const [j, start] = [f.local("i32", undefined, "j"), f.local("i32", undefined, "start")];
    const byRows = local(contiguousRows(p.bCol, p.n), "byRows");
    const oneRow = i32.and(i32.eq(p.m, 1), i32.eq(p.aCol, 4));
    const inPlace = local(oneRow, "inPlace");
    const kBlock = local(select(inPlace, i32.const(K_BLOCK_ONE_ROW), i32.const(K_BLOCK)), "kBlock");
    const sums = local(i32.add(scratch, SUMS), "sums");
    f.for(j, 0, p.n, N_BLOCK, () => {
      const width = local(minimum(i32.sub(p.n, j), i32.const(N_BLOCK)), "columns");
      const pitch = local(i32.add(i32.shl(i32.and(i32.add(width, 3), -4), 2), PAD), "pitch");
      const c = local(i32.add(p.c, i32.mul(j, p.cCol)), "cBlock");
      f.if(
        p.fresh,
        () => f.fill(sums, 0, i32.mul(p.m, pitch)),
        () => f.call(copy, c, p.cRow, p.cCol, sums, pitch, 4, p.m, width),
      );
      f.for(start, 0, p.k, kBlock, () => {
        const depth = local(minimum(i32.sub(p.k, start), kBlock), "depth");
        const a = local(i32.add(p.a, i32.mul(start, p.aCol)), "aBlock");
        f.if(i32.eqz(inPlace), () => {
          f.call(packA, a, p.aRow, p.aCol, p.m, depth, scratch);
          f.set(a, scratch);
        });
        const b = i32.add(p.b, i32.add(i32.mul(start, p.bRow), i32.mul(j, p.bCol)));
        const bBlock = local(b, "bBlock");
        f.if(
          byRows,
          () => f.call(passes, p.m, a, bBlock, p.bRow, depth, i32.sub(pitch, PAD), sums, pitch),
          () => {
            for (const [at, kernel] of columns.entries()) {
              f.if(i32.eq(p.m, at + 1), () =>
                f.call(kernel, depth, width, a, bBlock, p.bCol, sums, pitch),
              );
            }
          },
        );
      });
      f.call(copy, sums, pitch, 4, c, p.cRow, p.cCol, p.m, width);
    });
  });
}

/** All rows of A, in passes over B of equal heights; the later ones find B in L2. */
function emitPasses(m: ModuleBuilder, rows: readonly Callable<"void">[]): Callable<"void"> {
  const parameters = {
    rows: "i32",
    a: "i32",
    b: "i32",
    bStep: "i32",
    k: "i32",
    width: "i32",
    c: "i32",
    cStep: "i32",
  } as const;
  return m.function("f32_matmul_thin_passes", parameters, (f, p) => {
    const { a, b, bStep, k, width, c, cStep } = p;
    const aStep = f.local("i32", i32.shl(p.rows, 2), "aStep");
    const height = f.local("i32", undefined, "height");
    f.while(p.rows, () => {
      const passes = f.local("i32", ceilDivide(p.rows, i32.const(rows.length)), "passes");
      f.set(height, ceilDivide(p.rows, passes));
      for (const [at, kernel] of rows.entries()) {
        f.if(i32.eq(height, at + 1), () => f.call(kernel, a, aStep, b, bStep, k, width, c, cStep));
      }
      f.set(a, i32.add(a, i32.shl(height, 2)));
      f.set(c, i32.add(c, i32.mul(height, cStep)));
      f.set(p.rows, i32.sub(p.rows, height));
    });
  });
}

const ceilDivide = (x: Value<"i32">, by: Value<"i32">) => i32.divU(i32.add(x, i32.sub(by, 1)), by);

/** A block of A, step by step: the rows of a step follow each other. */
function emitPack(m: ModuleBuilder): Callable<"void"> {
  const parameters = {
    a: "i32",
    aRow: "i32",
    aCol: "i32",
    rows: "i32",
    k: "i32",
    to: "i32",
  } as const;
  return m.function("f32_matmul_thin_pack", parameters, (f, { a, aRow, aCol, rows, k, to }) => {
    const [row, from] = [f.local("i32", undefined, "row"), f.local("i32", undefined, "from")];
    const step = f.local("i32", undefined, "step");
    f.for(step, 0, k, 1, () => {
      f.set(from, a);
      f.for(row, 0, rows, 1, () => {
        f.store("f32", to, f32.load(from));
        f.set(to, i32.add(to, 4));
        f.set(from, i32.add(from, aRow));
      });
      f.set(a, i32.add(a, aCol));
    });
  });
}

/** Copies rows x columns floats between any strides. */
function emitCopy(m: ModuleBuilder): Callable<"void"> {
  const parameters = {
    from: "i32",
    fromRow: "i32",
    fromCol: "i32",
    to: "i32",
    toRow: "i32",
    toCol: "i32",
    rows: "i32",
    columns: "i32",
  } as const;
  return m.function("f32_matmul_thin_copy", parameters, (f, p) => {
    const { from, fromRow, fromCol, to, toRow, toCol, rows, columns } = p;
    const [row, column] = [f.local("i32", undefined, "row"), f.local("i32", undefined, "column")];
    const [x, y] = [f.local("i32", undefined, "x"), f.local("i32", undefined, "y")];
    const dense = f.local("i32", i32.and(i32.eq(fromCol, 4), i32.eq(toCol, 4)), "dense");
    const strided = () => {
      f.set(x, from);
      f.set(y, to);
      f.for(column, 0, columns, 1, () => {
        f.store("f32", y, f32.load(x));
        f.set(x, i32.add(x, fromCol));
        f.set(y, i32.add(y, toCol));
      });
    };
    f.for(row, 0, rows, 1, () => {
      f.if(dense, () => f.copy(to, from, i32.shl(columns, 2)), strided);
      f.set(from, i32.add(from, fromRow));
      f.set(to, i32.add(to, toRow));
    });
  });
}
