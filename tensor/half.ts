/** IEEE 754 binary16 on the JavaScript side: rounding to nearest even, its bits, and back. */

const float = new Float32Array(1);
const bits = new Int32Array(float.buffer);

/** The least finite number that rounds to infinity: half a step above 65,504. */
const OVERFLOW = 65_520;
/** 2^-24, the smallest half above 0, below 2^-14 the distance between all of them. */
const SUBNORMAL_STEP = 2 ** -24;

/** Distance between halves near `magnitude`, a finite number that is no NaN. */
function stepNear(magnitude: number): number {
  // f32 may round up to the next power of two, and then the result is that power in either case.
  float[0] = magnitude;
  const exponent = (bits[0]! >> 23) - 127;
  return Math.max(SUBNORMAL_STEP, 2 ** (exponent - 10));
}

/** The half next to x, the even one of two that are as near: from 65,520 on it is infinity. */
export function roundToHalf(x: number): number {
  const magnitude = Math.abs(x);
  if (!(magnitude < OVERFLOW)) return Number.isNaN(x) ? NaN : Math.sign(x) * Infinity;
  // Above 2^52 steps an f64 has no room for parts of a step: the addition rounds, to even.
  const far = 2 ** 52 * stepNear(magnitude);
  const rounded = magnitude + far - far;
  return x < 0 || Object.is(x, -0) ? -rounded : rounded;
}

/** The 16 bits of the half next to x: sign, 5 of exponent, 10 of fraction. NaN is 0x7e00. */
export function halfBits(x: number): number {
  const rounded = roundToHalf(x);
  if (Number.isNaN(rounded)) return 0x7e00;
  const sign = rounded < 0 || Object.is(rounded, -0) ? 0x8000 : 0;
  const magnitude = Math.abs(rounded);
  if (magnitude === Infinity) return sign | 0x7c00;
  const step = stepNear(magnitude);
  const exponent = Math.log2(step / SUBNORMAL_STEP); // a power of two: exact
  // A whole number of steps; from 1,024 on its top bit is counted by the exponent.
  return sign | (exponent * 1024 + magnitude / step);
}

/** The number that 16 bits stand for. */
export function halfToFloat(half: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >> 10) & 0x1f;
  const fraction = half & 0x3ff;
  if (exponent === 0) return sign * fraction * SUBNORMAL_STEP;
  if (exponent === 0x1f) return fraction === 0 ? sign * Infinity : NaN;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}
