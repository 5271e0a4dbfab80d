/** What the tests of laws share: random operands, and two sides that must agree on each device. */

import assert from "node:assert/strict";
import * as fc from "fast-check";
import {
  randomStream,
  reference,
  type Shape,
  scope,
  type Tensor,
  tensor,
} from "../../tensor/mod.ts";
import { onDevices } from "../tiny_model.ts";
import { RUNS, SEED } from "./samples.ts";

/** Random numbers in [-reach, reach] (default 2), and random indices below `n`. */
export interface Maker {
  real(shape: Shape, reach?: number): Tensor;
  indices(shape: Shape, n: number): Tensor;
  /** A random whole number in [0, n). */
  int(n: number): number;
  /** The positions of a random permutation of 0 … n-1. */
  order(n: number): number[];
}

/** Four sizes of axes, at least 1: around a vector, two of them, and primes. */
export interface Sizes {
  readonly a: number;
  readonly b: number;
  readonly c: number;
  readonly d: number;
}

// Shrinks towards the first.
const size = fc.constantFrom(1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33);
const drawn = fc.record({ a: size, b: size, c: size, d: size, seed: fc.nat(1e6) });

function makerOf(seed: number): Maker {
  const stream = randomStream({ seed, purpose: "laws" });
  const fill = (shape: Shape, value: () => number) =>
    Float64Array.from({ length: shape.reduce((product, n) => product * n, 1) }, value);
  return {
    real: (shape, reach = 2) => {
      // Values that f32 holds exactly, so that all devices start from the same numbers.
      const value = () => Math.fround((2 * stream.uniform() - 1) * reach);
      return tensor(fill(shape, value), shape);
    },
    indices: (shape, n) =>
      tensor(
        fill(shape, () => stream.int(n)),
        shape,
        { dtype: "i32" },
      ),
    int: (n) => stream.int(n),
    order: (n) => stream.shuffle(Array.from({ length: n }, (_, i) => i)),
  };
}

/** Relative to the largest entry: what a different order of rounding may change. */
const ROUNDING = { f64: 1e-11, f32: 2e-5 };

/** Asserts equal shapes and values, up to rounding on the device of `actual`. */
export function agree(actual: Tensor, expected: Tensor, slack = 1): void {
  assert.deepEqual(actual.shape, expected.shape);
  const [left, right] = [actual.dataSync(), expected.dataSync()];
  const limit = slack * (actual.device === reference ? ROUNDING.f64 : ROUNDING.f32);
  let scale = 1;
  for (const x of right) if (Number.isFinite(x)) scale = Math.max(scale, Math.abs(x));
  right.forEach((x, i) => {
    const y = left[i]!;
    assert.ok(Object.is(x, y) || Math.abs(y - x) <= limit * scale, `element ${i}: ${y} and ${x}`);
  });
}

/** Both sides of an equation, or several such pairs. */
type Sides = readonly (readonly [left: Tensor, right: Tensor])[];

/** One property for each device; `slack` multiplies the rounding that it allows. */
export function law(name: string, sides: (make: Maker, sizes: Sizes) => Sides, slack = 1): void {
  onDevices(name, () => {
    const property = fc.property(drawn, ({ seed, ...sizes }) => {
      scope(() => {
        for (const [left, right] of sides(makerOf(seed), sizes)) agree(left, right, slack);
      });
    });
    fc.assert(property, { seed: SEED, numRuns: RUNS });
  });
}

/** Asserts that plain numbers agree to `tolerance`. */
export function near(
  actual: ArrayLike<number>,
  expected: readonly number[],
  tolerance: number,
): void {
  assert.equal(actual.length, expected.length);
  expected.forEach((x, i) => {
    const error = Math.abs(actual[i]! - x);
    assert.ok(actual[i] === x || error <= tolerance, `entry ${i}: ${actual[i]}, expected ${x}`);
  });
}
