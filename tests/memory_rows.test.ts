/** How many rows are in work at a time: what there is of memory is kept to, whatever the model. */

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { sequenceBatch } from "../model/batch.ts";
import { parseConfig } from "../model/config.ts";
import {
  ALL_TRAINED,
  decodingRows,
  heldNumbers,
  packsWeights,
  scoringRows,
  trainingRows,
  weightBytes,
} from "../model/memory.ts";
import { initialParameters, parameterCount, requireGradients } from "../model/parameters.ts";
import { batchLogProbs } from "../model/score.ts";
import { currentDevice, scope } from "../tensor/mod.ts";
import { tinyConfig } from "./tiny_model.ts";

/** Qwen2.5-0.5B-Instruct's config.json. */
const half = parseConfig({
  ...{ model_type: "qwen2", vocab_size: 151936, hidden_size: 896, intermediate_size: 4864 },
  ...{ num_hidden_layers: 24, num_attention_heads: 14, num_key_value_heads: 2 },
  ...{ max_position_embeddings: 32768, tie_word_embeddings: true },
});

test("weights are counted as the tree has them; 0.5B are decoded from without a second copy", () => {
  const tiny = tinyConfig();
  assert.equal(weightBytes(tiny), 4 * parameterCount(initialParameters(tiny, { seed: 1 })));
  assert.equal(weightBytes(half), 4 * 494_032_768);
  assert.deepEqual([packsWeights(tiny), packsWeights(half)], [true, false]);
});

test("weights and activations of a training pass are within 4 GiB, of one row at least", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 2000 }), fc.integer({ min: 1, max: 512 }), (t, most) => {
      const rows = trainingRows(half, t, most);
      assert.ok(rows >= 1 && rows <= most);
      const { num_hidden_layers: layers, hidden_size, intermediate_size } = half;
      const bytes = 4 * rows * t * layers * (10 * hidden_size + 4 * intermediate_size);
      assert.ok(rows === 1 || bytes + weightBytes(half) <= 2 ** 32, `${rows} rows`);
      for (const rowsOf of [decodingRows, scoringRows]) {
        const found = rowsOf(half, t, most);
        assert.ok(found >= 1 && found <= most);
      }
    }),
  );
  // A small model's passes are as large as before there were such weights.
  assert.equal(trainingRows(tinyConfig(), 32, 256, ALL_TRAINED), 256);
  assert.deepEqual(
    [decodingRows(tinyConfig(), 32, 1024), scoringRows(tinyConfig(), 32, 256)],
    [1024, 256],
  );
});

test("what a graph holds for backward is at most what is reckoned, and more than half of it", () => {
  const sizes = { vocab_size: 50, hidden_size: 64, intermediate_size: 192, num_hidden_layers: 3 };
  const wide = { num_attention_heads: 8, head_dim: 16 };
  const experts = { num_experts: 8, num_experts_per_tok: 4, moe_intermediate_size: 48 };
  for (const changes of [
    { model_type: "llama" as const },
    { model_type: "qwen3" as const, ...wide },
    { model_type: "olmo2" as const, num_key_value_heads: 4 },
    { model_type: "qwen3_moe" as const, ...wide, ...experts },
    { model_type: "qwen3_moe" as const, ...wide, ...experts, num_experts_per_tok: 8 },
  ]) {
    scope(() => {
      const config = tinyConfig({ ...sizes, ...changes });
      const parameters = requireGradients(initialParameters(config, { seed: 1 }));
      const row = Array.from({ length: 49 }, (_, i) => (7 * i) % 50);
      const batch = sequenceBatch([row, row, row, row]);
      const device = currentDevice();
      const before = device.liveBytes;
      batchLogProbs(parameters, config, batch).sum();
      const [b, t] = batch.shape;
      const share = (device.liveBytes - before) / (4 * b * t * heldNumbers(config));
      assert.ok(share > 0.5 && share <= 1.05, `${JSON.stringify(changes)}: ${share}`);
    });
  }
});
