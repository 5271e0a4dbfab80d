/** The metadata of GGUF files: typed values by key, read from a cursor and written as bytes. */

import type { ByteCursor } from "./byte_cursor.ts";
import { UserError } from "./errors.ts";

export type MetadataValue =
  | number
  | boolean
  | string
  | readonly string[]
  | readonly number[]
  | Float64Array;
export type Metadata = ReadonlyMap<string, MetadataValue>;

interface Scalar {
  readonly bytes: number;
  readonly read: (view: DataView) => number | bigint | boolean;
}
/** By their number in the file. */
const scalars: ReadonlyMap<number, Scalar> = new Map<number, Scalar>([
  [0, { bytes: 1, read: (view) => view.getUint8(0) }],
  [1, { bytes: 1, read: (view) => view.getInt8(0) }],
  [2, { bytes: 2, read: (view) => view.getUint16(0, true) }],
  [3, { bytes: 2, read: (view) => view.getInt16(0, true) }],
  [4, { bytes: 4, read: (view) => view.getUint32(0, true) }],
  [5, { bytes: 4, read: (view) => view.getInt32(0, true) }],
  [6, { bytes: 4, read: (view) => view.getFloat32(0, true) }],
  [7, { bytes: 1, read: (view) => view.getUint8(0) !== 0 }],
  [10, { bytes: 8, read: (view) => view.getBigUint64(0, true) }],
  [11, { bytes: 8, read: (view) => view.getBigInt64(0, true) }],
  [12, { bytes: 8, read: (view) => view.getFloat64(0, true) }],
]);
const STRING = 8;
const ARRAY = 9;

/** Reads `count` entries; a UserError names the key of one that is damaged or occurs twice. */
export function readMetadata(cursor: ByteCursor, count: number): Metadata {
  const found = new Map<string, MetadataValue>();
  for (let i = 0; i < count; i++) {
    const key = cursor.text(`the key of metadata entry ${i}`);
    if (found.has(key)) {
      throw new UserError(`${cursor.source.name}: metadata ${JSON.stringify(key)} occurs twice`);
    }
    const what = `metadata ${JSON.stringify(key)}`;
    found.set(key, readValue(cursor, cursor.u32(`the type of ${what}`), what));
  }
  return found;
}

function readValue(cursor: ByteCursor, type: number, what: string): MetadataValue {
  if (type === STRING) return cursor.text(what);
  if (type === ARRAY) return readArray(cursor, what);
  return readScalar(cursor, scalarOf(cursor, type, what), what);
}

function scalarOf(cursor: ByteCursor, type: number, what: string): Scalar {
  const scalar = scalars.get(type);
  if (scalar !== undefined) return scalar;
  throw new UserError(`${cursor.source.name}: ${what} has the unknown type ${type}`);
}

function readScalar(cursor: ByteCursor, scalar: Scalar, what: string): number | boolean {
  const value = scalar.read(cursor.view(scalar.bytes, what));
  if (typeof value !== "bigint") return value;
  if (Number.isSafeInteger(Number(value))) return Number(value);
  throw new UserError(`${cursor.source.name}: ${what} is ${value}, beyond what is read exactly`);
}

function readArray(cursor: ByteCursor, what: string): readonly string[] | Float64Array {
  const type = cursor.u32(`the element type of ${what}`);
  if (type === ARRAY) {
    throw new UserError(`${cursor.source.name}: ${what} is an array of arrays, which is not read`);
  }
  const scalar = type === STRING ? undefined : scalarOf(cursor, type, what);
  const length = cursor.count(`the length of ${what}`, scalar?.bytes ?? 8);
  if (scalar === undefined) {
    const texts: string[] = [];
    for (let i = 0; i < length; i++) texts.push(cursor.text(`element ${i} of ${what}`));
    return texts;
  }
  const values = new Float64Array(length);
  for (let i = 0; i < length; i++) values[i] = Number(readScalar(cursor, scalar, what));
  return values;
}

/** A value with the type under which it is written. */
export type Typed =
  | { readonly u32: number }
  | { readonly f32: number }
  | { readonly bool: boolean }
  | { readonly text: string }
  | { readonly texts: readonly string[] }
  | { readonly i32s: readonly number[] }
  | { readonly f32s: readonly number[] };

const encoder = new TextEncoder();

/** The bytes of an entry. */
export function metadataBytes(key: string, value: Typed): Uint8Array {
  return concatenated([textBytes(key), ...valueBytes(value)]);
}

function valueBytes(value: Typed): Uint8Array[] {
  if ("u32" in value) return [u32(4), u32(value.u32)];
  if ("f32" in value) return [u32(6), bytesOf(Float32Array.of(value.f32))];
  if ("bool" in value) return [u32(7), Uint8Array.of(Number(value.bool))];
  if ("text" in value) return [u32(STRING), textBytes(value.text)];
  const array = (type: number, length: number) => [u32(ARRAY), u32(type), u64(length)];
  if ("texts" in value)
    return [...array(STRING, value.texts.length), ...value.texts.map(textBytes)];
  if ("i32s" in value)
    return [...array(5, value.i32s.length), bytesOf(Int32Array.from(value.i32s))];
  return [...array(6, value.f32s.length), bytesOf(Float32Array.from(value.f32s))];
}

const bytesOf = ({ buffer }: { buffer: ArrayBufferLike }): Uint8Array => new Uint8Array(buffer);
export const u32 = (value: number): Uint8Array => bytesOf(Uint32Array.of(value));
export const u64 = (value: number): Uint8Array => bytesOf(BigUint64Array.of(BigInt(value)));

/** A text behind its length. */
export function textBytes(text: string): Uint8Array {
  const bytes = encoder.encode(text);
  return concatenated([u64(bytes.length), bytes]);
}

export function concatenated(parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
