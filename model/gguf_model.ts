/** A model's configuration as metadata of a GGUF file, and back. */

import { type ModelConfig, parseConfig } from "./config.ts";
import { UserError } from "./errors.ts";
import type { Family } from "./families.ts";
import type { GgufReader } from "./gguf.ts";
import { ggufArchitectures, ggufProblems } from "./gguf_layout.ts";
import type { Typed } from "./gguf_metadata.ts";
import { type RopeRule, ropeFrequencies, ropeRule } from "./rope.ts";

/** Where the exact rule is kept: llama.cpp has only its results, the factors. */
const ROPE_SCALING = "anamnesis.rope_scaling";
/** llama.cpp's tensor of llama3's divisors of the frequencies, one for each pair. */
export const ROPE_FACTORS = "rope_freqs.weight";

/** Metadata under llama.cpp's keys. Throws a UserError that says what it can't express. */
export function ggufMetadata(config: ModelConfig, name: string): Map<string, Typed> {
  const problems = ggufProblems(config);
  const architecture = ggufArchitectures[config.model_type];
  if (problems.length > 0) {
    const lines = problems.map((line) => `\n  - ${line}`).join("");
    throw new UserError(
      `llama.cpp's architecture ${architecture} can't express this ${config.model_type}:${lines}`,
    );
  }
  const sizes = {
    block_count: config.num_hidden_layers,
    context_length: config.max_position_embeddings,
    embedding_length: config.hidden_size,
    feed_forward_length: config.intermediate_size,
    "attention.head_count": config.num_attention_heads,
    "attention.head_count_kv": config.num_key_value_heads,
    "attention.key_length": config.head_dim,
    "attention.value_length": config.head_dim,
    "rope.dimension_count": config.head_dim,
    vocab_size: config.vocab_size,
    ...(config.model_type === "qwen3_moe" && {
      expert_count: config.num_experts!,
      expert_used_count: config.num_experts_per_tok!,
      expert_feed_forward_length: config.moe_intermediate_size!,
    }),
  };
  const numbers = {
    "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
    "rope.freq_base": config.rope_theta,
  };
  const rule = ropeRule(config);
  const own = (key: string) => `${architecture}.${key}`;
  return new Map<string, Typed>([
    ["general.architecture", { text: architecture }],
    ["general.type", { text: "model" }],
    ["general.name", { text: name }],
    ...Object.entries(sizes).map(([key, value]) => [own(key), { u32: value }] as const),
    ...Object.entries(numbers).map(([key, value]) => [own(key), { f32: value }] as const),
    ...(rule.type === "linear"
      ? ([
          [own("rope.scaling.type"), { text: "linear" }],
          [own("rope.scaling.factor"), { f32: rule.factor! }],
        ] as const)
      : []),
    ...(rule.type === "llama3" ? [[ROPE_SCALING, { text: ruleText(rule) }] as const] : []),
  ]);
}

const ruleText = ({ type, ...numbers }: RopeRule): string =>
  JSON.stringify({ ...numbers, rope_type: type });

/** What llama.cpp divides each frequency by: all 1 but under llama3's rule. */
export function ropeFactors(config: ModelConfig): Float32Array {
  const scaled = ropeFrequencies(config);
  return Float32Array.from(scaled, (frequency, i) => {
    return config.rope_theta ** (-i / scaled.length) / frequency;
  });
}

/** The configuration that a file's metadata and its arrays state; a UserError where they can't. */
export function configOfGguf(file: GgufReader): ModelConfig {
  const { metadata, entries, name } = file;
  const architecture = metadata.get("general.architecture");
  const families = Object.entries(ggufArchitectures);
  const family = families.find(([, theirs]) => theirs === architecture)?.[0] as Family | undefined;
  if (family === undefined) {
    const known = families.map(([, theirs]) => theirs).join(", ");
    throw new UserError(
      `${name}: the architecture is ${JSON.stringify(architecture)}; supported: ${known}`,
    );
  }
  const get = (key: string) => metadata.get(`${architecture}.${key}`);
  const number = (key: string) => exact(get(key));
  const heads = number("attention.head_count");
  const headDim = number("attention.key_length");
  // Where the key is absent llama.cpp and parseConfig share the width out among the heads.
  const share = Number(number("embedding_length")) / Number(heads);
  const width = headDim ?? (Number.isInteger(share) ? share : undefined);
  const optional = (fields: Record<string, unknown>) =>
    Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
  const token = (key: string) => metadata.get(`tokenizer.ggml.${key}_token_id`);
  const draft = {
    model_type: family,
    vocab_size: entries.get("token_embd.weight")?.shape[0],
    hidden_size: number("embedding_length"),
    intermediate_size: number("feed_forward_length") ?? number("expert_feed_forward_length"),
    num_hidden_layers: number("block_count"),
    num_attention_heads: heads,
    num_key_value_heads: number("attention.head_count_kv") ?? heads,
    max_position_embeddings: number("context_length"),
    rms_norm_eps: number("attention.layer_norm_rms_epsilon"),
    rope_theta: number("rope.freq_base") ?? 10_000,
    tie_word_embeddings: !entries.has("output.weight"),
    ...optional({ head_dim: headDim }),
    ...optional({
      bos_token_id: token("bos"),
      eos_token_id: token("eos"),
      pad_token_id: token("padding"),
    }),
    ...(family === "qwen3_moe" && {
      num_experts: number("expert_count"),
      num_experts_per_tok: number("expert_used_count"),
      moe_intermediate_size: number("expert_feed_forward_length"),
      norm_topk_prob: true,
    }),
    ...(family === "llama" && {
      attention_bias: entries.has("blk.0.attn_q.bias"),
      mlp_bias: entries.has("blk.0.ffn_up.bias"),
    }),
  };
  for (const key of ["attention.value_length", "rope.dimension_count"]) {
    requireEqual(file, `${architecture}.${key}`, get(key), width);
  }
  const scaling = scalingOf(file, architecture as string);
  return parseConfig({ ...draft, ...(scaling && { rope_scaling: scaling }) }, name);
}

/** An f32 as the shortest decimal that it is the nearest f32 of: 1e-6, not 9.99999997e-7. */
function exact(value: unknown): unknown {
  if (typeof value !== "number" || Number.isInteger(value)) return value;
  for (let digits = 1; digits < 9; digits++) {
    const short = Number(value.toPrecision(digits));
    if (Math.fround(short) === value) return short;
  }
  return value;
}

function requireEqual(file: GgufReader, key: string, value: unknown, wanted: unknown): void {
  if (value === undefined || wanted === undefined || value === wanted) return;
  throw new UserError(
    `${file.name}: ${key} is ${String(value)}; only ${String(wanted)} is supported`,
  );
}

/** Rules under which Llama 3.1 and 3.2 were published; a file from elsewhere has one of these. */
const published = [8, 32].map((factor) => ({
  ...{ rope_type: "llama3", factor, low_freq_factor: 1, high_freq_factor: 4 },
  original_max_position_embeddings: 8192,
}));

function scalingOf(file: GgufReader, architecture: string): object | undefined {
  const { metadata, entries, name } = file;
  const type = metadata.get(`${architecture}.rope.scaling.type`) ?? "none";
  const factor = exact(metadata.get(`${architecture}.rope.scaling.factor`));
  if (type === "linear") return { rope_type: "linear", factor };
  if (type !== "none") {
    throw new UserError(`${name}: rope.scaling.type is ${JSON.stringify(type)}: not supported`);
  }
  const factors = entries.get(ROPE_FACTORS);
  if (factors === undefined) return undefined;
  const kept = metadata.get(ROPE_SCALING);
  if (typeof kept === "string") {
    try {
      return { ...JSON.parse(kept), rope_type: "llama3" };
    } catch (cause) {
      throw new UserError(`${name}: ${ROPE_SCALING} is not JSON`, { cause });
    }
  }
  const [pairs] = factors.shape;
  const found = file.read(factors, new Float32Array(pairs!));
  const theta = exact(metadata.get(`${architecture}.rope.freq_base`)) as number;
  const rule = published.find((candidate) => {
    const config = { head_dim: 2 * pairs!, rope_theta: theta, rope_scaling: candidate };
    return ropeFactors(config as unknown as ModelConfig).every(
      (x, i) => Math.abs(x / found[i]! - 1) < 1e-4,
    );
  });
  if (rule !== undefined) return rule;
  throw new UserError(`${name}: ${ROPE_FACTORS} holds none of the published rules of Llama 3`);
}
