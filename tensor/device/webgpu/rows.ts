/** What programs over rows share: several threads a row, loops over it, sums over its threads. */

import type { View } from "../device.ts";
import type { Launcher, Uniforms } from "./kernel.ts";

/** Threads of a workgroup. */
export const ROW_THREADS = 128;
/** Stands for -∞ where WGSL leaves comparisons with infinity open. */
export const LOWEST = "-3.402823e38";
/** Threads of a row, at least; and elements that each of them takes before there are more. */
const LEAST = 16;
const EACH = 4;
/** Elements that a thread folds in the first of two steps. */
const STEP = 8;

/**
 * WGSL: fold_NAME(x), which folds x over a row's threads, in an order that is always the same, and
 * gives each of them the result. All threads must call it. Two barriers: a tree would have nine.
 */
export const fold = (name: string, combine: (a: string, b: string) => string): string => `
var<workgroup> memory_${name}: array<f32, ${ROW_THREADS}>;
var<workgroup> parts_${name}: array<f32, ${ROW_THREADS / STEP}>;
fn fold_${name}(x: f32) -> f32 {
  const parts = WIDTH / ${STEP}u;
  let first = thread / WIDTH * WIDTH;
  memory_${name}[thread] = x;
  workgroupBarrier();
  if (thread - first < parts) {
    var part = memory_${name}[thread];
    for (var i = thread + parts; i < first + WIDTH; i += parts) { part = ${combine("part", `memory_${name}[i]`)}; }
    parts_${name}[first / ${STEP}u + thread - first] = part;
  }
  workgroupBarrier();
  var result = parts_${name}[first / ${STEP}u];
  for (var i = 1u; i < parts; i++) { result = ${combine("result", `parts_${name}[first / ${STEP}u + i]`)}; }
  return result;
}
`;
export const SUM = fold("sum", (a, b) => `${a} + ${b}`);
export const MAX = fold("max", (a, b) => `max(${a}, ${b})`);

/** WGSL: a loop over the row's elements of this thread, as i. */
export const eachElement = (body: string): string =>
  `for (var i = l; i < p.n; i += WIDTH) { ${body} }`;

/** Threads for a row of n elements: few for a short one, so that a workgroup takes several. */
export function rowWidth(n: number): number {
  let width = LEAST;
  while (width < ROW_THREADS && width * EACH < n) width *= 2;
  return width;
}

/**
 * WGSL of a program in which WIDTH threads have a row each: `row`, and l, the thread's place in it.
 * Behind the last row l is huge, so that loops over elements end at once and nothing is written.
 */
const rowCode = (functions: string, body: string, width: number): string => `
const WIDTH = ${width}u;
var<private> thread: u32;
${functions}
@compute @workgroup_size(${ROW_THREADS})
fn main(@builtin(workgroup_id) w: vec3u, @builtin(num_workgroups) grid: vec3u,
    @builtin(local_invocation_index) place: u32) {
  thread = place;
  let own_row = unit_of(w, grid) * ${ROW_THREADS / width}u + place / WIDTH;
  let row = min(own_row, p.rows - 1u);
  let l = select(0x40000000u, place % WIDTH, own_row < p.rows);
${body}
}
`;

interface Rows {
  readonly name: string;
  readonly functions?: string;
  readonly body: string;
  readonly reads: Readonly<Record<string, View>>;
  readonly writes: Readonly<Record<string, View>>;
  readonly rows: number;
  readonly n: number;
  /** A workgroup for each row, however short: where threads share memory of the program's own. */
  readonly whole?: boolean;
  readonly uniforms?: Uniforms;
  readonly floats?: Uniforms;
}

/** Dispatches a program over `rows` rows of n elements. */
export function launchRows(gpu: Launcher, given: Rows): void {
  const { name, functions = "", body, reads, writes, rows, n, whole, uniforms, floats } = given;
  const width = whole ? ROW_THREADS : rowWidth(n);
  gpu.dispatch({
    ...{ name: `${name}_${width}`, reads, writes },
    groups: Math.ceil((rows * width) / ROW_THREADS),
    code: () => rowCode(functions, body, width),
    uniforms: { rows, n, ...uniforms },
    ...(floats && { floats }),
  });
}

/** WGSL of a program with a thread for each of p.size elements, as i. */
export const threadCode = (functions: string, body: string): string => `${functions}
@compute @workgroup_size(${ROW_THREADS})
fn main(@builtin(workgroup_id) w: vec3u, @builtin(num_workgroups) grid: vec3u,
    @builtin(local_invocation_index) l: u32) {
  let i = unit_of(w, grid) * ${ROW_THREADS}u + l;
  if (i >= p.size) { return; }
${body}
}
`;

interface Threads extends Omit<Rows, "rows" | "n" | "whole"> {
  readonly vec4?: readonly string[];
  readonly size: number;
}

/** Dispatches a program with a thread for each of `size` elements. */
export function launchThreads(gpu: Launcher, threads: Threads): void {
  const { name, functions = "", body, reads, writes, size, uniforms, floats, vec4 } = threads;
  gpu.dispatch({
    ...{ name, reads, writes, groups: Math.ceil(size / ROW_THREADS) },
    code: () => threadCode(functions, body),
    uniforms: { size, ...uniforms },
    ...(floats && { floats }),
    ...(vec4 && { vec4 }),
  });
}
