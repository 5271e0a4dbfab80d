/** A file's bytes in chunks, unpacked where it is gzipped, and its lines. */
import { createReadStream } from "node:fs";
import { pipeline } from "node:stream";
import { createGunzip } from "node:zlib";
import { fileError, UserError } from "../../model/errors.ts";

/** Longest row that is kept, in bytes: a file without line ends is not taken into memory. */
export const LONGEST_ROW = 1 << 24;

/** The file's bytes. A UserError names the file that is missing, or whose .gz is cut off. */
export async function* bytesOf(path: string): AsyncGenerator<Uint8Array> {
  const file = createReadStream(path, { highWaterMark: 1 << 16 });
  try {
    const packed = path.endsWith(".gz");
    // A failure of either stream reaches the reader of the last one; the callback has nothing to add.
    const stream = packed ? pipeline(file, createGunzip(), () => {}) : file;
    for await (const chunk of stream) yield chunk as Uint8Array;
  } catch (error) {
    throw fileError(error, `cannot read ${path}`);
  } finally {
    file.destroy();
  }
}

export interface Line {
  /** From 1. */
  readonly number: number;
  /** Without its end. */
  readonly text: string;
  /** Why the line can't be used: it is too long, or not UTF-8. */
  readonly fault?: string;
}

const NEWLINE = 0x0a;

/**
 * Lines that end in LF or CRLF. A byte order mark is dropped, the empty rest behind the last end is
 * no line. A line that is not UTF-8 comes with its `fault`; UTF-16 is a UserError.
 */
export async function* linesOf(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Line> {
  let parts: Uint8Array[] = [];
  let [size, number] = [0, 1];
  const keep = (part: Uint8Array) => {
    size += part.length;
    if (size <= LONGEST_ROW) parts.push(part);
    else parts = [];
  };
  for await (const chunk of chunks) {
    let from = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, from)) {
      keep(chunk.subarray(from, end));
      yield lineOf(parts, size, number++);
      [parts, size, from] = [[], 0, end + 1];
    }
    // A copy: a stream may use its buffer again.
    if (from < chunk.length) keep(chunk.slice(from));
  }
  if (size > 0) yield lineOf(parts, size, number);
}

function lineOf(parts: readonly Uint8Array[], size: number, number: number): Line {
  if (size > LONGEST_ROW) {
    return { number, text: "", fault: `is longer than ${LONGEST_ROW / (1 << 20)} MiB` };
  }
  const bytes = parts.length === 1 ? parts[0]! : Buffer.concat(parts);
  const { text, fault } = utf8(bytes, number === 1);
  const trimmed = text.endsWith("\r") ? text.slice(0, -1) : text;
  return { number, text: trimmed, ...(fault === undefined ? {} : { fault }) };
}

const [loose, exact] = [false, true].map(
  (fatal) => new TextDecoder("utf-8", { fatal, ignoreBOM: true }),
) as [TextDecoder, TextDecoder];

/** Bytes as text; where they are not UTF-8, what can be read of them and the `fault`. */
export function utf8(bytes: Uint8Array, first: boolean): { text: string; fault?: string } {
  if (first && (bytes[0]! ^ bytes[1]!) === 1 && bytes[0]! >= 0xfe) {
    throw new UserError("the file is UTF-16: save it as UTF-8");
  }
  try {
    const text = exact.decode(bytes);
    return { text: first ? text.replace(/^\uFEFF/, "") : text };
  } catch {
    return { text: loose.decode(bytes), fault: "is not UTF-8" };
  }
}
