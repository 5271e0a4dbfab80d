/** Every model family: against a plain second implementation, decoding, gradients, files, ratios. */

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import * as fc from "fast-check";
import { completionBatch, sequenceBatch } from "../model/batch.ts";
import { loadModel, saveModel } from "../model/checkpoint.ts";
import type { ModelConfigInput } from "../model/config.ts";
import { architectures, type Family, families } from "../model/families.ts";
import { adaptedNames, loraTargets, makeLora } from "../model/lora.ts";
import { gradientsOf, initialParameters, requireGradients } from "../model/parameters.ts";
import { sample } from "../model/sample.ts";
import { batchLogProbs, sequenceLogProbs } from "../model/score.ts";
import { hidden, logits } from "../model/transformer.ts";
import { WasmDevice } from "../tensor/device/wasm/device.ts";
import { noGrad, reference, scope, tensor, useDevice } from "../tensor/mod.ts";
import { plainForward } from "./support/plain_model.ts";
import { RUNS, SEED } from "./support/samples.ts";
import { checkSlopes } from "./support/slopes.ts";
import { devices, leftBehind, onDevices, tinyConfig, tinyModel } from "./tiny_model.ts";

const folder = mkdtempSync(join(tmpdir(), "anamnesis-families-"));
after(() => rmSync(folder, { recursive: true, force: true }));

/** What a family's config.json may say, at its least usual. */
const unusual: Readonly<Record<Family, ModelConfigInput>> = {
  llama: { attention_bias: true, mlp_bias: true },
  qwen2: {},
  qwen3: { head_dim: 6, attention_bias: true },
  qwen3_moe: {
    ...{ head_dim: 6, num_hidden_layers: 3, decoder_sparse_step: 1, mlp_only_layers: [1] },
    ...{ num_experts: 4, num_experts_per_tok: 2, moe_intermediate_size: 10, norm_topk_prob: true },
  },
  olmo2: { attention_bias: true },
};
const tiny = (family: Family, changes: ModelConfigInput = {}) =>
  tinyModel({ model_type: family, ...unusual[family], ...changes });

const scaling = fc.constantFrom<Record<string, unknown> | null>(
  null,
  { rope_type: "linear", factor: 3 },
  // With theta 30 and up to 8 angles a head: frequencies on both sides of the ramp, and on it.
  {
    ...{ rope_type: "llama3", factor: 8, low_freq_factor: 1, high_freq_factor: 4 },
    original_max_position_embeddings: 24,
  },
);

/** Sizes that share no factor by accident, grouped heads, tied or not, all flags. */
const shapes = fc
  .record({
    family: fc.constantFrom(...families),
    groups: fc.integer({ min: 1, max: 3 }),
    perGroup: fc.integer({ min: 1, max: 3 }),
    pairs: fc.integer({ min: 1, max: 4 }),
    hidden: fc.integer({ min: 2, max: 19 }),
    inner: fc.integer({ min: 1, max: 21 }),
    layers: fc.integer({ min: 1, max: 3 }),
    flags: fc.tuple(fc.boolean(), fc.boolean(), fc.boolean(), fc.boolean()),
    scaling,
    experts: fc.integer({ min: 1, max: 5 }),
    chosen: fc.integer({ min: 1, max: 5 }),
    step: fc.integer({ min: 1, max: 2 }),
    tokens: fc.array(fc.integer({ min: 0, max: 22 }), { minLength: 1, maxLength: 12 }),
  })
  .map(({ family, groups, perGroup, flags, experts, ...drawn }) => {
    const [tied, attentionBias, mlpBias, renormalise] = flags;
    const input: ModelConfigInput = {
      ...{ model_type: family, hidden_size: drawn.hidden, intermediate_size: drawn.inner },
      ...{ num_hidden_layers: drawn.layers, head_dim: 2 * drawn.pairs, rope_theta: 30 },
      ...{ num_attention_heads: groups * perGroup, num_key_value_heads: groups },
      ...{ tie_word_embeddings: tied, attention_bias: attentionBias, mlp_bias: mlpBias },
      ...{ rms_norm_eps: 1e-3, rope_scaling: drawn.scaling },
      ...{ num_experts: experts, num_experts_per_tok: Math.min(experts, drawn.chosen) },
      ...{ moe_intermediate_size: 7, norm_topk_prob: renormalise, decoder_sparse_step: drawn.step },
    };
    return { input, tokens: drawn.tokens };
  });

test("the logits are those of a plain f64 implementation, on every device", () => {
  const check = fc.property(shapes, ({ input, tokens }) => {
    for (const device of devices) {
      const before = useDevice(device);
      try {
        const { config, parameters } = tinyModel(input);
        const ids = tensor(Int32Array.from(tokens), [1, tokens.length]);
        const got = scope(() => {
          const [rows] = logits(parameters, config, hidden(parameters, config, ids)).toArray() as [
            number[][],
          ];
          return rows;
        });
        const { logits: expected } = plainForward(parameters, config, tokens);
        const tolerance = device === reference ? 1e-11 : 2e-5;
        expected.forEach((row, t) => {
          row.forEach((x, i) => {
            const off = Math.abs(got[t]![i]! - x);
            assert.ok(off <= tolerance * (1 + Math.abs(x)), `[${t} ${i}] ${got[t]![i]}, not ${x}`);
          });
        });
      } finally {
        useDevice(before);
      }
    }
  });
  fc.assert(check, { seed: SEED, numRuns: 4 * RUNS });
});

for (const family of families) {
  describe(family, () => {
    const prompts = [[1, 2, 3], [4], [5, 6, 7, 8, 9], [4, 10]];

    onDevices("decoding gives the training path's log-probabilities", async (device) => {
      const { config, parameters } = tiny(family);
      const settings = { maxNewTokens: 6, samplesPerPrompt: 3, temperature: 0.9, seed: 2 };
      const got = await sample(parameters, config, prompts, settings);
      const repeated = prompts.flatMap((prompt) => [prompt, prompt, prompt]);
      const options = { temperature: 0.9 };
      const scored = await sequenceLogProbs(parameters, config, repeated, got.tokens, options);
      // f32 kernels give the same bits either way; composed f64 ops sum in another order.
      if (device !== reference) assert.deepEqual(scored, got.logProbs);
      const off = scored.flat().map((x, i) => Math.abs(x - got.logProbs.flat()[i]!));
      assert.ok(Math.max(...off) <= 1e-12 || device !== reference, `${Math.max(...off)}`);
    });

    onDevices(
      "the ratio of the policy to itself is exactly 1, and gradients leave no buffer",
      async (device) => {
        const { config, parameters } = tiny(family);
        const batch = completionBatch([[1, 2, 3], [4], [5, 6]], [[7], [8, 9, 10], [11, 12]]);
        const old = noGrad(() => batchLogProbs(parameters, config, batch));
        requireGradients(parameters);
        const fresh = batchLogProbs(parameters, config, batch);
        assert.deepEqual(new Set(fresh.sub(old).exp().dataSync()), new Set([1]));
        const step = () =>
          scope(() => void gradientsOf(batchLogProbs(parameters, config, batch).sum(), parameters));
        assert.equal(await leftBehind(device, step), 0);
      },
    );

    test("so it does at the sizes of a real run, where kernels tile and threads share", async () => {
      const { config, parameters } = tiny(family, {
        ...{ hidden_size: 96, intermediate_size: 200, vocab_size: 411, head_dim: 24 },
        ...{ moe_intermediate_size: 64, initializer_range: 0.1 },
      });
      const many = Array.from({ length: 23 }, (_, i) =>
        Array.from({ length: 3 + (i % 11) }, (_, j) => (i * 13 + j * 29) % 411),
      );
      const settings = { maxNewTokens: 4, samplesPerPrompt: 4 };
      const got = await sample(parameters, config, many, settings);
      const repeated = many.flatMap((prompt) => new Array<number[]>(4).fill(prompt));
      const scored = await sequenceLogProbs(parameters, config, repeated, got.tokens);
      assert.deepEqual(scored, got.logProbs);
    });

    test("gradients are those of central differences in f64", () => {
      const before = useDevice(reference);
      try {
        const { config, parameters } = tiny(family, {
          ...{ vocab_size: 11, hidden_size: 6, intermediate_size: 5, rope_theta: 50 },
          ...{ num_attention_heads: 2, num_key_value_heads: 1, head_dim: 4 },
          // One dense layer, one mixture.
          ...(family === "qwen3_moe" && { num_hidden_layers: 2, mlp_only_layers: [0] }),
          ...(family === "qwen3_moe" && { moe_intermediate_size: 3, num_experts: 3 }),
        });
        const batch = sequenceBatch([
          [1, 2, 3, 4, 5, 6],
          [7, 8],
          [9, 10, 0],
        ]);
        checkSlopes(parameters, (tree) => batchLogProbs(tree, config, batch).sum().mul(-0.2));
      } finally {
        useDevice(before);
      }
    });

    test("every device gives the reference's gradients", () => {
      const batch = sequenceBatch([
        [1, 2, 3, 4, 5, 6, 7],
        [8, 9, 10],
        [11, 12, 13, 14],
      ]);
      const [expected, ...others] = devices.map((device) => {
        const before = useDevice(device);
        const { config, parameters } = tiny(family);
        requireGradients(parameters);
        const loss = batchLogProbs(parameters, config, batch).sum().mul(-0.1);
        const gradients = gradientsOf(loss, parameters);
        useDevice(before);
        return new Map([...gradients].map(([name, g]) => [name, g.dataSync()]));
      });
      for (const got of others) {
        for (const [name, values] of expected!) {
          values.forEach((g, i) => {
            const off = Math.abs(got.get(name)![i]! - g);
            assert.ok(
              off <= 1e-4 * (1 + Math.abs(g)),
              `${name}[${i}] ${got.get(name)![i]}, not ${g}`,
            );
          });
        }
      }
    });

    test("a saved model comes back with the same config, names and bits", async () => {
      const { config, parameters } = tiny(family, { tie_word_embeddings: false });
      await saveModel(join(folder, family), { config, parameters });
      const read = loadModel(join(folder, family));
      assert.deepEqual(read.config, config);
      assert.deepEqual([...read.parameters.keys()], [...parameters.keys()]);
      for (const [name, t] of parameters) {
        assert.deepEqual(read.parameters.get(name)!.dataSync(), t.dataSync(), name);
      }
      assert.deepEqual(config.architectures, [architectures[family]]);
    });

    test("adapters reach every matrix of a block that multiplies a token", () => {
      const { config, parameters } = tiny(family);
      const names = adaptedNames(config, loraTargets);
      const matrices = [...parameters].filter(([name, t]) => t.rank === 2 && /layers/.test(name));
      const others = matrices.map(([name]) => name).filter((name) => !names.includes(name));
      assert.ok(
        others.every((name) => name.endsWith(".mlp.gate.weight")),
        others.join(),
      );
      const settings = { rank: 2, alpha: 4, targets: loraTargets };
      const lora = makeLora(config, parameters, settings, 1);
      requireGradients(lora.adapters);
      const batch = sequenceBatch([[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]]);
      scope(() => {
        const loss = batchLogProbs(lora.parameters, config, batch).sum();
        for (const [name, g] of gradientsOf(loss, lora.adapters)) {
          // B is 0 at first: nothing reaches A; some expert may have got no token.
          if (name.includes("lora_A") || name.includes("experts")) continue;
          assert.ok(
            g.dataSync().some((x) => x !== 0),
            name,
          );
        }
      });
    });
  });
}

test("stored in f16, every family still samples what it is trained on", async () => {
  const before = useDevice(new WasmDevice({ threads: 1, storage: "f16" }));
  try {
    for (const family of families) {
      const { config, parameters } = tiny(family);
      const prompts = [[1, 2, 3], [4], [5, 6, 7, 8]];
      const got = await sample(parameters, config, prompts, { maxNewTokens: 5 });
      const scored = await sequenceLogProbs(parameters, config, prompts, got.tokens);
      assert.deepEqual(scored, got.logProbs, family);
    }
  } finally {
    useDevice(before);
  }
});

test("each family has Hugging Face's tensors", () => {
  const names = (family: Family, changes: ModelConfigInput) => {
    const config = tinyConfig({ model_type: family, num_hidden_layers: 1, ...changes });
    const tree = initialParameters(config, { seed: 1 });
    const inLayer = [...tree].filter(([name]) => name.startsWith("model.layers.0."));
    return new Map(inLayer.map(([name, t]) => [name.replace("model.layers.0.", ""), t]));
  };
  const shapesOf = (tree: ReturnType<typeof names>) =>
    Object.fromEntries([...tree].map(([name, { shape }]) => [name, shape.join("x")]));
  const feedForward = {
    ...{ "mlp.gate_proj.weight": "24x16", "mlp.up_proj.weight": "24x16" },
    "mlp.down_proj.weight": "16x24",
  };
  const attention = {
    ...{ "self_attn.q_proj.weight": "16x16", "self_attn.k_proj.weight": "8x16" },
    ...{ "self_attn.v_proj.weight": "8x16", "self_attn.o_proj.weight": "16x16" },
  };
  const norms = { "input_layernorm.weight": "16", "post_attention_layernorm.weight": "16" };
  const biases = {
    ...{ "self_attn.q_proj.bias": "16", "self_attn.k_proj.bias": "8" },
    "self_attn.v_proj.bias": "8",
  };
  const qwen2 = names("qwen2", {});
  assert.deepEqual(shapesOf(qwen2), { ...norms, ...attention, ...biases, ...feedForward });
  assert.deepEqual(new Set(qwen2.get("self_attn.k_proj.bias")!.dataSync()), new Set([0]));
  const allBiases = { ...biases, "self_attn.o_proj.bias": "16" };
  assert.deepEqual(shapesOf(names("qwen3", { head_dim: 4, attention_bias: true })), {
    ...{ ...norms, ...attention, ...allBiases, ...feedForward },
    ...{ "self_attn.q_norm.weight": "4", "self_attn.k_norm.weight": "4" },
  });
  assert.deepEqual(shapesOf(names("olmo2", { attention_bias: true })), {
    ...{ ...attention, ...allBiases, ...feedForward, "post_attention_layernorm.weight": "16" },
    ...{ "post_feedforward_layernorm.weight": "16" },
    ...{ "self_attn.q_norm.weight": "16", "self_attn.k_norm.weight": "8" },
  });
  assert.deepEqual(shapesOf(names("llama", { attention_bias: true, mlp_bias: true })), {
    ...{ ...norms, ...attention, ...allBiases, ...feedForward },
    ...{ "mlp.gate_proj.bias": "24", "mlp.up_proj.bias": "24", "mlp.down_proj.bias": "16" },
  });
  const sparse = { head_dim: 4, num_experts: 2, num_experts_per_tok: 1, moe_intermediate_size: 6 };
  const expert = (e: number) => ({
    ...{
      [`mlp.experts.${e}.gate_proj.weight`]: "6x16",
      [`mlp.experts.${e}.up_proj.weight`]: "6x16",
    },
    [`mlp.experts.${e}.down_proj.weight`]: "16x6",
  });
  assert.deepEqual(shapesOf(names("qwen3_moe", sparse)), {
    ...{ ...norms, ...attention, ...expert(0), ...expert(1), "mlp.gate.weight": "2x16" },
    ...{ "self_attn.q_norm.weight": "4", "self_attn.k_norm.weight": "4" },
  });
});
