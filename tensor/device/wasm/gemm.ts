/** Matrix products on the machine: checks the operands, picks how to share the work, runs it. */
import { emitMatmul } from "./blocks.ts";
import type { Emitter, Machine } from "./machine.ts";
import { THIN_ROWS } from "./thin.ts";

/**
 * C[m x n] = A[m x k] B[k x n], or C += A B. Addresses in bytes; strides in elements. Of each
 * operand's two strides one is 1 (either order: a transpose is only a choice of strides), unless
 * the axis it would step along has size 1. Rows of C are contiguous, `ldc` apart.
 */
export interface Gemm {
  readonly m: number;
  readonly k: number;
  readonly n: number;
  readonly a: number;
  readonly aRow: number;
  readonly aCol: number;
  readonly b: number;
  readonly bRow: number;
  readonly bCol: number;
  readonly c: number;
  readonly ldc: number;
  /** `count` products whose operands lie these strides apart (0: the same for all). */
  readonly batch?: {
    readonly count: number;
    readonly aStride: number;
    readonly bStride: number;
    readonly cStride: number;
  };
  /** Add to C instead of overwriting it. */
  readonly accumulate?: boolean;
}

/** Emitter of the GEMM kernels for the machine's profile. */
export const emitGemm: Emitter = emitMatmul;

/** GFLOP/s assumed when the work of a product is estimated. */
const RATE = 40;

/**
 * Runs a product, or a batch of them. Each element of C is summed over k in order, from zero (or
 * from C), by one kind of multiply-add: its bits depend neither on the threads, nor on the tile,
 * nor on the other rows and columns of the product. With k = 0, C is zero (or unchanged).
 */
export function gemm(machine: Machine, p: Gemm): void {
  const { m, k, n, ldc } = p;
  const { count, aStride, bStride, cStride } = p.batch ?? ONE;
  if (m === 0 || n === 0 || count === 0) return;
  check("A", p.aRow, p.aCol, m, k);
  check("B", p.bRow, p.bCol, k, n);
  const byRows = m > n;
  const units = byRows ? m : Math.ceil(n / 4);
  const work = (2 * count * m * k * n) / RATE;
  const grain = grainOf(machine, p, units, count);
  const args = [
    ...[m, k, n, p.a, 4 * p.aRow, 4 * p.aCol, p.b, 4 * p.bRow, 4 * p.bCol],
    ...[p.c, 4 * ldc, p.accumulate ? 0 : 1],
    ...[4 * aStride, 4 * bStride, 4 * cStride, byRows ? 1 : 0],
  ];
  machine.parallel("f32_matmul", args, count * units, { grain, work });
}

/** Least rows of a chunk, whose B is packed anew; least groups of four columns, likewise A. */
const LEAST_ROWS = 240;
const LEAST_GROUPS = 12;
const LEAST_GROUPS_PACKING_A = 64;
/** Units of a chunk: whole products where they are many, else even parts of one. */
function grainOf(
  { threads, choice: { profile } }: Machine,
  p: Gemm,
  units: number,
  count: number,
): number {
  if (count >= 4 * threads) return units;
  // A few rows stream through B's rows, best in long runs.
  if (p.m <= THIN_ROWS && p.m <= p.n && p.bCol === 1) return Math.ceil(units / threads);
  const byRows = p.m > p.n;
  const leastGroups = p.aCol === 1 ? LEAST_GROUPS : LEAST_GROUPS_PACKING_A;
  const least = (byRows ? LEAST_ROWS : leastGroups) * threads;
  const parts = threads * Math.min(4, Math.max(1, Math.floor(units / least)));
  const whole = byRows ? profile.rows : profile.vectors;
  const even = units / parts;
  return even > 4 * whole ? Math.ceil(even / whole) * whole : Math.ceil(even);
}

const ONE = { count: 1, aStride: 0, bStride: 0, cStride: 0 };

function check(name: string, row: number, col: number, rows: number, columns: number): void {
  if (row === 1 || col === 1 || rows <= 1 || columns <= 1) return;
  throw new RangeError(
    `gemm: ${name} [${rows} x ${columns}] has strides ${row} and ${col}: one must be 1 ` +
      "(copy it first)",
  );
}
