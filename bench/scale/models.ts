/** The models of docs/SCALE.md: published shapes, and those that the experiments here train. */

import { buildWorld } from "../../eval/worlds/presets.ts";
import { full, merged } from "../../experiments/scale.ts";
import { type ModelConfig, parseConfig } from "../../model/config.ts";
import { weightBytes } from "../../model/memory.ts";
import { parameterShapes } from "../../model/parameters.ts";
import { modelConfigOf } from "../../rl/base.ts";
import { worldOf } from "../../rl/config.ts";
import type { JsonObject } from "../../rl/fields.ts";
import { resolveSettings } from "../../rl/resolve.ts";
import { sizeOf } from "../../tensor/shape.ts";

export interface PaperModel {
  readonly name: string;
  readonly config: ModelConfig;
  /** Where its shape is published, and the count that is published with it. */
  readonly source: string;
  readonly published?: number;
}

/** What the config.json of a Qwen2.5-Instruct model says of its shape. */
const qwen = (
  hidden_size: number,
  intermediate_size: number,
  num_hidden_layers: number,
  [num_attention_heads, num_key_value_heads]: readonly [number, number],
  [vocab_size, tie_word_embeddings]: readonly [number, boolean],
): ModelConfig =>
  parseConfig({
    ...{ model_type: "qwen2", hidden_size, intermediate_size, num_hidden_layers },
    ...{ num_attention_heads, num_key_value_heads, vocab_size, tie_word_embeddings },
    ...{ max_position_embeddings: 32768, rope_theta: 1e6, rms_norm_eps: 1e-6 },
  });

/** A kind of world of the experiments with one of their models. */
function own(name: string, variant: string | undefined): PaperModel {
  const settings = full.variants.find((one) => one.name === variant)?.settings ?? {};
  const config = resolveSettings(merged(full.kinds.voices, settings) as JsonObject);
  const world = buildWorld(worldOf(config));
  return { name, config: modelConfigOf(config, world), source: "experiments/scale.ts" };
}

export const smol = "SmolLM2-135M";

export const models: readonly PaperModel[] = [
  own("demo", undefined),
  own("Llama, 3M", "Llama, 3M"),
  {
    name: smol,
    config: parseConfig({
      ...{ model_type: "llama", hidden_size: 576, intermediate_size: 1536 },
      ...{ num_hidden_layers: 30, num_attention_heads: 9, num_key_value_heads: 3 },
      ...{ vocab_size: 49152, tie_word_embeddings: true, max_position_embeddings: 8192 },
      ...{ rope_theta: 1e5, rms_norm_eps: 1e-5 },
    }),
    source: "config.json of HuggingFaceTB/SmolLM2-135M-Instruct",
    published: 134_515_008,
  },
  {
    name: "Qwen2.5-0.5B",
    config: qwen(896, 4864, 24, [14, 2], [151_936, true]),
    source: "config.json of Qwen/Qwen2.5-0.5B-Instruct",
    published: 0.494e9,
  },
  {
    name: "Qwen2.5-7B",
    config: qwen(3584, 18_944, 28, [28, 4], [152_064, false]),
    source: "config.json of Qwen/Qwen2.5-7B-Instruct",
    published: 7.62e9,
  },
  {
    name: "Qwen2.5-72B",
    config: qwen(8192, 29_568, 80, [64, 8], [152_064, false]),
    source: "config.json of Qwen/Qwen2.5-72B-Instruct",
    published: 72.7e9,
  },
];

export const modelNamed = (name: string): PaperModel => {
  const found = models.find((model) => model.name === name);
  if (found === undefined) throw new RangeError(`docs/SCALE.md has no model ${name}`);
  return found;
};

/** Parameters of a shape; a tied head counts once. */
export const parametersOf = (config: ModelConfig): number => weightBytes(config) / 4;

/** Elements of the largest of its tensors. */
export const largestTensor = (config: ModelConfig): number =>
  Math.max(...[...parameterShapes(config).values()].map(sizeOf));
