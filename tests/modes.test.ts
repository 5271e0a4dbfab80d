/** Modes of the wasm device: equal bits whatever the tile; deterministic and wide arithmetic. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { describe, test } from "node:test";
import fc from "fast-check";
import { sequenceBatch } from "../model/batch.ts";
import { AdamW } from "../model/optimizer.ts";
import { disposeParameters, initialParameters } from "../model/parameters.ts";
import { pretrain } from "../model/pretrain.ts";
import { sample } from "../model/sample.ts";
import { warmupConstant } from "../model/schedule.ts";
import { emitMatmul } from "../tensor/device/wasm/blocks.ts";
import { WasmDevice } from "../tensor/device/wasm/device.ts";
import { gemm } from "../tensor/device/wasm/gemm.ts";
import { createMachine } from "../tensor/device/wasm/machine.ts";
import { candidates, hasFusedMultiplyAdd } from "../tensor/device/wasm/profile.ts";
import { type Device, randomStream, type Tensor, useDevice } from "../tensor/mod.ts";
import { tinyConfig } from "./tiny_model.ts";

const { bun, deno, node } = process.versions;
const runtime = bun ? "Bun" : deno ? "Deno" : "Node";

test("every candidate tile gives the same bits, for all sizes and transposes", () => {
  for (const fma of [true, false]) {
    if (fma && !hasFusedMultiplyAdd()) continue;
    const machines = candidates
      .filter((profile) => profile.fma === fma)
      .map((profile) => createMachine([(m) => emitMatmul(m, profile)], { threads: 1 }));
    const size = fc.oneof(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 10, max: 150 }));
    const sizes = { m: size, k: size, n: size, aT: fc.boolean(), bT: fc.boolean() };
    fc.assert(
      fc.property(fc.record(sizes), ({ m, k, n, aT, bT }) => {
        const stream = randomStream({ seed: 1, purpose: "tiles", step: m * k * n });
        const values = Float32Array.from({ length: m * k + k * n }, () => stream.uniform() - 0.5);
        const results = machines.map((machine) => {
          const at = machine.arena.allocate(4 * (values.length + m * n + 64));
          const [a, b, c] = [at, at + 4 * m * k, at + 4 * values.length];
          machine.f32.set(values, a / 4);
          const strides = {
            ...{ aRow: aT ? 1 : k, aCol: aT ? m : 1 },
            ...{ bRow: bT ? 1 : n, bCol: bT ? k : 1 },
          };
          gemm(machine, { m, k, n, a, b, c, ldc: n, ...strides });
          const result = machine.u32.slice(c / 4, c / 4 + m * n);
          machine.arena.free(at);
          return result;
        });
        for (const result of results) assert.deepEqual(result, results[0]);
      }),
      { seed: 3, numRuns: 40 },
    );
  }
});

/** Weights after some training and what the model then says: all kernels have had their part. */
async function trained(device: Device, steps: number): Promise<string> {
  const previous = useDevice(device);
  try {
    const config = tinyConfig({ hidden_size: 32, intermediate_size: 56 });
    const parameters = initialParameters(config, { seed: 5 });
    using optimizer = new AdamW(parameters, { clipNorm: 1, weightDecay: 0.01 });
    const word = (step: number, row: number, i: number) => (step * 5 + row * 7 + i * 3) % 23;
    const rows = (step: number) =>
      Array.from({ length: 4 }, (_, row) =>
        Array.from({ length: 17 }, (_, i) => word(step, row, i)),
      );
    const schedule = warmupConstant({ peak: 1e-2, warmup: 5 });
    const batches = (step: number) => sequenceBatch(rows(step));
    await pretrain({ parameters, config, batches, schedule, optimizer, steps });
    const told = await sample(parameters, config, rows(0), {
      ...{ maxNewTokens: 12, samplesPerPrompt: 2, temperature: 1, seed: 9 },
    });
    const hash = createHash("sha256").update(JSON.stringify(told));
    for (const [name, t] of parameters) hash.update(name).update(bytesOf(t));
    disposeParameters(parameters);
    return hash.digest("hex").slice(0, 16);
  } finally {
    useDevice(previous);
  }
}

const bytesOf = (t: Tensor): Uint8Array => new Uint8Array(t.dataSync().buffer);

describe("deterministic mode", () => {
  /** The same on every runtime, processor and thread count. Changes with the kernels' arithmetic. */
  const HASH = "c0c61d9f0663213d";

  for (const threads of [1, 2, 3]) {
    test(`training and sampling end with the pinned bits, ${threads} threads`, async () => {
      const device = new WasmDevice({ deterministic: true, threads });
      device.machine.warmUp(5000);
      assert.equal(await trained(device, 20), HASH);
    });
  }
});

describe("wide mode", () => {
  test("says why it cannot be had, or gives the bits of the plain mode", async (t) => {
    const wide = new WasmDevice({ wide: true });
    const { refused, profile } = wide.machine.choice;
    if (refused === undefined) {
      assert.equal(runtime, "Node");
      assert.ok(profile.vectors >= 4, "a wide tile");
      // Steps enough for the engine to optimise what it runs, and join vectors in it.
      const steps = 150;
      assert.equal(await trained(wide, steps), await trained(new WasmDevice(), steps));
      return;
    }
    assert.equal(await trained(wide, 3), await trained(new WasmDevice(), 3));
    const reasons = {
      Bun: /^Bun's engine has 128-bit vectors only$/,
      Deno: /^Deno's V8 is built without the joining of vectors$/,
      Node: /^Node .* is older than 24$|^this processor .*128-bit|^joined vectors are no faster here$/,
    };
    assert.match(refused, reasons[runtime]);
    if (runtime === "Node") t.diagnostic(`no wide mode on Node ${node}: ${refused}`);
  });
});
