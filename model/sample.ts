/** Batched sampling with a KV cache: what samples have in common is computed once. */

import { noGrad, randomStream, scope, type Tensor, tensor } from "../tensor/mod.ts";
import { requirePrompts } from "./batch.ts";
import { type Cache, createCache, disposeCache, selectRows } from "./cache.ts";
import type { ModelConfig } from "./config.ts";
import { draw, type Row } from "./draw.ts";
import { type Filters, requireFilters } from "./filters.ts";
import { decodingRows, packsWeights } from "./memory.ts";
import { disposePacked, type PackedWeights } from "./packed.ts";
import { type ParameterTree, parameter } from "./parameters.ts";
import { hidden, logits } from "./transformer.ts";

export interface SampleOptions extends Filters {
  readonly maxNewTokens: number;
  /** Completions of each prompt; default 1. */
  readonly samplesPerPrompt?: number;
  /** Divides the logits; 0 = greedy (the first of equal tokens); default 1. */
  readonly temperature?: number;
  /** A completion ends with the first of these, which stays in it. */
  readonly stopTokens?: readonly number[];
  /** Token i of sample s of prompt p is draw i of the stream (seed, "sample", step, p·G + s). */
  readonly seed?: number;
  readonly step?: number;
  /** The p of each prompt in the line above; default its index. */
  readonly promptIds?: readonly number[];
  /** Sequences in work at a time, if memory allows; default 256. Does not change what is sampled. */
  readonly rowsPerBatch?: number;
  /**
   * Whether all passes share copies of the weights in the order in which products read them: faster,
   * at twice the weights' memory; default where they are at most 1 GiB. Does not change what is sampled.
   */
  readonly packWeights?: boolean;
}

/** Entry p·samplesPerPrompt + s belongs to sample s of prompt p. */
export interface Samples {
  readonly tokens: number[][];
  /**
   * log softmax(logits / temperature) of each token, without filters: what tokenLogProbs gives for
   * it. After greedy choice, of softmax(logits).
   */
  readonly logProbs: number[][];
  /** True: ended by a stop token. False: cut off at maxNewTokens. */
  readonly finished: boolean[];
}

interface Work {
  readonly parameters: ParameterTree;
  readonly config: ModelConfig;
  /** Copies of the weights that all passes share; none where there is one pass alone. */
  readonly packed: PackedWeights | undefined;
  readonly settings: Required<Omit<SampleOptions, "promptIds" | "packWeights">>;
}

/**
 * Samples completions of `prompts` (token ids, of any lengths). Equal prompts are read once, and so
 * is every beginning that samples of a prompt have in common. What is sampled does not depend on
 * which other prompts are in the call.
 */
export async function sample(
  parameters: ParameterTree,
  config: ModelConfig,
  prompts: readonly (readonly number[])[],
  options: SampleOptions,
): Promise<Samples> {
  const settings = {
    ...{ samplesPerPrompt: 1, temperature: 1, topK: 0, topP: 1, minP: 0, stopTokens: [] },
    ...{ seed: 0, step: 0, rowsPerBatch: 256 },
    ...options,
  };
  requireSettings(settings, prompts, config);
  const { samplesPerPrompt: count, seed, step, maxNewTokens, rowsPerBatch, promptIds } = settings;
  const rows = prompts.flatMap((_, p) =>
    Array.from({ length: count }, (_, s): Row => {
      const row = (promptIds?.[p] ?? p) * count + s;
      const stream = randomStream({ seed, purpose: "sample", step, row });
      return { bits: stream.bits, tokens: [], logProbs: [], finished: false };
    }),
  );
  const distinct = new Map<string, Group & { rows: Row[] }>();
  prompts.forEach((prompt, p) => {
    const key = prompt.join();
    const group = distinct.get(key) ?? { prompt, rows: [] };
    group.rows.push(...rows.slice(p * count, (p + 1) * count));
    distinct.set(key, group);
  });
  const longest = Math.max(0, ...prompts.map((prompt) => prompt.length)) + maxNewTokens;
  const together = decodingRows(config, longest, rowsPerBatch);
  const { packWeights = packsWeights(config) } = options;
  const packs = maxNewTokens > 1 && packWeights;
  const packed: PackedWeights | undefined = packs ? new Map() : undefined;
  try {
    for (const pass of passes([...distinct.values()], together, maxNewTokens === 1)) {
      await sampleGroups({ parameters, config, packed, settings }, pass);
    }
  } finally {
    if (packed) disposePacked(packed);
  }
  return {
    tokens: rows.map((row) => row.tokens),
    logProbs: rows.map((row) => row.logProbs),
    finished: rows.map((row) => row.finished),
  };
}

/** Samples of one prompt. */
interface Group {
  readonly prompt: readonly number[];
  readonly rows: readonly Row[];
}

/**
 * The groups in passes of at most `most` samples, in order of their prompts' lengths; a group of
 * more is cut. `shared`: all samples of a prompt are drawn from one row, so a group counts as one.
 */
function passes(groups: readonly Group[], most: number, shared: boolean): Group[][] {
  const pieces = groups.flatMap(({ prompt, rows }): Group[] => {
    if (shared) return [{ prompt, rows }];
    const count = Math.ceil(rows.length / most);
    return Array.from({ length: count }, (_, i) => {
      return { prompt, rows: rows.slice(i * most, (i + 1) * most) };
    });
  });
  pieces.sort((a, b) => a.prompt.length - b.prompt.length);
  const found: Group[][] = [];
  let room = 0;
  for (const piece of pieces) {
    const size = shared ? 1 : piece.rows.length;
    if (size > room) {
      found.push([]);
      room = most;
    }
    found.at(-1)!.push(piece);
    room -= size;
  }
  return found;
}

/** A beginning that some samples have in common: one row of the cache. */
interface Branch {
  readonly rows: readonly Row[];
  /** The newest token, which no pass has read yet, and its place. */
  readonly token: number;
  readonly position: number;
}

/**
 * Reads the prompts, then token by token every distinct beginning once: samples share all work up
 * to the place where they part.
 */
async function sampleGroups(work: Work, groups: readonly Group[]): Promise<void> {
  const { parameters, config, settings } = work;
  const prompts = groups.map(({ prompt }) => prompt);
  // The last token is drawn but never read; a single one needs no cache at all.
  const steps = settings.maxNewTokens - 1;
  const capacity = Math.max(...prompts.map((prompt) => prompt.length)) + steps;
  const cache =
    steps === 0 ? undefined : createCache(parameters, config, { rows: groups.length, capacity });
  try {
    await draw(
      prefill(work, prompts, cache),
      groups.map(({ rows }) => rows),
      settings,
    );
    let branches = groups.map(({ prompt, rows }): Branch => {
      return { rows, token: 0, position: prompt.length - 1 };
    });
    for (let step = 0; step < steps && cache; step++) {
      const next = grow(branches);
      if (next.every(({ rows }) => rows.length === 0)) break;
      const kept = next.length === branches.length && next.every(({ parent }, i) => parent === i);
      if (!kept) {
        pickRows(
          cache,
          next.map(({ parent }) => parent),
        );
      }
      branches = next;
      await draw(
        nextLogits(work, branches, cache),
        branches.map(({ rows }) => rows),
        settings,
      );
    }
  } finally {
    if (cache) disposeCache(cache);
  }
}

/**
 * The branches after a draw: one for each distinct token. Where none has split, one without live
 * samples idles in its row of the cache until half of them have come to that: then it is worth a
 * copy of the cache to leave them out.
 */
function grow(branches: readonly Branch[]): (Branch & { parent: number })[] {
  const children = branches.map(({ rows, position }, parent) => {
    const live = Map.groupBy(
      rows.filter((row) => !row.finished),
      (row) => row.tokens.at(-1)!,
    );
    return [...live].map(([token, own]) => ({ rows: own, token, position: position + 1, parent }));
  });
  const live = children.flat();
  const split = children.some((own) => own.length > 1);
  if (split || live.length <= branches.length / 2) return live;
  return children.map(([child], parent) => {
    return child ?? { rows: [], token: 0, position: branches[parent]!.position + 1, parent };
  });
}

/** Puts the cache's rows into another order, number and multiplicity. */
function pickRows(cache: Cache, rows: readonly number[]): void {
  const { device } = cache.keys[0]!;
  const index = tensor(Int32Array.from(rows), [rows.length], { device });
  try {
    noGrad(() => selectRows(cache, index));
  } finally {
    index.dispose();
  }
}

/** One pass over all prompts -> logits of each one's next token, [prompts vocabulary]. */
function prefill(
  { parameters, config, packed, settings }: Work,
  prompts: readonly (readonly number[])[],
  cache: Cache | undefined,
): Tensor {
  const { device } = parameter(parameters, "model.norm.weight");
  const b = prompts.length;
  const t = Math.max(...prompts.map((prompt) => prompt.length));
  const padded = new Int32Array(b * t);
  prompts.forEach((prompt, i) => {
    padded.set(prompt, i * t);
  });
  const last = Int32Array.from(prompts, (prompt, i) => i * t + prompt.length - 1);
  const places = Int32Array.from(padded, (_, i) => i % t);
  if (cache) cache.length = t;
  return noGrad(() =>
    scope(() => {
      const tokens = tensor(padded, [b, t], { device });
      const positions = tensor(places, [b, t], { device });
      const pass = cache ? { positions, cache, ...(packed && { packed }) } : {};
      const states = hidden(parameters, config, tokens, pass);
      const ends = states.reshape([b * t, -1]).embedding(tensor(last, [b], { device }));
      return logits(parameters, config, ends, settings.temperature || 1, packed);
    }),
  );
}

/** One pass over every branch's newest token -> logits of the next, [branches vocabulary]. */
function nextLogits(
  { parameters, config, packed, settings }: Work,
  branches: readonly Branch[],
  cache: Cache,
): Tensor {
  const { device } = cache.keys[0]!;
  const b = branches.length;
  const newest = Int32Array.from(branches, ({ token }) => token);
  const places = Int32Array.from(branches, ({ position }) => position);
  cache.length = Math.max(...places) + 1;
  return noGrad(() =>
    scope(() => {
      const tokens = tensor(newest, [b, 1], { device });
      const positions = tensor(places, [b, 1], { device });
      const pass = { positions, cache, ...(packed && { packed }) };
      const states = hidden(parameters, config, tokens, pass).reshape([b, -1]);
      return logits(parameters, config, states, settings.temperature || 1, packed);
    }),
  );
}

function requireSettings(
  settings: Work["settings"] & Pick<SampleOptions, "promptIds">,
  prompts: readonly (readonly number[])[],
  { max_position_embeddings: most }: ModelConfig,
): void {
  requirePrompts(prompts, "sample");
  requireFilters(settings);
  const { maxNewTokens, temperature, samplesPerPrompt, promptIds } = settings;
  const whole = { maxNewTokens, samplesPerPrompt, rowsPerBatch: settings.rowsPerBatch };
  for (const [name, value] of Object.entries(whole)) {
    if (Number.isInteger(value) && value >= 1) continue;
    throw new RangeError(`sample: ${name} is ${value}, expected a whole number of at least 1`);
  }
  if (!(temperature >= 0 && temperature < Infinity)) {
    throw new RangeError(`sample: temperature is ${temperature}, expected a number of at least 0`);
  }
  if (promptIds !== undefined && promptIds.length !== prompts.length) {
    throw new RangeError(`sample: ${promptIds.length} promptIds for ${prompts.length} prompts`);
  }
  const longest = prompts.findIndex((prompt) => prompt.length + maxNewTokens - 1 > most);
  if (longest >= 0) {
    throw new RangeError(
      `sample: prompt ${longest} has ${prompts[longest]!.length} tokens, with ${maxNewTokens} ` +
        `new ones more than max_position_embeddings ${most}`,
    );
  }
}
