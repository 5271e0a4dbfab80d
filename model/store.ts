/** Writes a model's weights into its folder: one safetensors file or several with an index. */

import { readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Shape } from "../tensor/mod.ts";
import { encodeWeights, type WeightType, widthOf } from "./dtypes.ts";
import { type FileParts, jsonBytes } from "./files.ts";
import type { ParameterTree } from "./parameters.ts";
import { type Announced, headerBytes } from "./safetensors.ts";
import { INDEX, SINGLE } from "./weights.ts";

export interface StoreOptions {
  /** How numbers are stored, rounded to nearest, ties to even; default f32. */
  readonly dtype?: WeightType;
  /** A file ends before the tensor that would make it larger; default 5·10⁹, as elsewhere. */
  readonly maxShardBytes?: number;
  /** Is told of each tensor, in bytes as stored. */
  readonly onProgress?: (bytes: number, total: number) => void;
}

/** Where values come from while files are written: one tensor is in memory at a time. */
export interface TensorSource {
  readonly shapes: ReadonlyMap<string, Shape>;
  readonly values: (name: string) => Float32Array | Promise<Float32Array>;
}

export const sourceOfTree = (tree: ParameterTree): TensorSource => ({
  shapes: new Map([...tree].map(([name, { shape }]) => [name, shape])),
  values: async (name) => {
    const values = await tree.get(name)!.data();
    return values instanceof Float32Array ? values : Float32Array.from(values);
  },
});

/** The files that hold the tensors, in the order in which they are to be put into place. */
export function weightFiles(
  folder: string,
  source: TensorSource,
  { dtype = "f32", maxShardBytes = 5e9, onProgress }: StoreOptions = {},
): FileParts[] {
  const announced = [...source.shapes].map(([name, shape]): Announced => {
    const size = shape.reduce((product, n) => product * n, 1);
    return { name, dtype: dtype.toUpperCase(), shape, bytes: size * widthOf(dtype) };
  });
  const total = announced.reduce((sum, { bytes }) => sum + bytes, 0);
  let written = 0;
  const partsOf = (tensors: readonly Announced[]) =>
    async function* () {
      yield headerBytes(tensors, new Map([["format", "pt"]]));
      for (const { name, bytes } of tensors) {
        yield encodeWeights(await source.values(name), dtype, `tensor ${name}`);
        written += bytes;
        onProgress?.(written, total);
      }
    };
  const shards = split(announced, maxShardBytes);
  const names = shards.map((_, i) => shardName(i + 1, shards.length));
  const files = shards.map((tensors, i) => ({
    path: join(folder, names[i]!),
    parts: partsOf(tensors),
  }));
  if (shards.length === 1) return files;
  const map = shards.flatMap((tensors, i) => tensors.map(({ name }) => [name, names[i]!] as const));
  const index = { metadata: { total_size: total }, weight_map: Object.fromEntries(map) };
  // Beside a single file an index is not read: a save that was killed must not leave the old one.
  const [path, instead] = [join(folder, INDEX), join(folder, SINGLE)];
  return [...files, { path, instead, parts: () => [jsonBytes(index)] }];
}

const shardName = (i: number, n: number): string => {
  const digits = (x: number) => String(x).padStart(5, "0");
  return n === 1 ? SINGLE : `model-${digits(i)}-of-${digits(n)}.safetensors`;
};

/** In order, as many to a shard as fit; one that is too large has a shard for itself. */
function split(tensors: readonly Announced[], most: number): Announced[][] {
  const shards: Announced[][] = [[]];
  let size = 0;
  for (const tensor of tensors) {
    if (size > 0 && size + tensor.bytes > most) {
      shards.push([]);
      size = 0;
    }
    shards.at(-1)!.push(tensor);
    size += tensor.bytes;
  }
  return shards;
}

/** Takes away weights of an earlier save under names that `kept` doesn't have. */
export function removeStaleWeights(folder: string, kept: readonly string[]): void {
  const isWeights = /^model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?$/;
  for (const name of readdirSync(folder)) {
    if (isWeights.test(name) && !kept.includes(name)) rmSync(join(folder, name));
  }
}
