/** A model as a folder in Hugging Face's layout: config.json, model.safetensors, tokenizer.json. */

import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { type Device, type Shape, type Tensor, tensor } from "../tensor/mod.ts";
import { type ModelConfig, parseConfig } from "./config.ts";
import { fileError, UserError } from "./errors.ts";
import { jsonBytes, readJson, writeAtomic } from "./files.ts";
import { type Optimizer, overwrite } from "./optimizer.ts";
import { headName, type ParameterTree, parameterShapes } from "./parameters.ts";
import { encodeSafetensors, readSafetensors, type StoredTensor } from "./safetensors.ts";
import { loadTokenizer, type Tokenizer } from "./tokenizer.ts";

export interface Model {
  readonly config: ModelConfig;
  readonly parameters: ParameterTree;
  readonly tokenizer?: Tokenizer | undefined;
}

/** The files of such a folder by name; the weights (as F32) last, to be the last on disk. */
export async function modelFiles(model: Model): Promise<Record<string, Uint8Array>> {
  return {
    "config.json": jsonBytes(model.config),
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

/** Writes the folder; each file is replaced atomically. */
export async function saveModel(folder: string, model: Model): Promise<void> {
  try {
    mkdirSync(folder, { recursive: true });
  } catch (error) {
    throw fileError(error, `cannot create the folder ${folder}`);
  }
  for (const [name, bytes] of Object.entries(await modelFiles(model))) {
    writeAtomic(join(folder, name), [bytes]);
  }
}

/**
 * Reads such a folder, from here or from elsewhere. Throws a UserError that names the file, and
 * every tensor that is missing, unknown or of another shape than the config says.
 */
export function loadModel(folder: string, options: { device?: Device } = {}): Model {
  if (!existsSync(folder)) throw new UserError(`there is no model folder ${folder}`);
  const configPath = join(folder, "config.json");
  const config = parseConfig(readJson(configPath), configPath);
  const path = join(folder, "model.safetensors");
  const stored = readSafetensors(path).tensors;
  requireTensors(stored, config, path);
  const parameters = new Map<string, Tensor>();
  for (const [name, shape] of parameterShapes(config)) {
    parameters.set(name, tensor(stored.get(name)!.values, shape, { dtype: "f32", ...options }));
  }
  const tokenizer = existsSync(join(folder, "tokenizer.json")) ? loadTokenizer(folder) : undefined;
  return { config, parameters, tokenizer };
}

function requireTensors(
  stored: ReadonlyMap<string, StoredTensor>,
  config: ModelConfig,
  path: string,
): void {
  const wanted = parameterShapes(config);
  const text = (shape: Shape) => `[${shape.join(" ")}]`;
  const problems = [...wanted].flatMap(([name, shape]) => {
    const found = stored.get(name);
    if (found === undefined) return [`${name} ${text(shape)} is missing`];
    if (`${found.shape}` === `${shape}`) return [];
    return [`${name} is ${text(found.shape)}, the config says ${text(shape)}`];
  });
  for (const name of stored.keys()) {
    if (wanted.has(name) || isRedundant(name, config)) continue;
    problems.push(`${name} is not in the config's model`);
  }
  if (problems.length === 0) return;
  const shown = problems.slice(0, 8).map((line) => `  - ${line}`);
  const more = problems.length > 8 ? `\n  … and ${problems.length - 8} more` : "";
  throw new UserError(`${path} doesn't fit its config.json:\n${shown.join("\n")}${more}`);
}

/** What other tools store although it follows from the rest: RoPE tables, a copy of a tied head. */
const isRedundant = (name: string, config: ModelConfig): boolean =>
  name.endsWith(".rotary_emb.inv_freq") || (name === "lm_head.weight" && headName(config) !== name);

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
