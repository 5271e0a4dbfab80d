/** A model's config and start values: what is filled in, what is refused, how weights are drawn. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { endTokens, parseConfig } from "../model/config.ts";
import { initialParameters, parameterCount } from "../model/parameters.ts";
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

test("a config that contradicts itself is refused, naming field and value", () => {
  const refused: [object, RegExp][] = [
    [{ num_attention_heads: 3 }, /hidden_size is 16.*num_attention_heads 3/s],
    [{ head_dim: 5 }, /head_dim is 5/],
    [{ num_key_value_heads: 3 }, /num_key_value_heads is 3.*num_attention_heads 4/],
    [{ model_type: "gpt2" }, /model_type is "gpt2"/],
    [{ hidden_act: "gelu" }, /hidden_act is "gelu"/],
    [{ rope_scaling: { rope_type: "yarn" } }, /rope_scaling is .*yarn/],
    [{ attention_bias: true }, /attention_bias is true/],
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
