/** The whole model in one file: tokens to hidden states, logits, log-probabilities of tokens. */

import { arange, isRecording, keep, scope, type Tensor, tensor } from "../tensor/mod.ts";
import { plusAdapter } from "./adapters.ts";
import { type Cache, extendCache } from "./cache.ts";
import type { ModelConfig } from "./config.ts";
import { mixture, type Routing, route } from "./experts.ts";
import { type Facts, factsOf } from "./families.ts";
import { type PackedWeights, pack } from "./packed.ts";
import { headName, type ParameterTree, parameter } from "./parameters.ts";
import { type RopeTables, ropeTables } from "./rope.ts";
import { stored } from "./stored.ts";

export interface HiddenOptions {
  /** i32 [b t]: the place of each token in its sequence. Default 0 … t-1 in every row. */
  readonly positions?: Tensor;
  /** Earlier positions of the same rows; this pass's keys and values are added to it. */
  readonly cache?: Cache;
  /** Where decoding keeps its copies of the weights; without it they are read as they are. */
  readonly packed?: PackedWeights;
  /** Gets where each mixture of experts sent its tokens; the caller disposes the tensors. */
  readonly routing?: Routing[];
}

/** What every block needs beside its input. */
interface Pass {
  readonly parameters: ParameterTree;
  readonly config: ModelConfig;
  readonly facts: Facts;
  readonly positions: Tensor;
  readonly cache: Cache | undefined;
  readonly packed: PackedWeights | undefined;
  readonly routing: Routing[] | undefined;
  readonly rope: RopeTables;
}

/**
 * Hidden states after the last norm: tokens i32 [b t] -> [b t d]. A decoder as in Llama
 * (https://arxiv.org/abs/2307.09288), Qwen (https://arxiv.org/abs/2505.09388) or OLMo 2
 * (https://arxiv.org/abs/2501.00656). Padding goes on the right: no token sees what follows.
 */
export function hidden(
  parameters: ParameterTree,
  config: ModelConfig,
  tokens: Tensor,
  options: HiddenOptions = {},
): Tensor {
  const [b, t] = shapeOfTokens(tokens, config, options);
  return scope(() => {
    const positions = options.positions ?? arange(t, { device: tokens.device }).expand([b, t]);
    const rope = ropeTables(config, tokens.device);
    const { cache, packed, routing } = options;
    const facts = factsOf(config);
    const pass = { parameters, config, facts, positions, cache, packed, routing, rope };
    const embeddings = parameter(parameters, "model.embed_tokens.weight");
    // Rows stay flat, [b·t d]: each linear layer is one matrix product over all of them.
    let x = embeddings.embedding(tokens.reshape([b * t]));
    for (let layer = 0; layer < config.num_hidden_layers; layer++) {
      const next = scope(() => block(x, layer, pass));
      x.dispose();
      x = next;
    }
    return norm(x, "model.norm", pass).reshape([b, t, config.hidden_size]);
  });
}

/** x + attention(norm(x)), then + feed-forward(norm(x)); OLMo 2 norms the results; x [b·t d]. */
function block(x: Tensor, layer: number, pass: Pass): Tensor {
  const name = `model.layers.${layer}`;
  const normed = (y: Tensor, part: string): Tensor => norm(y, `${name}.${part}_layernorm`, pass);
  if (pass.facts.normPlacement === "after") {
    const attended = x.add(normed(selfAttention(x, layer, pass), "post_attention"));
    return attended.add(normed(feedForward(attended, layer, pass), "post_feedforward"));
  }
  const attended = x.add(selfAttention(normed(x, "input"), layer, pass));
  return attended.add(feedForward(normed(attended, "post_attention"), layer, pass));
}

function selfAttention(x: Tensor, layer: number, pass: Pass): Tensor {
  const { config, facts, positions, cache, rope } = pass;
  const [b, t] = positions.shape as [number, number];
  const { num_attention_heads, num_key_value_heads, head_dim } = config;
  const name = `model.layers.${layer}.self_attn`;
  // -> [b count t head_dim], each row (`whole`) or each head of it first divided by its size
  const heads = (y: Tensor, count: number, normName?: "q_norm" | "k_norm"): Tensor => {
    const normed = (z: Tensor, of: Facts["qkNorm"]): Tensor =>
      normName && facts.qkNorm === of ? norm(z, `${name}.${normName}`, pass) : z;
    const split = normed(y, "whole").reshape([b, t, count, head_dim]);
    return normed(split, "head").transpose([0, 2, 1, 3]);
  };
  const turned = (y: Tensor): Tensor => y.rope(positions, rope.cos, rope.sin);

  const [q, k, v] = linear(x, name, ["q_proj", "k_proj", "v_proj"], pass, facts.qkvBias);
  const queries = heads(q!, num_attention_heads, "q_norm");
  const keys = heads(k!, num_key_value_heads, "k_norm");
  const fresh = { keys, values: heads(v!, num_key_value_heads) };
  const seen = cache
    ? extendCache(cache, layer, { ...fresh, queries, positions, rope })
    : { ...fresh, queries: turned(queries), keys: turned(fresh.keys) };
  const options = { scale: 1 / Math.sqrt(head_dim) };
  const mixed = seen.queries.attention(seen.keys, seen.values, positions, options);
  const rows = mixed.transpose([0, 2, 1, 3]).reshape([b * t, num_attention_heads * head_dim]);
  return linear(rows, name, ["o_proj"], pass, facts.outputBias)[0]!;
}

/** SwiGLU, or in a mixture the weighted sum of each token's experts. */
function feedForward(x: Tensor, layer: number, pass: Pass): Tensor {
  const { experts } = pass.facts;
  const name = `model.layers.${layer}.mlp`;
  if (!experts?.inLayer(layer)) return perceptron(x, name, pass);
  const routing = route(linear(x, name, ["gate"], pass)[0]!, experts);
  for (const t of pass.routing ? Object.values(routing) : []) keep(t);
  pass.routing?.push(routing);
  return mixture(x, routing, (rows, e) => perceptron(rows, `${name}.experts.${e}`, pass));
}

function perceptron(x: Tensor, name: string, pass: Pass): Tensor {
  const bias = pass.facts.feedForwardBias;
  const [gate, up] = linear(x, name, ["gate_proj", "up_proj"], pass, bias);
  return linear(stored(gate!).swiGlu(stored(up!)), name, ["down_proj"], pass, bias)[0]!;
}

const norm = (x: Tensor, name: string, { parameters, config }: Pass): Tensor =>
  x.rmsNorm(parameter(parameters, `${name}.weight`), { eps: config.rms_norm_eps });

/**
 * x·Wᵀ + b for each part's W [out in], as Hugging Face stores it, and what its adapter adds; one
 * product where packed.
 */
function linear(
  x: Tensor,
  module: string,
  parts: readonly string[],
  { parameters, packed }: Pick<Pass, "parameters" | "packed">,
  bias = false,
): Tensor[] {
  const all = (kind: string) =>
    parts.map((part) => parameter(parameters, `${module}.${part}.${kind}`));
  const weights = all("weight");
  const biases = bias ? all("bias") : undefined;
  const plus = (y: Tensor, b: Tensor | undefined): Tensor => (b ? y.add(b) : y);
  const input = stored(x);
  const adapted = (y: Tensor, i: number): Tensor =>
    plusAdapter(y, input, `${module}.${parts[i]}`, parameters);
  if (packed === undefined) {
    return weights.map((weight, i) =>
      adapted(plus(input.matmul(stored(weight).transpose()), biases?.[i]), i),
    );
  }
  const name = `${module}.${parts[0]}`;
  const product = input.matmul(pack(packed, name, weights));
  const together = plus(product, biases && pack(packed, `${name}.bias`, biases));
  let end = 0;
  return weights.map(({ shape }, i) => {
    const from = end;
    end += shape[0]!;
    const own = weights.length === 1 ? together : together.slice([null, [from, end]]);
    return adapted(own, i);
  });
}

/** Scores of the next token: hidden states [... d] -> [... vocabulary], over `temperature`. */
export function logits(
  parameters: ParameterTree,
  config: ModelConfig,
  states: Tensor,
  temperature = 1,
  packed?: PackedWeights,
): Tensor {
  return scope(() => {
    const rows = stored(states.reshape([-1, config.hidden_size]));
    const head = parameter(parameters, headName(config));
    const scores = rows.matmul(packed ? pack(packed, "head", [head]) : stored(head).transpose());
    const tempered = temperature === 1 ? scores : scores.div(temperature);
    return tempered.reshape([...states.shape.slice(0, -1), config.vocab_size]);
  });
}

export interface LogProbOptions {
  /** Divides the logits, as sampling does; default 1. */
  readonly temperature?: number;
  /** Distinct flat indices into [b·t]: only these go through the head, the others give 0. */
  readonly rows?: ArrayLike<number>;
  /** Rows that go through the head at a time where no logits are kept; default some megabytes. */
  readonly chunk?: number;
  /** See HiddenOptions. */
  readonly routing?: Routing[];
}

/** Logits that backward may find kept, 256 MiB: beyond that it computes them anew, in chunks. */
const MOST_LOGITS = 1 << 26;

/**
 * log softmax(logits / temperature)[target] for each position: tokens and targets i32 [b t] ->
 * [b t]; a target of -1 gives 0 and no gradient. The result of a row is the same bits whatever
 * `rows` and `chunk` are, and the same call gives the same bits again: on policy, the ratio of two
 * such calls is exactly 1.
 */
export function tokenLogProbs(
  parameters: ParameterTree,
  config: ModelConfig,
  tokens: Tensor,
  targets: Tensor,
  options: LogProbOptions = {},
): Tensor {
  const { temperature = 1, rows, chunk, routing } = options;
  return scope(() => {
    const size = tokens.size;
    const states = hidden(parameters, config, tokens, routing && { routing });
    const all = states.reshape([size, config.hidden_size]);
    const index = rows && tensor(Int32Array.from(rows), [rows.length], { device: tokens.device });
    const own = index ? all.embedding(index) : all;
    const wanted = index ? pick(targets, index) : targets.reshape([size]);
    const count = wanted.size;
    const keepLogits = isRecording() && count * config.vocab_size <= MOST_LOGITS;
    const head = stored(parameter(parameters, headName(config)));
    const form = { temperature, keepLogits, ...(chunk !== undefined && { chunk }) };
    const [found] = stored(own).linearLogProb(head, wanted, form);
    const placed = index ? found.reshape([count, 1]).scatterRows(index, size) : found;
    return placed.reshape(tokens.shape);
  });
}

/** Entries of an i32 array. Rows are picked from f32 tables only: exact for ids below 2²⁴. */
const pick = (ids: Tensor, index: Tensor): Tensor =>
  ids.toF32().reshape([ids.size, 1]).embedding(index).toI32().reshape([index.size]);

function shapeOfTokens(
  { shape }: Tensor,
  { max_position_embeddings: most }: ModelConfig,
  { positions, cache }: HiddenOptions,
): [b: number, t: number] {
  const [b, t] = shape;
  if (shape.length !== 2 || b === undefined || t === undefined) {
    throw new Error(`transformer: tokens have shape [${shape.join(" ")}], expected [b t]`);
  }
  if (positions === undefined && cache !== undefined) {
    throw new Error("transformer: a pass with a cache needs `positions`, the tokens' places");
  }
  if (positions === undefined && t > most) {
    throw new Error(`transformer: ${t} positions, but max_position_embeddings is ${most}`);
  }
  return [b, t];
}
