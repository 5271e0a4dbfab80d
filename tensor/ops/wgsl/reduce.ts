/** Reductions: a workgroup for a row, or a thread for a column; long ones in blocks of fixed size. */

import type { View } from "../../device/device.ts";
import { reshaped } from "../../device/webgpu/copy.ts";
import type { Launcher, WgslKernel } from "../../device/webgpu/kernel.ts";
import {
  combine,
  eachElement,
  type FoldName,
  launchRows,
  launchThreads,
  ROW_THREADS,
} from "../../device/webgpu/rows.ts";
import { sizeOf } from "../../shape.ts";
import { type Axes, reducedAxes } from "../axes.ts";

/** Longer rows are cut, so that the sums of the parts find enough workgroups. */
const PART = 4096;
/** Rows below each other that one thread takes. */
const COLUMN_PART = 64;

/** Where a fold starts. */
const START: Readonly<Record<FoldName, string>> = {
  ...{ sum: "0.0", max: "-bitcast<f32>(infinity)", min: "bitcast<f32>(infinity)" },
};
const INFINITY = "var<private> infinity: u32 = 0x7f800000u;\n";

/** x [rows n] -> y [rows]; both packed. */
function reduceRows(gpu: Launcher, how: FoldName, x: View, y: View, rows: number, n: number): void {
  const parts = Math.ceil(n / PART);
  if (parts > 1) {
    const between = gpu.temporary(rows * parts);
    partialRows(gpu, how, x, between, rows, n, parts);
    reduceRows(gpu, how, between, y, rows, parts);
  } else partialRows(gpu, how, x, y, rows, n, 1);
}

function partialRows(
  gpu: Launcher,
  name: FoldName,
  x: View,
  y: View,
  rows: number,
  n: number,
  parts: number,
): void {
  const body = `
  let first = row % p.parts * ${PART}u;
  let end = min(first + ${PART}u, p.n);
  let at = p.x_at + row / p.parts * p.n;
  var result = ${START[name]};
  for (var i = first + l; i < end; i += WIDTH) {
    result = ${combine(name, "result", "x[at + i]")};
  }
  result = fold_${name}(result);
  if (l == 0u) { y[p.y_at + row] = result; }`;
  launchRows(gpu, {
    ...{ name: `f32_${name}_row`, functions: INFINITY, folds: [name], body },
    ...{ reads: { x }, writes: { y }, rows: rows * parts, n, uniforms: { parts } },
  });
}

/** x [outer n inner] -> y [outer inner]; both packed. */
function reduceColumns(
  gpu: Launcher,
  name: FoldName,
  x: View,
  y: View,
  [outer, n, inner]: readonly [number, number, number],
): void {
  // One part even of no rows: its thread stores what a fold of nothing is.
  const parts = Math.max(1, Math.ceil(n / COLUMN_PART));
  const target = parts > 1 ? gpu.temporary(outer * parts * inner) : y;
  const body = `
  let column = i % p.inner;
  let part = i / p.inner % p.parts;
  let first = part * ${COLUMN_PART}u;
  let end = min(first + ${COLUMN_PART}u, p.n);
  var at = p.x_at + (i / p.inner / p.parts * p.n + first) * p.inner + column;
  var result = ${START[name]};
  for (var row = first; row < end; row++) {
    result = ${combine(name, "result", "x[at]")};
    at += p.inner;
  }
  y[p.y_at + i] = result;`;
  launchThreads(gpu, {
    ...{
      name: `f32_${name}_column`,
      functions: INFINITY,
      body,
      reads: { x },
      writes: { y: target },
    },
    ...{ size: outer * parts * inner, uniforms: { n, inner, parts } },
  });
  if (parts > 1) reduceColumns(gpu, name, target, y, [outer, parts, inner]);
}

const reduction = (how: FoldName): WgslKernel => ({
  strided: true,
  run(gpu, { inputs: [x], outputs: [y], options }) {
    const rank = x!.shape.length;
    const { axes } = reducedAxes(rank, options as Axes);
    const size = (own: readonly number[]) => own.reduce((all, axis) => all * x!.shape[axis]!, 1);
    const [first, last] = [axes[0] ?? rank, axes.at(-1) ?? rank - 1];
    const neighbours = last - first + 1 === axes.length || axes.length === 0;
    const all = Array.from({ length: rank }, (_, axis) => axis);
    // Axes with others between them go to the end.
    const kept = all.filter((axis) => !axes.includes(axis));
    const order = neighbours ? all : [...kept, ...axes];
    const turned = gpu.packed({
      ...x!,
      shape: order.map((axis) => x!.shape[axis]!),
      strides: order.map((axis) => x!.strides[axis]!),
    });
    const n = size(axes);
    const inner = neighbours ? size(all.filter((axis) => axis > last)) : 1;
    const outer = neighbours ? size(all.filter((axis) => axis < first)) : size(kept);
    if (inner === 1) reduceRows(gpu, how, turned, y!, outer, n);
    else reduceColumns(gpu, how, turned, y!, [outer, n, inner]);
  },
});

export const sum = reduction("sum");
export const max = reduction("max");
export const min = reduction("min");

/** Sums of x [n inner] over n, for kernels that leave one part for each row. */
export const sumColumns = (gpu: Launcher, x: View, y: View, n: number, inner: number): void =>
  reduceColumns(gpu, "sum", x, y, [1, n, inner]);

/**
 * WGSL: whether element (a, i) comes before (b, j): it is larger, or equal and earlier; NaN is the
 * largest. It is told by its bits, since a compiler may take x != x for false.
 */
const BEFORE = `
fn is_nan(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u; }
fn before(a: f32, i: u32, b: f32, j: u32) -> bool {
  let first = is_nan(a);
  let second = is_nan(b);
  if (first || second) { return first && (!second || i < j); }
  return a > b || (a == b && i < j);
}
var<workgroup> best_value: array<f32, ${ROW_THREADS}>;
var<workgroup> best_index: array<u32, ${ROW_THREADS}>;
fn fold_best(l: u32) {
  workgroupBarrier();
  for (var step = ${ROW_THREADS / 2}u; step > 0u; step >>= 1u) {
    if (l < step && before(best_value[l + step], best_index[l + step], best_value[l], best_index[l])) {
      best_value[l] = best_value[l + step];
      best_index[l] = best_index[l + step];
    }
    workgroupBarrier();
  }
}
`;
const NONE = "-bitcast<f32>(infinity)";

export const argmax: WgslKernel = {
  run: (gpu, { inputs: [x], outputs: [y] }) => {
    const [rows, n] = [sizeOf(y!.shape), x!.shape.at(-1)!];
    const body = `
  best_value[l] = ${NONE};
  best_index[l] = select(p.n, l, l < p.n);
  ${eachElement("let v = x[p.x_at + row * p.n + i]; if (before(v, i, best_value[l], best_index[l])) { best_value[l] = v; best_index[l] = i; }")}
  fold_best(l);
  if (l == 0u) { y[p.y_at + row] = i32(best_index[0]); }`;
    const arrays = { reads: { x: x! }, writes: { y: y! } };
    const functions = `${INFINITY}${BEFORE}`;
    launchRows(gpu, { name: "f32_argmax_row", functions, body, ...arrays, rows, n, whole: true });
  },
};

/** k rounds: each finds the first of what comes behind the one found before. */
export const topK: WgslKernel = {
  run: (gpu, { inputs: [x], outputs: [values, indices], options }) => {
    const k = options as number;
    const n = x!.shape.at(-1)!;
    if (k === 0) return;
    const body = `
  var last_value = bitcast<f32>(infinity);
  var last_index = 0u;
  for (var round = 0u; round < p.k; round++) {
    best_value[l] = ${NONE};
    best_index[l] = p.n;
    ${eachElement("let v = x[p.x_at + row * p.n + i]; if ((round == 0u || before(last_value, last_index, v, i)) && before(v, i, best_value[l], best_index[l])) { best_value[l] = v; best_index[l] = i; }")}
    fold_best(l);
    last_value = best_value[0];
    last_index = best_index[0];
    if (l == 0u) {
      values[p.values_at + row * p.k + round] = last_value;
      indices[p.indices_at + row * p.k + round] = i32(last_index);
    }
    workgroupBarrier();
  }`;
    launchRows(gpu, {
      ...{ name: "f32_top_k_row", functions: `${INFINITY}${BEFORE}`, body },
      ...{ reads: { x: x! }, writes: { values: values!, indices: indices! } },
      ...{ rows: sizeOf(x!.shape) / n, n, whole: true, uniforms: { k } },
    });
  },
};

/** One thread a row: its sum runs in order. */
export const cumulativeSum: WgslKernel = {
  run: (gpu, { inputs: [x], outputs: [y], dims, options }) => {
    const { batch: size, n } = dims as { batch: number; n: number };
    const reverse = Number((options as { reverse: boolean } | undefined)?.reverse ?? false);
    const body = `
  var total = 0.0;
  for (var j = 0u; j < p.n; j++) {
    let at = i * p.n + select(j, p.n - 1u - j, p.reverse == 1u);
    total += x[p.x_at + at];
    y[p.y_at + at] = total;
  }`;
    launchThreads(gpu, {
      ...{ name: "f32_cumulative_sum_thread", body, size, uniforms: { n, reverse } },
      ...{ reads: { x: reshaped(x!, [size, n]) }, writes: { y: y! } },
    });
  },
};
