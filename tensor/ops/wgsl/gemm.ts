/** C = A·B of any strides: which program is taken, by the sizes; and its launch. */

import type { View } from "../../device/device.ts";
import type { Launcher, Uniforms } from "../../device/webgpu/kernel.ts";
import { walk, walkUniforms } from "../../device/webgpu/strides.ts";
import type { Shape } from "../../shape.ts";
import {
  type Fast,
  type Layout,
  THREADS_SMALL_TILE as SMALL,
  smallCode,
  tiledCode,
} from "./gemm_code.ts";
import { MATRIX_HEADER, MATRIX_TILE, matrixCode } from "./gemm_matrix.ts";
import {
  THIN_HEADER,
  THIN_ROWS,
  THIN_THREADS,
  thinCode,
  thinColumns,
  thinRows,
} from "./gemm_thin.ts";

/** An operand's view, with the strides of its two matrix axes and of its batch axes. */
export interface Operand {
  readonly view: View;
  readonly row: number;
  readonly column: number;
  readonly lead: readonly number[];
}

export interface Product {
  readonly m: number;
  readonly k: number;
  readonly n: number;
  readonly batch: Shape;
  /** [m k] */
  readonly a: Operand;
  /** [k n] */
  readonly b: Operand;
  /** [... m n], packed. */
  readonly c: View;
  /** C += A·B. */
  readonly add?: boolean;
  /** Multiplies A·B. */
  readonly scale?: number;
}

export const matrix = (view: View, [row, column]: readonly [number, number]): Operand => ({
  ...{ view, row, column },
  lead: [],
});

/** Tiles that keep a large GPU busy: with fewer, smaller tiles are better than idle processors. */
const ENOUGH = 96;

function tileOf(m: number, n: number, batch: number): number {
  if (Math.min(m, n) <= 2 * SMALL) return SMALL;
  const large = Math.ceil(m / 128) * Math.ceil(n / 128) * batch;
  return Math.min(m, n) > 64 && large >= ENOUGH ? 128 : 64;
}

/** Four neighbours along `fast` lie in one aligned vector, wherever a block begins. */
function inFours(operand: Operand, fast: "row" | "column", length: number): boolean {
  const { view, lead } = operand;
  const across = operand[fast === "row" ? "column" : "row"];
  return [view.offset, length, across, ...lead].every((x) => x % 4 === 0);
}

export function launchGemm(gpu: Launcher, product: Product): void {
  const { m, k, n, a, b, c, add = false, scale = 1 } = product;
  const path = walk(product.batch, [a.lead, b.lead]);
  const axes = path.sizes.length;
  const batch = product.batch.reduce((all, size) => all * size, 1);
  const fastA: Fast = a.column === 1 ? "k" : "side";
  const fastB: Fast = b.column === 1 ? "side" : "k";
  const [halfA, halfB] = [a, b].map(({ view }) => view.dtype === "f16") as [boolean, boolean];
  const wideA = fastA === "k" ? inFours(a, "column", k) : a.row === 1 && inFours(a, "row", m);
  const wideB = fastB === "side" ? inFours(b, "column", n) : b.row === 1 && inFours(b, "row", k);
  const operands = { fastA, fastB, halfA, halfB, axes, add };
  const walked = walkUniforms(["a", "b"], path);
  if (gpu.thinProducts && m <= THIN_ROWS) {
    launchThin(gpu, product, operands, { wideA: wideA && fastA === "k", wideB, batch, walked });
    return;
  }
  const { products } = gpu;
  const chosen = tileOf(m, n, batch);
  const matrices = products === "subgroup-matrix" && chosen > SMALL;
  const tile = matrices ? MATRIX_TILE : chosen;
  const half = products === "f16" && tile > SMALL;
  const wideC = n % 4 === 0 && c.offset % 4 === 0;
  const wide = { a: wideA, b: wideB, c: wideC && !matrices };
  const vec4 = tile === SMALL ? [] : (["a", "b", "c"] as const).filter((name) => wide[name]);
  const [tilesM, tilesN] = [Math.ceil(m / tile), Math.ceil(n / tile)];
  const loads = [fastA, fastB].map((fast, i) => {
    const letter = fast === "k" ? "k" : i === 0 ? "m" : "n";
    const four = vec4.includes(i === 0 ? "a" : "b") ? "4" : "";
    return `${letter}${four}${(i === 0 ? halfA : halfB) ? "h" : ""}`;
  });
  const kind = matrices ? "f16_matmul_matrix" : `${half ? "f16" : "f32"}_matmul`;
  gpu.dispatch({
    name: `${kind}_${tile}x${tile}_${loads.join("")}${vec4.includes("c") ? "_4" : ""}${add ? "_add" : ""}_${axes}`,
    code: () => {
      if (tile === SMALL) return smallCode(operands);
      if (matrices) return matrixCode({ ...operands, wide: new Set(vec4) });
      return tiledCode({ ...operands, tile, wide: new Set(vec4), half });
    },
    ...(half && { header: "enable f16;" }),
    ...(matrices && { header: MATRIX_HEADER }),
    ...{ reads: { a: a.view, b: b.view }, writes: { c }, vec4 },
    uniforms: {
      ...{ m, k, n, batch, tiles_m: tilesM, tiles_n: tilesN },
      ...{ a_m: a.row, a_k: a.column, b_k: b.row, b_n: b.column },
      ...walked,
    },
    floats: { scale },
    groups: batch * tilesM * tilesN,
  });
}

interface Found {
  readonly wideA: boolean;
  readonly wideB: boolean;
  readonly batch: number;
  readonly walked: Uniforms;
}

/** A product of few rows, by subgroups: as many columns a workgroup as it has subgroups, or more. */
function launchThin(
  gpu: Launcher,
  { m, k, n, a, b, c, scale = 1 }: Product,
  operands: Layout,
  { wideA, wideB, batch, walked }: Found,
): void {
  const { fastB, halfA, halfB, axes, add } = operands;
  const rows = thinRows(m);
  const columns = thinColumns(operands);
  const groups = Math.max(1, Math.floor(THIN_THREADS / gpu.subgroups!));
  const tilesN = Math.ceil(n / (groups * columns));
  // A's vectors are of use beside vectors along k of B only.
  const vec4 = [...(wideA && wideB && fastB === "k" ? ["a"] : []), ...(wideB ? ["b"] : [])];
  const letter = (name: "a" | "b", half: boolean) =>
    `${name === "a" ? "k" : fastB === "k" ? "k" : "n"}${vec4.includes(name) ? "4" : ""}${half ? "h" : ""}`;
  const loads = `${letter("a", halfA)}${letter("b", halfB)}`;
  gpu.dispatch({
    name: `f32_matmul_subgroup_${rows}x${columns}_${loads}${add ? "_add" : ""}_${axes}`,
    code: () => thinCode({ ...operands, rows, wide: new Set(vec4) }),
    header: THIN_HEADER,
    ...{ reads: { a: a.view, b: b.view }, writes: { c }, vec4 },
    uniforms: {
      ...{ m, k, n, batch, tiles_n: tilesN, groups },
      ...{ a_m: a.row, a_k: a.column, b_k: b.row, b_n: b.column, ...walked },
    },
    floats: { scale },
    groups: batch * tilesN,
  });
}
