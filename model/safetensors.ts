/** Safetensors files (https://huggingface.co/docs/safetensors): checked reading, atomic writing. */

import { type ByteSource, memorySource, openFile, readValues } from "./bytes.ts";
import { formats, type Values, valuesFor } from "./dtypes.ts";
import { writeAtomic } from "./files.ts";
import { type Entry, headerLength, PREFIX, parseHeader } from "./safetensors_header.ts";

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

/** A file whose header has been read and checked, and whose tensors have not been. */
export interface SafetensorsReader {
  readonly name: string;
  readonly metadata: ReadonlyMap<string, string>;
  readonly entries: ReadonlyMap<string, Entry>;
  /** One tensor's values, into an array that has room for them, or into a new one. */
  read(name: string, into?: Values, onBytes?: (bytes: number) => void): Values;
  close(): void;
}

/** Opens a file. A missing, cut-off, damaged or hostile one gives a UserError naming it. */
export const openSafetensors = (path: string): SafetensorsReader => readerOf(openFile(path));

function readerOf(source: ByteSource): SafetensorsReader {
  try {
    const prefix = new Uint8Array(Math.min(PREFIX, source.size));
    source.read(prefix, 0);
    const bytes = new Uint8Array(headerLength(prefix, source.size, source.name));
    source.read(bytes, PREFIX);
    const start = PREFIX + bytes.length;
    const { metadata, entries: list } = parseHeader(bytes, source.size - start, source.name);
    const entries = new Map(list.map((entry) => [entry.name, entry]));
    const read: SafetensorsReader["read"] = (name, into, onBytes) => {
      const { dtype, shape, begin } = entries.get(name)!;
      const [format, count] = [formats.get(dtype)!, shape.reduce((product, n) => product * n, 1)];
      const where = `${source.name}: tensor "${name}"`;
      const place = { format, from: start + begin, count, where };
      return readValues(source, place, into ?? valuesFor(format, count), onBytes);
    };
    return { name: source.name, metadata, entries, read, close: source.close };
  } catch (error) {
    source.close();
    throw error;
  }
}

/** Reads a whole file. */
export const readSafetensors = (path: string): TensorFile => readAll(openSafetensors(path));

/** The same from bytes in memory; `name` stands for the file in errors. */
export const decodeSafetensors = (bytes: Uint8Array, name = "safetensors"): TensorFile =>
  readAll(readerOf(memorySource(bytes, name)));

function readAll(reader: SafetensorsReader): TensorFile {
  try {
    const tensors = [...reader.entries].map(([name, { shape }]) => {
      return [name, { shape, values: reader.read(name) }] as const;
    });
    return { metadata: reader.metadata, tensors: new Map(tensors) };
  } finally {
    reader.close();
  }
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
  const entries = ordered.map(([name, { shape, values }]) => {
    const size = shape.reduce((product, n) => product * n, 1);
    if (size !== values.length) {
      throw new Error(`safetensors: ${name} has ${values.length} values for shape [${shape}]`);
    }
    return { name, dtype: dtypeOf(values), shape, bytes: values.byteLength };
  });
  yield headerBytes(entries, metadata);
  for (const [, { values }] of ordered) {
    yield new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  }
}

function dtypeOf(values: Values): string {
  if (values instanceof Float64Array) return "F64";
  return values instanceof Float32Array ? "F32" : "I32";
}

/** A tensor that is to be written. */
export interface Announced {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly bytes: number;
}

/** What stands before the data of `tensors`, which follow one another in their order. */
export function headerBytes(
  tensors: readonly Announced[],
  metadata: ReadonlyMap<string, string>,
): Uint8Array {
  let at = 0;
  const entries = tensors.map(({ name, dtype, shape, bytes }) => {
    const begin = at;
    at += bytes;
    return [name, { dtype, shape, data_offsets: [begin, at] }] as const;
  });
  const about = metadata.size > 0 ? [["__metadata__", Object.fromEntries(metadata)] as const] : [];
  const json = JSON.stringify(Object.fromEntries([...about, ...entries]));
  const text = new TextEncoder().encode(json);
  const padded = Math.ceil(text.length / 8) * 8;
  const all = new Uint8Array(PREFIX + padded).fill(0x20);
  new DataView(all.buffer).setBigUint64(0, BigInt(padded), true);
  all.set(text, PREFIX);
  return all;
}
