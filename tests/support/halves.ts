/** Numbers on which casts to and from f16 are tested: every half, and what lies between two of them. */

import { halfToFloat } from "../../tensor/half.ts";

/** The value of each of the 65,536 bit patterns, in their order. */
export const everyHalf = (): Float32Array =>
  Float32Array.from({ length: 65_536 }, (_, bits) => halfToFloat(bits));

const next = new Float32Array(1);
const bitsOf = new Int32Array(next.buffer);
/** The f32 number that is `steps` away from x > 0. */
function beside(x: number, steps: number): number {
  next[0] = x;
  bitsOf[0]! += steps;
  return next[0]!;
}

/**
 * f32 numbers with the halves that they round to: the middle between each two neighbours, which
 * goes to the even one, and the f32 numbers beside it; of both signs.
 */
export function roundings(): { readonly from: Float32Array; readonly to: Float32Array } {
  const [from, to]: [number[], number[]] = [[], []];
  const add = (x: number, half: number) => {
    from.push(x, -x);
    to.push(half, -half);
  };
  for (let bits = 0; bits < 0x7c00; bits++) {
    const [low, high] = [halfToFloat(bits), halfToFloat(bits + 1)];
    const middle = high === Infinity ? 65_520 : (low + high) / 2; // exact in f32
    add(beside(middle, -1), low);
    add(middle, bits % 2 === 0 ? low : high);
    add(beside(middle, 1), high);
  }
  for (const huge of [65_536, 1e6, 3.4e38, Infinity]) add(huge, Infinity);
  for (const tiny of [1e-10, 2 ** -126, 2 ** -149]) add(tiny, 0);
  return { from: Float32Array.from(from), to: Float32Array.from(to) };
}

/** The first place where two arrays differ in value, counting NaN as equal to NaN. */
export const firstDifference = (a: ArrayLike<number>, b: ArrayLike<number>): number =>
  Array.from(a).findIndex((x, i) => x !== b[i] && !(Number.isNaN(x) && Number.isNaN(b[i])));
