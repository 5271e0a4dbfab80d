/** Lines of a file, one at a time, and rows of JSON lines. */
import type { Bytes } from "./bytes.ts";
import { jsonValue, type Row, RowBytes } from "./rows.ts";

export interface Line {
  /** From 1. */
  readonly number: number;
  /** Without its end. */
  readonly text: string;
  /** How it ends: LF, CRLF or, at the end of the file, not at all. */
  readonly end: "\n" | "\r\n" | "";
  /** Why it can't be used: it is too long, or not UTF-8. */
  readonly fault?: string;
}

const NEWLINE = 0x0a;

/** Lines that end in LF or CRLF, without a byte order mark; what is behind the last end, if any. */
export async function* linesOf(chunks: Bytes): AsyncGenerator<Line> {
  const row = new RowBytes();
  let number = 1;
  for await (const chunk of chunks) {
    let from = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, from)) {
      row.add(chunk.subarray(from, end), false);
      yield lineOf(row, number++, "\n");
      from = end + 1;
    }
    if (from < chunk.length) row.add(chunk.subarray(from), true);
  }
  if (row.size > 0) yield lineOf(row, number, "");
}

function lineOf(row: RowBytes, number: number, end: "\n" | ""): Line {
  const { text, ...rest } = row.take();
  const begun = number === 1 ? text.replace(/^\uFEFF/, "") : text;
  if (end === "" || !begun.endsWith("\r")) return { number, text: begun, end, ...rest };
  return { number, text: begun.slice(0, -1), end: "\r\n", ...rest };
}

/** JSON lines: a value a line; lines of white space are blank. */
export async function* jsonLineRows(chunks: Bytes): AsyncGenerator<Row> {
  for await (const { number, text, fault } of linesOf(chunks)) {
    const place = { number, line: number };
    if (fault !== undefined) yield { ...place, fault };
    else if (text.trim() === "") yield { ...place, blank: true };
    else yield { ...place, text, ...jsonValue(text) };
  }
}
