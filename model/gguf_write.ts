/** Writes a model as a GGUF file that llama.cpp opens, one array at a time. */

import type { ModelConfig } from "./config.ts";
import { encodeWeights, type WeightType, widthOf } from "./dtypes.ts";
import { type FileParts, writeAllAtomic } from "./files.ts";
import { DEFAULT_ALIGNMENT } from "./gguf.ts";
import { type GgufArray, ggufArrays, reorderHeads } from "./gguf_layout.ts";
import { concatenated, metadataBytes, type Typed, textBytes, u32, u64 } from "./gguf_metadata.ts";
import { ggufMetadata, ROPE_FACTORS, ropeFactors } from "./gguf_model.ts";
import { ggufTokenizer } from "./gguf_tokenizer.ts";
import { ropeRule } from "./rope.ts";
import type { TensorSource } from "./store.ts";
import type { Tokenizer } from "./tokenizer.ts";

export interface GgufOptions {
  /** How matrices are stored; norms, biases and routers are always F32. Default f16. */
  readonly dtype?: WeightType;
  readonly name?: string;
  readonly onProgress?: (bytes: number, total: number) => void;
}

export interface GgufModel {
  readonly config: ModelConfig;
  readonly source: TensorSource;
  /** What GGUF can't express of it gives a UserError; undefined: token ids only. */
  readonly tokenizer?: Tokenizer | undefined;
}

/** GGUF's and llama.cpp's numbers of the types. */
const TYPES = {
  f32: { type: 0, file: 0 },
  f16: { type: 1, file: 1 },
  bf16: { type: 30, file: 32 },
};

/** Replaces the file at `path`, atomically. */
export const writeGguf = (
  path: string,
  model: GgufModel,
  options: GgufOptions = {},
): Promise<void> => writeAllAtomic([ggufFile(path, model, options)]);

interface Planned {
  readonly array: GgufArray;
  readonly dtype: WeightType;
  readonly bytes: number;
  readonly offset: number;
}

function ggufFile(path: string, model: GgufModel, options: GgufOptions): FileParts {
  const { dtype = "f16", name = "anamnesis", onProgress } = options;
  const { config, source, tokenizer } = model;
  const metadata = new Map<string, Typed>([
    ...ggufMetadata(config, name),
    ["general.alignment", { u32: DEFAULT_ALIGNMENT }],
    ["general.file_type", { u32: TYPES[dtype].file }],
    ...ggufTokenizer(config, tokenizer),
  ]);
  const arrays = [...ggufArrays(config), ...ropeArray(config)];
  const { planned, total } = plan(arrays, dtype);
  return {
    path,
    parts: async function* () {
      yield header(metadata, planned);
      let written = 0;
      for (const { array, dtype: own, bytes } of planned) {
        for (const part of array.parts) {
          const values = await valuesOf(part, array, model);
          const encoded = encodeWeights(values, own, `tensor ${part}`);
          yield encoded;
          written += encoded.length;
          onProgress?.(written, total);
        }
        yield new Uint8Array(padded(bytes) - bytes);
      }
    },
  };

  async function valuesOf(part: string, { turned }: GgufArray, { config }: GgufModel) {
    if (part === ROPE_FACTORS) return ropeFactors(config);
    const values = await source.values(part);
    return turned > 0 ? reorderHeads(values, source.shapes.get(part)![0]!, turned) : values;
  }
}

function ropeArray(config: ModelConfig): GgufArray[] {
  if (ropeRule(config).type !== "llama3") return [];
  const [name, shape] = [ROPE_FACTORS, [config.head_dim / 2]];
  return [{ name, shape, parts: [name], turned: 0, isMatrix: false }];
}

const padded = (bytes: number): number => Math.ceil(bytes / DEFAULT_ALIGNMENT) * DEFAULT_ALIGNMENT;

function plan(arrays: readonly GgufArray[], dtype: WeightType) {
  let [offset, total] = [0, 0];
  const planned = arrays.map((array): Planned => {
    const own = array.isMatrix ? dtype : "f32";
    const bytes = array.shape.reduce((product, n) => product * n, widthOf(own));
    const place = { array, dtype: own, bytes, offset };
    offset += padded(bytes);
    total += bytes;
    return place;
  });
  return { planned, total };
}

function header(metadata: ReadonlyMap<string, Typed>, planned: readonly Planned[]): Uint8Array {
  const all = concatenated([
    new TextEncoder().encode("GGUF"),
    ...[u32(3), u64(planned.length), u64(metadata.size)],
    ...[...metadata].map(([key, value]) => metadataBytes(key, value)),
    ...planned.flatMap(({ array: { name, shape }, dtype, offset }) => [
      ...[textBytes(name), u32(shape.length), ...shape.toReversed().map(u64)],
      ...[u32(TYPES[dtype].type), u64(offset)],
    ]),
  ]);
  return concatenated([all, new Uint8Array(padded(all.length) - all.length)]);
}
