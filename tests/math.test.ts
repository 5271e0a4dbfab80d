/** The vector functions exp, log, tanh, sin and cos against Math.*, over wide ranges. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  type FunctionBuilder,
  i32,
  type ModuleBuilder,
  type Value,
  v128,
} from "../tensor/device/wasm/assembler.ts";
import { createMachine } from "../tensor/device/wasm/machine.ts";
import {
  cos4,
  exp4,
  expNonPositive4,
  log4,
  sigmoid4,
  sin4,
  tanh4,
} from "../tensor/device/wasm/math.ts";

const functions = { exp4, expNonPositive4, log4, sigmoid4, tanh4, sin4, cos4 };

type Vector = Value<"v128">;
const emitMap =
  (name: string, apply: (f: FunctionBuilder, x: Vector) => Vector) => (m: ModuleBuilder) =>
    m.function(name, { x: "i32", end: "i32", y: "i32" }, (f, { x, end, y }) => {
      f.for(x, x, end, 16, () => {
        f.store("v128", y, apply(f, v128.load(x)));
        f.set(y, i32.add(y, 16));
      });
    });

const machine = createMachine(
  Object.entries(functions).map(([name, apply]) => emitMap(name, apply)),
  { threads: 1 },
);

function map(name: keyof typeof functions, values: ArrayLike<number>): Float32Array {
  const [x, y] = [1, 2].map(() => machine.arena.allocate(4 * values.length + 16)) as [
    number,
    number,
  ];
  machine.f32.set(values, x / 4);
  machine.call(name, x, x + 4 * values.length, y);
  const result = Float32Array.from(machine.f32.subarray(y / 4, y / 4 + values.length));
  machine.arena.free(x);
  machine.arena.free(y);
  return result;
}

const evenly = (from: number, to: number, count = 200_003) =>
  Float32Array.from({ length: count }, (_, i) => from + ((to - from) * i) / (count - 1));
/** Positive numbers over all exponents from 2^low to 2^high. */
const exponents = (low: number, high: number) => evenly(low, high).map((e) => 2 ** e);

/** The largest error(result, truth); a NaN anywhere counts as infinite. */
function worst(
  name: keyof typeof functions,
  truth: (x: number) => number,
  values: Float32Array,
  error: (y: number, truth: number) => number,
): number {
  return map(name, values).reduce((most, y, i) => {
    const e = error(y, truth(values[i]!));
    return e <= most ? most : Number.isNaN(e) ? Infinity : e;
  }, 0);
}
const relative = (y: number, t: number) => (t === y ? 0 : Math.abs((y - t) / t));
const absolute = (y: number, t: number) => Math.abs(y - t);
const below = (error: number, bound: number) => assert.ok(error <= bound, `${error} > ${bound}`);

describe("measured errors", () => {
  test("exp4: 8e-8 relative; subnormal results within one unit in the last place", () => {
    below(worst("exp4", Math.exp, evenly(-87.3, 88.72), relative), 8e-8);
    below(worst("exp4", Math.exp, evenly(-1, 1), relative), 8e-8);
    below(worst("exp4", Math.exp, evenly(-104, -87.3), absolute), 2 ** -149);
  });
  test("expNonPositive4: 8e-8 relative down to -87.3", () => {
    below(worst("expNonPositive4", Math.exp, evenly(-87.3, 0), relative), 8e-8);
  });
  test("log4: 9e-8 relative, over all exponents and around 1", () => {
    below(worst("log4", Math.log, exponents(-149, 128).slice(0, -1), relative), 9e-8);
    below(worst("log4", Math.log, evenly(0.5, 2), relative), 9e-8);
    below(worst("log4", Math.log, evenly(0.999, 1.001), relative), 9e-8);
  });
  test("sigmoid4: 1.6e-7 relative down to -87, 1e-38 absolute below", () => {
    const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
    below(worst("sigmoid4", sigmoid, evenly(-87, 40), relative), 1.6e-7);
    below(worst("sigmoid4", sigmoid, evenly(-4, 4), relative), 1.6e-7);
    below(worst("sigmoid4", sigmoid, evenly(-1000, -87), absolute), 1e-38);
  });
  test("tanh4: 1.7e-7 relative, at all sizes", () => {
    below(worst("tanh4", Math.tanh, evenly(-20, 20), relative), 1.7e-7);
    below(worst("tanh4", Math.tanh, evenly(-1, 1), relative), 1.7e-7);
    below(worst("tanh4", Math.tanh, exponents(-126, 10), relative), 1.7e-7);
  });
  test("sin4 and cos4: 1e-7 absolute up to 1e4, 1e-6 up to 1e5", () => {
    for (const [name, truth] of [["sin4", Math.sin] as const, ["cos4", Math.cos] as const]) {
      below(worst(name, truth, evenly(-10, 10), absolute), 1e-7);
      below(worst(name, truth, evenly(-1e4, 1e4), absolute), 1e-7);
      below(worst(name, truth, evenly(-1e5, 1e5), absolute), 1e-6);
    }
  });
});

describe("special values", () => {
  const inf = Infinity;
  const cases: Record<keyof typeof functions, readonly (readonly [number, number])[]> = {
    exp4: [
      [0, 1],
      [-0, 1],
      [-inf, 0],
      [-104, 0],
      [-1e30, 0],
      [inf, inf],
      [88.73, inf],
      [NaN, NaN],
    ],
    expNonPositive4: [
      [0, 1],
      [-0, 1],
      [-inf, 0],
      [-88, 0],
      [-1e30, 0],
      [NaN, NaN],
    ],
    log4: [
      [1, 0],
      [0, -inf],
      [-0, -inf],
      [-1, NaN],
      [-1e-45, NaN],
      [-inf, NaN],
      [inf, inf],
      [NaN, NaN],
    ],
    sigmoid4: [
      [0, 0.5],
      [-0, 0.5],
      [17, 1],
      [1e30, 1],
      [inf, 1],
      [-89, 0],
      [-inf, 0],
      [NaN, NaN],
    ],
    tanh4: [
      [0, 0],
      [-0, -0],
      [inf, 1],
      [-inf, -1],
      [1e30, 1],
      [1e-45, 1.401298464324817e-45],
      [NaN, NaN],
    ],
    sin4: [
      [0, 0],
      [inf, NaN],
      [-inf, NaN],
      [NaN, NaN],
    ],
    cos4: [
      [0, 1],
      [inf, NaN],
      [-inf, NaN],
      [NaN, NaN],
    ],
  };
  for (const [name, pairs] of Object.entries(cases)) {
    test(name, () => {
      const results = map(
        name as keyof typeof functions,
        pairs.flatMap(([x]) => [x, x, x, x]),
      );
      pairs.forEach(([x, expected], i) => {
        for (let lane = 0; lane < 4; lane++) {
          assert.ok(
            Object.is(results[4 * i + lane], expected),
            `${name}(${x}) = ${results[4 * i + lane]}`,
          );
        }
      });
    });
  }
});
