/** How many sequences are in work at a time: as many as a fixed amount of memory holds. */

import type { ModelConfig } from "./config.ts";
import { parameterShapes } from "./parameters.ts";

/** Bytes that the rows of a decoding pass may take: their keys and values, and their logits. */
const DECODING = 2 ** 30;
/** Bytes that weights and the activations of a training pass may take: what WebAssembly addresses. */
const TRAINING = 2 ** 32;
/** The least that is left to activations, beside weights however large. */
const LEAST_ACTIVATIONS = 2 ** 28;
/** Weights of more bytes than these are decoded from as they are, without a second copy. */
const PACKED = 2 ** 30;

/** Bytes of the weights in f32. */
export const weightBytes = (config: ModelConfig): number =>
  [...parameterShapes(config).values()].reduce(
    (sum, shape) => sum + 4 * shape.reduce((product, n) => product * n, 1),
    0,
  );

/** Whether decoding copies the weights into the order that it reads fastest. */
export const packsWeights = (config: ModelConfig): boolean => weightBytes(config) <= PACKED;

/** The feed-forward layer's width; of a mixture that of the experts that a token goes through. */
function widest(config: ModelConfig): number {
  const { intermediate_size, moe_intermediate_size = 0, num_experts_per_tok = 0 } = config;
  return Math.max(intermediate_size, moe_intermediate_size * num_experts_per_tok);
}

/** Numbers that a pass without gradients holds at once for a row: one layer's vectors of each token. */
const passing = (config: ModelConfig, length: number): number =>
  length * (4 * config.hidden_size + 3 * widest(config));

/**
 * Rows that decoding holds at a time: at most `most`, at least one. A row takes keys and values of
 * `length` positions in every layer and one such array more (the one that is being copied when rows
 * part), two rows of logits, and what its prompt's pass holds. Changes nothing of what is sampled.
 */
export function decodingRows(config: ModelConfig, length: number, most: number): number {
  const { num_hidden_layers, num_key_value_heads, head_dim, vocab_size } = config;
  const cache = (2 * num_hidden_layers + 1) * num_key_value_heads * head_dim * length;
  return within(DECODING / (4 * (cache + 2 * vocab_size + passing(config, length))), most);
}

/** Rows of `length` tokens that are scored at a time: at most `most`, at least one. */
export const scoringRows = (config: ModelConfig, length: number, most: number): number =>
  within(DECODING / (4 * Math.max(1, passing(config, length))), most);

/**
 * Numbers that backward reads of a token: in each layer about ten vectors, six of the residual
 * stream's width and four of the query heads' (where that is more), and four of the feed-forward
 * layer's width. In a mixture each of a token's experts has three vectors of the stream's width more.
 */
export function heldNumbers(config: ModelConfig): number {
  const { num_hidden_layers, hidden_size, num_attention_heads, head_dim } = config;
  const heads = Math.max(hidden_size, num_attention_heads * head_dim);
  const experts = 3 * (config.num_experts_per_tok ?? 0) * hidden_size;
  return num_hidden_layers * (6 * hidden_size + 4 * heads + 4 * widest(config) + experts);
}

/**
 * Rows of `length` tokens that a training pass holds at a time: at most `most`, at least one. The
 * weights and what there is of their size beside them (`copies`, the weights among them) are left
 * out of the room.
 */
export function trainingRows(
  config: ModelConfig,
  length: number,
  most: number,
  copies = ADAPTED,
): number {
  const left = Math.max(LEAST_ACTIVATIONS, TRAINING - copies * weightBytes(config));
  return within(left / (4 * heldNumbers(config) * Math.max(1, length)), most);
}

/** With adapters: the weights, and a quarter of them for what comes and goes. */
export const ADAPTED = 1.25;
/** All weights trained: base, policy, gradients and those of a micro-batch, two moments. */
export const ALL_TRAINED = 6.25;

const within = (rows: number, most: number): number =>
  Math.max(1, Math.min(most, Math.floor(rows)));
