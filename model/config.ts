/** The shape of a model: Hugging Face's `config.json`, checked and with its defaults filled in. */

import { z } from "zod";
import { UserError } from "./errors.ts";
import { families, familyProblems, withDefaults } from "./families.ts";
import { ropeProblems, ropeTheta } from "./rope.ts";

const size = z.int().positive();
const tokenId = z.int().nullish();
const positive = z.number().positive();

/**
 * After the family's defaults were filled in (families.ts). Keys that are not listed pass through,
 * so that a file is written back as it was read.
 */
const schema = z.looseObject({
  model_type: z.enum(families),
  architectures: z.array(z.string()),
  vocab_size: size,
  hidden_size: size,
  intermediate_size: size,
  num_hidden_layers: size,
  num_attention_heads: size,
  /** None: one for each query head. Fewer is grouped-query attention. */
  num_key_value_heads: size.nullish(),
  /** None: hidden_size / num_attention_heads. */
  head_dim: size.nullish(),
  hidden_act: z.literal("silu"),
  rms_norm_eps: positive,
  rope_theta: positive.optional(),
  max_position_embeddings: size,
  tie_word_embeddings: z.boolean(),
  initializer_range: positive,
  attention_bias: z.boolean().optional(),
  mlp_bias: z.boolean().optional(),
  /** The mixture of qwen3_moe. */
  num_experts: size.optional(),
  num_experts_per_tok: size.optional(),
  moe_intermediate_size: size.optional(),
  norm_topk_prob: z.boolean().optional(),
  /** Every how many layers a mixture takes the feed-forward layer's place. */
  decoder_sparse_step: size.optional(),
  mlp_only_layers: z.array(z.int().min(0)).optional(),
  router_aux_loss_coef: z.number().min(0).optional(),
  bos_token_id: tokenId,
  eos_token_id: z.union([z.int(), z.array(z.int())]).nullish(),
  pad_token_id: tokenId,
  torch_dtype: z.string().nullish(),
});

/** What a caller may write; everything with a default may be left out. */
export type ModelConfigInput = Partial<z.input<typeof schema>>;

/** A resolved configuration under Hugging Face's names. */
export type ModelConfig = z.output<typeof schema> & {
  num_key_value_heads: number;
  head_dim: number;
  rope_theta: number;
};

/**
 * Checks a parsed `config.json` and fills in its defaults. Throws a UserError that names `source`
 * and each field with its value: wrong types, unsupported variants, sizes that contradict.
 */
export function parseConfig(json: unknown, source = "config.json"): ModelConfig {
  const isObject = typeof json === "object" && json !== null && !Array.isArray(json);
  const filled = isObject ? withDefaults(json as Record<string, unknown>) : json;
  const parsed = schema.safeParse(filled);
  if (!parsed.success) {
    throw problem(
      source,
      parsed.error.issues.map(({ path, message }) => {
        const name = path.join(".") || "the whole";
        return `${name} is ${show(valueAt(filled, path))}: ${message}`;
      }),
    );
  }
  const read = parsed.data;
  const heads = read.num_attention_heads;
  const config: ModelConfig = {
    ...read,
    num_key_value_heads: read.num_key_value_heads ?? heads,
    head_dim: read.head_dim ?? read.hidden_size / heads,
    rope_theta: read.rope_theta ?? ropeTheta(read),
  };
  const problems = [
    ...contradictionsOf(config),
    ...ropeProblems(config),
    ...familyProblems(config),
  ];
  if (problems.length > 0) throw problem(source, problems);
  return config;
}

/** Ids that end a text: `eos_token_id`, which may be one id, a list or absent. */
export const endTokens = ({ eos_token_id }: ModelConfig): number[] => [eos_token_id ?? []].flat();

function contradictionsOf(config: ModelConfig): string[] {
  const { hidden_size, num_attention_heads, num_key_value_heads, head_dim, vocab_size } = config;
  const found: string[] = [];
  if (!Number.isInteger(head_dim)) {
    found.push(
      `hidden_size is ${hidden_size}: not a multiple of num_attention_heads ${num_attention_heads}`,
    );
  } else if (head_dim % 2 !== 0) {
    found.push(`head_dim is ${head_dim}: rotary positions turn pairs, so it must be even`);
  }
  if (num_attention_heads % num_key_value_heads !== 0) {
    found.push(
      `num_key_value_heads is ${num_key_value_heads}: ` +
        `it must divide num_attention_heads ${num_attention_heads}`,
    );
  }
  for (const name of ["bos_token_id", "eos_token_id"] as const) {
    for (const id of [config[name] ?? []].flat()) {
      if (id < 0 || id >= vocab_size) {
        found.push(`${name} is ${show(config[name])}: vocab_size is ${vocab_size}`);
      }
    }
  }
  return found;
}

function valueAt(json: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce((at, key) => (at as Record<PropertyKey, unknown> | null)?.[key], json);
}

function show(value: unknown): string {
  const text = JSON.stringify(value) ?? "missing";
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}

function problem(source: string, lines: readonly string[]): UserError {
  return new UserError(
    lines.length === 1
      ? `${source}: ${lines[0]}`
      : `${source}: ${lines.length} problems:\n${lines.map((line) => `  - ${line}`).join("\n")}`,
  );
}
