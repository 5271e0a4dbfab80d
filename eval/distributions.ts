/** Distribution functions that the statistics need, from the cephes library. */
import { createRequire } from "node:module";

interface Cephes {
  ndtri(p: number): number;
  erfc(x: number): number;
  bdtr(k: number, n: number, p: number): number;
  incbet(a: number, b: number, x: number): number;
  incbi(a: number, b: number, p: number): number;
}

// The package's ES module fails to start under Deno; its CommonJS form runs everywhere.
const cephes: Cephes = createRequire(import.meta.url)("cephes");

/** x with Φ(x) = p: the standard normal quantile, 0 < p < 1. */
export function normalQuantile(p: number): number {
  if (!(p > 0 && p < 1)) throw new RangeError(`normalQuantile: p is ${p}, expected in (0, 1)`);
  return cephes.ndtri(p);
}

/**
 * P(|Z| >= |z|) for a standard normal Z, accurate in the far tail; also P(X >= z²) for a
 * chi-square X with one degree of freedom. 0 from |z| = 37, where cephes reports an underflow.
 */
export function normalTwoSided(z: number): number {
  return Math.abs(z) >= 37 ? 0 : cephes.erfc(Math.abs(z) / Math.SQRT2);
}

/** P(X <= k) for X binomial with n trials of probability p. */
export function binomialAtMost(k: number, n: number, p: number): number {
  return cephes.bdtr(k, n, p);
}

/** P(T <= t) for a Student t variable T: 1 - I(ν/(ν+t²); ν/2, ½)/2 for t >= 0; ν > 0, any real. */
export function studentAtMost(t: number, freedom: number): number {
  const tail = cephes.incbet(freedom / 2, 0.5, freedom / (freedom + t * t)) / 2;
  return t < 0 ? tail : 1 - tail;
}

/** The value that a Student t variable stays below with probability p, 0 < p < 1: its inverse. */
export function studentQuantile(p: number, freedom: number): number {
  const x = cephes.incbi(freedom / 2, 0.5, 2 * Math.min(p, 1 - p));
  const t = Math.sqrt((freedom * (1 - x)) / x);
  return p < 0.5 ? -t : t;
}
