/** What programs over rows share: several threads a row, loops over it, sums over its threads. */

import type { View } from "../device.ts";
import { type FoldName, foldCode, ROW_THREADS } from "./folds.ts";
import type { Launcher, Uniforms } from "./kernel.ts";

export { combine, type FoldName, ROW_THREADS } from "./folds.ts";

/** Stands for -∞ where WGSL leaves comparisons with infinity open. */
export const LOWEST = "-3.402823e38";
/** Threads of a row, at least; and elements that each of them takes before there are more. */
const LEAST = 16;
const EACH = 4;

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
const rowCode = ({ functions = "", folds = [], body }: Rows, width: number, subgroups: boolean) => `
const WIDTH = ${width}u;
var<private> thread: u32;
${foldCode(folds, subgroups)}${functions}
@compute @workgroup_size(${ROW_THREADS})
fn main(@builtin(workgroup_id) w: vec3u, @builtin(num_workgroups) grid: vec3u,
    @builtin(local_invocation_index) place: u32) {
  thread = place;${subgroups ? "\n  meet();" : ""}
  let own_row = unit_of(w, grid) * ${ROW_THREADS / width}u + place / WIDTH;
  let row = min(own_row, p.rows - 1u);
  let l = select(0x40000000u, place % WIDTH, own_row < p.rows);
${body}
}
`;

interface Rows {
  readonly name: string;
  readonly functions?: string;
  /** Folds that the body calls: fold_sum(x), the same for all threads of a row. */
  readonly folds?: readonly FoldName[];
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
  const { name, folds = [], reads, writes, rows, n, whole, uniforms, floats } = given;
  const width = whole ? ROW_THREADS : rowWidth(n);
  const subgroups = gpu.subgroups !== undefined && folds.length > 0;
  gpu.dispatch({
    ...{ name: `${name}_${width}${subgroups ? "_subgroup" : ""}`, reads, writes },
    ...(subgroups && { header: "enable subgroups;" }),
    groups: Math.ceil((rows * width) / ROW_THREADS),
    code: () => rowCode(given, width, subgroups),
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

interface Threads extends Omit<Rows, "rows" | "n" | "whole" | "folds"> {
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
