/** The whole model in one file: tokens to hidden states, logits, log-probabilities of tokens. */

import {
  arange,
  type Device,
  isRecording,
  keep,
  scope,
  type Tensor,
  tensor,
} from "../tensor/mod.ts";
import { type Cache, extendCache } from "./cache.ts";
import type { ModelConfig } from "./config.ts";
import { type PackedWeights, pack } from "./packed.ts";
import { headName, type ParameterTree, parameter } from "./parameters.ts";

export interface HiddenOptions {
  /** i32 [b t]: the place of each token in its sequence. Default 0 … t-1 in every row. */
  readonly positions?: Tensor;
  /** Earlier positions of the same rows; this pass's keys and values are added to it. */
  readonly cache?: Cache;
  /** Where decoding keeps its copies of the weights; without it they are read as they are. */
  readonly packed?: PackedWeights;
}

/** What every block needs beside its input. */
interface Pass {
  readonly parameters: ParameterTree;
  readonly config: ModelConfig;
  readonly positions: Tensor;
  readonly cache: Cache | undefined;
  readonly packed: PackedWeights | undefined;
  readonly rope: RopeTables;
}

/**
 * Hidden states after the last norm: tokens i32 [b t] -> [b t d]. A pre-norm decoder as in Llama 2
 * and 3 (https://arxiv.org/abs/2307.09288). Padding goes on the right: no token sees what follows.
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
    const { cache, packed } = options;
    const pass = { parameters, config, positions, cache, packed, rope };
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

/** x + attention(norm(x)), then + feed-forward(norm(x)); x [b·t d]. */
function block(x: Tensor, layer: number, pass: Pass): Tensor {
  const name = `model.layers.${layer}`;
  const attended = x.add(selfAttention(norm(x, `${name}.input_layernorm`, pass), layer, pass));
  const normed = norm(attended, `${name}.post_attention_layernorm`, pass);
  return attended.add(feedForward(normed, `${name}.mlp`, pass));
}

function selfAttention(x: Tensor, layer: number, pass: Pass): Tensor {
  const { config, positions, cache, rope } = pass;
  const [b, t] = positions.shape as [number, number];
  const { num_attention_heads, num_key_value_heads, head_dim } = config;
  const name = `model.layers.${layer}.self_attn`;
  // -> [b count t head_dim]
  const heads = (y: Tensor, count: number): Tensor =>
    y.reshape([b, t, count, head_dim]).transpose([0, 2, 1, 3]);
  const turned = (y: Tensor): Tensor => y.rope(positions, rope.cos, rope.sin);

  const [q, k, v] = linear(x, name, ["q_proj", "k_proj", "v_proj"], pass);
  const queries = heads(q!, num_attention_heads);
  const fresh = { keys: heads(k!, num_key_value_heads), values: heads(v!, num_key_value_heads) };
  const seen = cache
    ? extendCache(cache, layer, { ...fresh, queries, positions, rope })
    : { ...fresh, queries: turned(queries), keys: turned(fresh.keys) };
  const options = { scale: 1 / Math.sqrt(head_dim) };
  const mixed = seen.queries.attention(seen.keys, seen.values, positions, options);
  const rows = mixed.transpose([0, 2, 1, 3]).reshape([b * t, num_attention_heads * head_dim]);
  return linear(rows, name, ["o_proj"], pass)[0]!;
}

function feedForward(x: Tensor, name: string, pass: Pass): Tensor {
  const [gate, up] = linear(x, name, ["gate_proj", "up_proj"], pass);
  return linear(gate!.swiGlu(up!), name, ["down_proj"], pass)[0]!;
}

const norm = (x: Tensor, name: string, { parameters, config }: Pass): Tensor =>
  x.rmsNorm(parameter(parameters, `${name}.weight`), { eps: config.rms_norm_eps });

/** x·Wᵀ for each part's W [out in], as Hugging Face stores it; one product where they are packed. */
function linear(
  x: Tensor,
  module: string,
  parts: readonly string[],
  { parameters, packed }: Pick<Pass, "parameters" | "packed">,
): Tensor[] {
  const weights = parts.map((part) => parameter(parameters, `${module}.${part}.weight`));
  if (packed === undefined) return weights.map((weight) => x.matmul(weight.transpose()));
  const all = x.matmul(pack(packed, `${module}.${parts[0]}`, weights));
  let end = 0;
  return weights.map(({ shape }) => {
    const from = end;
    end += shape[0]!;
    return weights.length === 1 ? all : all.slice([null, [from, end]]);
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
    const rows = states.reshape([-1, config.hidden_size]);
    const head = parameter(parameters, headName(config));
    const scores = rows.matmul(packed ? pack(packed, "head", [head]) : head.transpose());
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
  const { temperature = 1, rows, chunk } = options;
  return scope(() => {
    const size = tokens.size;
    const all = hidden(parameters, config, tokens).reshape([size, config.hidden_size]);
    const index = rows && tensor(Int32Array.from(rows), [rows.length], { device: tokens.device });
    const states = index ? all.embedding(index) : all;
    const wanted = index ? pick(targets, index) : targets.reshape([size]);
    const count = wanted.size;
    const keepLogits = isRecording() && count * config.vocab_size <= MOST_LOGITS;
    const head = parameter(parameters, headName(config));
    const own = { temperature, keepLogits, ...(chunk !== undefined && { chunk }) };
    const [found] = states.linearLogProb(head, wanted, own);
    const placed = index ? found.reshape([count, 1]).scatterRows(index, size) : found;
    return placed.reshape(tokens.shape);
  });
}

/** Entries of an i32 array. Rows are picked from f32 tables only: exact for ids below 2²⁴. */
const pick = (ids: Tensor, index: Tensor): Tensor =>
  ids.toF32().reshape([ids.size, 1]).embedding(index).toI32().reshape([index.size]);

interface RopeTables {
  readonly cos: Tensor;
  readonly sin: Tensor;
}
const tables = new WeakMap<Device, Map<string, RopeTables>>();

/**
 * cos and sin of position · theta^(-2i/d), [max_position_embeddings d/2]. Computed once for each
 * device and kept for the life of the process: two buffers that stay alive.
 */
export function ropeTables(config: ModelConfig, device: Device): RopeTables {
  const { rope_theta: theta, head_dim, max_position_embeddings: positions } = config;
  const known = tables.get(device) ?? new Map<string, RopeTables>();
  tables.set(device, known);
  const key = `${theta} ${head_dim} ${positions}`;
  const found = known.get(key);
  if (found !== undefined) return found;
  const half = head_dim / 2;
  const table = (f: (angle: number) => number): Tensor => {
    const angle = (i: number) => Math.floor(i / half) * theta ** (-(i % half) / half);
    const values = Float64Array.from({ length: positions * half }, (_, i) => f(angle(i)));
    return keep(tensor(values, [positions, half], { device }));
  };
  const made = { cos: table(Math.cos), sin: table(Math.sin) };
  known.set(key, made);
  return made;
}

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
