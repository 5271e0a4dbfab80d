/** Micro-kernels for one to six rows of A times B in place: B's rows are read side by side. */
import type { Callable, FunctionBuilder, Local, ModuleBuilder, Value } from "./assembler.ts";
import { i32, minimum, select, v128 } from "./assembler.ts";
import type { Profile } from "./tile.ts";
import { multiplyAdd } from "./tile.ts";

const PARAMETERS = {
  /** Steps of A are `aStep` bytes apart, its rows 4 bytes. */
  a: "i32",
  aStep: "i32",
  b: "i32",
  bStep: "i32",
  k: "i32",
  /** Bytes of a row of C, a multiple of 16. */
  width: "i32",
  c: "i32",
  cStep: "i32",
} as const;
type Parameters = { readonly [K in keyof typeof PARAMETERS]: Local<"i32"> };

/** Vectors of C per row of A, and rows of B that are taken at a time. */
interface Shape {
  readonly vectors: number;
  /** Taken in this order while as many are left; A's elements stay in registers. */
  readonly visits?: readonly number[];
}

/** By rows of A. There are 15 registers: for sums, elements of A, one of B. */
const FUSED: readonly Shape[] = [
  { vectors: 4, visits: [7, 4, 2, 1] },
  { vectors: 2, visits: [4, 1] },
  { vectors: 1, visits: [4, 1] },
  { vectors: 2 },
  { vectors: 2 },
  { vectors: 2 },
];
/** A product and a sum take one register more; JSC likes longer runs. */
const SEPARATE: readonly Shape[] = [
  { vectors: 8, visits: [5, 2, 1] },
  { vectors: 2, visits: [4, 1] },
  { vectors: 1, visits: [3, 1] },
  { vectors: 2 },
  { vectors: 2 },
];

type Arithmetic = Pick<Profile, "fma">;
const shapesOf = ({ fma }: Arithmetic) => (fma ? FUSED : SEPARATE);
/** Most rows of A in one pass over B. */
export const thinRowsHeight = (arithmetic: Arithmetic): number => shapesOf(arithmetic).length;

/**
 * C[rows x width] += A[rows x k] B[k x width], B's rows contiguous. A few rows of B are taken at a
 * time, over the whole width, while C stays in L1. Reads up to 12 bytes beyond a row of B.
 */
export function emitThinRows(
  m: ModuleBuilder,
  rows: number,
  { fma }: Arithmetic,
): Callable<"void"> {
  const { vectors, visits } = shapesOf({ fma })[rows - 1]!;
  return m.function(`f32_matmul_thin_rows_${rows}`, PARAMETERS, (f, p) => {
    const kernel = new Kernel(f, p, { rows, vectors, fma });
    if (visits === undefined) kernel.loops();
    else for (const visit of visits) f.while(i32.geU(p.k, visit), () => kernel.visit(visit));
  });
}

/** The variables of a kernel, and its two ways through B. */
class Kernel {
  private readonly f: FunctionBuilder;
  private readonly p: Parameters;
  private readonly vectors: number;
  private readonly fma: boolean;
  private readonly at: Local<"i32">;
  private readonly wideEnd: Local<"i32">;
  /** Addresses in C, and the sums, by row. */
  private readonly targets: readonly Local<"i32">[];
  private readonly sums: readonly (readonly Local<"v128">[])[];
  private readonly terms: readonly Local<"v128">[];

  constructor(
    f: FunctionBuilder,
    p: Parameters,
    { rows, vectors, fma }: { rows: number; vectors: number; fma: boolean },
  ) {
    this.f = f;
    this.p = p;
    this.vectors = vectors;
    this.fma = fma;
    this.at = f.local("i32", undefined, "at");
    const remainder = i32.remU(p.width, 16 * vectors);
    this.wideEnd = f.local("i32", i32.sub(p.width, remainder), "wideEnd");
    this.targets = Array.from({ length: rows }, (_, row) => f.local("i32", undefined, `c${row}`));
    this.sums = this.targets.map((_, row) =>
      Array.from({ length: vectors }, (_, v) => f.local("v128", undefined, `sum${row}_${v}`)),
    );
    this.terms = Array.from({ length: vectors }, (_, v) => f.local("v128", undefined, `b${v}`));
  }

  /** `count` rows of B: all elements of A are loaded first, and B's are used at once. */
  visit(count: number): void {
    const { f, p, targets, sums, terms } = this;
    const [term] = terms as [Local<"v128">];
    const from = f.local("i32", undefined, "from");
    const lines = Array.from({ length: count }, (_, at) => f.local("i32", p.b, `line${at}`));
    const factors = lines.map((line, at) => {
      if (at > 0) f.set(line, i32.add(lines[at - 1]!, p.bStep));
      const loaded = targets.map((_, row) => f.local("v128", v128.load32Splat(p.a, 4 * row)));
      f.set(p.a, i32.add(p.a, p.aStep));
      return loaded;
    });
    this.columns((vectors) => {
      for (const [at, line] of lines.entries()) {
        f.set(from, i32.add(line, this.at));
        for (let v = 0; v < vectors; v++) {
          f.set(term, v128.load(from, 16 * v));
          for (const [row, line] of sums.entries()) this.add(line[v]!, factors[at]![row]!, term);
        }
      }
    });
    f.set(p.b, i32.add(lines.at(-1)!, p.bStep));
    f.set(p.k, i32.sub(p.k, count));
  }

  /** Too many rows of A for its elements to stay in registers: B's do, for one step. */
  loops(): void {
    const { f, p, sums, terms } = this;
    const factor = f.local("v128", undefined, "factor");
    const [x, y] = [f.local("i32", undefined, "x"), f.local("i32", undefined, "y")];
    const step = (vectors: number) => {
      for (let v = 0; v < vectors; v++) f.set(terms[v]!, v128.load(y, 16 * v));
      for (const [row, line] of sums.entries()) {
        f.set(factor, v128.load32Splat(x, 4 * row));
        for (let v = 0; v < vectors; v++) this.add(line[v]!, factor, terms[v]!);
      }
      f.set(x, i32.add(x, p.aStep));
      f.set(y, i32.add(y, p.bStep));
    };
    const most = f.local("i32", mostAtOnce(p), "most");
    const [whole, end] = [f.local("i32", undefined, "whole"), f.local("i32", undefined, "end")];
    f.while(p.k, () => {
      const now = f.local("i32", minimum(p.k, most), "now");
      f.set(whole, i32.add(p.a, i32.mul(i32.and(now, -UNROLL), p.aStep)));
      f.set(end, i32.add(p.a, i32.mul(now, p.aStep)));
      this.columns((vectors) => {
        f.set(x, p.a);
        f.set(y, i32.add(p.b, this.at));
        f.while(i32.ltU(x, whole), () => {
          for (let turn = 0; turn < UNROLL; turn++) step(vectors);
        });
        f.while(i32.ltU(x, end), () => step(vectors));
      });
      f.set(p.a, end);
      f.set(p.b, i32.add(p.b, i32.mul(now, p.bStep)));
      f.set(p.k, i32.sub(p.k, now));
    });
  }

  /** From left to right over C: loads the sums, lets `body` add to them, stores them. */
  private columns(body: (vectors: number) => void): void {
    const { f, p, at, targets, sums } = this;
    const tile = (vectors: number) => {
      for (const [row, target] of targets.entries()) {
        f.set(target, row === 0 ? i32.add(p.c, at) : i32.add(targets[row - 1]!, p.cStep));
        for (let v = 0; v < vectors; v++) f.set(sums[row]![v]!, v128.load(target, 16 * v));
      }
      body(vectors);
      for (const [row, target] of targets.entries()) {
        for (let v = 0; v < vectors; v++) f.store("v128", target, sums[row]![v]!, 16 * v);
      }
    };
    f.for(at, 0, this.wideEnd, 16 * this.vectors, () => tile(this.vectors));
    if (this.vectors > 1) f.for(at, at, p.width, 16, () => tile(1));
  }

  private add(sum: Local<"v128">, factor: Value<"v128">, term: Value<"v128">): void {
    this.f.set(sum, multiplyAdd({ fma: this.fma }, factor, term, sum));
  }
}

const UNROLL = 4;

/** A narrow B stays in L1. */
const NARROW_BYTES = 256;

/** 16, but rows a multiple of 4 KiB apart share one set of L1, which holds eight lines: then 4. */
const mostAtOnce = ({ bStep, k }: Parameters) => {
  const apart = (bytes: number) => i32.eqz(i32.and(bStep, bytes - 1));
  const wide = i32.shrU(i32.const(16), i32.add(apart(2048), apart(4096)));
  return select(i32.leU(bStep, NARROW_BYTES), k, wide);
};
