/** What launching a kernel on strided views takes: addresses, and packing a view row-major. */

import { isContiguous, rowMajor, type Shape, sizeOf } from "../../shape.ts";
import type { View } from "../device.ts";
import { type FunctionBuilder, i32, type Local, type ModuleBuilder, v128 } from "./assembler.ts";
import type { Machine } from "./machine.ts";

/** Byte address of a view's first element. */
export const address = (view: View): number => (view.buffer.memory as number) + 4 * view.offset;

/** Whether the elements lie one after the other in row-major order. */
export const packed = (view: View): boolean => isContiguous(view.shape, view.strides);

/** One axis of a copy: its size, and the strides (in elements) of what is read and written. */
interface Axis {
  readonly n: number;
  readonly from: number;
  readonly to: number;
}

/** Copies what the view shows to `target` (a byte address) in row-major order. */
export function packTo(machine: Machine, view: View, target: number): void {
  const { shape, strides } = view;
  copyStrided(
    machine,
    shape,
    { at: address(view), strides },
    { at: target, strides: rowMajor(shape) },
  );
}

/** Where an array of some shape lies: the byte address of its first element, strides in elements. */
export interface Layout {
  readonly at: number;
  readonly strides: readonly number[];
}

/** Copies an array from one layout to another; the two may not overlap. */
export function copyStrided(machine: Machine, shape: Shape, from: Layout, to: Layout): void {
  if (sizeOf(shape) === 0) return;
  copyAxes(machine, collapse(shape, from.strides, to.strides), from.at, to.at);
}

/** The fewest axes that visit the same elements in the same order: no size 1, neighbours merged. */
function collapse(shape: Shape, from: readonly number[], to: readonly number[]): Axis[] {
  const axes: Axis[] = [];
  shape.forEach((n, i) => {
    const axis = { n, from: from[i]!, to: to[i]! };
    const last = axes.at(-1);
    if (n === 1) return;
    if (last !== undefined && last.from === axis.from * n && last.to === axis.to * n) {
      axes[axes.length - 1] = { ...axis, n: last.n * n };
    } else axes.push(axis);
  });
  return axes;
}

/** Writes zeros to `count` elements from a byte address on. */
export function fillZero(machine: Machine, target: number, count: number): void {
  machine.parallel("f32_zero", [target], count, { grain: 1024, work: 0.1 * count });
}

/** Rough nanoseconds to move an element: in runs, by transposed blocks, one by one. */
const RUN_COST = 0.15;
const TRANSPOSE_COST = 0.4;
const GATHER_COST = 1;
/** Rows of the result that a thread transposes at a time. */
const TRANSPOSE_ROWS = 8;
/** Axes in front of the last one that a kernel walks by itself. */
const OUTER = 3;

function copyAxes(machine: Machine, axes: readonly Axis[], source: number, target: number): void {
  const last = axes.at(-1) ?? { n: 1, from: 1, to: 1 };
  const outer = axes.slice(0, -1);
  const rows = outer.reduce((product, { n }) => product * n, 1);
  const work = (last.from <= 1 && last.to === 1 ? RUN_COST : GATHER_COST) * rows * last.n;
  const [from, to] = [4 * last.from, 4 * last.to];
  if (outer.length === 0) {
    machine.parallel("f32_copy_line", [source, from, target, to], last.n, { grain: 64, work });
    return;
  }
  const unit = outer.findLastIndex((axis) => axis.from === 1 && axis.n >= 4);
  const transposed = unit >= 0 && last.from > 1 && last.to === 1 && last.n >= 4;
  if (outer.length > (transposed ? OUTER + 1 : OUTER)) {
    // More axes than a kernel walks: the slowest one is walked here.
    const [first, ...rest] = axes as [Axis, ...Axis[]];
    for (let i = 0; i < first.n; i++) {
      copyAxes(machine, rest, source + 4 * i * first.from, target + 4 * i * first.to);
    }
  } else if (transposed) {
    transpose(machine, axes, unit, source, target);
  } else {
    const args = [source, from, target, to, last.n, ...walk(outer)];
    machine.parallel("f32_copy_rows", args, rows, { grain: 1, work: work + 3 * rows });
  }
}

/** The axes padded to OUTER: sizes of all but the slowest, then byte strides read and written. */
function walk(axes: readonly Axis[]): number[] {
  const pad = new Array<Axis>(OUTER - axes.length).fill({ n: 1, from: 0, to: 0 });
  const all = [...pad, ...axes];
  const sizes = all.slice(1).map(({ n }) => n);
  return [...sizes, ...all.map(({ from }) => 4 * from), ...all.map(({ to }) => 4 * to)];
}

/** Axis `unit` has stride 1 in the source, the last one in the target. */
function transpose(
  machine: Machine,
  axes: readonly Axis[],
  unit: number,
  source: number,
  target: number,
): void {
  const [rows, columns] = [axes[unit]!, axes.at(-1)!];
  const others = axes.slice(0, -1).filter((_, i) => i !== unit);
  const groups = Math.ceil(rows.n / TRANSPOSE_ROWS);
  const total = groups * others.reduce((product, { n }) => product * n, 1);
  const matrix = [rows.n, columns.n, 4 * columns.from, 4 * rows.to];
  const work = (TRANSPOSE_COST * TRANSPOSE_ROWS * columns.n + 5) * total;
  const args = [source, target, ...matrix, groups, ...walk(others)];
  machine.parallel("f32_copy_transposed", args, total, { grain: 1, work });
}

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
