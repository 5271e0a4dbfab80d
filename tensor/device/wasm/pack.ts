/** GEMM packing: copies a block of an operand into the order in which the micro-kernels read it. */
import type { Callable, FunctionBuilder, Local, ModuleBuilder, Value } from "./assembler.ts";
import { i32, i64, v128 } from "./assembler.ts";

/** Transposes four rows of four lanes; each column passes to `visit` in turn. */
export function transpose4(
  f: FunctionBuilder,
  rows: readonly Value<"v128">[],
  visit: (column: Value<"v128">, at: number) => void,
): void {
  const [r0, r1, r2, r3] = rows as [Value<"v128">, Value<"v128">, Value<"v128">, Value<"v128">];
  for (const half of [0, 2]) {
    const top = f.local("v128", v128.shuffle(r0, r1, half, half + 4, half + 1, half + 5), "top");
    const low = f.local("v128", v128.shuffle(r2, r3, half, half + 4, half + 1, half + 5), "low");
    visit(v128.shuffle(top, low, 0, 1, 4, 5), half);
    visit(v128.shuffle(top, low, 2, 3, 6, 7), half + 1);
  }
}

/**
 * Strips of B with contiguous rows: `strips` of them side by side, k steps of `vectors` vectors
 * each, `stripBytes` apart. The last vector may read up to 12 bytes beyond a row; what the
 * micro-kernel makes of those columns is never stored in C.
 */
export function emitPackRows(m: ModuleBuilder, vectors: number, strips: number): Callable<"void"> {
  const name = `f32_pack_rows_${strips}x${4 * vectors}`;
  const parameters = { b: "i32", bStep: "i32", k: "i32", to: "i32", stripBytes: "i32" } as const;
  return m.function(name, parameters, (f, { b, bStep, k, to, stripBytes }) => {
    const width = 16 * vectors;
    const targets = [to];
    for (let s = 1; s < strips; s++) {
      targets.push(f.local("i32", i32.add(targets.at(-1)!, stripBytes), `to${s}`));
    }
    const copy = () => {
      for (const [s, target] of targets.entries()) {
        for (let v = 0; v < vectors; v++) {
          f.store("v128", target, v128.load(b, s * width + 16 * v), 16 * v);
        }
      }
      for (const target of targets) f.set(target, i32.add(target, width));
      f.set(b, i32.add(b, bStep));
    };
    const end = f.local("i32", i32.add(to, i32.mul(k, width)), "end");
    f.while(i32.ltU(to, end), copy);
  });
}

/**
 * Four columns of B that are each contiguous along k, transposed on the way, into steps that are
 * `toStep` bytes apart. Columns from `columns` on (1 to 4) repeat the last one. Writes k rounded up
 * to 4 steps and reads up to 12 bytes beyond a column.
 */
export function emitPackColumns(m: ModuleBuilder): Callable<"void"> {
  const parameters = {
    b: "i32",
    bStep: "i32",
    columns: "i32",
    k: "i32",
    to: "i32",
    toStep: "i32",
  } as const;
  return m.function("f32_pack_columns", parameters, (f, p) => {
    const { b, bStep, columns, k, to, toStep } = p;
    const pointers = [b];
    for (let column = 1; column < 4; column++) {
      const last = pointers.at(-1)!;
      const next = f.local("i32", last, `column${column}`);
      f.if(i32.gtU(columns, column), () => f.set(next, i32.add(last, bStep)));
      pointers.push(next);
    }
    const end = f.local("i32", i32.add(b, i32.shl(k, 2)), "end");
    const rows = pointers.map((_, at) => f.local("v128", undefined, `row${at}`));
    f.while(i32.ltU(b, end), () => {
      for (const [at, row] of rows.entries()) f.set(row, v128.load(pointers[at]!));
      transpose4(f, rows, (column) => {
        f.store("v128", to, column);
        f.set(to, i32.add(to, toStep));
      });
      for (const pointer of pointers) f.set(pointer, i32.add(pointer, 16));
    });
  });
}

/**
 * A strip of `rows` rows of A whose rows are contiguous within a step of k (A transposed). Reads up
 * to 12 bytes beyond a step and writes as much beyond the strip.
 */
export function emitPackA(m: ModuleBuilder): Callable<"void"> {
  const parameters = { a: "i32", aStep: "i32", k: "i32", rows: "i32", to: "i32" } as const;
  return m.function("f32_pack_a", parameters, (f, { a, aStep, k, rows, to }) => {
    const width = f.local("i32", i32.shl(rows, 2), "width");
    const end = f.local("i32", i32.add(to, i32.mul(k, width)), "end");
    const copy = (vectors: number) =>
      f.for(to, to, end, width, () => {
        for (let v = 0; v < vectors; v++) f.store("v128", to, v128.load(a, 16 * v), 16 * v);
        f.set(a, i32.add(a, aStep));
      });
    f.if(
      i32.leU(rows, 4),
      () => copy(1),
      () => copy(2),
    );
  });
}

/** Whole tiles of A that one turn of emitPackPanels packs side by side: at least a cache line. */
export const panelsAtOnce = (rows: number): number => Math.floor(24 / rows);

/**
 * `groups` times so many strips of `rows` rows each, like emitPackA's, one behind the other. A step
 * of k is read once, whole: its rows share cache lines, and the steps lie far apart.
 */
export function emitPackPanels(m: ModuleBuilder, rows: number): Callable<"void"> {
  const parameters = { a: "i32", aStep: "i32", k: "i32", groups: "i32", to: "i32" } as const;
  return m.function("f32_pack_a_panels", parameters, (f, { a, aStep, k, groups, to }) => {
    const [width, count] = [4 * rows, panelsAtOnce(rows)];
    const panel = f.local("i32", i32.mul(k, width), "panel");
    const targets = Array.from({ length: count }, (_, p) => f.local("i32", undefined, `to${p}`));
    const from = f.local("i32", undefined, "from");
    const end = f.local("i32", undefined, "end");
    const last = f.local("i32", i32.add(to, panel), "last");
    f.while(i32.ltU(to, last), () => {
      f.set(from, a);
      f.set(end, i32.add(a, i32.mul(groups, count * width)));
      f.set(targets[0]!, to);
      f.while(i32.ltU(from, end), () => {
        for (const [p, target] of targets.entries()) {
          if (p > 0) f.set(target, i32.add(targets[p - 1]!, panel));
          copyFloats(f, from, p * width, target, rows);
        }
        f.set(targets[0]!, i32.add(targets.at(-1)!, panel));
        f.set(from, i32.add(from, count * width));
      });
      f.set(to, i32.add(to, width));
      f.set(a, i32.add(a, aStep));
    });
  });
}

/** Copies `count` floats, no byte more. */
function copyFloats(
  f: FunctionBuilder,
  from: Local<"i32">,
  offset: number,
  to: Local<"i32">,
  count: number,
): void {
  let at = 0;
  for (; at + 4 <= count; at += 4) f.store("v128", to, v128.load(from, offset + 4 * at), 4 * at);
  if (at + 2 <= count) {
    f.store("i64", to, i64.load(from, offset + 4 * at), 4 * at);
    at += 2;
  }
  if (at < count) f.store("i32", to, i32.load(from, offset + 4 * at), 4 * at);
}

/** Copies a tile of C, exactly `columns` floats a row. */
export function emitCopyTile(m: ModuleBuilder): Callable<"void"> {
  const parameters = {
    from: "i32",
    fromStep: "i32",
    to: "i32",
    toStep: "i32",
    rows: "i32",
    columns: "i32",
  } as const;
  return m.function("f32_copy_tile", parameters, (f, p) => {
    const { from, fromStep, to, toStep, rows, columns } = p;
    const row = f.local("i32", undefined, "row");
    const at = f.local("i32", undefined, "at");
    const width = f.local("i32", i32.shl(columns, 2), "width");
    f.for(row, 0, rows, 1, () => {
      f.for(at, 0, width, 4, () => {
        f.store("i32", i32.add(to, at), i32.load(i32.add(from, at)));
      });
      f.set(from, i32.add(from, fromStep));
      f.set(to, i32.add(to, toStep));
    });
  });
}
