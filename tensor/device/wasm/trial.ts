/** Trials of GEMM micro-kernels: which candidate is the fastest here, and is it right? */
import { ModuleBuilder } from "./assembler.ts";
import type { Profile } from "./tile.ts";
import { emitTile } from "./tile.ts";

const DEPTH = 128;
/** Calls of a tile in one round, about 10 us. */
const TILES = 64;
/** The engine optimises meanwhile: a trial ends when nothing has become faster for a while. */
const LIMIT_MS = 200;
const IMPROVEMENT = 1.05;
/** How much faster than the first candidate another one must be. */
const CLEARLY = 1.1;
/** Where the operands lie, in the one page of memory. */
const [A, B, C] = [32768, 40960, 57344];

/** A module that imports what all of ours import, over one page of memory. */
export function instantiate(bytes: Uint8Array<ArrayBuffer>) {
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 65536, shared: true });
  const scratch = new WebAssembly.Global({ value: "i32" }, 0);
  const module = new WebAssembly.Module(bytes);
  const { exports } = new WebAssembly.Instance(module, { env: { memory, scratch } });
  return { exports, f32: new Float32Array(memory.buffer) };
}

/**
 * Runs the candidates in turn, until none has become faster for `settledMs`; the least time of a
 * round counts, so the time before the engine has optimised does not. A candidate whose product
 * differs in any bit from what the first one gave before it was optimised is out.
 */
export function fastest(candidates: readonly Profile[], settledMs = 8): Profile {
  const m = new ModuleBuilder();
  for (const [index, candidate] of candidates.entries()) emitTrial(m, candidate, index);
  const { exports, f32 } = instantiate(m.bytes());
  const trials = candidates.map((profile, index) => {
    return { profile, kernel: exports[`time_${index}`] as Kernel, least: Number.POSITIVE_INFINITY };
  });
  const expected = product(trials[0]!, f32);
  const start = performance.now();
  for (let last = start; performance.now() < Math.min(last + settledMs, start + LIMIT_MS); ) {
    for (const trial of trials) {
      const now = time(trial);
      if (now * IMPROVEMENT < trial.least) last = performance.now();
      trial.least = Math.min(trial.least, now);
    }
  }
  const rate = ({ profile, least }: Trial) => (profile.rows * profile.vectors) / least;
  const [first, ...others] = trials as [Trial, ...Trial[]];
  let best = first;
  for (const trial of others) {
    // The first is the usual one: on a busy machine, noise alone must not displace it.
    const faster = rate(trial) > rate(best) && rate(trial) > CLEARLY * rate(first);
    if (faster && agree(product(trial, f32), expected)) best = trial;
  }
  return best.profile;
}

type Kernel = (a: number, b: number, c: number) => void;
interface Trial {
  readonly profile: Profile;
  readonly kernel: Kernel;
  least: number;
}

function emitTrial(m: ModuleBuilder, candidate: Profile, index: number): void {
  const { rows, vectors } = candidate;
  const tile = emitTile(m, "rows", rows, vectors, candidate, `candidate_${index}`);
  m.function(`time_${index}`, { a: "i32", b: "i32", c: "i32" }, (f, { a, b, c }) => {
    const i = f.local("i32", undefined, "i");
    f.for(i, 0, TILES, 1, () => f.call(tile, a, 4 * DEPTH, b, c, 16 * vectors, DEPTH, 1));
  });
}

function time({ kernel }: Trial): number {
  const start = performance.now();
  kernel(A, B, C);
  return performance.now() - start;
}

/** The candidate's tile of one product A B, the same for all: element (i, j) of A is entry(i, j). */
function product({ profile: { rows, vectors }, kernel }: Trial, f32: Float32Array): number[][] {
  const width = 4 * vectors;
  const entry = (i: number, j: number) => Math.fround(((i * 131 + j * 71) % 97) / 48.5 - 1);
  for (let k = 0; k < DEPTH; k++) {
    for (let row = 0; row < rows; row++) f32[A / 4 + row * DEPTH + k] = entry(row, k);
    for (let j = 0; j < width; j++) f32[B / 4 + k * width + j] = entry(k, j + 7);
  }
  kernel(A, B, C);
  return Array.from({ length: rows }, (_, row) =>
    Array.from(f32.subarray(C / 4 + row * width, C / 4 + (row + 1) * width)),
  );
}

/** Are two tiles of the product the same where they overlap? */
function agree(tile: readonly number[][], other: readonly number[][]): boolean {
  return tile.every((row, i) => row.every((x, j) => (other[i]?.[j] ?? x) === x));
}
