/** WGSL of products with few rows: a subgroup for some columns, its threads side by side along k. */
// WGSL says neither how large subgroups are nor which threads form one: their number is counted, and
// each draws what it does. Which one does it changes no bit, for the sums of all are the same.

import { element } from "../../device/webgpu/kernel.ts";
import { findElements } from "../../device/webgpu/strides.ts";
import { halfOf, type Layout } from "./gemm_code.ts";

/** Rows of C, at most. */
export const THIN_ROWS = 8;
export const THIN_THREADS = 128;
export const THIN_HEADER = "enable subgroups;\ndiagnostic(off, subgroup_uniformity);";

export interface Thin extends Layout {
  /** Rows that the program computes: the last is given again for those that C lacks. */
  readonly rows: number;
  /** Arrays that are read four elements at a time. */
  readonly wide: ReadonlySet<string>;
}

/** Columns of a subgroup: as many of B's lines as lie beside each other, or fewer that are far. */
export const thinColumns = ({ fastB }: Pick<Layout, "fastB">): number => (fastB === "side" ? 8 : 4);

/** Rows that a program computes for m: few programs, and few rows for nothing. */
export const thinRows = (m: number): number => (m <= 2 ? m : m <= 4 ? 4 : THIN_ROWS);

const count = (n: number): readonly number[] => Array.from({ length: n }, (_, i) => i);
const lines = (n: number, line: (i: number) => string): string =>
  count(n).map(line).join("\n      ");

/** The loop over k of one thread; sums are vec4f of four columns, or f32, named sumROW_COLUMN. */
function steps(how: Thin): {
  declare: string;
  loop: string;
  total: (i: number, j: number) => string;
} {
  const { rows, wide, fastB } = how;
  const columns = thinColumns(how);
  const dtypeA = halfOf(how, "a");
  const dtypeB = halfOf(how, "b");
  const rowOfA = (i: number) => `a_i + min(${i}u, p.m - 1u) * p.a_m`;
  const a = (i: number, k: string) => element("a", dtypeA, `${rowOfA(i)} + ${k} * p.a_k`);
  const b = (at: string) => element("b", dtypeB, at);
  const each = (line: (i: number, j: number) => string, across = columns) =>
    lines(rows, (i) =>
      count(across)
        .map((j) => line(i, j))
        .join(" "),
    );
  if (fastB === "side" && wide.has("b")) {
    // Vectors of four columns, one line of B for each thread.
    const fours = columns / 4;
    return {
      declare: each((i, j) => `var sum${i}_${j} = vec4f();`, fours),
      loop: `for (var k = rank; k < p.k; k += peers) {
      ${lines(fours, (j) => `let b${j} = ${b(`(b_i + k * p.b_k + min(column0 + ${4 * j}u, p.n - 4u)) / 4u`)};`)}
      ${lines(rows, (i) => `let a${i} = ${a(i, "k")};`)}
      ${each((i, j) => `sum${i}_${j} = fma(vec4f(a${i}), b${j}, sum${i}_${j});`, fours)}
    }`,
      total: (i, j) => `all${i}_${j >> 2}[${j % 4}]`,
    };
  }
  const line = (j: number) => `b_i + min(column0 + ${j}u, p.n - 1u) * p.b_n`;
  if (fastB === "k" && wide.has("b")) {
    // Vectors of four steps of k; they are added up at the end.
    const fourOfA = (i: number) =>
      wide.has("a")
        ? element("a", dtypeA, `(${rowOfA(i)} + k) / 4u`)
        : `vec4f(${count(4)
            .map((e) => a(i, `(k + ${e}u)`))
            .join(", ")})`;
    return {
      declare: each((i, j) => `var sum${i}_${j} = vec4f();`),
      loop: `for (var k = 4u * rank; k < p.k; k += 4u * peers) {
      ${lines(columns, (j) => `let b${j} = ${b(`(${line(j)} + k) / 4u`)};`)}
      ${lines(rows, (i) => `let a${i} = ${fourOfA(i)};`)}
      ${each((i, j) => `sum${i}_${j} = fma(a${i}, b${j}, sum${i}_${j});`)}
    }`,
      total: (i, j) => `all${i}_${j}`,
    };
  }
  return {
    declare: each((i, j) => `var sum${i}_${j} = 0.0;`),
    loop: `for (var k = rank; k < p.k; k += peers) {
      ${lines(columns, (j) => `let b${j} = ${b(`${line(j)} + k * p.b_k`)};`)}
      ${lines(rows, (i) => `let a${i} = ${a(i, "k")};`)}
      ${each((i, j) => `sum${i}_${j} = fma(a${i}, b${j}, sum${i}_${j});`)}
    }`,
    total: (i, j) => `all${i}_${j}`,
  };
}

/** Workgroups have p.groups times thinColumns columns each, p.tiles_n of them a matrix. */
export function thinCode(how: Thin): string {
  const { rows, axes, add, wide, fastB } = how;
  const columns = thinColumns(how);
  const fours = wide.has("b");
  const { declare, loop, total } = steps(how);
  const whole = (sum: string) => (fours && fastB === "k" ? `dot(${sum}, vec4f(1.0))` : sum);
  const sums = fours && fastB === "side" ? columns / 4 : columns;
  // No branches: what lies behind an edge is the edge's own sum, stored there once more. (A software
  // GPU compiles 32 branches for minutes.) Hence with `add` all is read before any is stored.
  const column = (j: number) =>
    fours && fastB === "side"
      ? `min(column0 + ${j - (j % 4)}u, p.n - 4u) + ${j % 4}u`
      : `min(column0 + ${j}u, p.n - 1u)`;
  const all = (line: (i: number, j: number) => string, across = columns) =>
    lines(rows, (i) =>
      count(across)
        .map((j) => line(i, j))
        .join(" "),
    );
  const fold = (i: number, j: number) =>
    `let all${i}_${j} = subgroupAdd(${whole(`sum${i}_${j}`)});`;
  const places = lines(columns, (j) => `let at${j} = c_i + ${column(j)};`);
  const place = (i: number, j: number) => `c[min(${i}u, p.m - 1u) * p.n + at${j}]`;
  const read = add ? all((i, j) => `let old${i}_${j} = ${place(i, j)};`) : "";
  const store = (i: number, j: number) =>
    `${place(i, j)} = ${add ? `old${i}_${j} + ` : ""}p.scale * ${total(i, j)};`;
  return `
var<workgroup> drawn: atomic<u32>;
@compute @workgroup_size(${THIN_THREADS})
fn main(@builtin(workgroup_id) w: vec3u, @builtin(num_workgroups) grid: vec3u) {
  let unit = unit_of(w, grid);
  let at_tile = unit % p.tiles_n;
  let batch = unit / p.tiles_n;
  if (batch >= p.batch) { return; }
${findElements(["a", "b"], axes, "batch")}
  let rank = subgroupExclusiveAdd(1u);
  let peers = subgroupAdd(1u);
  var number = 0u;
  if (rank == 0u) { number = atomicAdd(&drawn, 1u); }
  number = subgroupAdd(number);
  workgroupBarrier();
  let subgroups = atomicLoad(&drawn);
  for (var group = number; group < p.groups; group += subgroups) {
    let column0 = (at_tile * p.groups + group) * ${columns}u;
    if (column0 >= p.n) { break; }
      ${declare}
    ${loop}
      ${all(fold, sums)}
    if (rank == 0u) {
      let c_i = p.c_at + batch * p.m * p.n;
      ${places}
      ${read}
      ${all(store)}
    }
  }
}
`;
}
