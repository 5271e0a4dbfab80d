/** Micro-kernels for one to three rows of A times B in place, where B's columns are contiguous. */
import type { Callable, FunctionBuilder, Local, ModuleBuilder, Value } from "./assembler.ts";
import { i32, v128 } from "./assembler.ts";
import type { Profile } from "./tile.ts";
import { multiplyAdd } from "./tile.ts";

const PARAMETERS = {
  k: "i32",
  columns: "i32",
  /** The rows of a step follow each other, and so do the steps. */
  a: "i32",
  b: "i32",
  bColumn: "i32",
  c: "i32",
  cStep: "i32",
} as const;
type Parameters = { readonly [K in keyof typeof PARAMETERS]: Local<"i32"> };

/** Groups of four columns in flight, by rows of A: each sum waits four cycles for its last step. */
const FUSED: readonly number[] = [4, 4, 2];
/** A product and a sum take one register more; JSC is slow where a function has many such loops. */
const SEPARATE: readonly number[] = [2, 2];

type Arithmetic = Pick<Profile, "fma">;
const groupsOf = ({ fma }: Arithmetic) => (fma ? FUSED : SEPARATE);
/** Most rows of A; for more, B is transposed by way of L1 and goes through the tiles. */
export const thinColumnsHeight = (arithmetic: Arithmetic): number => groupsOf(arithmetic).length;

/** Columns a multiple of 4 KiB apart share one set of L1, which holds eight lines: two groups. */
const GROUPS_IN_ONE_SET = 2;
const SET_BYTES = 4096;

/**
 * C[rows x columns] += A[rows x k] B[k x columns]. Four columns are the lanes of a sum: blocks of
 * 4 x 4 of B are transposed in registers, by pairs (two loads make one vector), which saves half of
 * the shuffles. C is stored by whole vectors. Reads up to 12 bytes beyond a column of B.
 */
export function emitThinColumns(
  m: ModuleBuilder,
  rows: number,
  { fma }: Arithmetic,
): Callable<"void"> {
  const most = groupsOf({ fma })[rows - 1]!;
  return m.function(`f32_matmul_thin_columns_${rows}`, PARAMETERS, (f, p) => {
    const { columns, bColumn } = p;
    const kernel = variables(f, p, { rows, most });
    const run = (groups: number) => emitGroups(f, p, kernel, groups, fma);
    if (most > GROUPS_IN_ONE_SET) {
      f.if(i32.and(bColumn, SET_BYTES - 1), () =>
        f.while(i32.geU(columns, 4 * most), () => run(most)),
      );
    }
    f.while(i32.geU(columns, 4 * GROUPS_IN_ONE_SET), () => run(GROUPS_IN_ONE_SET));
    f.while(i32.geU(columns, 4), () => run(1));
    f.if(columns, () => {
      for (const [at, step] of kernel.steps.entries()) {
        f.if(i32.leU(columns, at + 1), () => f.set(step, 0));
      }
      run(1);
    });
  });
}

type Variables = ReturnType<typeof variables>;

function variables(
  f: FunctionBuilder,
  { a, k, bColumn }: Parameters,
  { rows, most }: { rows: number; most: number },
) {
  const vectors = (count: number, name: string) =>
    Array.from({ length: count }, (_, at) => f.local("v128", undefined, `${name}${at}`));
  return {
    rows,
    /** By row, then by group. */
    sums: Array.from({ length: rows }, (_, row) => vectors(most, `sum${row}_`)),
    /** Elements of A: by row, then by step; for more rows than one, two steps at a time. */
    factors: Array.from({ length: rows }, (_, row) => vectors(rows === 1 ? 4 : 2, `a${row}_`)),
    left: f.local("v128", undefined, "left"),
    right: f.local("v128", undefined, "right"),
    term: f.local("v128", undefined, "term"),
    x: f.local("i32", undefined, "x"),
    y: f.local("i32", undefined, "y"),
    to: f.local("i32", undefined, "to"),
    columns: Array.from({ length: 4 }, (_, at) => f.local("i32", undefined, `column${at}`)),
    whole: f.local("i32", i32.add(a, i32.mul(i32.and(k, -4), 4 * rows)), "whole"),
    rest: f.local("i32", i32.and(k, 3), "rest"),
    /** Steps to the second, third and fourth column of the last group: 0 beyond the last one. */
    steps: [1, 2, 3].map((at) => f.local("i32", bColumn, `step${at}`)),
  };
}

/** The next groups of columns: all of k. */
function emitGroups(
  f: FunctionBuilder,
  { a, b, bColumn, c, cStep, columns }: Parameters,
  kernel: Variables,
  groups: number,
  fma: boolean,
): void {
  const { rows, x, y, to, whole, rest } = kernel;
  const sums = kernel.sums.map((line) => line.slice(0, groups));
  const eachRow = (visit: (line: readonly Local<"v128">[]) => void) => {
    f.set(to, c);
    for (const [row, line] of sums.entries()) {
      if (row > 0) f.set(to, i32.add(to, cStep));
      visit(line);
    }
  };
  eachRow((line) => {
    for (const [group, sum] of line.entries()) f.set(sum, v128.load(to, 16 * group));
  });
  f.set(y, b);
  f.for(x, a, whole, 16 * rows, () => {
    emitSteps(f, bColumn, kernel, { sums, fma }, (_, step) => step());
    f.set(y, i32.add(y, 16));
  });
  // The first of the last one to three steps is always there.
  const guard = (at: number, step: () => void) =>
    at === 0 ? step() : f.if(i32.gtU(rest, at), step);
  f.if(rest, () => emitSteps(f, bColumn, kernel, { sums, fma }, guard));
  eachRow((line) => {
    for (const [group, sum] of line.entries()) f.store("v128", to, sum, 16 * group);
  });
  f.set(b, i32.add(b, i32.mul(bColumn, 4 * groups)));
  f.set(c, i32.add(c, 16 * groups));
  f.set(columns, i32.sub(columns, 4 * groups));
}

/** The next four steps of k; `guard` wraps what is done for each. */
function emitSteps(
  f: FunctionBuilder,
  bColumn: Local<"i32">,
  { rows, factors, left, right, term, x, y, columns, steps }: Variables,
  { sums, fma }: { sums: readonly (readonly Local<"v128">[])[]; fma: boolean },
  guard: (at: number, step: () => void) => void,
): void {
  const groups = sums[0]!.length;
  const [c0, c1, c2, c3] = columns as [Local<"i32">, Local<"i32">, Local<"i32">, Local<"i32">];
  const load = (at: number, step: number) =>
    guard(at, () => {
      for (const [row, line] of factors.entries()) {
        f.set(line[step]!, v128.load32Splat(x, 4 * (at * rows + row)));
      }
    });
  const half = (at: number, group: number) => {
    guard(at, () => {
      f.set(left, pair(c0, c1, 4 * at));
      f.set(right, pair(c2, c3, 4 * at));
    });
    for (const odd of [0, 1]) {
      guard(at + odd, () => {
        f.set(term, v128.shuffle(left, right, odd, odd + 2, odd + 4, odd + 6));
        for (const [row, line] of sums.entries()) {
          const factor = factors[row]![rows === 1 ? at + odd : odd]!;
          f.set(line[group]!, multiplyAdd({ fma }, factor, term, line[group]!));
        }
      });
    }
  };
  // With one row, A's four elements stay in registers; with more, those of half of the steps.
  for (const halves of rows === 1 ? [[0, 2]] : [[0], [2]]) {
    for (const at of halves) for (const odd of [0, 1]) load(at + odd, rows === 1 ? at + odd : odd);
    for (let group = 0; group < groups; group++) {
      f.set(c0, group === 0 ? y : i32.add(c3, bColumn));
      for (const [at, step] of steps.entries()) {
        f.set(columns[at + 1]!, i32.add(columns[at]!, groups === 1 ? step : bColumn));
      }
      for (const at of halves) half(at, group);
    }
  }
}

/** Two elements at one address and two at another. */
const pair = (first: Value<"i32">, second: Value<"i32">, offset: number): Value<"v128"> =>
  v128.load64Lane(second, v128.load64Zero(first, offset), 1, offset);
