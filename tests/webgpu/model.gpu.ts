/** The model on a GPU: gradients, optimizer, sampling and a GRPO step agree with the wasm device. */

import assert from "node:assert/strict";
import { localSampler } from "../../eval/engines/sampler.ts";
import { buildWorld } from "../../eval/worlds/presets.ts";
import { sequenceBatch } from "../../model/batch.ts";
import type { ModelConfig } from "../../model/config.ts";
import { AdamW } from "../../model/optimizer.ts";
import { gradientsOf, initialParameters, requireGradients } from "../../model/parameters.ts";
import { pretrain, type StepInfo } from "../../model/pretrain.ts";
import { sample } from "../../model/sample.ts";
import { batchLogProbs } from "../../model/score.ts";
import { modelConfigOf } from "../../rl/base.ts";
import { methods, trainConfig, worldOf } from "../../rl/config.ts";
import { updatePolicy } from "../../rl/methods/grpo.ts";
import { methodOf } from "../../rl/methods/mod.ts";
import { localTrainer } from "../../rl/policy_trainer.ts";
import { rewardOf } from "../../rl/reward.ts";
import type { Rollout } from "../../rl/rollout.ts";
import { startState } from "../../rl/state.ts";
import { WasmDevice } from "../../tensor/device/wasm/device.ts";
import { type Device, scope, type Tensor, useDevice } from "../../tensor/mod.ts";
import { tinyConfig } from "../tiny_model.ts";
import { gpuTest } from "./gpu.ts";

const sizes = { initializer_range: 0.3, vocab_size: 50, hidden_size: 32 };
const config = tinyConfig(sizes);
const experts = { num_experts: 4, num_experts_per_tok: 2, moe_intermediate_size: 12 };
const scaling = {
  ...{ rope_type: "llama3", factor: 8, low_freq_factor: 1, high_freq_factor: 4 },
  original_max_position_embeddings: 16,
};
const ofFamilies = [
  tinyConfig({ ...sizes, attention_bias: true, mlp_bias: true, rope_scaling: scaling }),
  tinyConfig({ ...sizes, model_type: "qwen2" }),
  tinyConfig({ ...sizes, model_type: "qwen3", head_dim: 12 }),
  tinyConfig({ ...sizes, ...experts, model_type: "qwen3_moe" }),
  tinyConfig({ ...sizes, model_type: "olmo2" }),
];
const wasm = new WasmDevice({ threads: 1 });
const batch = sequenceBatch(
  Array.from({ length: 4 }, (_, row) =>
    Array.from({ length: 9 + row }, (_, i) => (row * 7 + i * i) % 50),
  ),
);

/** Runs `body` with a device as the current one, and the same start weights on it. */
async function on<T>(
  device: Device,
  body: (parameters: Map<string, Tensor>, own: ModelConfig) => Promise<T>,
  own = config,
): Promise<T> {
  const before = useDevice(device);
  try {
    return await body(initialParameters(own, { seed: 7 }), own);
  } finally {
    useDevice(before);
  }
}

async function valuesOf(
  tree: ReadonlyMap<string, Tensor>,
): Promise<Map<string, ArrayLike<number>>> {
  const found = new Map<string, ArrayLike<number>>();
  for (const [name, t] of tree) found.set(name, await t.data());
  return found;
}

function assertClose(
  mine: ReadonlyMap<string, ArrayLike<number>>,
  truth: ReadonlyMap<string, ArrayLike<number>>,
  tolerance: number,
): void {
  assert.deepEqual([...mine.keys()], [...truth.keys()]);
  for (const [name, expected] of truth) {
    const own = mine.get(name)!;
    const largest = Array.from(expected).reduce((most, x) => Math.max(most, Math.abs(x)), 0);
    Array.from(expected).forEach((x, i) => {
      const error = Math.abs(own[i]! - x);
      assert.ok(error <= tolerance * (largest + 1e-3), `${name}[${i}] is ${own[i]}, expected ${x}`);
    });
  }
}

const prompts = [[1, 2, 3], [1, 2, 3, 4, 5], [9]];

async function logProbsAndGradients(parameters: Map<string, Tensor>, own: ModelConfig) {
  requireGradients(parameters);
  const [logProbs, gradients] = scope(() => {
    const found = batchLogProbs(parameters, own, batch);
    return [found.detach(), gradientsOf(found.sum(), parameters)] as const;
  });
  return {
    logProbs: new Map([["logProbs", await logProbs.data()]]),
    all: await valuesOf(gradients),
  };
}

for (const own of [config, ...ofFamilies]) {
  const name = own === config ? "the default model" : own.model_type;
  gpuTest(`log-probabilities and all gradients are those of wasm: ${name}`, async (device) => {
    const mine = await on(device, logProbsAndGradients, own);
    const truth = await on(wasm, logProbsAndGradients, own);
    assertClose(mine.logProbs, truth.logProbs, 1e-5);
    assertClose(mine.all, truth.all, 1e-4);
  });

  gpuTest(`greedy completions are those of wasm: ${name}`, async (device) => {
    const run = (parameters: Map<string, Tensor>) =>
      sample(parameters, own, prompts, { maxNewTokens: 6, temperature: 0 });
    assert.deepEqual((await on(device, run, own)).tokens, (await on(wasm, run, own)).tokens);
  });
}

gpuTest("a mixture of experts is pre-trained as on wasm, its balance too", async (device) => {
  const own = { ...ofFamilies[3]!, router_aux_loss_coef: 0.1 };
  const run = async (parameters: Map<string, Tensor>) => {
    const steps: StepInfo[] = [];
    await pretrain({
      ...{ parameters, config: own, batches: () => batch, steps: 5 },
      ...{ schedule: () => 1e-3, onStep: (info) => steps.push(info) },
    });
    return steps.flatMap(({ loss, routerAuxLoss, busiestExpert }) => {
      return [loss, routerAuxLoss!, busiestExpert!];
    });
  };
  const [mine, truth] = [await on(device, run, own), await on(wasm, run, own)];
  assertClose(new Map([["steps", mine]]), new Map([["steps", truth]]), 1e-3);
});

gpuTest(
  "twenty training steps end with the same bits twice, and near wasm's weights",
  async (device) => {
    const run = async (parameters: Map<string, Tensor>) => {
      const batches = () => batch;
      const options = { parameters, config, batches, schedule: () => 1e-3, steps: 20 };
      const { loss } = await pretrain({ ...options, optimizer: { clipNorm: 1 } });
      return { loss, weights: await valuesOf(parameters) };
    };
    const [first, second] = [await on(device, run), await on(device, run)];
    assert.deepEqual(second, first);
    const truth = await on(wasm, run);
    assert.ok(Math.abs(first.loss - truth.loss) < 1e-3, `${first.loss}, wasm ${truth.loss}`);
    assertClose(first.weights, truth.weights, 1e-2);
  },
);

gpuTest("drawn completions repeat bit for bit", async (device) => {
  const run = (parameters: Map<string, Tensor>) =>
    sample(parameters, config, prompts, { maxNewTokens: 8, samplesPerPrompt: 3, seed: 5 });
  assert.deepEqual(await on(device, run), await on(device, run));
});

gpuTest("reported log-probabilities are the training path's up to rounding", async (device) => {
  await on(device, async (parameters) => {
    const { tokens, logProbs } = await sample(parameters, config, prompts, { maxNewTokens: 8 });
    const all = sequenceBatch(prompts.map((prompt, i) => [...prompt, ...tokens[i]!]));
    const found = await batchLogProbs(parameters, config, all).data();
    const width = all.shape[1]!;
    prompts.forEach((prompt, i) => {
      logProbs[i]!.forEach((x, t) => {
        const y = found[i * width + prompt.length - 1 + t]!;
        assert.ok(Math.abs(x - y) < 1e-5, `token ${t} of prompt ${i}: ${x}, training ${y}`);
      });
    });
  });
});

gpuTest("a GRPO step moves the weights as on wasm", async (device) => {
  const settings = trainConfig.parse({ train: { groupSize: 4, epochs: 2 } });
  const drawn = await on(wasm, (parameters) =>
    sample(parameters, config, prompts, { maxNewTokens: 4, samplesPerPrompt: 4, seed: 3 }),
  );
  const rollouts = drawn.tokens.map((tokens, i): Rollout => {
    const question = { id: `q${Math.floor(i / 4)}`, prompt: prompts[Math.floor(i / 4)]! };
    const judgement = {
      score: i % 3 === 0 ? 1 : 0,
      correct: i % 3 === 0,
      predicted: "",
      reason: "",
    };
    return { question, tokens, logProbs: drawn.logProbs[i]!, judgement } as unknown as Rollout;
  });
  const run = async (parameters: Map<string, Tensor>) => {
    using optimizer = new AdamW(parameters, { clipNorm: 1 });
    const options = { learningRate: 1e-3, reference: undefined };
    const policy = { parameters, config };
    const trainer = localTrainer(policy, optimizer);
    const reports = await updatePolicy(policy, trainer, rollouts, settings, options);
    return { reports, weights: await valuesOf(parameters) };
  };
  const [mine, truth] = [await on(device, run), await on(wasm, run)];
  assert.equal(truth.reports[0]!.maxLogRatio, 0);
  assert.ok(mine.reports[0]!.maxLogRatio < 1e-5, `ratio ${mine.reports[0]!.maxLogRatio}`);
  assert.ok(mine.reports[0]!.gradNorm > 0);
  for (const [i, report] of truth.reports.entries()) {
    assert.ok(Math.abs(mine.reports[i]!.gradNorm / report.gradNorm - 1) < 1e-3);
    assert.ok(Math.abs(mine.reports[i]!.loss - report.loss) < 1e-4);
  }
  assertClose(mine.weights, truth.weights, 1e-2);
});

gpuTest("a step of every method moves the weights as on wasm", async (device) => {
  for (const method of methods) {
    const settings = trainConfig.parse({
      ...{ method, reward: "random" },
      world: { entities: 24, relations: 2, answers: 6, qaShare: 0.3, qaEntityShare: 0.3 },
      model: { hiddenSize: 16, layers: 1, heads: 2, keyValueHeads: 1, intermediateSize: 32 },
      train: { questionsPerStep: 4, groupSize: 4, maxNewTokens: 2 },
    });
    const world = buildWorld(worldOf(settings));
    const shape = modelConfigOf(settings, world);
    const run = async () => {
      const base = { config: shape, parameters: initialParameters(shape, { seed: 7 }) };
      const { policy, state } = startState(settings, base);
      const { optimizer, memory } = state;
      const report = await methodOf(settings).step({
        ...{ config: settings, task: world, policy, base, optimizer, memory, warmth: 1 },
        ...{ sampler: localSampler(policy), trainer: localTrainer(policy, optimizer) },
        ...{ questions: world.questions("train"), reward: rewardOf(settings), step: 0, seed: 1 },
      });
      return { report, weights: await valuesOf(policy.parameters) };
    };
    const [mine, truth] = [await on(device, run), await on(wasm, run)];
    const answers = (step: typeof mine) => step.report.rollouts.map(({ tokens }) => tokens);
    assert.deepEqual(answers(mine), answers(truth), method);
    for (const name of ["loss", "grad_norm"]) {
      const [found, expected] = [mine, truth].map(({ report }) => report.metrics[name]!);
      const close = Math.abs(found! - expected!) <= 1e-4 + 1e-3 * Math.abs(expected!);
      assert.ok(close, `${method}: ${name} is ${found}, expected ${expected}`);
    }
    assertClose(mine.weights, truth.weights, 1e-2);
  }
});
