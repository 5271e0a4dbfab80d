/** What programs with a workgroup for each row share: loops over the row, sums over the threads. */

import type { View } from "../device.ts";
import type { Dispatch, Launcher, Uniforms } from "./kernel.ts";

/** Threads of a row's workgroup. */
export const ROW_THREADS = 128;
/** Stands for -∞ where WGSL leaves comparisons with infinity open. */
export const LOWEST = "-3.402823e38";

/** The first of two steps of a fold leaves as many parts. */
const PARTS = 16;

/**
 * WGSL: fold_NAME(l, x), which folds x over the threads, in an order that is always the same, and
 * gives every thread the result. All threads must call it. Two barriers: a tree would have nine.
 */
export const fold = (name: string, combine: (a: string, b: string) => string): string => `
var<workgroup> memory_${name}: array<f32, ${ROW_THREADS}>;
var<workgroup> parts_${name}: array<f32, ${PARTS}>;
fn fold_${name}(l: u32, x: f32) -> f32 {
  memory_${name}[l] = x;
  workgroupBarrier();
  if (l < ${PARTS}u) {
    var part = memory_${name}[l];
    for (var i = l + ${PARTS}u; i < ${ROW_THREADS}u; i += ${PARTS}u) { part = ${combine("part", `memory_${name}[i]`)}; }
    parts_${name}[l] = part;
  }
  workgroupBarrier();
  var result = parts_${name}[0];
  for (var i = 1u; i < ${PARTS}u; i++) { result = ${combine("result", `parts_${name}[i]`)}; }
  return result;
}
`;
export const SUM = fold("sum", (a, b) => `${a} + ${b}`);
export const MAX = fold("max", (a, b) => `max(${a}, ${b})`);

/** WGSL: a loop over the row's elements of this thread, as i. */
export const eachElement = (body: string): string =>
  `for (var i = l; i < p.n; i += ${ROW_THREADS}u) { ${body} }`;

/** WGSL of a program in which `row` is the workgroup's row and l the thread. */
export const rowCode = (functions: string, body: string): string => `${functions}
@compute @workgroup_size(${ROW_THREADS})
fn main(@builtin(workgroup_id) w: vec3u, @builtin(num_workgroups) grid: vec3u,
    @builtin(local_invocation_index) l: u32) {
  let row = unit_of(w, grid);
  if (row >= p.rows) { return; }
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
  readonly uniforms?: Uniforms;
  readonly floats?: Uniforms;
}

/** Dispatches a program with a workgroup for each of `rows` rows of n elements. */
export function launchRows(gpu: Launcher, rows: Rows): void {
  const { name, functions = "", body, reads, writes, uniforms, floats } = rows;
  const dispatch: Dispatch = {
    ...{ name, reads, writes, groups: rows.rows },
    code: () => rowCode(functions, body),
    uniforms: { rows: rows.rows, n: rows.n, ...uniforms },
    ...(floats && { floats }),
  };
  gpu.dispatch(dispatch);
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

interface Threads extends Omit<Rows, "rows" | "n"> {
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
