/** What calls cost, exactly: dispatches and bytes of memory, whatever the machine's speed. */

import assert from "node:assert/strict";
import { sequenceBatch } from "../../model/batch.ts";
import { initialParameters } from "../../model/parameters.ts";
import { pretrain } from "../../model/pretrain.ts";
import type { WebGpuDevice } from "../../tensor/device/webgpu/device.ts";
import { gradients, noGrad, scope, type Tensor, useDevice, zeros } from "../../tensor/mod.ts";
import { tinyConfig } from "../tiny_model.ts";
import { gpuTest } from "./gpu.ts";

/** Dispatches of a call, its second: by then every program and buffer is there. */
function dispatchesOf(device: WebGpuDevice, call: () => unknown): number {
  scope(() => {
    call();
  });
  const before = device.counts.dispatched;
  scope(() => {
    call();
  });
  return device.counts.dispatched - before;
}

gpuTest("attention is one dispatch forward; five and a row sum backward", async (device) => {
  const [q, k, v] = [0, 1, 2].map(() => zeros([2, 4, 70, 16], { device })) as [
    Tensor,
    Tensor,
    Tensor,
  ];
  const positions = zeros([2, 70], { device, dtype: "i32" });
  const run = () => q.attention(k, v, positions, { scale: 1 });
  assert.equal(
    dispatchesOf(device, () => noGrad(run)),
    1,
  );
  const g = zeros([2, 4, 70, 16], { device });
  const backward = () => g.attentionVjp(q, k, v, positions, { scale: 1 });
  assert.equal(
    dispatchesOf(device, () => noGrad(backward)),
    5,
  );
  for (const t of [q, k, v, g, positions]) t.dispose();
});

gpuTest("attention makes no matrix of scores", async (device) => {
  const t = 600;
  const [q, k, v] = [0, 1, 2].map(() => zeros([1, 1, t, 4], { device })) as [
    Tensor,
    Tensor,
    Tensor,
  ];
  const positions = zeros([1, t], { device, dtype: "i32" });
  const before = device.counts.pooledBytes;
  scope(() => {
    const inputs = [q, k, v].map((x) => x.requireGrad());
    return gradients(q.attention(k, v, positions, { scale: 1 }).sum(), inputs);
  }).forEach((x) => {
    x.dispose();
  });
  const made = device.counts.pooledBytes - before;
  assert.ok(made < 4 * t * t, `${made} bytes, the scores alone would have ${4 * t * t}`);
  for (const x of [q, k, v, positions]) x.dispose();
});

gpuTest("logits that aren't kept are a chunk's; those kept are one array", async (device) => {
  const [n, d, v] = [64, 4, 512];
  const [x, weight] = [zeros([n, d], { device }), zeros([v, d], { device })];
  const targets = zeros([n], { device, dtype: "i32" });
  const run = (keepLogits: boolean, chunk?: number) => () =>
    noGrad(() =>
      x.linearLogProb(weight, targets, {
        ...{ temperature: 0.7, keepLogits },
        ...(chunk !== undefined && { chunk }),
      }),
    );
  assert.equal(dispatchesOf(device, run(true)), 2);
  assert.equal(dispatchesOf(device, run(false)), 2);
  assert.equal(dispatchesOf(device, run(false, 16)), 8);
  for (const t of [x, weight, targets]) t.dispose();
});

gpuTest("a training step's dispatches", async (device) => {
  const before = useDevice(device);
  try {
    const config = tinyConfig();
    const parameters = initialParameters(config, { seed: 7 });
    const batch = sequenceBatch([
      [1, 2, 3, 4, 5],
      [6, 7, 8],
    ]);
    const counts: number[] = [];
    await pretrain({
      ...{ parameters, config, batches: () => batch, schedule: () => 1e-3, steps: 3 },
      optimizer: { clipNorm: 1 },
      onStep: () => counts.push(device.counts.dispatched),
    });
    assert.equal(counts[2]! - counts[1]!, 192);
    for (const t of parameters.values()) t.dispose();
  } finally {
    useDevice(before);
  }
});
