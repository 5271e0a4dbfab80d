/** What files of rows have in common: a row, how long it may be, and how it is put together. */
import { utf8 } from "./bytes.ts";

/** Longest row that is kept, in bytes: a file without line ends is not taken into memory. */
export const LONGEST_ROW = 1 << 24;
export const TOO_LONG = `is longer than ${LONGEST_ROW / (1 << 20)} MiB`;

/** One row of a file: a record with its fields, an empty line, or what is wrong with it. */
export interface Row {
  /** Which row of the file, from 1; empty ones count. */
  readonly number: number;
  /** The line on which it begins, from 1; of parquet, its number. */
  readonly line: number;
  /** A record's fields. */
  readonly value?: unknown;
  /** The line as it stands, of JSON lines. */
  readonly text?: string;
  /** What is wrong with the row, to be read behind "line 7". */
  readonly fault?: string;
  readonly blank?: true;
}

/** Gathers the bytes of one row from chunks, up to the longest that is kept. */
export class RowBytes {
  #parts: Uint8Array[] = [];
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** `isReused`: whether the chunk may be overwritten before the row is complete. */
  add(part: Uint8Array, isReused: boolean): void {
    this.#size += part.length;
    if (this.#size > LONGEST_ROW) this.#parts = [];
    else this.#parts.push(isReused ? part.slice() : part);
  }

  /** The row's text or what is wrong with it; begins the next. */
  take(): { readonly text: string; readonly fault?: string } {
    const [parts, size] = [this.#parts, this.#size];
    [this.#parts, this.#size] = [[], 0];
    if (size > LONGEST_ROW) return { text: "", fault: TOO_LONG };
    const text = utf8(parts.length === 1 ? parts[0]! : Buffer.concat(parts));
    return text === undefined ? { text: "", fault: "is not UTF-8" } : { text };
  }
}

/** The value of a row's JSON text, or what is wrong with it. */
export function jsonValue(text: string): Pick<Row, "value" | "fault"> {
  try {
    return { value: JSON.parse(text) };
  } catch (error) {
    return { fault: `is not JSON: ${(error as Error).message}` };
  }
}
