/** Rows of a parquet file, some thousands at a time, through hyparquet where it is installed. */
import { UserError } from "../../model/errors.ts";
import type { Bytes } from "./bytes.ts";
import type { Row } from "./rows.ts";

/** Rows that are read at a time. */
const BLOCK = 4096;

/**
 * The rows, with those columns only that `isWanted`. Parquet is read from its end, so a gzipped file
 * (`bytes`) is taken into memory. UserErrors: hyparquet is missing, or the file is damaged.
 */
export async function* parquetRows(
  path: string,
  bytes: Bytes | undefined,
  isWanted: (column: string) => boolean,
): AsyncGenerator<Row> {
  const { asyncBufferFromFile, parquetMetadataAsync, parquetReadObjects } = await hyparquet(path);
  try {
    const file = bytes === undefined ? await asyncBufferFromFile(path) : await inMemory(bytes);
    const metadata = await parquetMetadataAsync(file);
    const total = Number(metadata.num_rows);
    const [root] = metadata.schema;
    const names = topNames(metadata.schema.slice(1), root?.num_children ?? 0);
    const columns = names.filter(isWanted);
    if (columns.length === 0) {
      throw new UserError(`${path} has no column of a question set, only ${names.join(", ")}`);
    }
    for (let rowStart = 0; rowStart < total; rowStart += BLOCK) {
      const rowEnd = Math.min(total, rowStart + BLOCK);
      const rows = await parquetReadObjects({ file, metadata, columns, rowStart, rowEnd });
      if (rows.length !== rowEnd - rowStart) throw new Error(`it has fewer rows than ${total}`);
      for (const [i, value] of rows.entries()) {
        const number = rowStart + i + 1;
        yield { number, line: number, value: plain(value) };
      }
    }
  } catch (error) {
    if (error instanceof UserError) throw error;
    throw new UserError(`cannot read ${path}: ${(error as Error).message}`, { cause: error });
  }
}

async function hyparquet(path: string) {
  try {
    return await import("hyparquet");
  } catch (cause) {
    const why = `reading parquet needs a package: npm install hyparquet`;
    throw new UserError(`${path}: ${why}`, { cause });
  }
}

async function inMemory(bytes: Bytes) {
  const whole = Buffer.concat(await Array.fromAsync(bytes));
  const { buffer, byteOffset, byteLength } = whole;
  const slice = (start: number, end = byteLength) =>
    buffer.slice(byteOffset + start, byteOffset + end) as ArrayBuffer;
  return { byteLength, slice };
}

interface SchemaElement {
  readonly name: string;
  readonly num_children?: number;
}

/** Names of the root's children in a schema that lists every node before its children. */
function topNames(elements: readonly SchemaElement[], count: number): string[] {
  const names: string[] = [];
  let at = 0;
  const skip = (): void => {
    const children = elements[at++]?.num_children ?? 0;
    for (let n = 0; n < children; n++) skip();
  };
  while (names.length < count && at < elements.length) {
    names.push(elements[at]!.name);
    skip();
  }
  return names;
}

/** Whole numbers of 64 bits as numbers, at any depth of lists and records. */
function plain(value: unknown): unknown {
  if (typeof value === "bigint") return Number(value);
  if (Array.isArray(value)) return value.map(plain);
  if (value === null || typeof value !== "object" || value instanceof Date) return value;
  return Object.fromEntries(Object.entries(value).map(([name, some]) => [name, plain(some)]));
}
