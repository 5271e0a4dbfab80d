/** Safetensors files (https://huggingface.co/docs/safetensors): checked reading, atomic writing. */

import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { formats, type Values } from "./dtypes.ts";
import { fileError, UserError } from "./errors.ts";
import { writeAtomic } from "./files.ts";
import {
  type Entry,
  type Header,
  headerLength,
  PREFIX,
  parseHeader,
} from "./safetensors_header.ts";

/** A named array; `values` are row-major. */
export interface StoredTensor {
  readonly shape: readonly number[];
  readonly values: Values;
}
export interface TensorFile {
  readonly metadata: ReadonlyMap<string, string>;
  /** Half-precision and f32 become Float32Array, f64 Float64Array, whole numbers and bool i32. */
  readonly tensors: ReadonlyMap<string, StoredTensor>;
}

/** Reads a file. A missing, cut-off, damaged or hostile one gives a UserError naming it. */
export function readSafetensors(path: string): TensorFile {
  let file: number;
  try {
    file = openSync(path, "r");
  } catch (error) {
    throw fileError(error, `cannot read ${path}`);
  }
  try {
    const { size } = fstatSync(file);
    return read(path, size, (from, to) => readRange(file, from, to, path));
  } finally {
    closeSync(file);
  }
}

/** The same from bytes in memory; `name` stands for the file in errors. */
export const decodeSafetensors = (bytes: Uint8Array, name = "safetensors"): TensorFile =>
  // Not bytes.slice: a Buffer's own slice is no copy.
  read(name, bytes.length, (from, to) => new Uint8Array(bytes.subarray(from, to)));

function read(
  name: string,
  size: number,
  range: (from: number, to: number) => Uint8Array<ArrayBuffer>,
): TensorFile {
  const length = headerLength(range(0, Math.min(PREFIX, size)), size, name);
  const start = PREFIX + length;
  const header: Header = parseHeader(range(PREFIX, start), size - start, name);
  const decode = ({ name: tensor, dtype, shape, begin, end }: Entry) => {
    const { buffer } = range(start + begin, start + end);
    const values = formats.get(dtype)!.decode(buffer, `${name}: tensor "${tensor}"`);
    return [tensor, { shape, values }] as const;
  };
  return { metadata: header.metadata, tensors: new Map(header.entries.map(decode)) };
}

function readRange(file: number, from: number, to: number, path: string): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(to - from);
  for (let at = 0; at < bytes.length; ) {
    const got = readSync(file, bytes, at, bytes.length - at, from + at);
    if (got === 0) throw new UserError(`${path}: it became shorter while it was read`);
    at += got;
  }
  return bytes;
}

/** Replaces the file at `path`, atomically. f32 is written as F32, f64 as F64, i32 as I32. */
export function writeSafetensors(
  path: string,
  tensors: ReadonlyMap<string, StoredTensor>,
  metadata: ReadonlyMap<string, string> = new Map(),
): void {
  writeAtomic(path, encodeParts(tensors, metadata));
}

/** The bytes of such a file. */
export function encodeSafetensors(
  tensors: ReadonlyMap<string, StoredTensor>,
  metadata: ReadonlyMap<string, string> = new Map(),
): Uint8Array {
  return Buffer.concat([...encodeParts(tensors, metadata)]);
}

function* encodeParts(
  tensors: ReadonlyMap<string, StoredTensor>,
  metadata: ReadonlyMap<string, string>,
): Generator<Uint8Array> {
  // Wide formats first, so that every tensor is aligned to its own elements without padding.
  const ordered = [...tensors].sort(([, a], [, b]) => {
    return b.values.BYTES_PER_ELEMENT - a.values.BYTES_PER_ELEMENT;
  });
  let at = 0;
  const entries = ordered.map(([name, { shape, values }]) => {
    const size = shape.reduce((product, n) => product * n, 1);
    if (size !== values.length) {
      throw new Error(`safetensors: ${name} has ${values.length} values for shape [${shape}]`);
    }
    const begin = at;
    at += values.byteLength;
    return [name, { dtype: dtypeOf(values), shape, data_offsets: [begin, at] }] as const;
  });
  const about = metadata.size > 0 ? [["__metadata__", Object.fromEntries(metadata)] as const] : [];
  const json = JSON.stringify(Object.fromEntries([...about, ...entries]));
  const header = new TextEncoder().encode(json);
  const padded = new Uint8Array(Math.ceil(header.length / 8) * 8).fill(0x20);
  padded.set(header);
  const prefix = new Uint8Array(PREFIX);
  new DataView(prefix.buffer).setBigUint64(0, BigInt(padded.length), true);
  yield prefix;
  yield padded;
  for (const [, { values }] of ordered) {
    yield new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  }
}

function dtypeOf(values: Values): string {
  if (values instanceof Float64Array) return "F64";
  return values instanceof Float32Array ? "F32" : "I32";
}
