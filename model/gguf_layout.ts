/** Where a model's tensors stand in a GGUF file: names, order of rows, experts one behind the other. */

import type { Shape } from "../tensor/mod.ts";
import type { ModelConfig } from "./config.ts";
import { type Family, factsOf } from "./families.ts";
import { headName, parameterShapes } from "./parameters.ts";
import { ropeRule } from "./rope.ts";

/** `model_type` -> llama.cpp's name of the architecture. */
export const ggufArchitectures: Readonly<Record<Family, string>> = {
  llama: "llama",
  qwen2: "qwen2",
  qwen3: "qwen3",
  qwen3_moe: "qwen3moe",
  olmo2: "olmo2",
};

/** An array of the file. */
export interface GgufArray {
  readonly name: string;
  /** Row-major; experts are the first axis. */
  readonly shape: Shape;
  /** The parameters that it holds, one behind the other: several only where they are experts. */
  readonly parts: readonly string[];
  /** Heads whose rows are stored in pairs that turn together; 0: as they are. */
  readonly turned: number;
  /** Whether it is stored in the file's type; vectors and routers are always F32. */
  readonly isMatrix: boolean;
}

const inBlock: Readonly<Record<string, string>> = {
  input_layernorm: "attn_norm",
  "self_attn.q_proj": "attn_q",
  "self_attn.k_proj": "attn_k",
  "self_attn.v_proj": "attn_v",
  "self_attn.o_proj": "attn_output",
  "self_attn.q_norm": "attn_q_norm",
  "self_attn.k_norm": "attn_k_norm",
  "mlp.gate_proj": "ffn_gate",
  "mlp.up_proj": "ffn_up",
  "mlp.down_proj": "ffn_down",
  "mlp.gate": "ffn_gate_inp",
  post_feedforward_layernorm: "post_ffw_norm",
};
const outside: Readonly<Record<string, string>> = {
  "model.embed_tokens.weight": "token_embd.weight",
  "model.norm.weight": "output_norm.weight",
  "lm_head.weight": "output.weight",
};

/** Every array of a model's file, in the order of a forward pass. */
export function ggufArrays(config: ModelConfig): GgufArray[] {
  const { normPlacement } = factsOf(config);
  const isLlama = config.model_type === "llama";
  const arrays = new Map<string, GgufArray>();
  for (const [part, shape] of parameterShapes(config)) {
    const [, layer, module, expert, kind] =
      /^model\.layers\.(\d+)\.(.*?)(\.experts\.\d+\.\w+)?\.(weight|bias)$/.exec(part) ?? [];
    if (layer === undefined) {
      const [name, parts] = [outside[part]!, [part]];
      arrays.set(name, { name, shape, parts, turned: 0, isMatrix: shape.length > 1 });
      continue;
    }
    const own = expert ? `mlp.${expert.split(".").at(-1)}` : module!;
    // The norm behind attention in OLMo 2, the norm before the feed-forward layer elsewhere.
    const second = normPlacement === "after" ? "post_attention_norm" : "ffn_norm";
    const short = own === "post_attention_layernorm" ? second : inBlock[own]!;
    const name = `blk.${layer}.${short}${expert ? "_exps" : ""}.${kind}`;
    const before = arrays.get(name);
    const parts = [...(before?.parts ?? []), part];
    arrays.set(name, {
      ...{ name, parts, turned: isLlama ? headsOf(config, own) : 0 },
      shape: expert ? [parts.length, ...shape] : shape,
      isMatrix: shape.length > 1 && own !== "mlp.gate",
    });
  }
  // llama.cpp takes the embedding for a missing head, but not for this architecture.
  if (config.model_type === "olmo2" && !arrays.has("output.weight")) {
    const embedding = arrays.get("token_embd.weight")!;
    arrays.set("output.weight", { ...embedding, name: "output.weight", parts: [headName(config)] });
  }
  return [...arrays.values()];
}

function headsOf(config: ModelConfig, module: string): number {
  if (module === "self_attn.q_proj") return config.num_attention_heads;
  return module === "self_attn.k_proj" ? config.num_key_value_heads : 0;
}

/**
 * Hugging Face turns entry i of a head of d together with entry i + d/2, llama.cpp's llama
 * architecture 2i with 2i + 1. The rows (of a bias: numbers) in the other order; `back` undoes it.
 */
export function reorderHeads(
  values: Float32Array,
  rows: number,
  heads: number,
  back = false,
): Float32Array {
  const width = values.length / rows;
  const half = rows / heads / 2;
  const result = new Float32Array(values.length);
  for (let row = 0; row < rows; row++) {
    const inHead = row % (2 * half);
    const paired = row - inHead + 2 * (inHead % half) + Math.floor(inHead / half);
    const [from, to] = back ? [paired, row] : [row, paired];
    result.set(values.subarray(from * width, (from + 1) * width), to * width);
  }
  return result;
}

/** What of a configuration llama.cpp's architecture of its family does not do; one sentence each. */
export function ggufProblems(config: ModelConfig): string[] {
  const { model_type: family, num_hidden_layers: layers } = config;
  const { qkvBias, experts } = factsOf(config);
  const found: string[] = [];
  if (qkvBias && family !== "llama" && family !== "qwen2") {
    found.push("attention_bias is true: its attention has no biases there");
  }
  if (ropeRule(config).type === "llama3" && family !== "llama") {
    found.push('rope type "llama3": only the llama architecture has it there');
  }
  if (experts?.renormalise === false) {
    found.push("norm_topk_prob is false: there the chosen experts' weights always add up to 1");
  }
  if (experts && !Array.from({ length: layers }, (_, i) => i).every(experts.inLayer)) {
    found.push("some layers have no experts: there all of them do");
  }
  const width = config.num_attention_heads * config.head_dim;
  if (family === "olmo2" && width !== config.hidden_size) {
    found.push(
      `the heads have ${width} entries, there they must have hidden_size ${config.hidden_size}`,
    );
  }
  return found;
}
