/** Which GEMM micro-kernel this runtime gets: the candidates of each mode, tried once. */
import { f32x4, ModuleBuilder } from "./assembler.ts";
import type { Profile } from "./tile.ts";
import { fastest, instantiate } from "./trial.ts";
import { joinVectors } from "./wide.ts";

/** V8 has 15 vector registers: 12 sums + 2 of B + 1 of A. Unrolling suits V8 from Node 24 on. */
const FUSED: readonly Profile[] = [
  { rows: 6, vectors: 2, unroll: 8, fma: true, held: "b" },
  { rows: 6, vectors: 2, unroll: 1, fma: true, held: "b" },
];
/** A product needs a register more than V8 has at 6x8 and 2x24. */
const SEPARATE: readonly Profile[] = [
  { rows: 2, vectors: 5, unroll: 4, fma: false, held: "a" },
  { rows: 3, vectors: 3, unroll: 8, fma: false, held: "b" },
];
/** JSC, which has no fused multiply-add, keeps 2x24 in registers. */
const UNFUSED: readonly Profile[] = [
  { rows: 2, vectors: 6, unroll: 8, fma: false, held: "a" },
  { rows: 2, vectors: 5, unroll: 4, fma: false, held: "a" },
  { rows: 3, vectors: 3, unroll: 4, fma: false, held: "b" },
];
/** Of twice the width, for engines that join two 128-bit operations in one. */
const WIDE_FUSED: readonly Profile[] = [{ rows: 6, vectors: 4, unroll: 4, fma: true, held: "b" }];
const WIDE_SEPARATE: readonly Profile[] = [
  { rows: 3, vectors: 6, unroll: 4, fma: false, held: "b" },
];

/** Every profile that may be chosen: all with the same `fma` must give the same bits. */
export const candidates: readonly Profile[] = [
  ...[...FUSED, ...SEPARATE, ...UNFUSED],
  ...[...WIDE_FUSED, ...WIDE_SEPARATE],
];

export interface ProfileOptions {
  /** Products and sums rounded one by one, so that every runtime gives the same bits. */
  readonly deterministic?: boolean;
  /** 256-bit vectors where the engine can join 128-bit operations: see wide.ts. */
  readonly wide?: boolean;
}

/** The profile for some options, and why it is not a wide one where that was asked for. */
export interface Choice {
  readonly profile: Profile;
  readonly refused?: string;
}

const chosen = new Map<string, Choice>();

/**
 * The fastest profile, timed on first use (about 10 ms) and kept for the process. Whether it fuses
 * depends on the runtime alone, never on the timing: all candidates give the same bits. A wide one
 * is chosen only where it is the fastest and gave the bits of the plain one.
 */
export function chooseProfile({
  deterministic = false,
  wide = false,
}: ProfileOptions = {}): Choice {
  const fused = !deterministic && hasFusedMultiplyAdd();
  const key = `${fused} ${wide}`;
  const choice = chosen.get(key) ?? (wide ? widest(fused) : { profile: plainest(fused) });
  chosen.set(key, choice);
  return choice;
}

const plainest = (fused: boolean): Profile =>
  fastest(fused ? FUSED : hasFusedMultiplyAdd() ? SEPARATE : UNFUSED);

/** Wide or not matters more than a start-up a few hundredths of a second shorter. */
const PATIENT_MS = 40;

function widest(fused: boolean): Choice {
  const { profile: plain } = chooseProfile({ deterministic: !fused });
  const refused = joinVectors();
  if (refused !== undefined) return { profile: plain, refused };
  const profile = fastest([plain, ...(fused ? WIDE_FUSED : WIDE_SEPARATE)], PATIENT_MS);
  return profile === plain
    ? { profile, refused: "joined vectors are no faster here" }
    : { profile };
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
  const { exports } = instantiate(bytes);
  const residue = exports.residue as (x: number, square: number) => number;
  // (1 + 2^-12)^2 = 1 + 2^-11 + 2^-24, whose last term is lost when the square is rounded.
  return residue(1 + 2 ** -12, 1 + 2 ** -11) !== 0;
}
