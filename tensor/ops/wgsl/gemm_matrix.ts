/** WGSL of products by subgroup matrices: operands in f16, sums in f32, 16 x 16 x 16 at a time. */
// An experimental feature of Dawn's; on NVIDIA these are the tensor cores. No software GPU has it:
// the program is compiled in the tests, and checked on the adapter by probe.ts before it is used.

import { begin, type Layout, loader, placeOf } from "./gemm_code.ts";

/** A tile of C for 256 threads: eight subgroups of 32, two by four, each with 64 x 32 of it. */
export const MATRIX_TILE = 128;
const THREADS = 256;
const LANES = 32;
const DEPTH = 32;
const SIDE = 16;
/** Elements from one depth to the next in workgroup memory: off the multiples of the banks. */
const PITCH = MATRIX_TILE + 8;
const [ROWS, COLUMNS] = [4, 2];

const each = (text: (i: number, j: number) => string): string =>
  Array.from({ length: ROWS * COLUMNS }, (_, e) => text(Math.floor(e / COLUMNS), e % COLUMNS)).join(
    "\n    ",
  );

/** What Dawn must be told in front of the program. */
export const MATRIX_HEADER = `enable f16;
enable subgroups;
enable chromium_experimental_subgroup_matrix;
diagnostic(off, chromium.subgroup_matrix_uniformity);`;

const NUMBERS = [0, 1, 2, 3] as const;

export function matrixCode({ fastA, fastB, axes, add, ...operands }: Layout & Wide): string {
  const how = { tile: MATRIX_TILE, ...operands };
  /** Block l of an operand's tile, to [depth][side]. */
  const load = (name: "a" | "b", from: string, fast: Layout["fastA"]) => `{
      let e = l;
      let block = load_${name}(${from}, k0, e);
      ${placeOf(fast, MATRIX_TILE, DEPTH)}
      let to = 4u * k4 * ${PITCH}u + 4u * side4;
      ${NUMBERS.map((k) => NUMBERS.map((side) => `tile_${name}[to + ${k * PITCH + side}u] = f16(block[${k}][${side}]);`).join(" ")).join("\n      ")}
    }`;
  const multiply = (kk: number) => `
    ${Array.from({ length: ROWS }, (_, i) => `let a${kk}_${i} = subgroupMatrixLoad<subgroup_matrix_left<f16, ${SIDE}, ${SIDE}>>(&tile_a, ${kk * PITCH + SIDE * i}u + top, true, ${PITCH}u);`).join("\n    ")}
    ${Array.from({ length: COLUMNS }, (_, j) => `let b${kk}_${j} = subgroupMatrixLoad<subgroup_matrix_right<f16, ${SIDE}, ${SIDE}>>(&tile_b, ${kk * PITCH + SIDE * j}u + left, false, ${PITCH}u);`).join("\n    ")}
    ${each((i, j) => `sum${i}${j} = subgroupMatrixMultiplyAccumulate(a${kk}_${i}, b${kk}_${j}, sum${i}${j});`)}`;
  const store = (i: number, j: number) => `
  subgroupMatrixStore(&scratch, group * ${SIDE * SIDE}u, sum${i}${j}, false, ${SIDE}u);
  workgroupBarrier();
  for (var e = l % ${LANES}u; e < ${SIDE * SIDE}u; e += ${LANES}u) {
    let row = row0 + top + ${SIDE * i}u + e / ${SIDE}u;
    let column = column0 + left + ${SIDE * j}u + e % ${SIDE}u;
    if (row < p.m && column < p.n) {
      c[p.c_at + (batch * p.m + row) * p.n + column] ${add ? "+=" : "="} p.scale * scratch[group * ${SIDE * SIDE}u + e];
    }
  }
  workgroupBarrier();`;
  return `
var<workgroup> tile_a: array<f16, ${DEPTH * PITCH}>;
var<workgroup> tile_b: array<f16, ${DEPTH * PITCH}>;
var<workgroup> scratch: array<f32, ${(THREADS / LANES) * SIDE * SIDE}>;
${loader("a", fastA, how, DEPTH)}${loader("b", fastB, how, DEPTH)}
${begin(MATRIX_TILE, axes, THREADS)}
  let group = subgroupBroadcastFirst(l / ${LANES}u);
  let top = group / 4u * ${ROWS * SIDE}u;
  let left = group % 4u * ${COLUMNS * SIDE}u;
  ${each((i, j) => `var sum${i}${j}: subgroup_matrix_result<f32, ${SIDE}, ${SIDE}>;`)}
  for (var k0 = 0u; k0 < p.k; k0 += ${DEPTH}u) {
    ${load("a", "a_i, row0", fastA)}
    ${load("b", "b_i, column0", fastB)}
    workgroupBarrier();${multiply(0)}${multiply(SIDE)}
    workgroupBarrier();
  }
  ${each(store)}
}
`;
}

interface Wide {
  /** Operands that are read four elements at a time. */
  readonly wide: ReadonlySet<string>;
}
