/** GEMM micro-kernels: a tile of C held in registers, C[r x 4v] += A[r x k] B[k x 4v]. */
import type { Callable, FunctionBuilder, Local, ModuleBuilder, Value } from "./assembler.ts";
import { f32x4, i32, v128 } from "./assembler.ts";

/** How the micro-kernels are generated. Which one is fastest differs by engine: see profile.ts. */
export interface Profile {
  /** Rows and vectors (of 4 columns) of C in registers: rows x vectors accumulators. */
  readonly rows: number;
  readonly vectors: number;
  /** Steps of k per turn of the inner loop. */
  readonly unroll: number;
  /** Fused multiply-add (relaxed SIMD), or a product and a sum. Decides the bits of the result. */
  readonly fma: boolean;
  /** What a step of k keeps in registers: its vectors of B, or its factors of A. */
  readonly held: "a" | "b";
}

/**
 * How a kernel walks through A. "rows": along k each row is contiguous, and `aStep` leads from row
 * to row. "columns": the rows of a step are contiguous, and `aStep` leads from step to step (A
 * transposed, or packed).
 */
export type Walk = "rows" | "columns";

/** a b + c by the profile's arithmetic: the same in every GEMM path, so all agree bit for bit. */
export const multiplyAdd = (
  { fma }: Pick<Profile, "fma">,
  a: Value<"v128">,
  b: Value<"v128">,
  c: Value<"v128">,
): Value<"v128"> => (fma ? f32x4.relaxedMadd(a, b, c) : f32x4.add(f32x4.mul(a, b), c));

/** Parameters of every micro-kernel. B is packed: the vectors of a step follow each other. */
const PARAMETERS = {
  a: "i32",
  aStep: "i32",
  b: "i32",
  c: "i32",
  cStep: "i32",
  k: "i32",
  /** 1: start from zero; 0: go on from what C holds. */
  fresh: "i32",
} as const;

/** Emits the kernel of one tile size. Each element is summed over k in order, whatever the tile. */
export function emitTile(
  m: ModuleBuilder,
  walk: Walk,
  rows: number,
  vectors: number,
  { fma, unroll, held }: Omit<Profile, "rows" | "vectors">,
  name = `f32_matmul_${walk}_${rows}x${4 * vectors}`,
): Callable<"void"> {
  return m.function(name, PARAMETERS, (f, { a, aStep, b, c, cStep, k, fresh }) => {
    const width = 16 * vectors;
    const cRows = rowPointers(f, c, cStep, rows, "c");
    const sums = cRows.map((_, row) =>
      Array.from({ length: vectors }, (_, v) => vector(f, `sum${row}_${v}`)),
    );
    eachSum(sums, (sum) => f.set(sum, f32x4.const(0)));
    f.if(i32.eqz(fresh), () =>
      eachSum(sums, (sum, row, v) => f.set(sum, v128.load(cRows[row]!, 16 * v))),
    );
    const aRows = walk === "rows" ? rowPointers(f, a, aStep, rows, "a") : [a];
    const bs = Array.from({ length: held === "b" ? vectors : 1 }, (_, v) => vector(f, `b${v}`));
    const factors = Array.from({ length: held === "a" ? rows : 1 }, (_, r) => vector(f, `a${r}`));
    const step = (at: number) => {
      const factorOf = (row: number) =>
        walk === "rows" ? v128.load32Splat(aRows[row]!, 4 * at) : v128.load32Splat(a, 4 * row);
      const bOf = (v: number) => v128.load(b, at * width + 16 * v);
      const add = (sum: Local<"v128">, x: Local<"v128">, y: Local<"v128">) =>
        f.set(sum, multiplyAdd({ fma }, x, y, sum));
      if (held === "a") {
        for (const [row, factor] of factors.entries()) f.set(factor, factorOf(row));
        for (let v = 0; v < vectors; v++) {
          f.set(bs[0]!, bOf(v));
          for (const [row, line] of sums.entries()) add(line[v]!, factors[row]!, bs[0]!);
        }
      } else {
        for (const [v, local] of bs.entries()) f.set(local, bOf(v));
        for (const [row, line] of sums.entries()) {
          f.set(factors[0]!, factorOf(row));
          for (const [v, sum] of line.entries()) add(sum, factors[0]!, bs[v]!);
        }
      }
      if (walk === "columns") f.set(a, i32.add(a, aStep));
    };
    const steps = (count: number) => {
      for (let at = 0; at < count; at++) step(at);
      if (walk === "rows") for (const row of aRows) f.set(row, i32.add(row, 4 * count));
      f.set(b, i32.add(b, count * width));
    };
    const end = f.local("i32", i32.add(b, i32.mul(k, width)), "end");
    if (unroll > 1) {
      const whole = i32.add(b, i32.mul(i32.and(k, -unroll), width));
      const wholeEnd = f.local("i32", whole, "wholeEnd");
      f.while(i32.ltU(b, wholeEnd), () => steps(unroll));
    }
    f.while(i32.ltU(b, end), () => steps(1));
    eachSum(sums, (sum, row, v) => f.store("v128", cRows[row]!, sum, 16 * v));
  });
}

const vector = (f: FunctionBuilder, name: string) => f.local("v128", undefined, name);

function rowPointers(
  f: FunctionBuilder,
  start: Local<"i32">,
  step: Local<"i32">,
  rows: number,
  name: string,
): Local<"i32">[] {
  const pointers = [start];
  while (pointers.length < rows) {
    pointers.push(f.local("i32", i32.add(pointers.at(-1)!, step), `${name}${pointers.length}`));
  }
  return pointers;
}

function eachSum(
  sums: readonly (readonly Local<"v128">[])[],
  visit: (sum: Local<"v128">, row: number, v: number) => void,
): void {
  for (const [row, line] of sums.entries())
    for (const [v, sum] of line.entries()) visit(sum, row, v);
}
