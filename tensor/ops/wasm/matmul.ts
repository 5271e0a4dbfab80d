/** WASM matmul: strided, broadcast and transposed operands brought to the form that gemm takes. */

import type { View } from "../../device/device.ts";
import { type Gemm, gemm } from "../../device/wasm/gemm.ts";
import type { WasmKernel } from "../../device/wasm/kernel.ts";
import { address, packTo } from "../../device/wasm/launch.ts";
import type { Machine } from "../../device/wasm/machine.ts";
import { broadcastStrides, rowMajor, type Shape, sizeOf } from "../../shape.ts";

export const matmul: WasmKernel = {
  strided: true,
  run(machine, { inputs: [a, b], outputs: [c], dims, batch }) {
    const { m, k, n } = dims as { m: number; k: number; n: number };
    if (batch.length === 0 && hasUnitStride(a!) && hasUnitStride(b!)) {
      const [aRow, aCol] = matrixStrides(a!);
      const [bRow, bCol] = matrixStrides(b!);
      const operands = { a: address(a!), aRow, aCol, b: address(b!), bRow, bCol };
      gemm(machine, { m, k, n, c: address(c!), ldc: n, ...operands });
      return;
    }
    const temporary: number[] = [];
    const usable = (view: View) => (hasUnitStride(view) ? view : copy(machine, view, temporary));
    try {
      const product = { m, k, n, c: address(c!), ldc: n };
      multiply(machine, { product, a: usable(a!), b: usable(b!), batch, temporary });
    } finally {
      for (const memory of temporary) machine.arena.free(memory);
    }
  },
};

interface Operands {
  readonly product: Pick<Gemm, "m" | "k" | "n" | "c" | "ldc">;
  readonly a: View;
  readonly b: View;
  readonly batch: Shape;
  /** Arena memory that lives until the product is done. */
  readonly temporary: number[];
}

/** A batch axis; C is packed, so its strides follow from the sizes. */
interface BatchAxis {
  readonly n: number;
  readonly a: number;
  readonly b: number;
}

/** Below this many nanoseconds a gemm call is too short to repay its launch on all threads. */
const SHORT = 100_000;

function multiply(machine: Machine, operands: Operands): void {
  const { a, b, batch, product, temporary } = operands;
  const axes = batchAxes(a, b, batch);
  const [aRow, aCol] = matrixStrides(a);
  const [bRow, bCol] = matrixStrides(b);
  const matrices = { a: address(a), aRow, aCol, b: address(b), bRow, bCol };
  const folded = foldRows({ ...product, ...matrices }, axes);
  const { m, k, n } = folded;
  const [inner, ...outer] = axes.reverse();
  const calls = outer.reduce((count, axis) => count * axis.n, 1);
  const short = (2 * m * k * n * (inner?.n ?? 1)) / 40 < SHORT;
  const broken = (view: View) =>
    sizeOf(view.shape.slice(0, -2)) === sizeOf(batch) && !isDense(view);
  if (calls > 1 && short && (broken(a) || broken(b))) {
    const dense = (view: View) => (broken(view) ? copy(machine, view, temporary) : view);
    multiply(machine, { ...operands, a: dense(a), b: dense(b) });
  } else {
    loop(machine, folded, inner ?? { n: 1, a: 0, b: 0 }, outer);
  }
}

/** One batched gemm for each index of the outer axes (the fastest first). */
function loop(machine: Machine, p: Gemm, inner: BatchAxis, outer: readonly BatchAxis[]): void {
  const cStride = p.m * p.ldc;
  const calls = outer.reduce((count, axis) => count * axis.n, 1);
  const batch = { count: inner.n, aStride: inner.a, bStride: inner.b, cStride };
  for (let call = 0; call < calls; call++) {
    let [a, b, rest] = [p.a, p.b, call];
    for (const axis of outer) {
      a += 4 * (rest % axis.n) * axis.a;
      b += 4 * (rest % axis.n) * axis.b;
      rest = Math.floor(rest / axis.n);
    }
    gemm(machine, { ...p, a, b, c: p.c + 4 * call * inner.n * cStride, batch });
  }
}

/** Batch axes from the slowest to the fastest; neighbours that step alike are one. */
function batchAxes(a: View, b: View, batch: Shape): BatchAxis[] {
  const strides = (view: View) =>
    broadcastStrides(view.shape.slice(0, -2), view.strides.slice(0, -2), batch);
  const [inA, inB] = [strides(a), strides(b)];
  const axes: BatchAxis[] = [];
  batch.forEach((n, i) => {
    const axis = { n, a: inA[i]!, b: inB[i]! };
    const last = axes.at(-1);
    if (n === 1) return;
    if (last !== undefined && last.a === n * axis.a && last.b === n * axis.b) {
      axes[axes.length - 1] = { ...axis, n: last.n * n };
    } else axes.push(axis);
  });
  return axes;
}

/** Batches that share B and whose rows of A follow one another are more rows of one product. */
function foldRows(product: Gemm, axes: BatchAxis[]): Gemm {
  let p = product;
  for (let axis = axes.at(-1); axis?.b === 0; axis = axes.at(-1)) {
    const aRow = p.m === 1 ? axis.a : p.aRow;
    const readable = p.aCol === 1 || aRow === 1 || p.k === 1;
    if (!readable || axis.a !== p.m * aRow) break;
    p = { ...p, aRow, m: p.m * axis.n };
    axes.pop();
  }
  return p;
}

/** Whether gemm can read the matrix: one of its strides is 1, or it has one row or column. */
const hasUnitStride = ({ shape, strides }: View): boolean =>
  strides.at(-1) === 1 || strides.at(-2) === 1 || shape.at(-1)! <= 1 || shape.at(-2)! <= 1;

/** Strides of the matrix, one of them 1; that of an axis of size 1 is never stepped along. */
function matrixStrides({ shape, strides }: View): [row: number, column: number] {
  const [row, column] = strides.slice(-2) as [number, number];
  if (row === 1 || column === 1) return [row, column];
  return shape.at(-1)! <= 1 ? [row, 1] : [1, column];
}

/** Whether the matrices of the batch lie at one distance from each other. */
function isDense({ shape, strides }: View): boolean {
  const axes = shape.slice(0, -2).map((n, i) => ({ n, stride: strides[i]! }));
  const many = axes.filter(({ n }) => n !== 1);
  return many.every(({ stride }, i) => {
    const next = many[i + 1];
    return next === undefined || stride === next.n * next.stride;
  });
}

function copy(machine: Machine, view: View, temporary: number[]): View {
  const memory = machine.arena.allocate(4 * sizeOf(view.shape));
  temporary.push(memory);
  packTo(machine, view, memory);
  const { dtype, shape } = view;
  const buffer = { memory, elements: sizeOf(shape), dtype };
  return { buffer, dtype, shape, strides: rowMajor(shape), offset: 0 };
}
