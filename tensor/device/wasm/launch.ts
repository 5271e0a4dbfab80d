/** What launching a kernel on strided views takes: addresses, and packing a view row-major. */

import { bytesOf } from "../../dtype.ts";
import { isContiguous, rowMajor, type Shape, sizeOf } from "../../shape.ts";
import type { View } from "../device.ts";
import { OUTER, TRANSPOSE_ROWS } from "./copy.ts";
import type { Machine } from "./machine.ts";

export { emitLaunch, i32s } from "./copy.ts";

/** Byte address of a view's first element. */
export const address = ({ buffer, dtype, offset }: View): number =>
  (buffer.memory as number) + bytesOf(dtype) * offset;

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

/** Where an array lies: the byte address of its first element, strides in elements. */
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
