/** f16 in memory: the rounding to it, two bytes an element, what reads it, and a model stored so. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { sequenceBatch } from "../model/batch.ts";
import type { ModelConfig } from "../model/config.ts";
import {
  disposeParameters,
  gradientsOf,
  initialParameters,
  requireGradients,
} from "../model/parameters.ts";
import { ropeTables } from "../model/rope.ts";
import { sample } from "../model/sample.ts";
import { batchLogProbs, sequenceLogProbs } from "../model/score.ts";
import { WasmDevice } from "../tensor/device/wasm/device.ts";
import { halfBits, halfToFloat, roundToHalf } from "../tensor/half.ts";
import {
  type Device,
  gradients,
  ops,
  reference,
  scope,
  type Tensor,
  tensor,
  useDevice,
} from "../tensor/mod.ts";
import type { Definition } from "../tensor/op.ts";
import { everyHalf, firstDifference, roundings } from "./support/halves.ts";
import { tinyConfig } from "./tiny_model.ts";

const wasm = new WasmDevice({ threads: 2 });
const devices: readonly Device[] = [reference, wasm];

test("each of 65,536 patterns is the half next to its own value", () => {
  for (const [bits, x] of everyHalf().entries()) {
    assert.equal(halfBits(x), Number.isNaN(x) ? 0x7e00 : bits);
    assert.ok(Object.is(roundToHalf(x), x), `${x}`);
  }
});

test("between two halves the nearer one is taken, in the middle the even one", () => {
  const { from, to } = roundings();
  from.forEach((x, i) => {
    assert.equal(roundToHalf(x), to[i]);
    assert.equal(halfToFloat(halfBits(x)), to[i]);
  });
  // Numbers that f32 would round first, to the middle: 1 + 2^-11 + 2^-40 lies above it.
  assert.equal(roundToHalf(1 + 2 ** -11 + 2 ** -40), 1 + 2 ** -10);
  assert.equal(roundToHalf(1 + 2 ** -11 - 2 ** -40), 1);
});

for (const device of devices) {
  test(`casts: every half and every rounding (${device.name})`, () => {
    scope(() => {
      const halves = everyHalf();
      const made = tensor(halves, [65_536], { device, dtype: "f16" });
      assert.equal(firstDifference(made.dataSync(), halves), -1);
      assert.equal(firstDifference(made.toF32().dataSync(), halves), -1);
      assert.equal(
        firstDifference(tensor(halves, undefined, { device }).toF16().dataSync(), halves),
        -1,
      );
      const { from, to } = roundings();
      const cast = tensor(from, [from.length], { device }).toF16();
      const at = firstDifference(cast.dataSync(), to);
      assert.equal(at, -1, `${from[at]} became ${cast.dataSync()[at]}, expected ${to[at]}`);
      assert.ok(Object.is(tensor([-0], [1], { device }).toF16().toF32().item(), -0));
    });
  });

  test(`views of any offset and size, read and cast (${device.name})`, () => {
    for (const size of [0, 1, 2, 3, 7, 8, 9, 17]) {
      for (const from of [0, 1, 2, 3, 5]) {
        scope(() => {
          const values = Float32Array.from({ length: from + size + 2 }, (_, i) => i - 3.5);
          const whole = tensor(values, undefined, { device, dtype: "f16" });
          const cut = whole.slice([[from, from + size]]);
          const expected = values.subarray(from, from + size);
          for (const t of [cut, cut.contiguous(), cut.toF32(), cut.toF32().toF16()]) {
            assert.deepEqual([...t.dataSync()], [...expected]);
          }
        });
      }
    }
  });

  test(`gradients pass a cast, and are f32 (${device.name})`, () => {
    scope(() => {
      const x = tensor([0.1, 2.5, 1e-9], [1, 3], { device }).requireGrad();
      const w = tensor([1, 2, 3], [3, 1], { device }).requireGrad();
      const half = x.toF16();
      assert.equal(half.dtype, "f16");
      const y = half.matmul(w.toF16()).sum();
      assert.equal(y.dtype, "f32");
      const [dx, dw] = gradients(y, [x, w]);
      assert.deepEqual([dx!.dtype, dw!.dtype], ["f32", "f32"]);
      assert.deepEqual([...dx!.dataSync()], [1, 2, 3]);
      assert.deepEqual([...dw!.dataSync()], [roundToHalf(Math.fround(0.1)), 2.5, 0]);
      assert.throws(() => half.detach().requireGrad(), /dtype is f16, only f32 has gradients/);
    });
  });

  test(`an op that does not read f16 says so, and what to do (${device.name})`, () => {
    scope(() => {
      const half = tensor([1, 2], [1, 2], { device, dtype: "f16" });
      for (const op of [half.exp, half.softmax, half.sum, half.toI32] as (() => unknown)[]) {
        assert.throws(
          () => op.call(half),
          /\w+: input 0 is f16, expected .*use toF32\(\) before it/,
        );
      }
      assert.throws(() => half.add(1), /add: input 0 is f16/);
      assert.throws(() => half.toF16(), /toF16: input 0 is f16/);
    });
  });
}

test("two bytes an element are saved", () => {
  const before = wasm.liveBytes;
  const half = tensor(new Float32Array(1001), [1001], { device: wasm }).toF16();
  const made = scope(() => half.contiguous());
  assert.equal(wasm.liveBytes - before, 4 * 1001 + 2 * 1001 + 2 * 1001);
  for (const t of [half, made]) t.dispose();
});

test("rows that read f16 are those that say so", () => {
  const rows = Object.values(ops).map((op) => (op as { definition: Definition }).definition);
  const reading = rows.filter(({ types }) => types?.inputs.includes("real"));
  assert.ok(reading.length >= 6, `${reading.map(({ name }) => name)}`);
  for (const { name, types } of reading) {
    const real = types!.inputs.filter((type) => type === "real");
    assert.ok(!types!.outputs.includes("f16") && real.length > 0, `${name} gives f32`);
  }
});

/** A device, its model with f32 weights, and a batch. */
const batch = sequenceBatch(
  Array.from({ length: 4 }, (_, row) =>
    Array.from({ length: 9 + row }, (_, i) => (row * 7 + i * i) % 50),
  ),
);

async function withModel<T>(
  device: Device,
  changes: Parameters<typeof tinyConfig>[0],
  body: (parameters: Map<string, Tensor>, config: ModelConfig) => T | Promise<T>,
): Promise<T> {
  const before = useDevice(device);
  const own = { initializer_range: 0.3, vocab_size: 50, hidden_size: 32, ...changes };
  const config = tinyConfig(own);
  const parameters = initialParameters(config, { seed: 7 });
  try {
    return await body(parameters, config);
  } finally {
    disposeParameters(parameters);
    useDevice(before);
  }
}

const halfDevice = new WasmDevice({ threads: 2, storage: "f16" });

/** Log-probabilities and all gradients of one step. */
const step = (device: WasmDevice) =>
  withModel(device, {}, (parameters, config) => {
    requireGradients(parameters);
    return scope(() => {
      const found = batchLogProbs(parameters, config, batch);
      const slopes = gradientsOf(found.sum(), parameters);
      const all = new Map([...slopes].map(([name, t]) => [name, t.dataSync()]));
      return { logProbs: found.dataSync(), all };
    });
  });

test("a model stored in f16: log-probabilities and gradients are near those of f32", async () => {
  const [plain, half, again] = [await step(wasm), await step(halfDevice), await step(halfDevice)];
  assert.deepEqual(half.logProbs, again.logProbs, "two runs differ");
  let different = 0;
  plain.logProbs.forEach((x, i) => {
    assert.ok(Math.abs(half.logProbs[i]! - x) < 0.02, `${half.logProbs[i]} and ${x}`);
    if (half.logProbs[i] !== x) different++;
  });
  assert.ok(different > 10, "nothing was rounded");
  for (const [name, truth] of plain.all) {
    const mine = half.all.get(name)!;
    assert.deepEqual(mine, again.all.get(name), `two runs differ in ${name}`);
    const norm = Math.hypot(...truth);
    const error = Math.hypot(...Array.from(truth, (x, i) => mine[i]! - x));
    assert.ok(error < 0.01 * norm, `${name}: ${error} of ${norm}`);
  }
});

/** Bytes that backward finds kept after a forward pass over `rows` sequences of 33 tokens. */
const keptBytes = (device: WasmDevice, rows: number, config: Parameters<typeof tinyConfig>[0]) =>
  withModel(device, config, (parameters, own) => {
    requireGradients(parameters);
    const sequences = Array.from({ length: rows }, () => Array.from({ length: 33 }, () => 1));
    return scope(() => {
      ropeTables(own, device); // kept for good
      const before = device.liveBytes;
      const found = batchLogProbs(parameters, own, sequenceBatch(sequences));
      found.sum();
      return device.liveBytes - before;
    });
  });

// A change of these numbers is a change of memory: say in the same commit why they moved.
test("what a training step keeps for backward, in bytes: for a token, and for the weights", async () => {
  const wide = { hidden_size: 64, intermediate_size: 176, num_attention_heads: 4 };
  const found: Record<string, { token: number; weights: number }> = {};
  for (const layers of [2, 3]) {
    const config = { ...wide, num_hidden_layers: layers };
    for (const device of [wasm, halfDevice]) {
      const [few, many] = [await keptBytes(device, 8, config), await keptBytes(device, 16, config)];
      const token = (many - few) / (8 * 32);
      found[`${layers} layers, ${device.storage}`] = { token, weights: few - 8 * 32 * token };
    }
  }
  // 132 bytes: positions, and the loss. Copies of weights in f16 live for the pass.
  assert.deepEqual(found, {
    "2 layers, f32": { token: 8532, weights: 132 },
    "2 layers, f16": { token: 5524, weights: 190_852 },
    "3 layers, f32": { token: 12_436, weights: 132 },
    "3 layers, f16": { token: 7988, weights: 283_012 },
  });
});

test("answers drawn in f16 have the log-probabilities of the loss", async () => {
  await withModel(halfDevice, {}, async (parameters, config) => {
    const prompts = [
      [1, 2, 3],
      [4, 5, 6],
    ];
    const options = { maxNewTokens: 6, samplesPerPrompt: 3, temperature: 0.8 };
    const drawn = await sample(parameters, config, prompts, options);
    const repeated = prompts.flatMap((prompt) => [prompt, prompt, prompt]);
    const scored = await sequenceLogProbs(parameters, config, repeated, drawn.tokens, options);
    assert.deepEqual(scored, drawn.logProbs);
  });
});
