/** From stored weights to a model's parameters: do they fit its config, and what do they hold? */

import { type Device, type Shape, type Tensor, tensor } from "../tensor/mod.ts";
import type { ModelConfig } from "./config.ts";
import { UserError } from "./errors.ts";
import { factsOf } from "./families.ts";
import { disposeParameters, headName, parameterShapes } from "./parameters.ts";
import type { Weights } from "./weights.ts";

export interface LoadOptions {
  readonly device?: Device;
  /** Is told how many bytes of the weights have been read, of how many. */
  readonly onProgress?: (bytes: number, total: number) => void;
}

/**
 * The parameters of a config, in the order of a forward pass, from weights that fit it. They go to
 * the device one by one: beside them only the largest is in memory.
 */
export function readParameters(
  weights: Weights,
  config: ModelConfig,
  { onProgress, ...where }: LoadOptions,
): Map<string, Tensor> {
  const shapes = parameterShapes(config);
  const total = [...shapes.keys()].reduce((sum, name) => sum + bytesOf(weights, name), 0);
  // Every tensor passes through the same memory, so that no garbage piles up.
  const largest = [...shapes.values()].reduce((most, shape) => Math.max(most, sizeOf(shape)), 0);
  const room = new Float32Array(largest);
  let done = 0;
  const onBytes = (bytes: number) => {
    done += bytes;
    onProgress?.(done, total);
  };
  const parameters = new Map<string, Tensor>();
  try {
    for (const [name, shape] of shapes) {
      const values = weights.read(name, room.subarray(0, sizeOf(shape)), onBytes);
      parameters.set(name, tensor(values, shape, { dtype: "f32", ...where }));
    }
    return parameters;
  } catch (error) {
    disposeParameters(parameters);
    throw error;
  }
}

const sizeOf = (shape: Shape): number => shape.reduce((product, n) => product * n, 1);

function bytesOf({ entries }: Weights, name: string): number {
  const { begin, end } = entries.get(name)!;
  return end - begin;
}

const REAL = ["F64", "F32", "F16", "BF16"];

/** Throws a UserError that names every tensor that is missing, unknown, or of another shape or kind. */
export function requireTensors({ entries, name: file }: Weights, config: ModelConfig): void {
  requireEnough(entries.size, config, file);
  requireFit({ file, entries }, parameterShapes(config), {
    ...{ name: "config.json", says: "the config says", model: "the config's model" },
    isSpare: (name) => isRedundant(name, config),
    refused: ({ dtype }) =>
      REAL.includes(dtype)
        ? undefined
        : `is stored as ${dtype}; weights are read from ${REAL.join(", ")}`,
  });
}

/** Who says what a file should hold, in the words of the errors. */
interface Claim<E> {
  /** "config.json" */
  readonly name: string;
  /** "the config says" */
  readonly says: string;
  /** "the config's model" */
  readonly model: string;
  /** Whether an array that is not wanted may be there. */
  readonly isSpare: (name: string) => boolean;
  /** What else is wrong with one that is wanted. */
  readonly refused?: (entry: E) => string | undefined;
}

/** Throws a UserError that names every array that is missing, unknown, or not as it is claimed. */
export function requireFit<E extends { readonly shape: Shape }>(
  { file, entries }: { readonly file: string; readonly entries: ReadonlyMap<string, E> },
  wanted: ReadonlyMap<string, Shape>,
  { name: claim, says, model, isSpare, refused }: Claim<E>,
): void {
  const text = (shape: Shape) => `[${shape.join(" ")}]`;
  const problems = [...wanted].flatMap(([name, shape]) => {
    const found = entries.get(name);
    if (found === undefined) return [`${name} ${text(shape)} is missing`];
    const reason = refused?.(found);
    if (reason !== undefined) return [`${name} ${reason}`];
    if (`${found.shape}` === `${shape}`) return [];
    return [`${name} is ${text(found.shape)}, ${says} ${text(shape)}`];
  });
  for (const name of entries.keys()) {
    if (!wanted.has(name) && !isSpare(name)) problems.push(`${name} is not in ${model}`);
  }
  if (problems.length === 0) return;
  const shown = problems.slice(0, 8).map((line) => `  - ${line}`);
  const more = problems.length > 8 ? `\n  … and ${problems.length - 8} more` : "";
  throw new UserError(`${file} doesn't fit its ${claim}:\n${shown.join("\n")}${more}`);
}

/** Before a list of all its tensors is made: a config may claim any number of layers and experts. */
export function requireEnough(
  stored: number,
  config: ModelConfig,
  file: string,
  claims = "config.json",
): void {
  const { num_hidden_layers: layers, num_experts = 0 } = config;
  const { experts } = factsOf(config);
  const sparse = (): number =>
    Array.from({ length: layers }, (_, i) => i).filter(experts!.inLayer).length;
  const least =
    layers > stored || experts === null ? layers : Math.max(layers, sparse() * num_experts);
  if (least <= stored) return;
  throw new UserError(
    `${file} doesn't fit its ${claims}: it holds ${stored} tensors, too few for ${layers} layers` +
      (experts ? ` with ${num_experts} experts` : ""),
  );
}

/** What other tools store although it follows from the rest: RoPE tables, a copy of a tied head. */
const isRedundant = (name: string, config: ModelConfig): boolean =>
  name.endsWith(".rotary_emb.inv_freq") || (name === "lm_head.weight" && headName(config) !== name);
