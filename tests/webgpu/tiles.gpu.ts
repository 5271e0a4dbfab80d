/** Shapes around the tiles of products, attention and log-probabilities, against the wasm device. */

import assert from "node:assert/strict";
import * as fc from "fast-check";
import { WasmDevice } from "../../tensor/device/wasm/device.ts";
import {
  type Device,
  gradients,
  randomStream,
  scope,
  type Tensor,
  tensor,
} from "../../tensor/mod.ts";
import { SEED } from "../support/samples.ts";
import { gpuTest } from "./gpu.ts";

const wasm = new WasmDevice({ threads: 1 });
const RUNS = Number(process.env.ANAMNESIS_PROPERTY_RUNS ?? 12);
const near = (...edges: number[]) => fc.constantFrom(...edges.flatMap((n) => [n - 1, n, n + 1]));

function normal(shape: readonly number[], seed: number, device: Device): Tensor {
  const stream = randomStream({ seed, purpose: "tiles" });
  const size = shape.reduce((all, n) => all * n, 1);
  return tensor(
    Float32Array.from({ length: size }, () => stream.uniform() * 2 - 1),
    shape,
    { device },
  );
}

/** Both devices' results of `body` are within `tolerance` of each other's largest element. */
async function agree(
  device: Device,
  tolerance: number,
  body: (on: Device) => readonly Tensor[],
): Promise<void> {
  const [mine, truth] = [device, wasm].map((on) => scope(() => body(on)));
  for (const [k, t] of truth!.entries()) {
    const [found, expected] = [await mine![k]!.data(), await t.data()];
    assert.deepEqual(mine![k]!.shape, t.shape);
    const largest = Array.from(expected).reduce((most, x) => Math.max(most, Math.abs(x)), 1e-3);
    expected.forEach((x, i) => {
      const right = Math.abs(found[i]! - x) <= tolerance * largest;
      assert.ok(right, `result ${k}, element ${i} is ${found[i]}, expected ${x}`);
    });
  }
  for (const t of [...mine!, ...truth!]) t.dispose();
}

type Layout = "packed" | "transposed" | "cut";

/** [... m n] that lies in memory in one of three ways. */
function laidOut(shape: readonly number[], layout: Layout, seed: number, device: Device): Tensor {
  const lead = shape.slice(0, -2);
  const [m, n] = shape.slice(-2) as [number, number];
  if (layout === "packed") return normal(shape, seed, device);
  if (layout === "transposed") return normal([...lead, n, m], seed, device).transpose();
  const larger = normal([...lead, m + 1, n + 3], seed, device);
  return larger.slice([
    ...lead.map((size) => [0, size] as [number, number]),
    ...([
      [1, m + 1],
      [3, n + 3],
    ] as [number, number][]),
  ]);
}

const LAYOUTS = fc.constantFrom<Layout>("packed", "transposed", "cut");

gpuTest("products around tiles of 16, 64 and 128, in every layout", async (device) => {
  const size = near(16, 32, 64, 128);
  await fc.assert(
    fc.asyncProperty(
      ...([size, near(16, 33), size, LAYOUTS, LAYOUTS] as const),
      async (m, k, n, a, b) => {
        await agree(device, 1e-5, (on) => [
          laidOut([m, k], a, 1, on).matmul(laidOut([k, n], b, 2, on)),
        ]);
      },
    ),
    { seed: SEED, numRuns: 4 * RUNS },
  );
});

gpuTest("many products at once take tiles of 128, in every layout", async (device) => {
  const size = fc.constantFrom(65, 68, 130);
  await fc.assert(
    fc.asyncProperty(
      ...([size, fc.constantFrom(4, 7, 18), size, LAYOUTS, LAYOUTS] as const),
      async (m, k, n, a, b) => {
        await agree(device, 1e-5, (on) => [
          laidOut([96, m, k], a, 1, on).matmul(laidOut([k, n], b, 2, on)),
        ]);
      },
    ),
    { seed: SEED, numRuns: RUNS },
  );
});

gpuTest(
  "attention and its gradients around its tiles, heads wider than a workgroup's",
  async (device) => {
    const drawn = fc.record({
      b: fc.integer({ min: 1, max: 2 }),
      g: fc.integer({ min: 1, max: 2 }),
      per: fc.integer({ min: 1, max: 3 }),
      t: fc.constantFrom(1, 5, 16, 17, 31, 33, 64, 65),
      more: fc.constantFrom(0, 1, 31, 32, 40),
      d: fc.constantFrom(4, 16, 17, 32, 33, 64, 96, 128, 130),
      full: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(drawn, async ({ b, g, per, t, more, d, full }) => {
        const keys = t + more;
        const stream = randomStream({ seed: SEED, purpose: "positions" });
        // Either each query sees itself and what is before it, or up to a random key, or none.
        const last = Array.from({ length: b * t }, (_, i) =>
          full ? more + (i % t) : Math.floor(stream.uniform() * (keys + 1)) - 1,
        );
        await agree(device, 3e-5, (on) => {
          const q = normal([b, g * per, t, d], 1, on).requireGrad();
          const k = normal([b, g, keys, d], 2, on).requireGrad();
          const v = normal([b, g, keys, d], 3, on).requireGrad();
          const positions = tensor(last, [b, t], { dtype: "i32", device: on });
          const y = q.attention(k, v, positions, { scale: 1 / Math.sqrt(d) });
          const loss = y.mul(normal(y.shape, 4, on)).sum();
          return [y.detach(), ...gradients(loss, [q, k, v])].map((t) => t!);
        });
      }),
      { seed: SEED, numRuns: 2 * RUNS },
    );
  },
);

gpuTest("draws invert the distribution, with the log-probabilities of the loss", async (device) => {
  for (const v of [1, 5, 64, 300, 2100]) {
    const stream = randomStream({ seed: SEED, purpose: `draws ${v}` });
    const values = Float32Array.from({ length: 3 * v }, () =>
      stream.uniform() < 0.2 ? -Infinity : 8 * stream.uniform(),
    );
    for (let row = 0; row < 3; row++) values[row * v + (row % v)] = 1; // never without mass
    const [n, logits] = [40, tensor(values, [3, v], { device })];
    const rows = Int32Array.from({ length: n }, (_, i) => i % 3);
    const bits = Int32Array.from({ length: n }, () => Math.floor(2 ** 32 * stream.uniform()) | 0);
    const [classes, logProbs] = logits.drawClasses(
      tensor(rows, [n], { dtype: "i32", device }),
      tensor(bits, [n], { dtype: "i32", device }),
    );
    const found = (await classes.data()) as Int32Array;
    const expanded = tensor(
      Float32Array.from(
        { length: n * v },
        (_, i) => values[rows[Math.floor(i / v)]! * v + (i % v)]!,
      ),
      [n, v],
      { device },
    );
    const scored = expanded.gatherLogProb(classes);
    assert.deepEqual(await logProbs.data(), await scored.data(), `${v} classes`);
    for (let i = 0; i < n; i++) {
      const line = values.subarray(rows[i]! * v, (rows[i]! + 1) * v);
      const masses = Array.from(line, (x) => Math.exp(x - 8));
      const total = masses.reduce((a, b) => a + b, 0);
      const u = (bits[i]! >>> 0) / 2 ** 32;
      const below = masses.slice(0, found[i]!).reduce((a, b) => a + b, 0) / total;
      const above = below + masses[found[i]!]! / total;
      assert.ok(u >= below - 1e-6 && u <= above + 1e-6, `${u} is not in [${below}, ${above}]`);
    }
    for (const t of [logits, classes, logProbs, expanded, scored]) t.dispose();
  }
});
