/** GGUF files, llama.cpp's format: parsed as if an enemy had written them, arrays read on demand. */
// https://github.com/ggml-org/ggml/blob/master/docs/gguf.md

import { ByteCursor } from "./byte_cursor.ts";
import { type ByteSource, memorySource, openFile, readValues } from "./bytes.ts";
import { type Format, formats, q8_0, type Values } from "./dtypes.ts";
import { UserError } from "./errors.ts";
import { type Metadata, readMetadata } from "./gguf_metadata.ts";

/** Where an array lies; offsets count from the start of the file. */
export interface GgufEntry {
  readonly name: string;
  readonly type: string;
  readonly format: Format;
  /** Row-major, as in safetensors: the file lists sizes from the last axis on. */
  readonly shape: readonly number[];
  readonly begin: number;
  readonly end: number;
}

export interface GgufReader {
  readonly name: string;
  readonly metadata: Metadata;
  readonly entries: ReadonlyMap<string, GgufEntry>;
  /** `count` values of an array from the `from`-th on, whole blocks; default all. */
  read(entry: GgufEntry, into: Values, options?: ReadOptions): Values;
  close(): void;
}
interface ReadOptions {
  readonly from?: number;
  readonly onBytes?: ((bytes: number) => void) | undefined;
}

/** Types of arrays that can be read, by their number in the file. */
export const ggufTypes: ReadonlyMap<number, readonly [name: string, format: Format]> = new Map([
  [0, ["F32", formats.get("F32")!]],
  [1, ["F16", formats.get("F16")!]],
  [8, ["Q8_0", q8_0]],
  [30, ["BF16", formats.get("BF16")!]],
]);

/** The names of others, for the message that refuses them. */
const UNREADABLE: Readonly<Record<number, string>> = {
  ...{ 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 9: "Q8_1", 10: "Q2_K", 11: "Q3_K", 12: "Q4_K" },
  ...{ 13: "Q5_K", 14: "Q6_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS" },
  ...{ 19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16" },
  ...{ 26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4" },
};

const MAGIC = 0x46554747; // "GGUF"
export const DEFAULT_ALIGNMENT = 32;
/** Fewest bytes that describe an array: its name's length, axes, type, offset. */
const LEAST_INFO = 24;
const MOST_AXES = 4;

/** Opens a file. A missing, cut-off, damaged or hostile one gives a UserError naming it. */
export const openGguf = (path: string): GgufReader => readerOf(openFile(path));

/** The same over bytes in memory; `name` stands for the file in errors. */
export const ggufFrom = (bytes: Uint8Array, name = "gguf"): GgufReader =>
  readerOf(memorySource(bytes, name));

function readerOf(source: ByteSource): GgufReader {
  try {
    const cursor = new ByteCursor(source);
    const tensors = readCounts(cursor);
    const metadata = readMetadata(cursor, tensors.metadata);
    const alignment = alignmentOf(metadata, source.name);
    const infos = readInfos(cursor, tensors.tensors);
    const start = Math.ceil(cursor.at / alignment) * alignment;
    const entries = placed(infos, { start, alignment, size: source.size, file: source.name });
    return {
      ...{ name: source.name, metadata, entries, close: source.close },
      read: ({ name, format, begin }, into, { from = 0, onBytes } = {}) => {
        const first = begin + (from / format.block) * format.bytes;
        const where = `${source.name}: tensor "${name}"`;
        return readValues(
          source,
          { format, from: first, count: into.length, where },
          into,
          onBytes,
        );
      },
    };
  } catch (error) {
    source.close();
    throw error;
  }
}

function readCounts(cursor: ByteCursor): { tensors: number; metadata: number } {
  const { name, size } = cursor.source;
  if (size < 24 || cursor.u32("the magic") !== MAGIC) {
    throw new UserError(`${name}: it does not begin as a GGUF file does`);
  }
  const version = cursor.u32("the version");
  if (version !== 2 && version !== 3) {
    throw new UserError(`${name}: GGUF version ${version}; versions 2 and 3 are read`);
  }
  return {
    tensors: cursor.count("the number of tensors", LEAST_INFO),
    // A key's length, a type, one byte.
    metadata: cursor.count("the number of metadata entries", 13),
  };
}

function alignmentOf(metadata: Metadata, file: string): number {
  const alignment = metadata.get("general.alignment") ?? DEFAULT_ALIGNMENT;
  const isPower =
    typeof alignment === "number" && alignment > 0 && Number.isInteger(Math.log2(alignment));
  if (isPower && alignment <= 1 << 16) return alignment;
  throw new UserError(
    `${file}: general.alignment is ${String(alignment)}, expected a power of two`,
  );
}

interface Info {
  readonly name: string;
  readonly type: string;
  readonly format: Format;
  readonly shape: readonly number[];
  readonly bytes: number;
  readonly offset: number;
}

function readInfos(cursor: ByteCursor, count: number): Info[] {
  const file = cursor.source.name;
  const seen = new Set<string>();
  return Array.from({ length: count }, (_, i) => {
    const name = cursor.text(`the name of tensor ${i}`);
    const where = `${file}: tensor ${JSON.stringify(name)}`;
    if (seen.has(name)) throw new UserError(`${where} occurs twice`);
    seen.add(name);
    const axes = cursor.u32(`the axes of tensor ${i}`);
    if (axes < 1 || axes > MOST_AXES)
      throw new UserError(`${where} has ${axes} axes, expected 1 to 4`);
    const sizes = Array.from({ length: axes }, () => cursor.u64(`a size of tensor ${i}`));
    const number = cursor.u32(`the type of tensor ${i}`);
    const offset = cursor.u64(`the offset of tensor ${i}`);
    const [type, format] = ggufTypes.get(number) ?? [];
    if (type === undefined || format === undefined) {
      const known = [...ggufTypes.values()].map(([readable]) => readable).join(", ");
      const called = UNREADABLE[number] ?? "unknown";
      throw new UserError(`${where} has the type ${number} (${called}); readable: ${known}`);
    }
    const shape = sizes.toReversed();
    if (sizes.some((n) => n < 1))
      throw new UserError(`${where} has the shape [${shape.join(" ")}]`);
    if (sizes[0]! % format.block !== 0) {
      throw new UserError(`${where}: rows of ${sizes[0]} are no whole blocks of ${format.block}`);
    }
    const bytes = (shape.reduce((product, n) => product * n, 1) / format.block) * format.bytes;
    return { name, type, format, shape, bytes, offset };
  });
}

/** Arrays follow one another at multiples of the alignment, and all lie inside of the file. */
function placed(
  infos: readonly Info[],
  file: { start: number; alignment: number; size: number; file: string },
): Map<string, GgufEntry> {
  const { start, alignment, size } = file;
  const ordered = infos.toSorted((a, b) => a.offset - b.offset);
  let at = 0;
  for (const { name, offset, bytes } of ordered) {
    const where = `${file.file}: tensor ${JSON.stringify(name)} at ${offset}`;
    if (offset % alignment !== 0) throw new UserError(`${where} is no multiple of ${alignment}`);
    if (offset < at) throw new UserError(`${where} overlaps the one before, which ends at ${at}`);
    if (offset - at >= alignment) {
      throw new UserError(`${where} leaves a gap: the one before ends at ${at}`);
    }
    at = offset + bytes;
    if (start + at > size) {
      throw new UserError(
        `${where} needs ${bytes} bytes, the file has ${Math.max(0, size - start - offset)} there: ` +
          "is it cut off?",
      );
    }
  }
  return new Map(
    infos.map(({ offset, bytes, ...info }) => {
      const begin = start + offset;
      return [info.name, { ...info, begin, end: begin + bytes }];
    }),
  );
}
