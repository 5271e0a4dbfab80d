/** AdamW, clipping, schedules and the pre-training loop: known numbers, exact resume, no leaks. */

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { sequenceBatch } from "../model/batch.ts";
import { loadOptimizer, saveOptimizer } from "../model/checkpoint.ts";
import { AdamW, clipFactor, globalNorm } from "../model/optimizer.ts";
import { pretrain, type StepInfo } from "../model/pretrain.ts";
import { warmupConstant, warmupCosine, warmupLinear } from "../model/schedule.ts";
import { currentDevice, reference, type Tensor, tensor, useDevice } from "../tensor/mod.ts";
import { leftBehind, onDevices, tinyModel } from "./tiny_model.ts";

const close = (actual: ArrayLike<number>, expected: readonly number[], tolerance: number): void => {
  assert.equal(actual.length, expected.length);
  expected.forEach((x, i) => {
    assert.ok(Math.abs(actual[i]! - x) <= tolerance, `entry ${i}: ${actual[i]}, expected ${x}`);
  });
};

onDevices("AdamW gives the published numbers, with decay on matrices only", (device) => {
  const weight = tensor([[0.5, -1, 2]]);
  const norm = tensor([0.5, -1, 2]);
  const tree = new Map([
    ["matrix", weight],
    ["norm", norm],
  ]);
  const optimizer = new AdamW(tree, { betas: [0.9, 0.999], eps: 1e-8, weightDecay: 0.01 });
  const tolerance = device === reference ? 1e-11 : 2e-6;
  const steps: [number[], number[]][] = [
    [
      [1, -2, 0.5],
      [0.399500001, -0.8990000005, 1.898],
    ],
    [
      [0.1, 0.3, -4],
      [0.32501943776, -0.842881195205, 1.961634663388],
    ],
    [
      [0, 1, 1],
      [0.26742954191, -0.83212021274, 1.993450095188],
    ],
  ];
  const without = [0.5, -1, 2];
  steps.forEach(([gradient, expected], i) => {
    optimizer.update(
      new Map([
        ["matrix", tensor([gradient])],
        ["norm", tensor(gradient)],
      ]),
      0.1,
    );
    close(weight.dataSync(), expected, 3e-9 + 10 * tolerance);
    if (i === 0)
      close(
        norm.dataSync(),
        without.map((w, j) => w - 0.1 * Math.sign(gradient[j]!)),
        1e-6,
      );
  });
  assert.equal(optimizer.step, 3);
});

onDevices("clipping returns the norm before it and scales by PyTorch's factor", () => {
  const gradients = [tensor([3]), tensor([[4], [12]])];
  const norm = globalNorm(gradients);
  assert.equal(norm.item(), 13);
  const factor = clipFactor(norm, 1);
  const clipped = gradients.flatMap((g) => [...g.mul(factor).dataSync()]);
  close(clipped, [0.230769213018, 0.307692284024, 0.923076852071], 1e-7);
  assert.equal(clipFactor(norm, 20).item(), 1);
  assert.equal(clipFactor(norm, Infinity).item(), 1);
});

test("schedules rise, fall, and end where they say", () => {
  const cosine = warmupCosine({ peak: 1, warmup: 4, steps: 13, floor: 0.1 });
  close([0, 1, 3, 4, 8, 12, 99].map(cosine), [0.25, 0.5, 1, 1, 0.55, 0.1, 0.1], 1e-12);
  const linear = warmupLinear({ peak: 2, warmup: 0, steps: 5 });
  close([0, 1, 2, 3, 4].map(linear), [2, 1.5, 1, 0.5, 0], 1e-12);
  close([0, 1, 2, 500].map(warmupConstant({ peak: 3, warmup: 2 })), [1.5, 3, 3, 3], 1e-12);
  assert.throws(() => warmupCosine({ peak: 1, warmup: 5, steps: 5 }), /warm-up of 5.*5 steps/);
});

/** Sentences of a language in which every word has one successor. */
const batches = (step: number) =>
  sequenceBatch(
    Array.from({ length: 4 }, (_, row) =>
      Array.from({ length: 8 }, (_, i) => ((step * 5 + row * 7 + i) * 3) % 23),
    ),
  );
const schedule = warmupConstant({ peak: 1e-2, warmup: 2 });

onDevices("pre-training lowers the loss and leaks nothing", async (device) => {
  const { config, parameters } = tinyModel({ initializer_range: 0.02 });
  await pretrain({ parameters, config, batches, schedule, steps: 1 });
  const infos: StepInfo[] = [];
  const train = async () => {
    const result = await pretrain({
      ...{ parameters, config, batches, schedule },
      steps: 25,
      optimizer: { clipNorm: 1 },
      onStep: (info) => infos.push(info),
    });
    assert.deepEqual([result.step, result.tokens, infos.length], [25, 25 * 28, 25]);
  };
  assert.equal(await leftBehind(device, train), 0);
  assert.ok(infos[0]!.loss > 2.9 && infos[24]!.loss < 2, `${infos[0]!.loss} ${infos[24]!.loss}`);
  assert.ok(infos.every((info) => info.gradientNorm > 0 && info.learningRate > 0));
});

onDevices("stopping, saving and going on gives the same bits as training straight on", async () => {
  const folder = mkdtempSync(join(tmpdir(), "training-"));
  const straight = tinyModel();
  const parted = tinyModel();
  const run = { batches, schedule, config: straight.config };
  const bits = (tree: Map<string, Tensor>) => [...tree.values()].map((t) => t.dataSync());
  await pretrain({ ...run, parameters: straight.parameters, steps: 6 });
  const first = new AdamW(parted.parameters);
  const stop = new AbortController();
  const cut = await pretrain({
    ...{ ...run, parameters: parted.parameters, steps: 6, optimizer: first, signal: stop.signal },
    onStep: ({ step }) => (step === 2 ? stop.abort() : undefined),
  });
  assert.equal(cut.step, 3);
  await saveOptimizer(join(folder, "optimizer.safetensors"), first);
  const second = new AdamW(parted.parameters);
  loadOptimizer(join(folder, "optimizer.safetensors"), second);
  const infos: StepInfo[] = [];
  await pretrain({
    ...{ ...run, parameters: parted.parameters, steps: 6, optimizer: second },
    onStep: (info) => infos.push(info),
  });
  assert.deepEqual(
    infos.map(({ step }) => step),
    [3, 4, 5],
  );
  assert.deepEqual(bits(parted.parameters), bits(straight.parameters));
  rmSync(folder, { recursive: true });
});

test("timers run while training works, and trouble is named", async () => {
  const before = useDevice(reference);
  const { config, parameters } = tinyModel();
  let ticks = 0;
  const timer = setInterval(() => ticks++, 5);
  await pretrain({ parameters, config, batches, schedule, steps: 12 });
  clearInterval(timer);
  assert.ok(ticks > 0, "no timer ran during training");
  const empty = () => ({ ...batches(0), targets: new Int32Array(28).fill(-1) });
  const run = { parameters, config, schedule, steps: 1 };
  await assert.rejects(pretrain({ ...run, batches: empty }), /batch of step 0 has no target/);
  const huge = { ...run, batches, schedule: () => 1e200, steps: 5 };
  await assert.rejects(pretrain(huge), /loss of step \d is (NaN|Infinity) at learning rate/);
  useDevice(before);
  assert.ok(currentDevice());
});
