/** Fused attention at model sizes: against its composed form, other threads, other batches. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { WasmDevice } from "../tensor/device/wasm/device.ts";
import {
  type Device,
  noGrad,
  ops,
  randomStream,
  reference,
  type Tensor,
  tensor,
} from "../tensor/mod.ts";

interface Sizes {
  readonly b: number;
  readonly h: number;
  readonly g: number;
  readonly t: number;
  readonly s: number;
  readonly d: number;
}

const options = { scale: 0.3 };
const device = new WasmDevice({ threads: 1 });
const twoThreads = new WasmDevice({ threads: 2 });

/** g, q, k, v as views of packed [b t h d] projections, and positions that start at `past`. */
function operands({ b, h, g, t, s, d }: Sizes, on: Device, past = s - t) {
  const stream = randomStream({ seed: 7, purpose: "attention" });
  const heads = (time: number, count: number) => {
    const values = Float32Array.from({ length: b * time * count * d }, () => {
      return stream.uniform() * 4 - 2;
    });
    return tensor(values, [b, time, count, d], { device: on }).transpose([0, 2, 1, 3]);
  };
  const position = Int32Array.from({ length: b * t }, (_, i) => past + (i % t));
  const positions = tensor(position, [b, t], { device: on, dtype: "i32" });
  return { c: heads(t, h), q: heads(t, h), k: heads(s, g), v: heads(s, g), positions };
}

function run(sizes: Sizes, on: Device, past?: number): Tensor[] {
  const { c, q, k, v, positions } = operands(sizes, on, past);
  return noGrad(() => [
    ops.attention(q, k, v, positions, options),
    ...ops.attentionVjp(c, q, k, v, positions, options),
  ]);
}

const cases: readonly [name: string, sizes: Sizes, past?: number][] = [
  ["several blocks of queries", { b: 2, h: 2, g: 2, t: 70, s: 70, d: 32 }],
  ["three heads a group", { b: 2, h: 6, g: 2, t: 33, s: 37, d: 16 }],
  ["odd width", { b: 1, h: 4, g: 1, t: 19, s: 23, d: 10 }],
  ["decoding one token", { b: 5, h: 8, g: 2, t: 1, s: 129, d: 64 }],
  ["a cache longer than what is seen", { b: 3, h: 3, g: 3, t: 2, s: 50, d: 8 }, 20],
  ["positions before the first key", { b: 1, h: 2, g: 1, t: 9, s: 12, d: 4 }, -4],
  ["positions behind the last key", { b: 1, h: 2, g: 1, t: 9, s: 12, d: 4 }, 8],
];
for (const [name, sizes, past] of cases) {
  test(`equals the composed form: ${name}`, () => {
    const expected = run(sizes, reference, past);
    run(sizes, device, past).forEach((actual, i) => {
      const truth = Array.from(expected[i]!.dataSync());
      const scale = truth.reduce((most, x) => Math.max(most, Math.abs(x)), 1);
      actual.dataSync().forEach((x, at) => {
        const error = Math.abs(x - truth[at]!);
        assert.ok(error <= 2e-5 * scale, `result ${i}, element ${at}: ${x}, not ${truth[at]}`);
      });
    });
  });
}

test("two threads give the bits of one", () => {
  twoThreads.machine.warmUp();
  const sizes = { b: 3, h: 4, g: 2, t: 64, s: 64, d: 32 };
  const [one, two] = [run(sizes, device), run(sizes, twoThreads)];
  for (const i of one.keys()) assert.deepEqual(one[i]!.dataSync(), two[i]!.dataSync());
});

test("a token decoded by itself has the bits it has in a batch", () => {
  const sizes = { b: 2, h: 6, g: 2, t: 41, s: 41, d: 24 };
  const { q, k, v, positions } = operands(sizes, device);
  const whole = ops.attention(q, k, v, positions, options);
  for (const time of [0, 1, 6, 33, 40]) {
    const only = [time, time + 1] as const;
    const one = q.slice([null, null, only]);
    const alone = ops.attention(one, k, v, positions.slice([null, only]), options);
    assert.deepEqual(alone.dataSync(), whole.slice([null, null, only]).dataSync());
  }
});

test("keys that no query sees may hold anything", () => {
  const sizes = { b: 2, h: 4, g: 2, t: 5, s: 17, d: 12 };
  const { c, q, k, v, positions } = operands(sizes, device, 3);
  const junk = (x: Tensor) => {
    const data = x.contiguous().dataSync() as Float32Array;
    const [s, d] = [sizes.s, sizes.d];
    const spoiled = data.map((value, i) => (Math.floor(i / d) % s >= 8 ? NaN : value));
    return tensor(spoiled, x.shape, { device });
  };
  const clean = ops.attentionVjp(c, q, k, v, positions, options);
  const spoiled = ops.attentionVjp(c, q, junk(k), junk(v), positions, options);
  for (const [i, x] of clean.entries()) assert.deepEqual(spoiled[i]!.dataSync(), x.dataSync());
  const result = ops.attention(q, junk(k), junk(v), positions, options);
  assert.deepEqual(result.dataSync(), ops.attention(q, k, v, positions, options).dataSync());
});

test("too many keys for the scratch memory are refused by name", () => {
  const q = tensor(new Float32Array(4), [1, 1, 1, 4], { device });
  const k = tensor([0, 0, 0, 0], [1, 1, 1, 4], { device }).expand([1, 1, 300_000, 4]);
  const positions = tensor([0], [1, 1], { device, dtype: "i32" });
  assert.throws(() => ops.attention(q, k, k, positions, options), /attention: 300000 keys need/);
});
