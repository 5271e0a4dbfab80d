/** GEMM blocking: cuts a product into blocks that fit the caches, packs them, runs the tiles. */
import type { Callable, FunctionBuilder, Local, ModuleBuilder, Value } from "./assembler.ts";
import { i32, minimum, scratch, select } from "./assembler.ts";
import {
  emitCopyTile,
  emitPackA,
  emitPackColumns,
  emitPackPanels,
  emitPackRows,
  panelsAtOnce,
} from "./pack.ts";
import { emitStrip, nextHeight, TILE_BYTES } from "./strip.ts";
import { emitThin, isThin } from "./thin.ts";
import type { Profile, Walk } from "./tile.ts";

/** Block sizes: a strip of B (16 to 24 KiB) stays in L1, a block of A (240 KiB) in L2. */
const K_BLOCK = 512;
const M_BLOCK = 120;
const N_BLOCK = 1024;
/** From this stride on, walking down A's columns costs more than packing them. */
const PACK_A_BYTES = 2048;
/** For no more columns of B than this, A is read too seldom to be packed. */
const PACK_A_COLUMNS = 16;

/** Strips of B packed at once when its rows are contiguous: whole cache lines of each row. */
const STRIPS = 4;

/** Scratch memory: a tile for the edges of C, packed B, packed A (see SCRATCH_BYTES). */
const PACKED_B = TILE_BYTES;
const PACKED_A = PACKED_B + 4 * K_BLOCK * N_BLOCK + 4096;

/** Size of the blocks when an axis is cut into equal ones of at most `most`, whole multiples. */
function evenBlock(size: Value<"i32">, most: number, multiple: number): Value<"i32"> {
  const limit = most - (most % multiple);
  const blocks = i32.divU(i32.add(size, limit - 1), limit);
  const even = i32.divU(i32.add(size, i32.sub(blocks, 1)), blocks);
  return i32.mul(i32.divU(i32.add(even, multiple - 1), multiple), multiple);
}

interface Kernels {
  readonly strip: Readonly<Record<Walk, Callable<"void">>>;
  readonly packRows: readonly Callable<"void">[];
  readonly packRowsWide: Callable<"void">;
  readonly packColumns: Callable<"void">;
  readonly packA: Callable<"void">;
  readonly packPanels: Callable<"void">;
  readonly thin: Callable<"void">;
}

/** Emits every kernel of the product; the one to call is f32_matmul. */
export function emitMatmul(m: ModuleBuilder, profile: Profile): void {
  const copyTile = emitCopyTile(m);
  const packColumns = emitPackColumns(m);
  const strip = (walk: Walk) => emitStrip(m, walk, profile, copyTile);
  const block = emitBlock(m, profile, {
    strip: { rows: strip("rows"), columns: strip("columns") },
    packRows: Array.from({ length: profile.vectors }, (_, v) => emitPackRows(m, v + 1, 1)),
    packRowsWide: emitPackRows(m, profile.vectors, STRIPS),
    packColumns,
    packA: emitPackA(m),
    packPanels: emitPackPanels(m, profile.rows),
    thin: emitThin(m, profile),
  });
  emitShare(m, block);
}

/** Operands of one product: byte addresses, byte strides; `fresh`: C is overwritten. */
const OPERANDS = {
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
  fresh: "i32",
} as const;
type Operands = { readonly [K in keyof typeof OPERANDS]: Local<"i32"> };

/** One product on one thread. */
function emitBlock(m: ModuleBuilder, profile: Profile, kernels: Kernels): Callable<"void"> {
  return m.function("f32_matmul_block", OPERANDS, (f, p) => {
    const { k, n, a, aRow, aCol, b, bRow, bCol, c, cRow, fresh } = p;
    const i = f.local("i32", undefined, "i");
    f.if(i32.eqz(k), () => {
      f.if(fresh, () =>
        f.for(i, 0, p.m, 1, () => f.fill(i32.add(c, i32.mul(i, cRow)), 0, i32.shl(n, 2))),
      );
      f.return();
    });
    const columnsThin = isThin(profile, { m: n, n: p.m, bCol: aRow }, true);
    f.if(i32.and(i32.gtU(p.m, n), columnsThin), () => {
      f.call(kernels.thin, n, k, p.m, b, bCol, bRow, a, aCol, aRow, c, 4, cRow, fresh);
      f.return();
    });
    f.if(isThin(profile, { m: p.m, n, bCol }), () => {
      f.call(kernels.thin, p.m, k, n, a, aRow, aCol, b, bRow, bCol, c, cRow, 4, fresh);
      f.return();
    });
    const kBlock = f.local("i32", evenBlock(k, K_BLOCK, 8), "kBlock");
    const mBlock = f.local("i32", evenBlock(p.m, M_BLOCK, profile.rows), "mBlock");
    const nBlock = f.local("i32", evenBlock(n, N_BLOCK, 4 * profile.vectors), "nBlock");
    const [start, j] = [f.local("i32", undefined, "start"), f.local("i32", undefined, "j")];
    const depth = f.local("i32", undefined, "depth");
    f.for(start, 0, k, kBlock, () => {
      f.set(depth, minimum(kBlock, i32.sub(k, start)));
      f.for(j, 0, n, nBlock, () => {
        f.for(i, 0, p.m, mBlock, () =>
          emitMiddle(f, p, { start, depth, i, j, mBlock, nBlock }, kernels, profile),
        );
      });
      f.set(fresh, 0);
    });
  });
}

interface Position {
  readonly start: Local<"i32">;
  readonly depth: Local<"i32">;
  readonly i: Local<"i32">;
  readonly j: Local<"i32">;
  readonly mBlock: Local<"i32">;
  readonly nBlock: Local<"i32">;
}

/** A block of A times a block of B; B is packed strip by strip on its first use, so hot in L1. */
function emitMiddle(
  f: FunctionBuilder,
  p: Operands,
  { start, depth, i, j, mBlock, nBlock }: Position,
  kernels: Kernels,
  profile: Profile,
): void {
  const { aRow, aCol, cRow } = p;
  const width = 4 * profile.vectors;
  const local = (value: Value<"i32">, name: string) => f.local("i32", value, name);
  const height = local(minimum(i32.sub(p.m, i), mBlock), "height");
  const a = local(i32.add(i32.add(p.a, i32.mul(i, aRow)), i32.mul(start, aCol)), "aBlock");
  const contiguous = local(i32.or(i32.eq(aCol, 4), i32.eq(p.k, 1)), "contiguous");
  const rowBytes = local(aRow, "rowBytes");
  const aStep = local(select(contiguous, aRow, aCol), "aStep");
  const reused = i32.gtU(p.n, PACK_A_COLUMNS);
  f.if(i32.and(i32.eqz(contiguous), i32.and(reused, i32.geU(aCol, PACK_A_BYTES))), () => {
    packA(f, a, aCol, depth, height, kernels, profile.rows);
    f.set(a, i32.add(scratch, PACKED_A));
    f.set(rowBytes, i32.shl(depth, 2));
    f.set(aStep, 0);
  });
  const columns = local(minimum(i32.sub(p.n, j), nBlock), "columns");
  const s = f.local("i32", undefined, "s");
  const stepBytes = local(i32.shl(i32.and(i32.add(depth, 3), -4), 2), "stepBytes");
  f.for(s, 0, columns, width, () => {
    const now = local(minimum(i32.sub(columns, s), i32.const(width)), "now");
    const packed = local(i32.add(i32.add(scratch, PACKED_B), i32.mul(s, stepBytes)), "packed");
    f.if(i32.eqz(i), () => {
      packB(f, p, { s, columns, now, start, j, depth, packed, stepBytes }, kernels, width);
    });
    const c = local(i32.add(i32.add(p.c, i32.mul(i, cRow)), i32.shl(i32.add(j, s), 2)), "cStrip");
    const rest = [packed, c, cRow, height, now, depth, p.fresh];
    f.if(
      contiguous,
      () => f.call(kernels.strip.rows, a, rowBytes, aStep, ...rest),
      () => f.call(kernels.strip.columns, a, rowBytes, aStep, ...rest),
    );
  });
}

function packA(
  f: FunctionBuilder,
  a: Local<"i32">,
  aCol: Local<"i32">,
  depth: Local<"i32">,
  rows: Local<"i32">,
  kernels: Kernels,
  full: number,
): void {
  const left = f.local("i32", rows, "rowsLeft");
  const from = f.local("i32", a, "from");
  const to = f.local("i32", i32.add(scratch, PACKED_A), "to");
  const tile = f.local("i32", undefined, "tileRows");
  const many = full * panelsAtOnce(full);
  const groups = f.local("i32", undefined, "groups");
  f.while(left, () => {
    // Two whole tiles more must follow, so that the cut of the rest stays what it is.
    f.if(
      i32.geU(left, many + 2 * full),
      () => {
        f.set(groups, i32.divU(i32.sub(left, 2 * full), many));
        f.set(tile, i32.mul(groups, many));
        f.call(kernels.packPanels, from, aCol, depth, groups, to);
      },
      () => {
        f.set(tile, nextHeight(left, full));
        f.call(kernels.packA, from, aCol, depth, tile, to);
      },
    );
    f.set(from, i32.add(from, i32.shl(tile, 2)));
    f.set(to, i32.add(to, i32.shl(i32.mul(tile, depth), 2)));
    f.set(left, i32.sub(left, tile));
  });
}

interface Strip {
  readonly s: Local<"i32">;
  readonly columns: Local<"i32">;
  readonly now: Local<"i32">;
  readonly start: Local<"i32">;
  readonly j: Local<"i32">;
  readonly depth: Local<"i32">;
  readonly packed: Local<"i32">;
  readonly stepBytes: Local<"i32">;
}

/** Packs the strip at column s, or with it the next ones of its group. */
function packB(
  f: FunctionBuilder,
  p: Operands,
  { s, columns, now, start, j, depth, packed, stepBytes }: Strip,
  { packRows, packRowsWide, packColumns }: Kernels,
  width: number,
): void {
  const { n, bRow, bCol } = p;
  const column = i32.mul(i32.add(j, s), bCol);
  const b = f.local("i32", i32.add(i32.add(p.b, i32.mul(start, bRow)), column), "bStrip");
  const vectors = f.local("i32", i32.shrU(i32.add(now, 3), 2), "vectors");
  const stripBytes = i32.mul(stepBytes, width);
  const oneByRows = () => {
    for (const [v, pack] of packRows.entries()) {
      f.if(i32.eq(vectors, v + 1), () => f.call(pack, b, bRow, depth, packed, stripBytes));
    }
  };
  const group = width * STRIPS;
  const inGroup = i32.leU(i32.add(i32.sub(s, i32.remU(s, group)), group), columns);
  const byRows = () =>
    f.if(
      inGroup,
      () =>
        f.if(i32.eqz(i32.remU(s, group)), () =>
          f.call(packRowsWide, b, bRow, depth, packed, stripBytes),
        ),
      oneByRows,
    );
  const byColumns = () => {
    const at = f.local("i32", undefined, "at");
    f.for(at, 0, now, 4, () => {
      const from = i32.add(b, i32.mul(at, bCol));
      const to = i32.add(packed, i32.shl(at, 2));
      const step = i32.shl(vectors, 4);
      f.call(packColumns, from, bCol, i32.sub(now, at), depth, to, step);
    });
  };
  f.if(i32.or(i32.eq(bCol, 4), i32.eq(n, 1)), byRows, byColumns);
}

/**
 * f32_matmul: a thread's share of one product or a batch of them. The units of all products are
 * numbered through: single rows of C (`byRows`), or groups of four columns.
 */
function emitShare(m: ModuleBuilder, block: Callable<"void">): void {
  const parameters = {
    ...OPERANDS,
    aBatch: "i32",
    bBatch: "i32",
    cBatch: "i32",
    byRows: "i32",
    begin: "i32",
    end: "i32",
  } as const;
  m.function("f32_matmul", parameters, (f, p) => {
    const { k, n, aRow, aCol, bRow, bCol, cRow, fresh, byRows, begin, end } = p;
    const groups = i32.shrU(i32.add(n, 3), 2);
    const units = f.local("i32", select(byRows, p.m, groups), "units");
    const local = (value: Value<"i32">, name: string) => f.local("i32", value, name);
    f.while(i32.ltU(begin, end), () => {
      const product = local(i32.divU(begin, units), "product");
      const first = local(i32.remU(begin, units), "first");
      const count = local(minimum(i32.sub(units, first), i32.sub(end, begin)), "count");
      const a = local(i32.add(p.a, i32.mul(product, p.aBatch)), "aNow");
      const b = local(i32.add(p.b, i32.mul(product, p.bBatch)), "bNow");
      const c = local(i32.add(p.c, i32.mul(product, p.cBatch)), "cNow");
      f.if(
        byRows,
        () => {
          const aFirst = i32.add(a, i32.mul(first, aRow));
          const cFirst = i32.add(c, i32.mul(first, cRow));
          f.call(block, count, k, n, aFirst, aRow, aCol, b, bRow, bCol, cFirst, cRow, fresh);
        },
        () => {
          const column = local(i32.shl(first, 2), "column");
          const width = minimum(i32.shl(count, 2), i32.sub(n, column));
          const bFirst = i32.add(b, i32.mul(column, bCol));
          const cFirst = i32.add(c, i32.shl(column, 2));
          f.call(block, p.m, k, width, a, aRow, aCol, bFirst, bRow, bCol, cFirst, cRow, fresh);
        },
      );
      f.set(begin, i32.add(begin, count));
    });
  });
}
