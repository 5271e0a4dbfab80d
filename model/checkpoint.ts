/** A model as a folder in Hugging Face's layout: config.json, model.safetensors, tokenizer.json. */

import { existsSync, mkdirSync } from "node:fs";
import { basename, join } from "node:path";
import { type Tensor, tensor } from "../tensor/mod.ts";
import { type ModelConfig, parseConfig } from "./config.ts";
import type { WeightType } from "./dtypes.ts";
import { fileError, UserError } from "./errors.ts";
import { jsonBytes, readJson, writeAllAtomic, writeAtomic } from "./files.ts";
import { type Optimizer, overwrite } from "./optimizer.ts";
import type { ParameterTree } from "./parameters.ts";
import { type LoadOptions, readParameters, requireTensors } from "./read_parameters.ts";
import { encodeSafetensors, readSafetensors, type StoredTensor } from "./safetensors.ts";
import {
  removeStaleWeights,
  type StoreOptions,
  sourceOfTree,
  type TensorSource,
  weightFiles,
} from "./store.ts";
import { loadTokenizer, type Tokenizer } from "./tokenizer.ts";
import { openWeights, type Weights } from "./weights.ts";

export interface Model {
  readonly config: ModelConfig;
  readonly parameters: ParameterTree;
  readonly tokenizer?: Tokenizer | undefined;
}

/** The files of such a folder by name; the weights (as F32) last, to be the last on disk. */
export async function modelFiles(model: Model): Promise<Record<string, Uint8Array>> {
  return {
    "config.json": jsonBytes(withDtype(model.config, "f32")),
    ...(model.tokenizer && tokenizerFiles(model.tokenizer)),
    "model.safetensors": await treeFile(model.parameters),
  };
}

function tokenizerFiles(tokenizer: Tokenizer): Record<string, Uint8Array> {
  const { json, settings, companions = {} } = tokenizer.files();
  const bytes = (text: string) => new TextEncoder().encode(text);
  return {
    ...Object.fromEntries(Object.entries(companions).map(([name, text]) => [name, bytes(text)])),
    "tokenizer.json": jsonBytes(json),
    ...(settings !== undefined && { "tokenizer_config.json": jsonBytes(settings) }),
  };
}

export type { LoadOptions } from "./read_parameters.ts";
export type { StoreOptions } from "./store.ts";

/**
 * Writes the folder. All files are on disk before the first takes its place; weights that an
 * earlier save left under other names are then removed. config.json's torch_dtype becomes that of
 * the weights. Throws a UserError where a file can't be written or a value is too large for f16.
 */
export const saveModel = (
  folder: string,
  { config, parameters, tokenizer }: Model,
  options: StoreOptions = {},
): Promise<void> =>
  writeFolder(folder, { config, tokenizer, source: sourceOfTree(parameters) }, options);

/** saveModel of a model whose weights come one at a time, from wherever they are. */
export async function writeFolder(
  folder: string,
  model: Omit<Model, "parameters"> & { readonly source: TensorSource },
  options: StoreOptions = {},
): Promise<void> {
  try {
    mkdirSync(folder, { recursive: true });
  } catch (error) {
    throw fileError(error, `cannot create the folder ${folder}`);
  }
  const weights = weightFiles(folder, model.source, options);
  const others = {
    "config.json": jsonBytes(withDtype(model.config, options.dtype ?? "f32")),
    ...(model.tokenizer && tokenizerFiles(model.tokenizer)),
  };
  const small = Object.entries(others).map(([name, bytes]) => {
    return { path: join(folder, name), parts: () => [bytes] };
  });
  await writeAllAtomic([...small, ...weights]);
  removeStaleWeights(
    folder,
    weights.map(({ path }) => basename(path)),
  );
}

/** Other tools convert to torch_dtype when they load; where it is absent they take f32. */
function withDtype(config: ModelConfig, dtype: WeightType): ModelConfig {
  const name = { f32: "float32", f16: "float16", bf16: "bfloat16" }[dtype];
  const keys = ["torch_dtype", "dtype"].filter((key) => typeof config[key] === "string");
  const written = keys.length === 0 && dtype !== "f32" ? ["torch_dtype"] : keys;
  return { ...config, ...Object.fromEntries(written.map((key) => [key, name])) };
}

/**
 * Reads such a folder, from here or from elsewhere, its weights in one file or in shards. Weights
 * go to the device one by one: beside them only the largest is in memory. Throws a UserError that
 * names the file, and every tensor that is missing, unknown or of another shape than the config says.
 */
export function loadModel(folder: string, options: LoadOptions = {}): Model {
  const { config, weights, tokenizer } = openModel(folder);
  try {
    return { config, parameters: readParameters(weights, config, options), tokenizer };
  } finally {
    weights.close();
  }
}

/** loadModel without the weights' values; the caller closes `weights`. */
export function openModel(folder: string): Omit<Model, "parameters"> & { weights: Weights } {
  const config = readConfig(folder);
  const weights = openWeights(folder);
  try {
    requireTensors(weights, config);
    return { config, weights, tokenizer: tokenizerIn(folder) };
  } catch (error) {
    weights.close();
    throw error;
  }
}

/** What a folder says of a model whose weights are elsewhere. */
export const describeModel = (folder: string): Omit<Model, "parameters"> => ({
  config: readConfig(folder),
  tokenizer: tokenizerIn(folder),
});

function readConfig(folder: string): ModelConfig {
  if (!existsSync(folder)) throw new UserError(`there is no model folder ${folder}`);
  const path = join(folder, "config.json");
  return parseConfig(readJson(path), path);
}

const tokenizerIn = (folder: string): Tokenizer | undefined =>
  existsSync(join(folder, "tokenizer.json")) ? loadTokenizer(folder) : undefined;

/** A parameter tree as a safetensors file (as F32), `prefix` before each name. */
export async function treeFile(tree: ParameterTree, prefix = ""): Promise<Uint8Array> {
  const stored = new Map<string, StoredTensor>();
  for (const [name, t] of tree) {
    stored.set(`${prefix}${name}`, { shape: t.shape, values: Float32Array.from(await t.data()) });
  }
  return encodeSafetensors(stored, new Map([["format", "pt"]]));
}

/** Writes what treeFile stored over the tree's values; a UserError names what doesn't fit. */
export function loadTree(path: string, tree: ParameterTree, prefix = ""): void {
  const { tensors } = readSafetensors(path);
  for (const [own, t] of tree) {
    const name = `${prefix}${own}`;
    const found = tensors.get(name);
    if (`${found?.shape}` !== `${t.shape}`) {
      const have = found ? `is [${found.shape.join(" ")}]` : "is missing";
      throw new UserError(`${path}: ${name} ${have}, expected [${t.shape.join(" ")}]`);
    }
    const values = tensor(found!.values, t.shape, { device: t.device });
    overwrite(t, values, name);
    values.dispose();
  }
}

/** An optimizer's moments and step count, all that it needs to go on, as a safetensors file. */
export async function optimizerFile(optimizer: Optimizer): Promise<Uint8Array> {
  const { step, firstMoments, secondMoments } = optimizer.exportState();
  const stored = new Map<string, StoredTensor>();
  for (const [prefix, tree] of [
    ["first", firstMoments],
    ["second", secondMoments],
  ] as const) {
    for (const [name, t] of tree) {
      stored.set(`${prefix}.${name}`, { shape: t.shape, values: await t.data() });
    }
  }
  return encodeSafetensors(stored, new Map([["step", String(step)]]));
}

/** Writes optimizerFile to `path`, atomically. */
export async function saveOptimizer(path: string, optimizer: Optimizer): Promise<void> {
  writeAtomic(path, [await optimizerFile(optimizer)]);
}

/** Restores what saveOptimizer wrote; throws a UserError where it belongs to another model. */
export function loadOptimizer(path: string, optimizer: Optimizer): void {
  const { metadata, tensors } = readSafetensors(path);
  const step = Number(metadata.get("step"));
  if (!(Number.isInteger(step) && step >= 0)) {
    throw new UserError(`${path}: its metadata has no step count; is it an optimizer's state?`);
  }
  const made: Tensor[] = [];
  const state = optimizer.exportState();
  const tree = (prefix: string, moments: ParameterTree): ParameterTree => {
    const entries = [...moments].map(([name, { shape, device }]) => {
      const found = tensors.get(`${prefix}.${name}`);
      if (`${found?.shape}` !== `${shape}`) {
        const have = found ? `is [${found.shape.join(" ")}]` : "is missing";
        throw new UserError(`${path}: ${prefix}.${name} ${have}, expected [${shape.join(" ")}]`);
      }
      const t = tensor(found!.values, shape, { device });
      made.push(t);
      return [name, t] as const;
    });
    return new Map(entries);
  };
  try {
    const firstMoments = tree("first", state.firstMoments);
    const secondMoments = tree("second", state.secondMoments);
    optimizer.importState({ step, firstMoments, secondMoments });
  } finally {
    for (const t of made) t.dispose();
  }
}
