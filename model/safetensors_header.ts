/** The header of a safetensors file: parsed as if an enemy had written it. */

import { formats } from "./dtypes.ts";
import { UserError } from "./errors.ts";
import { isObject, parseObject } from "./json.ts";

/** Where a tensor lies; offsets count from the end of the header. */
export interface Entry {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly begin: number;
  readonly end: number;
}

export interface Header {
  readonly metadata: ReadonlyMap<string, string>;
  readonly entries: readonly Entry[];
}

/** Bytes before the header: its length, as a little-endian u64. */
export const PREFIX = 8;
/** Longest header that is read, as in Hugging Face's own reader. */
const LONGEST_HEADER = 100_000_000;
/** Writers may pad between tensors up to this alignment. */
const ALIGNMENT = 8;

/** The length that the first eight bytes state; throws unless such a header fits into the file. */
export function headerLength(prefix: Uint8Array, fileSize: number, file: string): number {
  if (prefix.length < PREFIX) {
    throw new UserError(`${file}: ${fileSize} bytes are too few for a safetensors file`);
  }
  const view = new DataView(prefix.buffer, prefix.byteOffset, PREFIX);
  const length = view.getUint32(4, true) * 2 ** 32 + view.getUint32(0, true);
  if (length > LONGEST_HEADER) {
    throw new UserError(
      `${file}: the header claims ${length} bytes, at most ${LONGEST_HEADER} are read; ` +
        "is this a safetensors file?",
    );
  }
  if (PREFIX + length > fileSize) {
    throw new UserError(
      `${file}: the header claims ${length} bytes, the file has ${fileSize}: it is cut off`,
    );
  }
  return length;
}

/**
 * Checks a header against the number of data bytes behind it: JSON without repeated names, known
 * formats, sizes that agree with offsets, and tensors that fill the data without overlap or gap.
 */
export function parseHeader(bytes: Uint8Array, dataSize: number, file: string): Header {
  const json = parseObject(bytes, `${file}: the header`);
  const { __metadata__: metadata = {}, ...tensors } = json;
  const entries = Object.entries(tensors).map(([name, value]) => entryOf(name, value, file));
  requireLayout(entries, dataSize, file);
  return { metadata: metadataOf(metadata, file), entries };
}

function metadataOf(value: unknown, file: string): Map<string, string> {
  const entries = isObject(value) ? Object.entries(value) : [["__metadata__", value]];
  return new Map(
    entries.map(([key, text]) => {
      if (typeof text === "string") return [key as string, text];
      throw new UserError(`${file}: metadata "${key}" is not a string`);
    }),
  );
}

function entryOf(name: string, value: unknown, file: string): Entry {
  const where = `${file}: tensor "${name}"`;
  if (!isObject(value)) throw new UserError(`${where} has no description`);
  const { dtype, shape, data_offsets: offsets } = value;
  const format = formats.get(String(dtype));
  if (format === undefined || typeof dtype !== "string") {
    const known = [...formats.keys()].join(", ");
    throw new UserError(`${where} has the dtype ${JSON.stringify(dtype)}; readable: ${known}`);
  }
  if (!isSizes(shape)) {
    throw new UserError(`${where} has the shape ${JSON.stringify(shape)}, expected sizes`);
  }
  if (!isSizes(offsets) || offsets.length !== 2 || offsets[0]! > offsets[1]!) {
    throw new UserError(
      `${where} has the data_offsets ${JSON.stringify(offsets)}, expected [begin, end]`,
    );
  }
  const [begin, end] = offsets as [number, number];
  const needed = shape.reduce((product, n) => product * n, format.bytes);
  if (needed !== end - begin) {
    throw new UserError(
      `${where} needs ${needed} bytes (${dtype} [${shape.join(" ")}]), ` +
        `its offsets hold ${end - begin}`,
    );
  }
  return { name, dtype, shape, begin, end };
}

const isSizes = (value: unknown): value is number[] =>
  Array.isArray(value) && value.every((n) => Number.isSafeInteger(n) && n >= 0);

/** Tensors follow one another; a gap may only be the padding to the next multiple of 8. */
function requireLayout(entries: readonly Entry[], dataSize: number, file: string): void {
  const ordered = [...entries].sort((a, b) => a.begin - b.begin || a.end - b.end);
  let at = 0;
  for (const { name, begin, end } of ordered) {
    const where = `${file}: tensor "${name}" at bytes ${begin} to ${end}`;
    if (begin < at) throw new UserError(`${where} overlaps the one before, which ends at ${at}`);
    if (begin !== at && begin !== Math.ceil(at / ALIGNMENT) * ALIGNMENT) {
      throw new UserError(`${where} leaves a gap: the one before ends at ${at}`);
    }
    if (end > dataSize) {
      throw new UserError(
        `${where} lies outside of the file's ${dataSize} data bytes: is the file cut off?`,
      );
    }
    at = end;
  }
  if (at !== dataSize && Math.ceil(at / ALIGNMENT) * ALIGNMENT !== dataSize) {
    throw new UserError(
      `${file}: ${dataSize - at} bytes behind the last tensor belong to no tensor`,
    );
  }
}
