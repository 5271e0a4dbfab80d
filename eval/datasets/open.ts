/** Opens a file of rows, whichever way they are kept in it: told by its contents, not by its name. */
import { type Bytes, openBytes, utf8 } from "./bytes.ts";
import { csvRows } from "./csv.ts";
import { knownFields } from "./formats.ts";
import { jsonRows, LIST_NAMES } from "./json.ts";
import { jsonLineRows } from "./lines.ts";
import { parquetRows } from "./parquet.ts";
import type { Container } from "./question.ts";
import type { Row } from "./rows.ts";

export interface OpenedRows {
  readonly container: Container;
  readonly rows: AsyncGenerator<Row>;
}

/**
 * The rows of a file, streamed (parquet by blocks of rows). UserErrors name the file that can't be
 * read, or what is wrong with it as a whole.
 */
export async function openRows(path: string): Promise<OpenedRows> {
  const { first, bytes, isPacked } = await openBytes(path);
  const container = containerOf(first, path);
  if (container === "parquet" && !isPacked) await bytes.return(undefined);
  return { container, rows: rowsOf(path, container, bytes, isPacked) };
}

function rowsOf(path: string, container: Container, bytes: Bytes, isPacked: boolean) {
  if (container === "jsonl") return jsonLineRows(bytes);
  if (container === "json") return jsonRows(path, bytes);
  if (container === "csv") return csvRows(path, bytes, ",");
  if (container === "tsv") return csvRows(path, bytes, "\t");
  return parquetRows(path, isPacked ? bytes : undefined, (column) => knownFields.has(column));
}

/** "popQA" of "data/popQA.tsv.gz". */
export const stemOf = (path: string): string =>
  path
    .replace(/^.*[\\/]/, "")
    .replace(/\.gz$/, "")
    .replace(/\.[^.]*$/, "");

/** How a file that begins so keeps its rows; its name decides where that leaves a doubt. */
export function containerOf(first: Uint8Array, path: string): Container {
  const text = decoded(first).replace(/^\uFEFF/, "");
  if (text.startsWith("PAR1")) return "parquet";
  const begin = text.trimStart();
  if (begin.startsWith("[")) return "json";
  const isLines = /\.(jsonl|ndjson)(\.gz)?$/i.test(path);
  if (begin.startsWith("{")) return isOneObject(begin, isLines) ? "json" : "jsonl";
  if (isLines) return "jsonl";
  if (/\.json(\.gz)?$/i.test(path)) return "json";
  return /^[^\n]*\t/.test(begin) ? "tsv" : "csv";
}

/** Whether one object fills the file: it holds a list of rows, or its first line is not whole. */
function isOneObject(begin: string, isLines: boolean): boolean {
  const names = LIST_NAMES.join("|");
  const list = new RegExp(String.raw`^\{[^{}[\]]*"(?:${names})"\s*:\s*\[\s*(?:[{\]]|$)`);
  return list.test(begin) || (!isLines && /^\{\s*("[^"]*"\s*:\s*[[{]?\s*)?\n/.test(begin));
}

/** As much of the bytes as is text: they may end within a letter. */
function decoded(bytes: Uint8Array): string {
  return utf8(bytes) ?? new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
}
