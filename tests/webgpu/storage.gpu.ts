/** f16 in a GPU's memory: both casts on every number, odd places and sizes, products, a model. */

import assert from "node:assert/strict";
import * as fc from "fast-check";
import { sequenceBatch } from "../../model/batch.ts";
import { gradientsOf, initialParameters, requireGradients } from "../../model/parameters.ts";
import { sample } from "../../model/sample.ts";
import { batchLogProbs, sequenceLogProbs } from "../../model/score.ts";
import { WasmDevice } from "../../tensor/device/wasm/device.ts";
import { WebGpuDevice } from "../../tensor/device/webgpu/device.ts";
import { findGpu } from "../../tensor/device/webgpu/gpu.ts";
import {
  type Device,
  randomStream,
  scope,
  type Tensor,
  tensor,
  useDevice,
} from "../../tensor/mod.ts";
import { everyHalf, firstDifference, roundings } from "../support/halves.ts";
import { SEED } from "../support/samples.ts";
import { tinyConfig } from "../tiny_model.ts";
import { gpuTest } from "./gpu.ts";

const RUNS = Number(process.env.ANAMNESIS_PROPERTY_RUNS ?? 12);

gpuTest(
  "every half is read, subnormals and infinities too; f32 is rounded to even",
  async (device) => {
    const halves = everyHalf();
    const stored = tensor(halves, [65_536], { device, dtype: "f16" });
    const { from, to } = roundings();
    const [wide, again] = [stored.toF32(), stored.toF32().toF16()];
    const rounded = tensor(from, [from.length], { device }).toF16();
    for (const t of [stored, wide, again]) {
      const found = await t.data();
      const at = firstDifference(found, halves);
      assert.equal(at, -1, `pattern ${at.toString(16)} is ${found[at]}, expected ${halves[at]}`);
    }
    const found = await rounded.data();
    const at = firstDifference(found, to);
    assert.equal(at, -1, `${from[at]} became ${found[at]}, expected ${to[at]}`);
    for (const t of [stored, wide, again, rounded]) t.dispose();
  },
);

gpuTest("views of any offset and size, read, packed and cast", async (device) => {
  for (const size of [0, 1, 2, 3, 7, 8, 9, 17]) {
    for (const from of [0, 1, 2, 3, 5]) {
      const values = Float32Array.from({ length: from + size + 2 }, (_, i) => i - 3.5);
      const before = device.liveBytes;
      const whole = tensor(values, undefined, { device, dtype: "f16" });
      assert.equal(device.liveBytes - before, 2 * values.length);
      const cut = whole.slice([[from, from + size]]);
      const all = [cut, cut.contiguous(), cut.toF32(), cut.toF32().toF16()];
      for (const t of all) {
        assert.deepEqual([...(await t.data())], [...values.subarray(from, from + size)]);
      }
      for (const t of [whole, ...all]) t.dispose();
    }
  }
});

const near = (...edges: number[]) => fc.constantFrom(...edges.flatMap((n) => [n - 1, n, n + 1]));
type Layout = "packed" | "transposed" | "cut";
const LAYOUTS = fc.constantFrom<Layout>("packed", "transposed", "cut");

/** [m n] of whole numbers in f16 or f32, which lies in memory in one of three ways. */
function laidOut(m: number, n: number, layout: Layout, half: boolean, device: Device): Tensor {
  const stream = randomStream({ seed: SEED, purpose: `${m} ${n}` });
  const make = (rows: number, columns: number) => {
    const values = Float32Array.from({ length: rows * columns }, () => stream.int(9) - 4);
    return tensor(values, [rows, columns], { device, dtype: half ? "f16" : "f32" });
  };
  if (layout === "packed") return make(m, n);
  if (layout === "transposed") return make(n, m).transpose();
  return make(m + 1, n + 3).slice([
    [1, m + 1],
    [3, n + 3],
  ]);
}

gpuTest("products around all tiles of f16 operands are exact on whole numbers", async (device) => {
  const wasm = new WasmDevice({ threads: 1 });
  const size = near(16, 32, 64, 128);
  await fc.assert(
    fc.asyncProperty(
      ...([size, near(16, 33), size, LAYOUTS, LAYOUTS, fc.boolean()] as const),
      async (m, k, n, a, b, both) => {
        const run = (on: Device, half: boolean) =>
          scope(() => laidOut(m, k, a, half && both, on).matmul(laidOut(k, n, b, half, on)));
        const [mine, truth] = [run(device, true), run(wasm, false)];
        assert.deepEqual(await mine.data(), truth.dataSync());
        for (const t of [mine, truth]) t.dispose();
      },
    ),
    { seed: SEED, numRuns: RUNS },
  );
});

const config = tinyConfig({ initializer_range: 0.3, vocab_size: 50, hidden_size: 32 });
const batch = sequenceBatch(
  Array.from({ length: 4 }, (_, row) =>
    Array.from({ length: 9 + row }, (_, i) => (row * 7 + i * i) % 50),
  ),
);

async function on<T>(device: Device, body: (weights: Map<string, Tensor>) => Promise<T>) {
  const before = useDevice(device);
  const weights = initialParameters(config, { seed: 7 });
  try {
    return await body(weights);
  } finally {
    for (const t of weights.values()) t.dispose();
    useDevice(before);
  }
}

/** Log-probabilities and gradients of one step. */
const step = (device: Device) =>
  on(device, async (weights) => {
    requireGradients(weights);
    const [logProbs, gradients] = scope(() => {
      const found = batchLogProbs(weights, config, batch);
      return [found.detach(), gradientsOf(found.sum(), weights)] as const;
    });
    const all: [string, ArrayLike<number>][] = [["logProbs", await logProbs.data()]];
    for (const [name, t] of gradients) all.push([name, await t.data()]);
    for (const t of [logProbs, ...gradients.values()]) t.dispose();
    return all;
  });

gpuTest("a model stored in f16 has the gradients of wasm's; two runs, the same bits", async () => {
  const device = new WebGpuDevice(await findGpu(), { storage: "f16" });
  assert.match(device.description, /weights and activations stored in f16/);
  const half = await step(device);
  assert.deepEqual(await step(device), half, "two runs differ");
  const wasm = await step(new WasmDevice({ threads: 1, storage: "f16" }));
  const plain = await step(new WasmDevice({ threads: 1 }));
  let rounded = 0;
  for (const [k, [name, truth]] of wasm.entries()) {
    const [, mine] = half[k]!;
    const norm = Math.hypot(...Array.from(truth));
    const error = (other: ArrayLike<number>) =>
      Math.hypot(...Array.from(truth, (x, i) => other[i]! - x));
    // A number on the edge between two halves may fall to either side.
    assert.ok(error(mine) < 2e-3 * norm, `${name}: ${error(mine)} of ${norm}`);
    assert.ok(error(plain[k]![1]) < 1e-2 * norm, `${name}: f32 and f16`);
    if (error(plain[k]![1]) > 1e-5 * norm) rounded++;
  }
  assert.ok(rounded > 5, "nothing was rounded");
  device.destroy();
});

gpuTest("answers drawn with f16 weights have the log-probabilities of the loss", async () => {
  const device = new WebGpuDevice(await findGpu(), { storage: "f16" });
  await on(device, async (weights) => {
    const prompts = [
      [1, 2, 3],
      [4, 5, 6],
    ];
    const options = { maxNewTokens: 5, samplesPerPrompt: 2, temperature: 0.8 };
    const drawn = await sample(weights, config, prompts, options);
    const repeated = prompts.flatMap((prompt) => [prompt, prompt]);
    const scored = await sequenceLogProbs(weights, config, repeated, drawn.tokens, options);
    for (const [row, own] of drawn.logProbs.entries()) {
      for (const [i, x] of own.entries()) assert.ok(Math.abs(x - scored[row]![i]!) < 2e-3);
    }
  });
  device.destroy();
});
