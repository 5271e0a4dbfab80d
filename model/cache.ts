/** The keys and values of positions that a model has seen, so that a new token costs one row. */

import { keep, type Tensor, zeros } from "../tensor/mod.ts";
import type { ModelConfig } from "./config.ts";
import { type ParameterTree, parameter } from "./parameters.ts";

/** One row a sequence: keys and values of each layer are [b g s d], g key-value heads. */
export interface Cache {
  readonly keys: Tensor[];
  readonly values: Tensor[];
  /** Positions that there is room for: s. */
  readonly capacity: number;
  /** Attention looks at slots [0, length). Set it to the largest position + 1 before each pass. */
  length: number;
}

/** An empty cache for `rows` sequences of at most `capacity` tokens; free it with disposeCache. */
export function createCache(
  parameters: ParameterTree,
  config: ModelConfig,
  size: { rows: number; capacity: number },
): Cache {
  const { device } = parameter(parameters, "model.norm.weight");
  const { num_hidden_layers, num_key_value_heads, head_dim } = config;
  const shape = [size.rows, num_key_value_heads, size.capacity, head_dim];
  // Zeros, not uninitialised memory: an unused slot has weight 0, and 0 · NaN would be NaN.
  const empty = () =>
    Array.from({ length: num_hidden_layers }, () => keep(zeros(shape, { device })));
  return { keys: empty(), values: empty(), capacity: size.capacity, length: 0 };
}

/**
 * Makes row i a copy of what row `rows[i]` was; a row may be taken many times, or never. Each array
 * is freed before the next one is copied, so that two whole caches are never held at once.
 */
export function selectRows(cache: Cache, rows: Tensor): void {
  const take = (t: Tensor): Tensor => {
    const [b, ...rest] = t.shape as [number, ...number[]];
    const flat = t.reshape([b, -1]);
    const picked = flat.embedding(rows);
    const shaped = picked.reshape([rows.size, ...rest]);
    for (const old of [flat, picked, t]) old.dispose();
    return keep(shaped);
  };
  for (const arrays of [cache.keys, cache.values]) {
    for (const [layer, t] of arrays.entries()) arrays[layer] = take(t);
  }
}

export function disposeCache({ keys, values }: Cache): void {
  for (const t of [...keys, ...values]) t.dispose();
}

/** What a pass adds to a layer: queries [b h t d], keys and values [b g t d], not yet turned. */
export interface Fresh {
  readonly queries: Tensor;
  readonly keys: Tensor;
  readonly values: Tensor;
  readonly positions: Tensor;
  readonly rope: { readonly cos: Tensor; readonly sin: Tensor };
}

/** Stores this pass's keys and values at their positions; returns queries and all that they see. */
export function extendCache(
  cache: Cache,
  layer: number,
  { queries, keys: k, values: v, positions, rope }: Fresh,
): { queries: Tensor; keys: Tensor; values: Tensor } {
  const [keys, values] = [cache.keys[layer]!, cache.values[layer]!];
  const turned = queries.extendCache(k, v, keys, values, positions, rope.cos, rope.sin);
  const seen = [null, null, [0, cache.length]] as const;
  return { queries: turned, keys: keys.slice(seen), values: values.slice(seen) };
}
