/** A model's config and start values: what is filled in, what is refused, how weights are drawn. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { endTokens, parseConfig } from "../model/config.ts";
import { initialParameters, parameterCount } from "../model/parameters.ts";
import { ropeFrequencies } from "../model/rope.ts";
import { tinyConfig, tinyModel } from "./tiny_model.ts";

test("a config keeps unknown keys and fills in what may be left out", () => {
  const config = tinyConfig({ some_future_key: [1] } as object);
  assert.deepEqual(config.some_future_key, [1]);
  assert.equal(config.head_dim, 4);
  assert.equal(config.rope_theta, 10_000);
  const newer = tinyConfig({
    rope_parameters: { rope_type: "default", rope_theta: 500 },
  } as object);
  assert.equal(newer.rope_theta, 500);
});

test("the ids that end a text are one, many or none", () => {
  const ids = [undefined, null, 2, [3, 4]].map((eos_token_id) => {
    return endTokens(tinyConfig({ eos_token_id }));
  });
  assert.deepEqual(ids, [[], [], [2], [3, 4]]);
});

const llama3 = {
  ...{ rope_type: "llama3", factor: 8, low_freq_factor: 1, high_freq_factor: 4 },
  original_max_position_embeddings: 8192,
};
const mixture = { model_type: "qwen3_moe" } as const;

test("what config.json leaves out is its family's default", () => {
  const minimal = {
    ...{ vocab_size: 8, hidden_size: 64, intermediate_size: 8, num_hidden_layers: 1 },
    num_attention_heads: 32,
  };
  const of = (model_type: string, names: readonly string[], more: object = {}) => {
    const config = parseConfig({ model_type, ...minimal, ...more });
    return names.map((name) => config[name]);
  };
  const common = ["rms_norm_eps", "max_position_embeddings", "rope_theta", "tie_word_embeddings"];
  const heads = ["num_key_value_heads", "head_dim", "attention_bias", "architectures"];
  const names = [...common, ...heads];
  assert.deepEqual(
    [
      of("llama", [...names, "mlp_bias"]),
      of("qwen2", names),
      of("qwen3", names),
      of("qwen3_moe", names),
      of("olmo2", names),
    ],
    [
      [1e-6, 2048, 1e4, false, 32, 2, false, ["LlamaForCausalLM"], false],
      [1e-6, 32768, 1e4, false, 32, 2, undefined, ["Qwen2ForCausalLM"]],
      [1e-6, 32768, 1e4, false, 32, 128, false, ["Qwen3ForCausalLM"]],
      [1e-6, 32768, 1e4, false, 4, 2, false, ["Qwen3MoeForCausalLM"]],
      [1e-5, 2048, 1e4, false, 32, 2, false, ["Olmo2ForCausalLM"]],
    ],
  );
  const expert = ["num_experts", "num_experts_per_tok", "moe_intermediate_size", "norm_topk_prob"];
  const layers = ["decoder_sparse_step", "mlp_only_layers", "router_aux_loss_coef"];
  const found = of("qwen3_moe", [...expert, ...layers], { mlp_only_layers: null });
  assert.deepEqual(found, [128, 8, 768, false, 1, [], 0.001]);
  assert.deepEqual(of("qwen3_moe", ["num_experts"], { num_local_experts: 16 }), [16]);
});

test("Llama 3.1's rule turns slow pairs eight times slower, and leaves fast ones alone", () => {
  const at = (scaling: object, name = "rope_scaling") =>
    ropeFrequencies(tinyConfig({ head_dim: 128, rope_theta: 500_000, [name]: scaling }));
  const [plain, scaled] = [at({ rope_type: "default" }), at(llama3)];
  const ratios = plain.map((x, i) => x / scaled[i]!);
  // Turns within 8192 positions: pair 28 has 4.2, pair 29 has 3.4, pair 34 has 1.2, pair 35 1.0.
  assert.deepEqual(new Set(ratios.subarray(0, 29)), new Set([1]));
  assert.ok(ratios.subarray(29, 35).every((ratio) => ratio > 1 && ratio < 7.999));
  assert.ok(ratios.subarray(36).every((ratio) => Math.abs(ratio - 8) < 1e-12));
  assert.deepEqual(at({ ...llama3, rope_theta: 9 }, "rope_parameters"), scaled);
  const thirds = at({ type: "linear", factor: 3 });
  assert.deepEqual(
    thirds,
    plain.map((x) => x / 3),
  );
});

test("a config that contradicts itself is refused, naming field and value", () => {
  const refused: [object, RegExp][] = [
    [{ num_attention_heads: 3 }, /hidden_size is 16.*num_attention_heads 3/s],
    [{ head_dim: 5 }, /head_dim is 5/],
    [{ num_key_value_heads: 3 }, /num_key_value_heads is 3.*num_attention_heads 4/],
    [{ model_type: "gpt2" }, /model_type is "gpt2"/],
    [{ hidden_act: "gelu" }, /hidden_act is "gelu"/],
    [{ rope_scaling: { rope_type: "yarn" } }, /rope_scaling is .*yarn/],
    [{ rope_parameters: { rope_type: "dynamic" } }, /rope_parameters is .*"dynamic" is not/],
    [{ rope_scaling: { type: "linear" } }, /rope_scaling is .*factor/],
    [{ rope_scaling: { ...llama3, factor: undefined } }, /rope_scaling is .*: factor/],
    [{ rope_scaling: { ...llama3, low_freq_factor: 4 } }, /low_freq_factor must be below/],
    [{ partial_rotary_factor: 0.5 }, /partial_rotary_factor is 0.5/],
    [{ attention_bias: "yes" }, /attention_bias is "yes"/],
    [{ model_type: "qwen2", use_sliding_window: true }, /use_sliding_window is true/],
    [{ layer_types: ["full_attention", "sliding_attention"] }, /layer_types has "sliding_att/],
    [{ architectures: ["LlamaForSequenceClassification"] }, /only LlamaForCausalLM is supported/],
    [{ model_type: "qwen3", architectures: ["Qwen2ForCausalLM"] }, /of qwen3 only Qwen3ForC/],
    [{ ...mixture, num_experts: 4, num_experts_per_tok: 5 }, /_per_tok is 5: num_experts is 4/],
    [{ ...mixture, num_experts: 0 }, /num_experts is 0/],
    [{ ...mixture, mlp_only_layers: [-1] }, /mlp_only_layers\.0 is -1/],
    [{ vocab_size: -2 }, /vocab_size is -2/],
    [{ vocab_size: undefined }, /vocab_size is missing/],
    [{ eos_token_id: [2, 23] }, /eos_token_id is \[2,23\]/],
  ];
  for (const [change, message] of refused) {
    assert.throws(() => tinyConfig(change), { name: "UserError", message });
  }
  assert.throws(() => parseConfig(null, "there/config.json"), /^UserError: there\/config\.json/);
});

test("start values depend on seed and name, and have the stated deviation", () => {
  const config = tinyConfig({ hidden_size: 64, vocab_size: 100, tie_word_embeddings: false });
  const tree = initialParameters(config, { seed: 1 });
  const again = initialParameters(config, { seed: 1 });
  const other = initialParameters(config, { seed: 2 });
  const values = (from: typeof tree, name: string) => [...from.get(name)!.dataSync()];
  const deviation = (name: string) => {
    const x = values(tree, name);
    return Math.sqrt(x.reduce((sum, value) => sum + value * value, 0) / x.length);
  };
  const query = "model.layers.1.self_attn.q_proj.weight";
  assert.deepEqual(values(tree, query), values(again, query));
  assert.notDeepEqual(values(tree, query), values(other, query));
  assert.notDeepEqual(values(tree, query), values(tree, query.replace("1", "0")));
  assert.ok(Math.abs(deviation("lm_head.weight") / 0.02 - 1) < 0.05);
  assert.ok(Math.abs(deviation(query.replace("q_", "o_")) / 0.01 - 1) < 0.05);
  assert.deepEqual(new Set(values(tree, "model.norm.weight")), new Set([1]));
  const untied = 2 * 100 * 64 + 64 + 2 * (2 * 64 + 64 * (2 * 64 + 2 * 32) + 3 * 64 * 24);
  assert.equal(parameterCount(tree), untied);
  assert.equal(parameterCount(tinyModel().parameters), 23 * 16 + 16 + 2 * (32 + 16 * 48 + 1152));
});
