/** One task of the GPU benchmark on our device: its tensors, and the call that is timed. */

import { parseConfig } from "../../model/config.ts";
import { AdamW } from "../../model/optimizer.ts";
import { disposeParameters, initialParameters } from "../../model/parameters.ts";
import { pretrain } from "../../model/pretrain.ts";
import { sample } from "../../model/sample.ts";
import type { WebGpuDevice } from "../../tensor/device/webgpu/device.ts";
import { arange, gradients, noGrad, ones, scope, type Tensor, zeros } from "../../tensor/mod.ts";
import { randomBatch } from "../support.ts";
import type { ModelSize, Task } from "./tasks.ts";
import { secondsOf } from "./timing.ts";

/** Values without a pattern that matters, made on the GPU from two short rows. */
const some = (shape: readonly number[]): Tensor => {
  const size = shape.reduce((all, n) => all * n, 1);
  const across = size % 1000 === 0 ? 1000 : shape.at(-1)!;
  return scope(() => {
    const down = arange(size / across, { dtype: "f32" }).reshape([size / across, 1]);
    const sum = down.mul(0.3).add(arange(across, { dtype: "f32" }).mul(0.7));
    return sum.sin().reshape([...shape]);
  });
};

/** Seconds of one call. */
export async function measureTask(
  device: WebGpuDevice,
  task: Task,
  quick: boolean,
): Promise<number> {
  if (task.kind === "step") return trainingSeconds(task, quick);
  if (task.kind === "decode") return decodingSeconds(task, quick);
  const made: Tensor[] = [];
  const own = (...shape: number[]) => {
    const t = some(shape);
    made.push(t);
    return t;
  };
  const call = callOf(task, own);
  const seconds = await secondsOf(device, quick, () => scope(call));
  for (const t of made) t.dispose();
  return seconds;
}

type Kernel = Exclude<Task, { kind: "step" | "decode" }>;

function callOf(task: Kernel, own: (...shape: number[]) => Tensor): () => void {
  switch (task.kind) {
    case "gemm": {
      const [a, b] = [own(task.m, task.k), own(task.k, task.n)];
      return () => noGrad(() => a.matmul(b));
    }
    case "attention": {
      const { b, h, t, d, backward } = task;
      const [q, k, v, g] = [0, 1, 2, 3].map(() => own(b, h, t, d)) as [
        Tensor,
        Tensor,
        Tensor,
        Tensor,
      ];
      const row = arange(t, { dtype: "i32" });
      const positions = zeros([b, t], { dtype: "i32" }).add(row);
      const forward = () => q.attention(k, v, positions, { scale: d ** -0.5 });
      if (!backward) return () => noGrad(forward);
      const inputs = [q, k, v].map((x) => x.requireGrad());
      return () => gradients(forward().mul(g).sum(), inputs);
    }
    case "rmsNorm": {
      const x = own(task.rows, task.n);
      const weight = own(task.n);
      return () => noGrad(() => x.rmsNorm(weight, { eps: 1e-5 }));
    }
    case "softmax": {
      const x = own(task.rows, task.n);
      return () => noGrad(() => x.softmax());
    }
    case "swiGlu": {
      const [gate, up] = [own(task.rows, task.n), own(task.rows, task.n)];
      return () => noGrad(() => gate.swiGlu(up));
    }
    case "crossEntropy": {
      const x = own(task.rows, task.v);
      const targets = arange(task.rows, { dtype: "i32" });
      return () => noGrad(() => x.gatherLogProb(targets));
    }
    case "head": {
      const { rows, d, v } = task;
      const [x, weight] = [own(rows, d).requireGrad(), own(v, d).requireGrad()];
      const targets = arange(rows, { dtype: "i32" });
      const options = { temperature: 1, keepLogits: true };
      return () => gradients(x.linearLogProb(weight, targets, options)[0].sum(), [x, weight]);
    }
    case "adamW": {
      const [weight, g, m] = [own(task.n), own(task.n), own(task.n)];
      const v = zeros([task.n]);
      const scale = ones([]);
      const rates = { learningRate: 1e-3, beta1: 0.9, beta2: 0.95, eps: 1e-8, weightDecay: 0 };
      return () => weight.adamW(g, m, v, scale, { ...rates, step: 1 });
    }
  }
}

function modelOf({ width, inner, layers, heads, vocabulary }: ModelSize) {
  const config = parseConfig({
    ...{ model_type: "llama", vocab_size: vocabulary, hidden_size: width },
    ...{ intermediate_size: inner, num_hidden_layers: layers, num_attention_heads: heads },
    ...{ max_position_embeddings: 1024, tie_word_embeddings: true },
  });
  return { config, parameters: initialParameters(config, { seed: 1 }) };
}

/** The median step on the clock: two numbers are read back after each, as in every training run. */
async function trainingSeconds(
  task: Extract<Task, { kind: "step" }>,
  quick: boolean,
): Promise<number> {
  const { config, parameters } = modelOf(task);
  using optimizer = new AdamW(parameters, { clipNorm: 1 });
  const batch = randomBatch(task.b, task.t, task.vocabulary);
  const times: number[] = [];
  let last = performance.now();
  await pretrain({
    ...{ parameters, config, optimizer, steps: quick ? 4 : 13 },
    batches: () => batch,
    schedule: () => 1e-3,
    onStep: ({ step }) => {
      const now = performance.now();
      if (step > (quick ? 1 : 3)) times.push((now - last) / 1000);
      last = now;
    },
  });
  disposeParameters(parameters);
  return times.toSorted((a, b) => a - b)[times.length >> 1]!;
}

/** The best of three on the clock, prefill and decoding together, as in a rollout. */
async function decodingSeconds(
  task: Extract<Task, { kind: "decode" }>,
  quick: boolean,
): Promise<number> {
  const { config, parameters } = modelOf(task);
  const prompts = Array.from({ length: task.b }, (_, row) =>
    Array.from({ length: task.prompt }, (_, i) => (row * 31 + i * i) % task.vocabulary),
  );
  let best = Infinity;
  for (let turn = 0; turn < (quick ? 2 : 4); turn++) {
    const start = performance.now();
    const options = { maxNewTokens: task.newTokens, temperature: 1, seed: turn };
    await sample(parameters, config, prompts, options);
    if (turn > 0) best = Math.min(best, (performance.now() - start) / 1000);
  }
  disposeParameters(parameters);
  return best;
}
