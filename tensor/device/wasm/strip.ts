/** GEMM strips: a strip of C, one tile wide, is covered by micro-kernels from top to bottom. */
import type { Callable, Local, ModuleBuilder, Value } from "./assembler.ts";
import { i32, scratch, select } from "./assembler.ts";
import type { Profile, Walk } from "./tile.ts";
import { emitTile } from "./tile.ts";

/** Bytes at the start of scratch memory for a tile at the edge of C. */
export const TILE_BYTES = 1024;

/** The remainder of a row block is cut in two halves, so that no tile is much flatter. */
export function nextHeight(rows: Local<"i32">, full: number): Value<"i32"> {
  const half = i32.shrU(i32.add(rows, 1), 1);
  const short = select(i32.gtU(rows, full), half, rows);
  const whole = i32.or(i32.geU(rows, 2 * full), i32.eq(rows, full));
  return select(whole, i32.const(full), short);
}

/** A strip of C, at most one tile wide: row tiles from top to bottom. */
export function emitStrip(
  m: ModuleBuilder,
  walk: Walk,
  profile: Profile,
  copyTile: Callable<"void">,
): Callable<"void"> {
  const { rows: full, vectors } = profile;
  const tiles = Array.from({ length: full }, (_, r) =>
    Array.from({ length: vectors }, (_, v) => {
      const main = r + 1 === full && v + 1 === vectors;
      return emitTile(m, walk, r + 1, v + 1, main ? profile : { ...profile, unroll: 2 });
    }),
  );
  const edge = emitEdge(m, walk, tiles, copyTile);
  const parameters = {
    a: "i32",
    /** Bytes from one row of A to the next, and the micro-kernel's aStep; 0: A is packed. */
    aRow: "i32",
    aStep: "i32",
    b: "i32",
    c: "i32",
    cStep: "i32",
    rows: "i32",
    columns: "i32",
    k: "i32",
    fresh: "i32",
  } as const;
  return m.function(`f32_matmul_strip_${walk}`, parameters, (f, p) => {
    const { a, aRow, aStep, b, c, cStep, rows, columns, k, fresh } = p;
    const height = f.local("i32", undefined, "height");
    const step = f.local("i32", aStep, "step");
    f.while(rows, () => {
      f.set(height, nextHeight(rows, full));
      if (walk === "columns") f.if(i32.eqz(aStep), () => f.set(step, i32.shl(height, 2)));
      const whole = i32.and(i32.eq(height, full), i32.eq(columns, 4 * vectors));
      f.if(
        whole,
        () => f.call(tiles[full - 1]![vectors - 1]!, a, step, b, c, cStep, k, fresh),
        () => f.call(edge, height, columns, a, step, b, c, cStep, k, fresh),
      );
      f.set(a, i32.add(a, i32.mul(height, aRow)));
      f.set(c, i32.add(c, i32.mul(height, cStep)));
      f.set(rows, i32.sub(rows, height));
    });
  });
}

/** A tile at the edge of C: a smaller kernel, and C by way of scratch where a vector is partial. */
function emitEdge(
  m: ModuleBuilder,
  walk: Walk,
  tiles: readonly (readonly Callable<"void">[])[],
  copyTile: Callable<"void">,
): Callable<"void"> {
  const parameters = {
    rows: "i32",
    columns: "i32",
    a: "i32",
    aStep: "i32",
    b: "i32",
    c: "i32",
    cStep: "i32",
    k: "i32",
    fresh: "i32",
  } as const;
  return m.function(`f32_matmul_edge_${walk}`, parameters, (f, p) => {
    const { rows, columns, a, aStep, b, c, cStep, k, fresh } = p;
    const vectors = f.local("i32", i32.shrU(i32.add(columns, 3), 2), "vectors");
    const partial = f.local("i32", i32.and(columns, 3), "partial");
    const tile = f.local("i32", c, "tile");
    const tileStep = f.local("i32", cStep, "tileStep");
    f.if(partial, () => {
      f.set(tile, scratch);
      f.set(tileStep, i32.shl(vectors, 4));
      f.if(i32.eqz(fresh), () => f.call(copyTile, c, cStep, tile, tileStep, rows, columns));
    });
    for (const [r, line] of tiles.entries()) {
      f.if(i32.eq(rows, r + 1), () => {
        for (const [v, kernel] of line.entries()) {
          f.if(i32.eq(vectors, v + 1), () => f.call(kernel, a, aStep, b, tile, tileStep, k, fresh));
        }
      });
    }
    f.if(partial, () => f.call(copyTile, tile, tileStep, c, cStep, rows, columns));
  });
}
