/** The kernels that copy between layouts: runs, single elements, transposes, zeros. */

import { type FunctionBuilder, i32, type Local, type ModuleBuilder, v128 } from "./assembler.ts";

/** Rows of the result that a thread transposes at a time. */
export const TRANSPOSE_ROWS = 8;
/** Axes in front of the last one that a kernel walks by itself. */
export const OUTER = 3;

/** Parameters of type i32. */
export const i32s = <K extends string>(...names: K[]): Readonly<Record<K, "i32">> =>
  Object.fromEntries(names.map((name) => [name, "i32"])) as Record<K, "i32">;

/** A walk over three axes (see `walk`), and the range of units that a thread does. */
const WALK = i32s("n1", "n2", "s0", "s1", "s2", "t0", "t1", "t2");
const RANGE = i32s("begin", "end");

/** The functions that packTo and copyStrided launch. */
export function emitLaunch(m: ModuleBuilder): void {
  const line = emitLine(m);
  const pair = i32s("source", "from", "target", "to");
  m.function("f32_copy_line", { ...pair, ...RANGE }, (f, p) => {
    const source = i32.add(p.source, i32.mul(p.begin, p.from));
    const target = i32.add(p.target, i32.mul(p.begin, p.to));
    f.call(line, source, p.from, target, p.to, i32.sub(p.end, p.begin));
  });
  m.function("f32_copy_rows", { ...pair, ...i32s("n"), ...WALK, ...RANGE }, (f, p) => {
    const { i0, i1, i2 } = position(f, p.begin, p);
    const offset = (s0: I32, s1: I32, s2: I32) =>
      i32.add(i32.mul(i0, s0), i32.add(i32.mul(i1, s1), i32.mul(i2, s2)));
    const row = f.local("i32", p.begin, "row");
    f.for(row, row, p.end, 1, () => {
      const source = i32.add(p.source, offset(p.s0, p.s1, p.s2));
      f.call(line, source, p.from, i32.add(p.target, offset(p.t0, p.t1, p.t2)), p.to, p.n);
      f.set(i2, i32.add(i2, 1));
      f.if(i32.eq(i2, p.n2), () => {
        f.set(i2, 0);
        f.set(i1, i32.add(i1, 1));
        f.if(i32.eq(i1, p.n1), () => {
          f.set(i1, 0);
          f.set(i0, i32.add(i0, 1));
        });
      });
    });
  });
  emitTransposed(m);
  m.function("f32_zero", { ...i32s("target"), ...RANGE }, (f, { target, begin, end }) => {
    f.fill(i32.add(target, i32.shl(begin, 2)), 0, i32.shl(i32.sub(end, begin), 2));
  });
}

type I32 = Local<"i32">;

/** The three indices of step `at` of a walk. */
function position(f: FunctionBuilder, at: I32, { n1, n2 }: { n1: I32; n2: I32 }) {
  const i2 = f.local("i32", i32.remU(at, n2), "i2");
  const rest = f.local("i32", i32.divU(at, n2), "rest");
  const i1 = f.local("i32", i32.remU(rest, n1), "i1");
  return { i0: f.local("i32", i32.divU(rest, n1), "i0"), i1, i2 };
}

/** Bytes from which the engine's memory.copy beats a loop of vectors. */
const LONG_RUN = 1024;

/** Copies n elements, `from` bytes apart where they are read, and `to` where they are written. */
function emitLine(m: ModuleBuilder) {
  const parameters = i32s("source", "from", "target", "to", "n");
  return m.function("f32_copy_elements", parameters, (f, { source, from, target, to, n }) => {
    const p = f.local("i32", source, "p");
    const out = f.local("i32", target, "out");
    const bytes = i32.shl(n, 2);
    const whole = f.local("i32", i32.add(target, i32.and(bytes, -16)), "whole");
    const end = f.local("i32", i32.add(target, i32.mul(n, to)), "end");
    const single = () =>
      f.while(i32.ne(out, end), () => {
        f.store("i32", out, i32.load(p));
        f.set(p, i32.add(p, from));
        f.set(out, i32.add(out, to));
      });
    const run = () => {
      f.for(out, out, whole, 16, () => {
        f.store("v128", out, v128.load(p));
        f.set(p, i32.add(p, 16));
      });
      single();
    };
    const repeat = () => {
      const value = f.local("v128", v128.load32Splat(source), "value");
      f.for(out, out, whole, 16, () => f.store("v128", out, value));
      single();
    };
    const runs = () => {
      f.if(i32.geU(n, LONG_RUN / 4), () => f.copy(target, source, bytes), run);
    };
    const dense = () => f.if(i32.eq(from, 4), runs, () => f.if(i32.eqz(from), repeat, single));
    f.if(i32.eq(to, 4), dense, single);
  });
}

/** Unit (o, g): rows 8g .. 8g + 7 of matrix o, where the source holds the transpose. */
function emitTransposed(m: ModuleBuilder): void {
  const sizes = i32s("source", "target", "rows", "columns", "columnStride", "rowStride", "groups");
  m.function("f32_copy_transposed", { ...sizes, ...WALK, ...RANGE }, (f, p) => {
    const unit = f.local("i32", undefined, "unit");
    f.for(unit, p.begin, p.end, 1, () => {
      const matrix = f.local("i32", i32.divU(unit, p.groups), "matrix");
      const first = i32.shl(i32.sub(unit, i32.mul(matrix, p.groups)), 3);
      const row = f.local("i32", first, "row");
      const { i0, i1, i2 } = position(f, matrix, p);
      const at = (base: I32, s0: I32, s1: I32, s2: I32) =>
        i32.add(base, i32.add(i32.mul(i0, s0), i32.add(i32.mul(i1, s1), i32.mul(i2, s2))));
      const from = f.local("i32", at(p.source, p.s0, p.s1, p.s2), "from");
      const to = f.local("i32", at(p.target, p.t0, p.t1, p.t2), "to");
      f.set(from, i32.add(from, i32.shl(row, 2)));
      f.set(to, i32.add(to, i32.mul(row, p.rowStride)));
      const left = f.local("i32", i32.sub(p.rows, row), "left");
      f.if(
        i32.geU(left, TRANSPOSE_ROWS),
        () => strip(f, from, to, p),
        () => scalarStrip(f, from, to, left, p),
      );
    });
  });
}

type Lanes = [number, number, number, number];

interface Matrix {
  readonly columns: I32;
  readonly columnStride: I32;
  readonly rowStride: I32;
}

/** Eight rows: 8 x 4 blocks by registers, then the last columns one element at a time. */
function strip(f: FunctionBuilder, from: I32, to: I32, matrix: Matrix): void {
  const { columns, columnStride, rowStride } = matrix;
  const column = f.local("i32", 0, "column");
  const whole = f.local("i32", i32.and(columns, -4), "whole");
  const [source, target] = [f.local("i32", from, "p"), f.local("i32", to, "out")];
  f.for(column, column, whole, 4, () => {
    const sources = [source];
    for (let c = 1; c < 4; c++) {
      sources.push(f.local("i32", i32.add(sources[c - 1]!, columnStride), `p${c}`));
    }
    const out = f.local("i32", target, "row8");
    for (const offset of [0, 16]) {
      const x = sources.map((p) => f.local("v128", v128.load(p, offset)));
      const pairs = [
        v128.shuffle(x[0]!, x[1]!, 0, 4, 1, 5),
        v128.shuffle(x[2]!, x[3]!, 0, 4, 1, 5),
        v128.shuffle(x[0]!, x[1]!, 2, 6, 3, 7),
        v128.shuffle(x[2]!, x[3]!, 2, 6, 3, 7),
      ].map((pair) => f.local("v128", pair));
      for (let r = 0; r < 4; r++) {
        const [low, high] = [pairs[r < 2 ? 0 : 2]!, pairs[r < 2 ? 1 : 3]!];
        const lanes: Lanes = r % 2 === 0 ? [0, 1, 4, 5] : [2, 3, 6, 7];
        f.store("v128", out, v128.shuffle(low, high, ...lanes));
        f.set(out, i32.add(out, rowStride));
      }
    }
    f.set(source, i32.add(sources[3]!, columnStride));
    f.set(target, i32.add(target, 16));
  });
  f.for(column, column, columns, 1, () => {
    const out = f.local("i32", target, "row1");
    for (let r = 0; r < TRANSPOSE_ROWS; r++) {
      f.store("i32", out, i32.load(source, 4 * r));
      f.set(out, i32.add(out, rowStride));
    }
    f.set(source, i32.add(source, columnStride));
    f.set(target, i32.add(target, 4));
  });
}

/** The last rows, fewer than eight. */
function scalarStrip(
  f: FunctionBuilder,
  from: I32,
  to: I32,
  left: I32,
  { columns, columnStride, rowStride }: Matrix,
): void {
  const row = f.local("i32", 0, "r");
  f.for(row, row, left, 1, () => {
    const source = f.local("i32", i32.add(from, i32.shl(row, 2)), "q");
    const out = f.local("i32", i32.add(to, i32.mul(row, rowStride)), "outRow");
    const end = f.local("i32", i32.add(out, i32.shl(columns, 2)), "endRow");
    f.for(out, out, end, 4, () => {
      f.store("i32", out, i32.load(source));
      f.set(source, i32.add(source, columnStride));
    });
  });
}
