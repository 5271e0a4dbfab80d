/** Finds the GEMM micro-kernel that this runtime runs fastest, by trying the candidates once. */
import { f32x4, ModuleBuilder } from "./assembler.ts";
import type { Profile } from "./tile.ts";
import { emitTile } from "./tile.ts";

/** V8 has 15 vector registers: 12 sums + 2 of B + 1 of A. Unrolling suits V8 from Node 24 on. */
const FUSED: readonly Profile[] = [
  { rows: 6, vectors: 2, unroll: 8, fma: true },
  { rows: 6, vectors: 2, unroll: 1, fma: true },
];
/** A product needs a register more, so V8 spills at 6x8; JSC does not. */
const SEPARATE: readonly Profile[] = [
  { rows: 6, vectors: 2, unroll: 8, fma: false },
  { rows: 5, vectors: 2, unroll: 8, fma: false },
  { rows: 3, vectors: 3, unroll: 4, fma: false },
];

export interface ProfileOptions {
  /** Products and sums rounded one by one, so that every runtime gives the same bits. */
  readonly deterministic?: boolean;
}

const chosen = new Map<boolean, Profile>();

/**
 * The fastest profile, timed on first use (about 5 ms) and kept for the process. Whether it fuses
 * depends on the runtime alone, never on the timing: all candidates give the same bits.
 */
export function profile({ deterministic = false }: ProfileOptions = {}): Profile {
  const fused = !deterministic && hasFusedMultiplyAdd();
  let best = chosen.get(fused);
  if (best === undefined) {
    best = fastest(fused ? FUSED : SEPARATE);
    chosen.set(fused, best);
  }
  return best;
}

function instantiate(bytes: Uint8Array<ArrayBuffer>) {
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 65536, shared: true });
  const scratch = new WebAssembly.Global({ value: "i32" }, 0);
  const module = new WebAssembly.Module(bytes);
  return new WebAssembly.Instance(module, { env: { memory, scratch } }).exports;
}

/** Is relaxed SIMD there, and does its multiply-add round once? (In Bun it does not.) */
export function hasFusedMultiplyAdd(): boolean {
  const m = new ModuleBuilder();
  m.function(
    "residue",
    { x: "f32", square: "f32" },
    (f, { x, square }) => {
      const factor = f.local("v128", f32x4.splat(x));
      const sum = f32x4.relaxedMadd(factor, factor, f32x4.neg(f32x4.splat(square)));
      f.return(f32x4.extractLane(sum, 0));
    },
    "f32",
  );
  const bytes = m.bytes();
  if (!WebAssembly.validate(bytes)) return false;
  const residue = instantiate(bytes).residue as (x: number, square: number) => number;
  // (1 + 2^-12)^2 = 1 + 2^-11 + 2^-24, whose last term is lost when the square is rounded.
  return residue(1 + 2 ** -12, 1 + 2 ** -11) !== 0;
}

const DEPTH = 128;
const TILES = 64;
const ROUNDS = 24;
/** How much faster than the first candidate another one must be. */
const CLEARLY = 1.1;

/** Runs the candidates in turn; the least time of a round counts, past the JIT's warm-up. */
function fastest(candidates: readonly Profile[]): Profile {
  const m = new ModuleBuilder();
  for (const [index, candidate] of candidates.entries()) {
    const { rows, vectors } = candidate;
    const tile = emitTile(m, "rows", rows, vectors, candidate, `candidate_${index}`);
    m.function(`time_${index}`, { a: "i32", b: "i32", c: "i32" }, (f, { a, b, c }) => {
      const i = f.local("i32", undefined, "i");
      f.for(i, 0, TILES, 1, () => f.call(tile, a, 4 * DEPTH, b, c, 16 * vectors, DEPTH, 1));
    });
  }
  const kernels = instantiate(m.bytes());
  const [a, b, c] = [32768, 40960, 57344];
  const times = candidates.map((_, index) => ({ index, least: Number.POSITIVE_INFINITY }));
  for (let round = 0; round < ROUNDS; round++) {
    for (const time of times) {
      const run = kernels[`time_${time.index}`] as (a: number, b: number, c: number) => void;
      const start = performance.now();
      run(a, b, c);
      time.least = Math.min(time.least, performance.now() - start);
    }
  }
  const rates = candidates.map(({ rows, vectors }, at) => (rows * vectors) / times[at]!.least);
  const best = rates.indexOf(Math.max(...rates));
  // The first is the usual one: on a busy machine, noise alone must not displace it.
  return candidates[rates[best]! > CLEARLY * rates[0]! ? best : 0]!;
}
