/** A file's bytes in chunks, unpacked where they are gzipped, with a look at the first of them. */
import { createReadStream } from "node:fs";
import { pipeline, Readable } from "node:stream";
import { createGunzip } from "node:zlib";
import { fileError, UserError } from "../../model/errors.ts";

export type Bytes = AsyncIterable<Uint8Array>;

/** Bytes that are looked at before a file is read. */
const LOOK = 1 << 16;

/** How files begin that are none of ours, and what to do about them. */
const OTHERS: readonly (readonly [first: string, at: number, what: string])[] = [
  ["BZh", 0, "packed with bzip2: unpack it first"],
  ["PK\x03\x04", 0, "a zip archive: unpack it first"],
  ["\xfd7zXZ", 0, "packed with xz: unpack it first"],
  ["\x28\xb5\x2f\xfd", 0, "packed with zstd: unpack it first"],
  ["ustar", 257, "a tar archive: unpack it first"],
  ["\xff\xfe", 0, "UTF-16: save it as UTF-8"],
  ["\xfe\xff", 0, "UTF-16: save it as UTF-8"],
];

export interface Opened {
  /** The first bytes, up to 64 KiB. */
  readonly first: Uint8Array;
  /** All bytes, the first again. Has to be read, or closed by `return`. */
  readonly bytes: AsyncGenerator<Uint8Array>;
  /** Whether they were gzipped. */
  readonly isPacked: boolean;
}

/**
 * Opens a file; what is gzipped (by its first bytes, whatever its name) is unpacked. UserErrors
 * name the file that is missing, cut off within its packing, or of a kind that is none of ours.
 */
export async function openBytes(path: string): Promise<Opened> {
  const raw = named(path, createReadStream(path, { highWaterMark: LOOK }));
  const start = await look(raw, 2);
  const isPacked = start[0] === 0x1f && start[1] === 0x8b;
  const unpacked = isPacked ? named(path, gunzip(again(start, raw))) : again(start, raw);
  const first = await look(unpacked, LOOK);
  const bytes = again(first, unpacked);
  const text = Buffer.from(first.subarray(0, 262)).toString("latin1");
  const other = OTHERS.find(([begin, at]) => text.startsWith(begin, at));
  if (other !== undefined) {
    await bytes.return(undefined);
    throw new UserError(`${path} is ${other[2]}`);
  }
  return { first, bytes, isPacked };
}

/** The same chunks; what goes wrong with them names the file. */
async function* named(path: string, chunks: Bytes): AsyncGenerator<Uint8Array> {
  try {
    yield* chunks;
  } catch (error) {
    throw error instanceof UserError ? error : fileError(error, `cannot read ${path}`);
  }
}

function gunzip(packed: Bytes): Bytes {
  // A failure of either stream reaches the reader of the last: the callback has nothing to add.
  return pipeline(Readable.from(packed), createGunzip(), () => {});
}

/** Takes chunks until there are `least` bytes, or no more. */
async function look(chunks: AsyncGenerator<Uint8Array>, least: number): Promise<Uint8Array> {
  const taken: Uint8Array[] = [];
  for (let size = 0; size < least; ) {
    const { value, done } = await chunks.next();
    if (done) break;
    taken.push(value);
    size += value.length;
  }
  return taken.length === 1 ? taken[0]! : Buffer.concat(taken);
}

async function* again(first: Uint8Array, rest: AsyncGenerator<Uint8Array>) {
  try {
    if (first.length > 0) yield first;
    yield* rest;
  } finally {
    await rest.return(undefined);
  }
}

const exact = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Bytes as text; undefined where they are not UTF-8. */
export function utf8(bytes: Uint8Array): string | undefined {
  try {
    return exact.decode(bytes);
  } catch {
    return undefined;
  }
}
