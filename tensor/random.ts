/** Philox 4x32-10 random numbers, keyed by (seed, purpose, step, row): same bits everywhere. */

export type Words2 = readonly [number, number];
export type Words4 = readonly [number, number, number, number];

const MULTIPLIER_0 = 0xd2511f53;
const MULTIPLIER_1 = 0xcd9e8d57;
const WEYL_0 = 0x9e3779b9;
const WEYL_1 = 0xbb67ae85;
const ROUNDS = 10;
const TWO_32 = 2 ** 32;

/** High 32 bits of the 64-bit product of two u32; every partial product stays below 2^32. */
function multiplyHigh(a: number, b: number): number {
  const aLow = a & 0xffff;
  const aHigh = a >>> 16;
  const bLow = b & 0xffff;
  const bHigh = b >>> 16;
  const middle = aHigh * bLow + ((aLow * bLow) >>> 16);
  const carry = aLow * bHigh + (middle & 0xffff);
  return (aHigh * bHigh + (middle >>> 16) + (carry >>> 16)) >>> 0;
}

/** Writes philox4x32(counter, key) to `out`. By index: destructuring costs JavaScriptCore 2x. */
function fillBlock(out: Uint32Array, counter: ArrayLike<number>, key: Words2): void {
  let a = counter[0]!;
  let b = counter[1]!;
  let c = counter[2]!;
  let d = counter[3]!;
  let key0 = key[0];
  let key1 = key[1];
  for (let round = 0; round < ROUNDS; round++) {
    const high0 = multiplyHigh(MULTIPLIER_0, a);
    const high1 = multiplyHigh(MULTIPLIER_1, c);
    const low0 = Math.imul(MULTIPLIER_0, a);
    const low1 = Math.imul(MULTIPLIER_1, c);
    a = (high1 ^ b ^ key0) >>> 0;
    b = low1 >>> 0;
    c = (high0 ^ d ^ key1) >>> 0;
    d = low0 >>> 0;
    key0 = (key0 + WEYL_0) >>> 0;
    key1 = (key1 + WEYL_1) >>> 0;
  }
  out[0] = a;
  out[1] = b;
  out[2] = c;
  out[3] = d;
}

/**
 * Four random u32 from a counter of four u32 and a key of two. Philox 4x32-10 of Salmon et al.,
 * "Parallel random numbers: as easy as 1, 2, 3" (2011), https://doi.org/10.1145/2063384.2063405
 */
export function philox4x32(counter: Words4, key: Words2): [number, number, number, number] {
  const out = new Uint32Array(4);
  fillBlock(out, counter, key);
  return [out[0]!, out[1]!, out[2]!, out[3]!];
}

/** The 24 high bits of a u32 as a number in [0, 1) that f32 holds exactly. */
export function uniform01(bits: number): number {
  return (bits >>> 8) * 2 ** -24;
}

/** 32-bit FNV-1a hash of a purpose, the fourth word of the counter. */
export function purposeWord(purpose: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < purpose.length; i++) {
    const unit = purpose.charCodeAt(i);
    hash = Math.imul(hash ^ (unit & 0xff), 0x01000193);
    hash = Math.imul(hash ^ (unit >>> 8), 0x01000193);
  }
  return hash >>> 0;
}

/** Which numbers a stream gives: two streams with equal keys are equal. */
export interface StreamKey {
  /** Whole number in [0, 2^53). */
  readonly seed: number;
  /** What the numbers are for, such as "document" or "initialise layers.0.wq". */
  readonly purpose: string;
  /** Whole numbers in [0, 2^32); default 0. */
  readonly step?: number;
  readonly row?: number;
}

/** Random numbers in sequence. The only state is the position. */
export interface RandomStream {
  /** Uniform u32. */
  bits(): number;
  /** Uniform in [0, 1), a multiple of 2^-24. */
  uniform(): number;
  /** Uniform whole number in [0, n), without bias; 1 <= n <= 2^32. */
  int(n: number): number;
  /** Standard normal. */
  normal(): number;
  /** A uniformly random permutation, as a new array. */
  shuffle<T>(items: readonly T[]): T[];
  /** One item, uniformly. */
  choice<T>(items: readonly T[]): T;
  /** Index i with probability (c[i] - c[i-1]) / c[last] for ascending sums c of weights. */
  weighted(cumulative: ArrayLike<number>): number;
}

/**
 * The stream of a key: block i is Philox at counter (i, row, step, hash of purpose) under the
 * seed's low and high words. Throws a RangeError on a key out of range.
 */
export function randomStream({ seed, purpose, step = 0, row = 0 }: StreamKey): RandomStream {
  requireWhole("seed", seed, 2 ** 53);
  requireWhole("step", step, TWO_32);
  requireWhole("row", row, TWO_32);
  const key: Words2 = [seed % TWO_32, Math.floor(seed / TWO_32)];
  const counter = Uint32Array.of(0, row, step, purposeWord(purpose));
  const block = new Uint32Array(4);
  let index = 0;
  let used = 4;
  const bits = (): number => {
    if (used === 4) {
      if (index === TWO_32) throw new RangeError(`random stream "${purpose}": used up`);
      counter[0] = index;
      fillBlock(block, counter, key);
      index += 1;
      used = 0;
    }
    const next = block[used]!;
    used += 1;
    return next;
  };
  return streamOf(bits);
}

function requireWhole(name: string, value: number, limit: number): void {
  if (Number.isInteger(value) && value >= 0 && value < limit) return;
  throw new RangeError(
    `randomStream: ${name} is ${value}, expected a whole number in [0, ${limit})`,
  );
}

function streamOf(bits: () => number): RandomStream {
  const uniform = () => uniform01(bits());
  const int = (n: number) => intBelow(n, bits);
  return {
    bits,
    uniform,
    int,
    normal: () => polarNormal(uniform),
    shuffle: (items) => shuffled(items, int),
    choice: (items) => items[int(items.length)]!,
    weighted: (cumulative) => weightedIndex(cumulative, bits),
  };
}

function intBelow(n: number, bits: () => number): number {
  if (!Number.isInteger(n) || n < 1 || n > TWO_32) {
    throw new RangeError(`random int below ${n}: expected a whole number in [1, 2^32]`);
  }
  // Draws above the largest multiple of n would favour small results.
  const limit = TWO_32 - (TWO_32 % n);
  for (;;) {
    const draw = bits();
    if (draw < limit) return draw % n;
  }
}

/** Fisher-Yates on a copy. */
function shuffled<T>(items: readonly T[], int: (n: number) => number): T[] {
  const out = items.slice();
  for (let i = out.length - 1; i > 0; i--) {
    const j = int(i + 1);
    const held = out[i]!;
    out[i] = out[j]!;
    out[j] = held;
  }
  return out;
}

function weightedIndex(cumulative: ArrayLike<number>, bits: () => number): number {
  const total = cumulative[cumulative.length - 1] ?? 0;
  if (!(total > 0 && total < Infinity)) {
    throw new RangeError(`weighted choice: the weights sum to ${total}, expected more than 0`);
  }
  const target = (bits() / TWO_32) * total;
  let low = 0;
  let high = cumulative.length - 1;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (cumulative[middle]! > target) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** Marsaglia's polar method; the second normal of the pair is dropped so that none is kept. */
function polarNormal(uniform: () => number): number {
  for (;;) {
    const x = 2 * uniform() - 1;
    const y = 2 * uniform() - 1;
    const square = x * x + y * y;
    if (square > 0 && square < 1) return x * Math.sqrt((-2 * portableLog(square)) / square);
  }
}

/**
 * ln x for 0 < x < 1 from exactly rounded operations only: engines differ in Math.log's last bit.
 * x = m 2^e with m in [1/√2, √2); ln m = 2 (s + s³/3 + s⁵/5 + ...) with s = (m-1)/(m+1).
 */
function portableLog(x: number): number {
  let mantissa = x;
  let exponent = 0;
  while (mantissa < Math.SQRT1_2) {
    mantissa *= 2;
    exponent -= 1;
  }
  const s = (mantissa - 1) / (mantissa + 1);
  const square = s * s;
  let series = 0;
  for (let power = 23; power >= 1; power -= 2) series = series * square + 1 / power;
  return exponent * Math.LN2 + 2 * s * series;
}
