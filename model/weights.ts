/** The weights of a model folder, in one file or in shards: names checked first, values on demand. */

import { existsSync } from "node:fs";
import { join } from "node:path";
import { openFile } from "./bytes.ts";
import type { Values } from "./dtypes.ts";
import { UserError } from "./errors.ts";
import { isObject, parseObject } from "./json.ts";
import { openSafetensors, type SafetensorsReader } from "./safetensors.ts";
import type { Entry } from "./safetensors_header.ts";

export const SINGLE = "model.safetensors";
export const INDEX = "model.safetensors.index.json";

export interface Weights {
  /** The file that names them, for errors. */
  readonly name: string;
  readonly entries: ReadonlyMap<string, Entry>;
  /** One tensor's values, into an array that has room for them, or into a new one. */
  read(name: string, into?: Values, onBytes?: (bytes: number) => void): Values;
  close(): void;
}

/**
 * Opens the folder's model.safetensors or, where there is none, the shards that its index names.
 * Throws a UserError on a file that is missing, damaged or hostile, and on an index that doesn't
 * say what the shards hold.
 */
export function openWeights(folder: string): Weights {
  const single = join(folder, SINGLE);
  const index = join(folder, INDEX);
  if (existsSync(single) || !existsSync(index)) return openSafetensors(single);
  const shards = new Map<string, SafetensorsReader>();
  const close = () => {
    for (const shard of shards.values()) shard.close();
  };
  try {
    const { shardOf, totalSize } = readIndex(index);
    const names = [...new Set(shardOf.values())];
    requireFiles(folder, names, index);
    for (const name of names) shards.set(name, openSafetensors(join(folder, name)));
    requireAgreement(shards, shardOf, index);
    const entries = [...shardOf].map(([name, shard]) => {
      return [name, shards.get(shard)!.entries.get(name)!] as const;
    });
    requireSize(entries, totalSize, index);
    const read: Weights["read"] = (name, ...rest) => {
      return shards.get(shardOf.get(name)!)!.read(name, ...rest);
    };
    return { name: index, entries: new Map(entries), read, close };
  } catch (error) {
    close();
    throw error;
  }
}

interface Index {
  /** Tensor -> name of its file. */
  readonly shardOf: ReadonlyMap<string, string>;
  /** Bytes of all tensors. */
  readonly totalSize: number | undefined;
}

function readIndex(path: string): Index {
  const source = openFile(path);
  let bytes: Uint8Array;
  try {
    bytes = new Uint8Array(source.size);
    source.read(bytes, 0);
  } finally {
    source.close();
  }
  const { metadata = {}, weight_map: map } = parseObject(bytes, path);
  if (!isObject(map) || Object.keys(map).length === 0) {
    throw new UserError(`${path}: "weight_map" names no tensor`);
  }
  const shards = Object.entries(map).map(([name, shard]) => {
    if (isPlainName(shard)) return [name, shard] as const;
    throw new UserError(
      `${path}: tensor "${name}" is said to be in ${JSON.stringify(shard)}: ` +
        "expected the plain name of a .safetensors file in the same folder",
    );
  });
  const totalSize = isObject(metadata) ? metadata.total_size : metadata;
  if (totalSize !== undefined && !(Number.isSafeInteger(totalSize) && Number(totalSize) >= 0)) {
    throw new UserError(`${path}: "total_size" is ${JSON.stringify(totalSize)}, expected bytes`);
  }
  return { shardOf: new Map(shards), totalSize: totalSize as number | undefined };
}

/** No separators, no drive, nothing that leads out of the folder. */
const isPlainName = (name: unknown): name is string =>
  typeof name === "string" && /^(?!\.)[^/\\:\0]+\.safetensors$/.test(name);

function requireFiles(folder: string, names: readonly string[], index: string): void {
  const missing = names.filter((name) => !existsSync(join(folder, name)));
  if (missing.length === 0) return;
  throw new UserError(
    `${index}: ${missing.length} of the ${names.length} files that it names are missing: ` +
      listed(missing),
  );
}

function requireAgreement(
  shards: ReadonlyMap<string, SafetensorsReader>,
  shardOf: ReadonlyMap<string, string>,
  index: string,
): void {
  for (const [tensor, shard] of shardOf) {
    if (shards.get(shard)!.entries.has(tensor)) continue;
    throw new UserError(`${index}: tensor "${tensor}" should be in ${shard}, which lacks it`);
  }
  for (const [shard, { entries }] of shards) {
    for (const tensor of entries.keys()) {
      const other = shardOf.get(tensor);
      if (other === shard) continue;
      throw new UserError(
        other === undefined
          ? `${index} doesn't name tensor "${tensor}", which is in ${shard}`
          : `${index}: tensor "${tensor}" is in two files, ${other} and ${shard}`,
      );
    }
  }
}

function requireSize(
  entries: readonly (readonly [string, Entry])[],
  totalSize: number | undefined,
  index: string,
): void {
  const found = entries.reduce((sum, [, { begin, end }]) => sum + end - begin, 0);
  if (totalSize === undefined || totalSize === found) return;
  throw new UserError(
    `${index}: "total_size" is ${totalSize}, but its tensors have ${found} bytes: ` +
      "the index belongs to other files",
  );
}

/** The first few of many names. */
export function listed(names: readonly string[], most = 8): string {
  const more = names.length > most ? ` and ${names.length - most} more` : "";
  return `${names.slice(0, most).join(", ")}${more}`;
}
