/** A second, plain implementation of every model family: loops over arrays, from the formulas. */

import type { ModelConfig } from "../../model/config.ts";
import type { Tensor } from "../../tensor/mod.ts";

export interface PlainResult {
  /** [position][word]. */
  readonly logits: number[][];
  /** Of each layer with experts, of each position: its probabilities, and the chosen experts. */
  readonly routing: { probabilities: number[]; chosen: number[] }[][];
}

type Llama3 = Readonly<Record<string, number>>;

const dot = (a: readonly number[], b: readonly number[]): number =>
  a.reduce((sum, x, i) => sum + x * b[i]!, 0);
const plus = (a: readonly number[], b: readonly number[]): number[] => a.map((x, i) => x + b[i]!);
const softmax = (x: readonly number[]): number[] => {
  const powers = x.map((value) => Math.exp(value - Math.max(...x)));
  return powers.map((p) => p / powers.reduce((a, b) => a + b));
};

/** Radians that pair i of a head turns by from one position to the next. */
function frequency(config: ModelConfig, i: number): number {
  const plain = 1 / config.rope_theta ** ((2 * i) / config.head_dim);
  const scaling = (config.rope_scaling ?? {}) as { rope_type?: string } & Llama3;
  if (scaling.rope_type === "linear") return plain / scaling.factor!;
  if (scaling.rope_type !== "llama3") return plain;
  const original = scaling.original_max_position_embeddings!;
  const wavelength = (2 * Math.PI) / plain;
  if (wavelength < original / scaling.high_freq_factor!) return plain;
  if (wavelength > original / scaling.low_freq_factor!) return plain / scaling.factor!;
  const smooth =
    (original / wavelength - scaling.low_freq_factor!) /
    (scaling.high_freq_factor! - scaling.low_freq_factor!);
  return (1 - smooth) * (plain / scaling.factor!) + smooth * plain;
}

/** What a model says after each of `tokens`; reads nothing but the weights and config.json's keys. */
export function plainForward(
  tree: ReadonlyMap<string, Tensor>,
  config: ModelConfig,
  tokens: readonly number[],
): PlainResult {
  const arrays = new Map([...tree].map(([name, t]) => [name, t.toArray()]));
  const matrix = (name: string) => arrays.get(`${name}.weight`) as number[][];
  const norm = (x: readonly number[], name: string): number[] => {
    const weight = arrays.get(`${name}.weight`) as number[];
    const scale = 1 / Math.sqrt(dot(x, x) / x.length + config.rms_norm_eps);
    return x.map((value, i) => value * scale * weight[i]!);
  };
  const linear = (x: readonly number[], name: string): number[] => {
    const product = matrix(name).map((row) => dot(row, x));
    const bias = arrays.get(`${name}.bias`) as number[] | undefined;
    return bias ? plus(product, bias) : product;
  };
  const swiGlu = (x: readonly number[], name: string): number[] => {
    const up = linear(x, `${name}.up_proj`);
    const gate = linear(x, `${name}.gate_proj`).map((z, i) => (z / (1 + Math.exp(-z))) * up[i]!);
    return linear(gate, `${name}.down_proj`);
  };
  const d = config.head_dim;
  const split = (x: readonly number[]): number[][] =>
    Array.from({ length: x.length / d }, (_, h) => x.slice(h * d, (h + 1) * d));
  const turn = (x: readonly number[], at: number): number[] =>
    x.map((value, i) => {
      const angle = at * frequency(config, i % (d / 2));
      const partner = i < d / 2 ? -x[i + d / 2]! : x[i - d / 2]!;
      return value * Math.cos(angle) + partner * Math.sin(angle);
    });
  const family = config.model_type;
  const headsOf = (x: readonly number[], name: string): number[][] => {
    const y = linear(x, `${name}_proj`);
    if (name.endsWith("v")) return split(y);
    if (family === "olmo2") return split(norm(y, `${name}_norm`));
    return split(y).map((head) => (family.startsWith("qwen3") ? norm(head, `${name}_norm`) : head));
  };
  const attention = (rows: readonly number[][], name: string): number[][] => {
    const [q, k, v] = ["q", "k", "v"].map((part) => rows.map((x) => headsOf(x, `${name}.${part}`)));
    const turned = (heads: number[][][]) => heads.map((row, t) => row.map((x) => turn(x, t)));
    const [queries, keys] = [turned(q!), turned(k!)];
    const shared = config.num_attention_heads / config.num_key_value_heads;
    return queries.map((row, t) => {
      const mixed = row.map((query, h) => {
        const group = Math.floor(h / shared);
        const seen = keys.slice(0, t + 1);
        const weights = softmax(seen.map((key) => dot(query, key[group]!) / Math.sqrt(d)));
        return query.map((_, i) => weights.reduce((sum, w, s) => sum + w * v![s]![group]![i]!, 0));
      });
      return linear(mixed.flat(), `${name}.o_proj`);
    });
  };
  const routing: PlainResult["routing"] = [];
  const isSparse = (layer: number): boolean =>
    family === "qwen3_moe" &&
    !(config.mlp_only_layers ?? []).includes(layer) &&
    (layer + 1) % (config.decoder_sparse_step ?? 1) === 0;
  const feedForward = (rows: readonly number[][], layer: number): number[][] => {
    const name = `model.layers.${layer}.mlp`;
    if (!isSparse(layer)) return rows.map((x) => swiGlu(x, name));
    const decisions: PlainResult["routing"][number] = [];
    routing.push(decisions);
    return rows.map((x) => {
      const probabilities = softmax(linear(x, `${name}.gate`));
      const order = probabilities.map((_, e) => e);
      order.sort((a, b) => probabilities[b]! - probabilities[a]! || a - b);
      const chosen = order.slice(0, config.num_experts_per_tok);
      decisions.push({ probabilities, chosen });
      const mass = chosen.reduce((sum, e) => sum + probabilities[e]!, 0);
      return chosen
        .map((e) => {
          const weight = probabilities[e]! / (config.norm_topk_prob ? mass : 1);
          return swiGlu(x, `${name}.experts.${e}`).map((y) => weight * y);
        })
        .reduce(plus);
    });
  };
  let states = tokens.map((id) => matrix("model.embed_tokens")[id]!);
  for (let layer = 0; layer < config.num_hidden_layers; layer++) {
    const part = (name: string) => `model.layers.${layer}.${name}`;
    const normed = (rows: readonly number[][], name: string) =>
      rows.map((x) => norm(x, part(`${name}_layernorm`)));
    const add = (rows: readonly number[][]) => states.map((x, t) => plus(x, rows[t]!));
    if (family === "olmo2") {
      states = add(normed(attention(states, part("self_attn")), "post_attention"));
      states = add(normed(feedForward(states, layer), "post_feedforward"));
    } else {
      states = add(attention(normed(states, "input"), part("self_attn")));
      states = add(feedForward(normed(states, "post_attention"), layer));
    }
  }
  const head = matrix(config.tie_word_embeddings ? "model.embed_tokens" : "lm_head");
  const logits = states.map((x) => {
    const last = norm(x, "model.norm");
    return head.map((row) => dot(row, last));
  });
  return { logits, routing };
}
