/** exp, log, tanh, sin and cos of four f32 lanes, as instructions put into a kernel. */

import { type FunctionBuilder, f32x4, i32x4, type Value, v128 } from "./assembler.ts";

type Vector = Value<"v128">;

// Errors below are measured against Math.* by tests/math.test.ts. Polynomials are minimax fits of
// this file's own (weighted, to the relative error of the result, coefficients rounded to f32).

/** x + 1.5·2²³ holds the nearest integer of x in its low bits, for |x| < 2²²: faster than `nearest`. */
const ROUND = 12582912;
const LN2_HIGH = 0.693359375; // 9 bits, so that n·LN2_HIGH is exact
const LN2_LOW = -2.1219444005469057e-4;

/** c[0] + c[1] x + c[2] x² + …, by Horner's rule; x must be a local. */
function polynomial(x: Vector, coefficients: readonly number[]): Vector {
  const [first, ...rest] = [...coefficients].reverse() as [number, ...number[]];
  return rest.reduce<Vector>(
    (sum, c) => f32x4.add(f32x4.mul(sum, x), f32x4.const(c)),
    f32x4.const(first),
  );
}

/** ROUND for exponents: the low bits become n + 127, as the exponent field of a float holds n. */
const ROUND_BIASED = ROUND + 127;

/** (e^r - 1 - r) / r² for |r| < 0.35. */
const EXP = [
  0.49999994, 0.16666519641876, 0.04166839271784, 8.36878083646e-3, 1.38144672382e-3,
] as const;

/** e^x = 2ⁿ(1 + m) with |m| < 0.42: gives m, and `bits`, whose lowest bits are those of n + 127. */
function reduceExp(f: FunctionBuilder, x: Vector): { m: Vector; bits: Vector } {
  const bits = f.local("v128", f32x4.add(f32x4.mul(x, Math.LOG2E), ROUND_BIASED), "bits");
  const n = f.local("v128", f32x4.sub(bits, ROUND_BIASED), "n");
  const near = f32x4.sub(x, f32x4.mul(n, LN2_HIGH));
  const r = f.local("v128", f32x4.sub(near, f32x4.mul(n, LN2_LOW)), "r");
  // Estrin's order: 5 steps of latency fewer than Horner's, by which exponentials are bound.
  const r2 = f.local("v128", f32x4.mul(r, r), "r2");
  const low = f32x4.add(f32x4.mul(r, EXP[1]), EXP[0]);
  const middle = f32x4.add(f32x4.mul(r, EXP[3]), EXP[2]);
  const high = f32x4.add(f32x4.mul(r2, EXP[4]), middle);
  const tail = f32x4.add(f32x4.mul(r2, high), low);
  return { m: f32x4.add(r, f32x4.mul(r2, tail)), bits };
}

/** 2ⁿ for -127 < n < 128, and 0 for n = -127. */
const powerOfTwo = (bits: Vector): Vector => i32x4.shl(bits, 23);

/**
 * e^x; relative error at most 8e-8, for subnormal results half a unit in the last place more.
 * e^0 = 1 exactly, 0 below -104, +∞ above 88.73, NaN for NaN.
 */
export function exp4(f: FunctionBuilder, value: Vector): Vector {
  const x = f.local("v128", f32x4.pmin(f32x4.pmax(value, -105), 89), "x");
  const { m, bits } = reduceExp(f, x);
  // Two factors, since neither 2^128 nor 2^-150 is a normal number; the first one never rounds.
  const half = f.local("v128", i32x4.shl(i32x4.shrS(bits, 1), 23), "half");
  const other = i32x4.add(i32x4.sub(i32x4.shl(bits, 23), half), 63 << 23);
  return f32x4.mul(f32x4.mul(f32x4.add(m, 1), i32x4.add(half, 64 << 23)), other);
}

/** exp4 for x <= 0, in fewer instructions: 0 below -87.69. */
export function expNonPositive4(f: FunctionBuilder, value: Vector): Vector {
  const x = f.local("v128", f32x4.pmax(value, -88), "x");
  const { m, bits } = reduceExp(f, x);
  return f32x4.mul(f32x4.add(m, 1), powerOfTwo(bits));
}

/**
 * 1/(1 + e^-x); relative error at most 1.6e-7 for x >= -87, below that an absolute one of 1e-38.
 * ½ exactly at 0, 1 from 17 on, 0 below -88.4, NaN for NaN.
 */
export function sigmoid4(f: FunctionBuilder, value: Vector): Vector {
  // One factor 2ⁿ is enough: it is infinite for n = 128, and then the result is 0.
  const x = f.local("v128", f32x4.pmin(f32x4.pmax(f32x4.neg(value), -88), 89), "x");
  const { m, bits } = reduceExp(f, x);
  const e = f32x4.mul(f32x4.add(m, 1), powerOfTwo(bits));
  return f32x4.div(f32x4.const(1), f32x4.add(e, 1));
}

/**
 * ln x; error at most 9e-8 relative to the result, also near x = 1. Subnormal numbers are read
 * as they are; -∞ for 0, NaN for negative numbers and NaN, +∞ for +∞.
 */
export function log4(f: FunctionBuilder, value: Vector): Vector {
  const x = f.local("v128", value, "x");
  const tiny = f.local("v128", f32x4.lt(x, 2 ** -126), "tiny");
  const normal = f.local("v128", v128.bitselect(f32x4.mul(x, 2 ** 25), x, tiny), "normal");
  // x = 2^e (1 + d) with 1 + d in [√½, √2): so that e = 0 around x = 1.
  const steps = f.local("v128", i32x4.sub(normal, 0x3f3504f3), "steps");
  const exponent = i32x4.sub(i32x4.shrS(steps, 23), v128.and(tiny, 25));
  const e = f.local("v128", f32x4.convertI32S(exponent), "e");
  const mantissa = i32x4.sub(normal, v128.and(steps, 0xff800000 | 0));
  const d = f.local("v128", f32x4.sub(mantissa, 1), "d");
  // ln(1 + d) = d - (d²/2 - s(d²/2 + R(s²))) with s = d / (2 + d).
  const s = f.local("v128", f32x4.div(d, f32x4.add(d, 2)), "s");
  const z = f.local("v128", f32x4.mul(s, s), "z");
  const half = f.local("v128", f32x4.mul(f32x4.mul(d, d), 0.5), "half");
  const series = polynomial(
    z,
    [0.66666655404663, 0.40009817481041, 0.28265282511711, 0.26274037361145],
  );
  const inner = f32x4.mul(s, f32x4.add(half, f32x4.mul(z, series)));
  const low = f32x4.sub(half, f32x4.add(inner, f32x4.mul(e, LN2_LOW)));
  const finite = f32x4.add(f32x4.mul(e, LN2_HIGH), f32x4.sub(d, low));
  const atMost0 = v128.bitselect(f32x4.const(-Infinity), f32x4.const(NaN), f32x4.eq(x, 0));
  const special = v128.bitselect(atMost0, x, f32x4.le(x, 0));
  const usual = v128.and(f32x4.gt(x, 0), f32x4.lt(x, Infinity));
  return v128.bitselect(finite, special, usual);
}

/** tanh x; relative error at most 1.7e-7, also near 0. ±1 for ±∞, NaN for NaN; odd, bit for bit. */
export function tanh4(f: FunctionBuilder, value: Vector): Vector {
  const x = f.local("v128", value, "x");
  // tanh|x| = -t / (2 + t) with t = e^(-2|x|) - 1, which loses nothing near 0.
  const y = f.local("v128", f32x4.pmax(f32x4.mul(f32x4.abs(x), -2), -40), "y");
  const { m, bits } = reduceExp(f, y);
  const scale = f.local("v128", powerOfTwo(bits), "scale");
  const t = f.local("v128", f32x4.add(f32x4.mul(m, scale), f32x4.sub(scale, 1)), "t");
  const size = f32x4.abs(f32x4.div(t, f32x4.add(t, 2)));
  return v128.or(size, v128.and(x, 0x80000000 | 0));
}

/** π/2 in three parts: 9, 11 and 24 bits, so that the products with n < 2^13 are exact. */
const HALF_PI = [1.5703125, 4.837512969970703e-4, 7.549790126404332e-8] as const;

/** sin x for n = 0, cos x for n = 1 quarter turns ahead. */
function sine(f: FunctionBuilder, value: Vector, quarterTurns: 0 | 1): Vector {
  const x = f.local("v128", value, "x");
  const bits = f.local("v128", f32x4.add(f32x4.mul(x, 2 / Math.PI), ROUND), "bits");
  const n = f.local("v128", f32x4.sub(bits, ROUND), "n");
  const subtract = (r: Vector, part: number) => f32x4.sub(r, f32x4.mul(n, part));
  const r = f.local("v128", HALF_PI.reduce<Vector>(subtract, x), "r"); // within ±π/4
  const z = f.local("v128", f32x4.mul(r, r), "z");
  const sinTail = polynomial(z, [-0.16666650772095, 8.3319628611e-3, -1.9493575382e-4]);
  const sin = f32x4.add(r, f32x4.mul(f32x4.mul(r, z), sinTail));
  const cosTail = polynomial(z, [0.04166664555669, -1.3887349050492e-3, 2.44362836e-5]);
  const cosHead = f32x4.sub(f32x4.const(1), f32x4.mul(z, 0.5));
  const cos = f32x4.add(cosHead, f32x4.mul(f32x4.mul(z, z), cosTail));
  const quadrant = f.local("v128", quarterTurns === 0 ? bits : i32x4.add(bits, 1), "quadrant");
  const odd = i32x4.shrS(i32x4.shl(quadrant, 31), 31);
  const sign = i32x4.shl(v128.and(quadrant, 2), 30);
  return v128.xor(v128.bitselect(cos, sin, odd), sign);
}

/**
 * sin x; absolute error at most 1e-7 for |x| <= 1e4 and 1e-6 for |x| <= 1e5; of no use from
 * there on. NaN for NaN and ±∞.
 */
export const sin4 = (f: FunctionBuilder, x: Vector): Vector => sine(f, x, 0);

/** cos x, with the errors of sin4. */
export const cos4 = (f: FunctionBuilder, x: Vector): Vector => sine(f, x, 1);
