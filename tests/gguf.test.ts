/** GGUF files: models there and back, what llama.cpp can't express, damaged and hostile bytes. */

import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import fc from "fast-check";
import { loadModel, type Model } from "../model/checkpoint.ts";
import type { ModelConfig, ModelConfigInput } from "../model/config.ts";
import { convert } from "../model/convert.ts";
import { families } from "../model/families.ts";
import { ggufFrom } from "../model/gguf.ts";
import { reorderHeads } from "../model/gguf_layout.ts";
import {
  concatenated,
  metadataBytes,
  type Typed,
  textBytes,
  u32,
  u64,
} from "../model/gguf_metadata.ts";
import { openGgufModel } from "../model/gguf_read.ts";
import { writeGguf } from "../model/gguf_write.ts";
import { sourceOfTree } from "../model/store.ts";
import { wordTokenizer } from "../model/tokenizer.ts";
import { roundToHalf } from "../tensor/mod.ts";
import { writeQuantised } from "./support/quantised.ts";
import { RUNS, SEED } from "./support/samples.ts";
import { tinyModel } from "./tiny_model.ts";

const scratch = mkdtempSync(join(tmpdir(), "anamnesis-gguf-"));
after(() => rmSync(scratch, { recursive: true, force: true }));
let count = 0;
const fresh = (ending = ""): string => join(scratch, `${count++}${ending}`);
const write = ({ config, parameters, tokenizer }: Model, path: string, dtype: "f32" | "f16") =>
  writeGguf(path, { config, tokenizer, source: sourceOfTree(parameters) }, { dtype });

const mixture: ModelConfigInput = { num_experts: 3, num_experts_per_tok: 2, norm_topk_prob: true };
const shapes = fc
  .record({
    family: fc.constantFrom(...families),
    groups: fc.integer({ min: 1, max: 3 }),
    perGroup: fc.integer({ min: 1, max: 3 }),
    pairs: fc.integer({ min: 1, max: 4 }),
    hidden: fc.integer({ min: 2, max: 19 }),
    layers: fc.integer({ min: 1, max: 3 }),
    flags: fc.tuple(fc.boolean(), fc.boolean(), fc.boolean()),
    scaling: fc.constantFrom(null, "linear", "llama3"),
  })
  .map(({ family, groups, perGroup, pairs, flags, scaling, ...drawn }): ModelConfigInput => {
    const [tied, attentionBias, mlpBias] = flags;
    const heads = groups * perGroup;
    const llama3 = {
      low_freq_factor: 1,
      high_freq_factor: 4,
      original_max_position_embeddings: 24,
    };
    const rule = { rope_type: scaling, factor: 2.5, ...(scaling === "llama3" && llama3) };
    const kept = scaling === "linear" || (scaling === "llama3" && family === "llama");
    return {
      ...{ model_type: family, intermediate_size: 9, num_hidden_layers: drawn.layers },
      ...{ hidden_size: family === "olmo2" ? heads * 2 * pairs : drawn.hidden },
      ...{ num_attention_heads: heads, num_key_value_heads: groups, head_dim: 2 * pairs },
      // A tied OLMo 2 comes back untied: llama.cpp wants its head in any case.
      ...{
        tie_word_embeddings: tied && family !== "olmo2",
        rms_norm_eps: 1e-6,
        rope_theta: 12345.5,
      },
      ...(family === "llama" && { attention_bias: attentionBias, mlp_bias: mlpBias }),
      ...(family === "qwen3_moe" && { ...mixture, moe_intermediate_size: 7 }),
      ...(kept && { rope_scaling: rule }),
      ...{ bos_token_id: 3, eos_token_id: 5 },
    };
  });

const words = Array.from({ length: 23 }, (_, i) => `w${i}`);
const tokenizer = wordTokenizer(words, { special: ["w5"] });

/** What of a configuration a GGUF file keeps. */
const KEPT = [
  ...["model_type", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers"],
  ...["num_attention_heads", "num_key_value_heads", "head_dim", "rms_norm_eps", "rope_theta"],
  ...["max_position_embeddings", "tie_word_embeddings", "attention_bias", "mlp_bias"],
  ...["num_experts", "num_experts_per_tok", "moe_intermediate_size", "norm_topk_prob"],
  ...["bos_token_id", "eos_token_id"],
];
const kept = (config: ModelConfig) => Object.fromEntries(KEPT.map((key) => [key, config[key]]));

test("a model comes back from GGUF: its configuration, its names, its bits", async () => {
  await fc.assert(
    fc.asyncProperty(
      shapes,
      fc.constantFrom("f32" as const, "f16" as const),
      async (input, dtype) => {
        const model = tinyModel(input);
        const [path, folder] = [fresh(".gguf"), fresh()];
        await write({ ...model, tokenizer }, path, dtype);
        await convert(path, { to: folder, dtype: "f32", tokenizer: "keep", maxShardGb: 5 });
        const read = loadModel(folder);
        assert.deepEqual(kept(read.config), kept(model.config));
        assert.deepEqual(read.config.rope_scaling, model.config.rope_scaling);
        assert.deepEqual([...read.parameters.keys()], [...model.parameters.keys()]);
        for (const [name, t] of model.parameters) {
          const isHalf = dtype === "f16" && t.rank > 1 && !name.endsWith("mlp.gate.weight");
          const expected = [...t.dataSync()].map(isHalf ? roundToHalf : Math.fround);
          assert.deepEqual([...read.parameters.get(name)!.dataSync()], expected, name);
        }
        rmSync(path);
        rmSync(folder, { recursive: true });
      },
    ),
    { seed: SEED, numRuns: Math.min(RUNS, 15) },
  );
});

test("heads are reordered as the file format of llama.cpp has them, and back", () => {
  // Two heads of four rows of two.
  const rows = Float32Array.from({ length: 16 }, (_, i) => i);
  const paired = reorderHeads(rows, 8, 2);
  assert.deepEqual([...paired], [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15]);
  assert.deepEqual(reorderHeads(paired, 8, 2, true), rows);
});

test("Q8_0 gives whole numbers times their block's scale, experts and turned heads too", () => {
  for (const input of [
    { model_type: "llama" as const },
    { model_type: "qwen3_moe" as const, ...mixture, moe_intermediate_size: 32, head_dim: 8 },
  ]) {
    const sizes = { hidden_size: 32, intermediate_size: 64, vocab_size: 32 };
    const path = fresh(".gguf");
    const held = writeQuantised(path, tinyModel({ ...input, ...sizes }));
    const { weights } = openGgufModel(path);
    for (const [name, values] of held) assert.deepEqual(weights.read(name), values, name);
    weights.close();
  }
});

test("a rule of Llama 3 that only its factors tell is found again", async () => {
  const scaling = (factor: number) => ({
    ...{ rope_type: "llama3", factor, low_freq_factor: 1, high_freq_factor: 4 },
    original_max_position_embeddings: 8192,
  });
  for (const factor of [8, 32, 5]) {
    const path = fresh(".gguf");
    const model = tinyModel({ rope_scaling: scaling(factor), head_dim: 64, rope_theta: 500_000 });
    await write({ ...model, tokenizer }, path, "f16");
    const bytes = readFileSync(path);
    // Another program's file doesn't have our key.
    const at = bytes.indexOf("anamnesis.rope_scaling");
    bytes.write("somebody", at);
    writeFileSync(path, bytes);
    if (factor === 5) {
      assert.throws(() => openGgufModel(path), /rope_freqs\.weight holds none of the published/);
      continue;
    }
    const { config, weights } = openGgufModel(path);
    weights.close();
    assert.deepEqual(config.rope_scaling, scaling(factor));
  }
});

describe("what llama.cpp can't express is refused by name", () => {
  const refused: [ModelConfigInput, RegExp][] = [
    [{ model_type: "qwen3", attention_bias: true }, /qwen3:\n {2}- attention_bias is true/],
    [
      {
        model_type: "qwen2",
        rope_scaling: {
          ...{ rope_type: "llama3", factor: 8, low_freq_factor: 1, high_freq_factor: 4 },
          original_max_position_embeddings: 24,
        },
      },
      /rope type "llama3": only the llama architecture/,
    ],
    [
      { model_type: "qwen3_moe", ...mixture, moe_intermediate_size: 8, norm_topk_prob: false },
      /norm_topk_prob is false/,
    ],
    [
      { model_type: "qwen3_moe", ...mixture, moe_intermediate_size: 8, mlp_only_layers: [0] },
      /some layers have no experts/,
    ],
    [{ model_type: "olmo2", head_dim: 6 }, /heads have 24 entries, .* hidden_size 16/],
  ];
  for (const [input, message] of refused) {
    test(JSON.stringify(input), async () => {
      const path = fresh(".gguf");
      const writing = async () => write(tinyModel(input), path, "f32");
      await assert.rejects(writing, { name: "UserError", message });
      assert.ok(!existsSync(path));
    });
  }
});

/** A file of the given entries and arrays; `data` bytes lie behind the header. */
interface Draft {
  readonly version?: number;
  readonly counts?: readonly [tensors: number, entries: number];
  readonly metadata?: Readonly<Record<string, Typed>>;
  readonly raw?: readonly Uint8Array[];
  readonly infos?: readonly (readonly [
    name: string,
    sizes: readonly (number | bigint)[],
    type: number,
    offset: number,
  ])[];
  readonly data?: number;
}
function draft({ version = 3, metadata = {}, raw = [], infos = [], data = 0, counts }: Draft) {
  const entries = Object.entries(metadata);
  const header = concatenated([
    ...[new TextEncoder().encode("GGUF"), u32(version)],
    ...(counts ?? [infos.length, entries.length]).map(u64),
    ...entries.map(([key, value]) => metadataBytes(key, value)),
    ...raw,
    ...infos.flatMap(([name, sizes, type, offset]) => [
      ...[textBytes(name), u32(sizes.length)],
      ...sizes.map((n) => new Uint8Array(BigUint64Array.of(BigInt(n)).buffer)),
      ...[u32(type), u64(offset)],
    ]),
  ]);
  const start = Math.ceil(header.length / 32) * 32;
  return concatenated([header, new Uint8Array(start - header.length + data)]);
}
const entry = (key: string, type: number, ...rest: Uint8Array[]) =>
  concatenated([textBytes(key), u32(type), ...rest]);
const one = { counts: [0, 1] as const };
const huge = 2 ** 50;

const hostile: [name: string, bytes: Uint8Array, message: RegExp][] = [
  ["empty", new Uint8Array(0), /does not begin as a GGUF file/],
  ["another file", new Uint8Array(64), /does not begin as a GGUF file/],
  ["version 1", draft({ version: 1 }), /GGUF version 1; versions 2 and 3/],
  ["big-endian", draft({ version: 3 << 24 }), /GGUF version 50331648/],
  ["too many arrays", draft({ counts: [huge, 0] }), /number of tensors is 1125\d+, but \d+ bytes/],
  ["too many entries", draft({ counts: [0, huge] }), /number of metadata entries is 1125/],
  [
    "a number beyond all files",
    draft({ counts: [0, 0] }).map((b, i) => (i >= 8 && i < 16 ? 255 : b)),
    /number of tensors is 18446744073709551615, which no file can hold/,
  ],
  ["a long key", draft({ ...one, raw: [u64(huge), u32(0)] }), /key of metadata entry 0 needs 1125/],
  ["a key cut off", draft({ ...one, raw: [u64(90), u64(0)] }), /needs 90 bytes, \d+ are left/],
  [
    "a key twice",
    draft({
      counts: [0, 2],
      raw: [entry("a", 7, Uint8Array.of(1)), entry("a", 7, Uint8Array.of(1))],
    }),
    /metadata "a" occurs twice/,
  ],
  ["a key that is no text", draft({ ...one, raw: [u64(1), Uint8Array.of(255)] }), /not UTF-8/],
  ["an unknown type", draft({ ...one, raw: [entry("a", 13)] }), /"a" has the unknown type 13/],
  ["a long text", draft({ ...one, raw: [entry("a", 8, u64(huge))] }), /"a" needs 1125/],
  [
    "a long list",
    draft({ ...one, raw: [entry("a", 9, u32(4), u64(huge))] }),
    /length of metadata "a" is 1125\d+, but \d+ bytes are left/,
  ],
  [
    "a long list of texts",
    draft({ ...one, raw: [entry("a", 9, u32(8), u64(1000))] }),
    /length of metadata "a" is 1000, but/,
  ],
  [
    "lists in a list",
    draft({ ...one, raw: [entry("a", 9, u32(9), u64(1), u32(9), u64(1))] }),
    /"a" is an array of arrays/,
  ],
  [
    "a number that is not exact",
    draft({ ...one, raw: [entry("a", 10, new Uint8Array(8).fill(255))] }),
    /"a" is 18446744073709551615, beyond/,
  ],
  [
    "an odd alignment",
    draft({ metadata: { "general.alignment": { u32: 24 } } }),
    /is 24, expected a p/,
  ],
  [
    "no alignment",
    draft({ metadata: { "general.alignment": { u32: 0 } } }),
    /is 0, expected a power/,
  ],
  [
    "an alignment of text",
    draft({ metadata: { "general.alignment": { text: "a" } } }),
    /is a, exp/,
  ],
  [
    "an array twice",
    draft({
      infos: [
        ["a", [1], 0, 0],
        ["a", [1], 0, 32],
      ],
      data: 64,
    }),
    /occurs twice/,
  ],
  ["no axes", draft({ infos: [["abcdefgh", [], 0, 0]], data: 32 }), /has 0 axes, expected 1 to 4/],
  ["five axes", draft({ infos: [["a", [1, 1, 1, 1, 1], 0, 0]], data: 32 }), /has 5 axes/],
  [
    "an axis of nothing",
    draft({ infos: [["a", [0, 2], 0, 0]], data: 32 }),
    /has the shape \[2 0\]/,
  ],
  [
    "Q4_K",
    draft({ infos: [["a", [256], 12, 0]], data: 144 }),
    /type 12 \(Q4_K\); readable: F32, F1/,
  ],
  ["a type of nobody", draft({ infos: [["a", [256], 777, 0]], data: 144 }), /type 777 \(unknown\)/],
  [
    "half a block",
    draft({ infos: [["a", [33], 8, 0]], data: 64 }),
    /rows of 33 are no whole blocks/,
  ],
  ["an odd place", draft({ infos: [["a", [1], 0, 4]], data: 64 }), /at 4 is no multiple of 32/],
  [
    "an overlap",
    draft({
      infos: [
        ["a", [9], 0, 0],
        ["b", [1], 0, 32],
      ],
      data: 64,
    }),
    /"b" at 32 overlaps/,
  ],
  [
    "a gap",
    draft({
      infos: [
        ["a", [1], 0, 0],
        ["b", [1], 0, 64],
      ],
      data: 96,
    }),
    /"b" at 64 leaves a gap/,
  ],
  [
    "past the end",
    draft({ infos: [["a", [9], 0, 0]], data: 32 }),
    /needs 36 bytes, the file has 32/,
  ],
  ["absurd axes", draft({ infos: [["a", [huge, huge], 0, 0]], data: 32 }), /needs \S+ bytes/],
  [
    "an absurd axis",
    draft({ infos: [["a", [2n ** 63n], 0, 0]], data: 32 }),
    /is 9223372036854775808/,
  ],
  ["an absurd place", draft({ infos: [["a", [1], 0, huge]], data: 32 }), /leaves a gap/],
];
for (const [name, bytes, message] of hostile) {
  test(`a hostile file is refused in words: ${name}`, () => {
    assert.throws(
      () => ggufFrom(bytes, "some.gguf"),
      (error: Error) => {
        assert.equal(error.name, "UserError", String(error));
        assert.match(error.message, /^some\.gguf: /);
        assert.match(error.message, message);
        return true;
      },
    );
  });
}

test("a file whose metadata and arrays disagree is refused, naming both", async () => {
  const model = tinyModel();
  const path = fresh(".gguf");
  await write(model, path, "f32");
  const bytes = readFileSync(path);
  const spoil = (key: string, value: number): RegExp | undefined => {
    const copy = Buffer.from(bytes);
    copy.writeUInt32LE(value, copy.indexOf(key) + key.length + 4);
    writeFileSync(path, copy);
    return undefined;
  };
  const refused = (message: RegExp) =>
    assert.throws(() => openGgufModel(path), { name: "UserError", message });
  spoil("llama.block_count", 3);
  refused(/blk\.2\.attn_norm\.weight \[16\] is missing/);
  spoil("llama.block_count", 1);
  refused(/blk\.1\.attn_norm\.weight is not in the model/);
  spoil("llama.block_count", 4_000_000_000);
  refused(/holds 20 tensors, too few for 4000000000 layers/);
  spoil("llama.feed_forward_length", 25);
  refused(/blk\.0\.ffn_gate\.weight is \[24 16\], the metadata say \[25 16\]/);
  spoil("llama.attention.head_count", 3);
  refused(/num_key_value_heads is 2: it must divide num_attention_heads 3/);
  spoil("llama.attention.value_length", 8);
  refused(/llama\.attention\.value_length is 8; only 4 is supported/);
  spoil("llama.rope.dimension_count", 2);
  refused(/llama\.rope\.dimension_count is 2; only 4/);
  writeFileSync(path, Buffer.from(bytes.toString("latin1").replace("llama", "gemma"), "latin1"));
  refused(/the architecture is "gemma"; supported: llama, qwen2/);
});
