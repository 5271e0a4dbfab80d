/** The model families: the defaults of their config.json, and the facts that the code branches on. */

import type { ModelConfig } from "./config.ts";

/** `model_type` -> the class that `architectures` names. */
export const architectures = {
  llama: "LlamaForCausalLM",
  qwen2: "Qwen2ForCausalLM",
  qwen3: "Qwen3ForCausalLM",
  qwen3_moe: "Qwen3MoeForCausalLM",
  olmo2: "Olmo2ForCausalLM",
} as const;

export type Family = keyof typeof architectures;
export const families = Object.keys(architectures) as [Family, ...Family[]];

const shared = {
  hidden_act: "silu",
  rms_norm_eps: 1e-6,
  max_position_embeddings: 2048,
  tie_word_embeddings: false,
  initializer_range: 0.02,
};
const qwen = { ...shared, max_position_embeddings: 32_768, num_key_value_heads: 32 };

/**
 * What Hugging Face's config classes take where config.json is silent. Sizes that every file states
 * have none; neither have those that follow from other sizes.
 */
const defaults: Readonly<Record<Family, Readonly<Record<string, unknown>>>> = {
  llama: { ...shared, attention_bias: false, mlp_bias: false },
  qwen2: qwen,
  qwen3: { ...qwen, head_dim: 128, attention_bias: false },
  qwen3_moe: {
    ...{ ...qwen, num_key_value_heads: 4, attention_bias: false },
    ...{ num_experts_per_tok: 8, moe_intermediate_size: 768, norm_topk_prob: false },
    ...{ decoder_sparse_step: 1, mlp_only_layers: [], router_aux_loss_coef: 0.001 },
  },
  olmo2: { ...shared, rms_norm_eps: 1e-5, attention_bias: false },
};

/** `json` with its family's defaults where it has no value; unknown families come back as they are. */
export function withDefaults(json: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const family = json.model_type as Family;
  if (!Object.hasOwn(defaults, String(family))) return { ...json };
  const given = Object.entries(json).filter(([, value]) => value !== undefined);
  const filled = { architectures: [architectures[family]], ...defaults[family] };
  const known: Record<string, unknown> = { ...filled, ...Object.fromEntries(given) };
  if (family !== "qwen3_moe") return known;
  // Newer files have num_local_experts, some write null for an empty list.
  const num_experts = json.num_experts ?? json.num_local_experts ?? 128;
  return { ...known, num_experts, mlp_only_layers: known.mlp_only_layers ?? [] };
}

/** Where the families differ, as the code asks for it. */
export interface Facts {
  /** Biases of q, k and v; of the attention's output; of the feed-forward layer. */
  readonly qkvBias: boolean;
  readonly outputBias: boolean;
  readonly feedForwardBias: boolean;
  /** RMSNorm on queries and keys: of each head, or of all heads as one row; null: none. */
  readonly qkNorm: "head" | "whole" | null;
  /** x + f(norm(x)), or x + norm(f(x)). */
  readonly normPlacement: "before" | "after";
  /** The mixture of experts in place of some feed-forward layers; null: none. */
  readonly experts: ExpertFacts | null;
}

export interface ExpertFacts {
  readonly count: number;
  /** Experts that each token goes to. */
  readonly perToken: number;
  /** Width of each expert's SwiGLU layer. */
  readonly width: number;
  /** Whether the weights of a token's experts are divided by their sum. */
  readonly renormalise: boolean;
  /** Whether layer i is a mixture. */
  readonly inLayer: (layer: number) => boolean;
}

/** The facts of a resolved configuration. */
export function factsOf(config: ModelConfig): Facts {
  const { model_type: family, attention_bias = false, mlp_bias = false } = config;
  return {
    qkvBias: family === "qwen2" || attention_bias,
    outputBias: family !== "qwen2" && attention_bias,
    feedForwardBias: family === "llama" && mlp_bias,
    qkNorm: family === "olmo2" ? "whole" : family.startsWith("qwen3") ? "head" : null,
    normPlacement: family === "olmo2" ? "after" : "before",
    experts: family === "qwen3_moe" ? expertFacts(config) : null,
  };
}

function expertFacts(config: ModelConfig): ExpertFacts {
  const { decoder_sparse_step: step = 1, mlp_only_layers: dense } = config;
  return {
    count: config.num_experts!,
    perToken: config.num_experts_per_tok!,
    width: config.moe_intermediate_size!,
    renormalise: config.norm_topk_prob!,
    inLayer: (layer) => (layer + 1) % step === 0 && !dense?.includes(layer),
  };
}

/** What of a configuration the code does not do, or cannot hold together; one sentence each. */
export function familyProblems(config: ModelConfig): string[] {
  const { model_type, num_experts = 0, num_experts_per_tok = 0 } = config;
  const found: string[] = [];
  if (!config.architectures.includes(architectures[model_type])) {
    found.push(
      `architectures is ${JSON.stringify(config.architectures)}: of ${model_type} only ` +
        `${architectures[model_type]} is supported`,
    );
  }
  const sliding = [config.layer_types ?? []].flat().find((type) => type !== "full_attention");
  if (config.use_sliding_window === true) {
    found.push("use_sliding_window is true: attention to a window is not supported");
  } else if (sliding !== undefined) {
    found.push(`layer_types has ${JSON.stringify(sliding)}: only full_attention is supported`);
  }
  if (num_experts_per_tok > num_experts) {
    found.push(`num_experts_per_tok is ${num_experts_per_tok}: num_experts is ${num_experts}`);
  }
  return found;
}
