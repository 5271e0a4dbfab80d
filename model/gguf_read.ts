/** A model from a GGUF file: its configuration, and its weights under Hugging Face's names. */

import type { ModelConfig } from "./config.ts";
import type { Values } from "./dtypes.ts";
import { UserError } from "./errors.ts";
import { type GgufEntry, type GgufReader, openGguf } from "./gguf.ts";
import { type GgufArray, ggufArrays, reorderHeads } from "./gguf_layout.ts";
import { configOfGguf, ROPE_FACTORS } from "./gguf_model.ts";
import { requireEnough, requireFit } from "./read_parameters.ts";
import type { Weights } from "./weights.ts";

export interface GgufContents {
  readonly config: ModelConfig;
  readonly weights: Weights;
  readonly file: GgufReader;
}

/** Opens the file; the caller closes `weights`. A UserError says what is wrong or not supported. */
export function openGgufModel(path: string): GgufContents {
  const file = openGguf(path);
  try {
    return contentsOf(file);
  } catch (error) {
    file.close();
    throw error;
  }
}

/** The same of a file that is open. */
export function contentsOf(file: GgufReader): GgufContents {
  const splits = file.metadata.get("split.count") ?? 0;
  if (Number(splits) > 1) {
    throw new UserError(`${file.name} is one of ${splits} parts: join them with llama-gguf-split`);
  }
  const config = configOfGguf(file);
  const stored = [...file.entries.values()].reduce((sum, { name, shape }) => {
    return sum + (name.includes("_exps.") ? shape[0]! : 1);
  }, 0);
  requireEnough(stored, config, file.name, "metadata");
  const arrays = ggufArrays(config);
  requireFit(
    { file: file.name, entries: file.entries },
    new Map(arrays.map(({ name, shape }) => [name, shape])),
    {
      ...{ name: "metadata", says: "the metadata say", model: "the model" },
      isSpare: (name) => name === ROPE_FACTORS,
    },
  );
  return { config, file, weights: weightsOf(file, arrays) };
}

interface Part {
  readonly array: GgufArray;
  readonly entry: GgufEntry;
  readonly index: number;
}

function weightsOf(file: GgufReader, arrays: readonly GgufArray[]): Weights {
  const parts = new Map<string, Part>();
  for (const array of arrays) {
    const entry = file.entries.get(array.name)!;
    for (const [index, name] of array.parts.entries()) {
      if (!parts.has(name)) parts.set(name, { array, entry, index });
    }
  }
  const entries = new Map(
    [...parts].map(([name, { array, entry, index }]) => {
      const bytes = (entry.end - entry.begin) / array.parts.length;
      const begin = entry.begin + index * bytes;
      const shape =
        array.parts.length > 1 || array.shape.length > 2 ? entry.shape.slice(1) : entry.shape;
      return [name, { name, dtype: entry.type, shape, begin, end: begin + bytes }];
    }),
  );
  const read: Weights["read"] = (name, room, onBytes) => {
    const { array, entry, index } = parts.get(name)!;
    const { shape } = entries.get(name)!;
    const count = shape.reduce((product, n) => product * n, 1);
    const into: Values = (room ?? new Float32Array(count)).subarray(0, count);
    const values = file.read(entry, into, { from: index * count, onBytes });
    if (array.turned > 0) {
      values.set(reorderHeads(values as Float32Array, shape[0]!, array.turned, true));
    }
    return values;
  };
  return { name: file.name, entries, read, close: file.close };
}
