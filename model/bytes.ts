/** Bytes that are read in ranges, from a file or from memory, so that no file is ever whole in memory. */

import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { type Format, type Values, valuesFor } from "./dtypes.ts";
import { fileError, UserError } from "./errors.ts";

export interface ByteSource {
  /** Stands for the source in errors: a path, or what the caller calls it. */
  readonly name: string;
  readonly size: number;
  /** Fills `into` with the bytes from `from` on; throws a UserError where there are too few. */
  read(into: Uint8Array, from: number): void;
  close(): void;
}

/** Opens a file; a UserError says why where that fails. The caller closes it. */
export function openFile(path: string): ByteSource {
  let file: number;
  try {
    file = openSync(path, "r");
  } catch (error) {
    throw fileError(error, `cannot read ${path}`);
  }
  const stat = fstatSync(file);
  if (!stat.isFile()) {
    closeSync(file);
    throw new UserError(`cannot read ${path}: it is not a file`);
  }
  return {
    name: path,
    size: stat.size,
    read: (into, from) => readRange(file, path, into, from),
    close: () => closeSync(file),
  };
}

function readRange(file: number, path: string, into: Uint8Array, from: number): void {
  for (let at = 0; at < into.length; ) {
    let got: number;
    try {
      got = readSync(file, into, at, into.length - at, from + at);
    } catch (error) {
      throw fileError(error, `cannot read ${path}`);
    }
    if (got === 0) throw new UserError(`${path}: it became shorter while it was read`);
    at += got;
  }
}

/** The same over bytes in memory. */
export const memorySource = (bytes: Uint8Array, name: string): ByteSource => ({
  name,
  size: bytes.length,
  read: (into, from) => {
    if (from + into.length > bytes.length) throw new UserError(`${name}: it is cut off`);
    into.set(bytes.subarray(from, from + into.length));
  },
  close: () => {},
});

/** Bytes that are read at a time. */
const CHUNK = 1 << 20;

/** Where an array lies in a source. */
export interface Place {
  readonly format: Format;
  /** First byte. */
  readonly from: number;
  /** Number of values, a multiple of the format's block. */
  readonly count: number;
  /** Names the array in errors. */
  readonly where: string;
}

/**
 * Reads an array, a chunk at a time: beside `into` (made where it is not given, else of the
 * format's kind, with room for all values) at most a mebibyte is in use.
 */
export function readValues(
  source: ByteSource,
  { format, from, count, where }: Place,
  into: Values = valuesFor(format, count),
  onBytes: (bytes: number) => void = () => {},
): Values {
  const { block, bytes: width } = format;
  const blocks = count / block;
  const step = Math.max(1, Math.floor(CHUNK / width));
  const chunk = new Uint8Array(Math.min(step, blocks) * width);
  for (let at = 0; at < blocks; at += step) {
    const many = Math.min(step, blocks - at);
    const bytes = chunk.subarray(0, many * width);
    source.read(bytes, from + at * width);
    format.decode(bytes, into.subarray(at * block, (at + many) * block), where);
    onBytes(bytes.length);
  }
  return into.subarray(0, count);
}
