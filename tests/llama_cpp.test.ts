/** Exported models against llama.cpp itself: the same probabilities, greedy tokens and token ids. */

import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { pathToFileURL } from "node:url";
import { gunzipSync } from "node:zlib";
import { loadModel, type Model } from "../model/checkpoint.ts";
import type { ModelConfigInput } from "../model/config.ts";
import { convert } from "../model/convert.ts";
import { writeGguf } from "../model/gguf_write.ts";
import { initialParameters } from "../model/parameters.ts";
import { sample } from "../model/sample.ts";
import { sourceOfTree } from "../model/store.ts";
import { type Tokenizer, tokenizerOf, wordTokenizer } from "../model/tokenizer.ts";
import { hidden, logits } from "../model/transformer.ts";
import { folder as installed } from "../scripts/llama_cpp.ts";
import { noGrad, scope, tensor } from "../tensor/mod.ts";
import type { Answer, Request } from "./children/llama_cpp.ts";
import { askLlama, llamaMissing } from "./support/llama_cpp.ts";
import { writeQuantised } from "./support/quantised.ts";
import { assetFolder, tinyConfig, tinyModel } from "./tiny_model.ts";

const scratch = mkdtempSync(join(tmpdir(), "anamnesis-llama-"));
after(() => rmSync(scratch, { recursive: true, force: true }));

const VOCABULARY = 96;
const GREEDY = 64;
const words = Array.from({ length: VOCABULARY }, (_, i) => (i === 0 ? "<eos>" : `w${i}`));
const tokenizer = wordTokenizer(words, { special: ["<eos>"] });
/** Grouped queries; weights so large that the most probable word has about a fifth. */
const shared: ModelConfigInput = {
  ...{ vocab_size: VOCABULARY, hidden_size: 32, intermediate_size: 64, num_hidden_layers: 3 },
  ...{ num_attention_heads: 4, num_key_value_heads: 2, max_position_embeddings: 128 },
  ...{ initializer_range: 0.3, eos_token_id: 0 },
};
const untied = { tie_word_embeddings: false };
const linear = { rope_scaling: { rope_type: "linear", factor: 3 } };
/** Frequencies on both sides of the ramp, and on it. */
const llama3 = {
  rope_theta: 500,
  rope_scaling: {
    ...{ rope_type: "llama3", factor: 8, low_freq_factor: 1, high_freq_factor: 4 },
    original_max_position_embeddings: 32,
  },
};
const mixture: ModelConfigInput = {
  ...{ model_type: "qwen3_moe", num_experts: 4, num_experts_per_tok: 2, head_dim: 16 },
  ...{ moe_intermediate_size: 32, norm_topk_prob: true },
};
const cases: Readonly<Record<string, ModelConfigInput>> = {
  "llama, tied": { model_type: "llama" },
  "llama, untied, biases": { ...untied, attention_bias: true, mlp_bias: true },
  "llama, heads of another size": { head_dim: 12 },
  "llama, rope llama3": { ...untied, ...llama3 },
  "llama, rope linear": { ...linear },
  "qwen2, tied": { model_type: "qwen2" },
  "qwen2, untied, rope linear": { model_type: "qwen2", ...untied, ...linear },
  "qwen3, tied": { model_type: "qwen3", head_dim: 16 },
  "qwen3, untied, rope linear": { model_type: "qwen3", head_dim: 16, ...untied, ...linear },
  "qwen3_moe, tied": { ...mixture },
  "qwen3_moe, untied, rope linear": { ...mixture, ...untied, ...linear },
  "olmo2, tied": { model_type: "olmo2" },
  "olmo2, untied, rope linear": { model_type: "olmo2", ...untied, ...linear },
};
/** llama.cpp multiplies half-precision and 8-bit weights by activations that it rounds likewise. */
const rounded = { "F16 weights": 5e-3, "Q8_0 weights": 0.1 };

const missing = llamaMissing();
if (missing === undefined) {
  for (const name of Object.keys(cases)) {
    test(`${name}: probabilities within 1e-5, and the same ${GREEDY} greedy tokens`, async () => {
      const { expected, answer } = (await everything()).get(name)!;
      const off = furthest(answer.probabilities!, expected.probabilities);
      assert.ok(off < 1e-5, `${off}`);
      assert.deepEqual(answer.greedy, expected.greedy);
      assert.ok(new Set(expected.greedy).size >= 10, "a continuation of few words shows little");
      const peaks = expected.probabilities.map((row) => Math.max(...row));
      const mean = peaks.reduce((a, b) => a + b) / peaks.length;
      assert.ok(mean > 0.1 && mean < 0.8, `the most probable word has ${mean}`);
      assert.deepEqual(answer.tokenized, [[1, 12, 95], [7]]);
      assert.deepEqual(answer.detokenized, ["w1 w12 w95", "w7"]);
    });
  }
  for (const [name, tolerance] of Object.entries(rounded)) {
    test(`${name}, as our reader gives them: probabilities within ${tolerance}`, async () => {
      const { expected, answer } = (await everything()).get(name)!;
      const off = furthest(answer.probabilities!, expected.probabilities);
      assert.ok(off < tolerance, `${off}`);
    });
  }
  test("another reader of GGUF finds the metadata and arrays that were written", otherReader);
} else {
  console.log(`skipped ${Object.keys(cases).length + 5} tests: ${missing}`);
}

const stories = missing ? undefined : assetFolder("models/stories260K", 1);
if (stories !== undefined) {
  test("stories260K as GGUF tells the golden story in llama.cpp, with the golden token ids", async () => {
    const path = join(scratch, "stories.gguf");
    await convert(stories, { to: path, tokenizer: "keep", maxShardGb: 5 });
    const json = (name: string) => JSON.parse(readFileSync(join(stories, name), "utf8"));
    const golden = json("golden.json").greedy_ids_201 as number[];
    const texts = json("golden_tokens.json") as { text: string; ids: number[] }[];
    const request = { path, tokens: golden.slice(0, 16), greedy: 200 };
    const [answer] = askLlama([{ ...request, texts: texts.map(({ text }) => text) }]);
    assert.deepEqual([1, ...answer!.greedy!], golden);
    const bare = texts.map(({ ids }) => ids.filter((id) => id !== 1));
    assert.deepEqual(answer!.tokenized, bare);
  });
}

const vectors = missing ? undefined : assetFolder("models/tokenizer-test-vectors", 1);
if (vectors !== undefined) {
  test("exported tokenizers give llama.cpp the ids of the test vectors", async () => {
    const gunzip = (path: string) => JSON.parse(gunzipSync(readFileSync(path)).toString());
    const requests: Request[] = [];
    const expected: number[][][] = [];
    for (const [name, file] of [
      ["gpt2", "gpt2"],
      ["qwen2.5", "qwen2"],
    ] as const) {
      const tokenizerFile = join(vectors, `../tokenizer-${name}/tokenizer.json.gz`);
      const given = JSON.parse(readFileSync(join(vectors, `${file}.json`), "utf8")) as Vector[];
      const own = tokenizerOf({ json: gunzip(tokenizerFile) });
      const path = join(scratch, `${name}.gguf`);
      await writeTokenizer(path, own);
      requests.push({ path, tokens: [1], greedy: 0, texts: given.map(({ text }) => text) });
      expected.push(given.map(({ ids }) => ids));
    }
    const answers = askLlama(requests);
    assert.deepEqual(
      answers.map(({ tokenized }) => tokenized),
      expected,
    );
  });
}

interface Vector {
  readonly text: string;
  readonly ids: number[];
}

/** A model of one small layer around a tokenizer. */
async function writeTokenizer(path: string, own: Tokenizer): Promise<void> {
  const config = tinyConfig({
    ...{ vocab_size: own.vocabularySize, hidden_size: 8, num_attention_heads: 2 },
    ...{ num_hidden_layers: 1, intermediate_size: 8 },
  });
  const source = sourceOfTree(initialParameters(config, { seed: 1 }));
  await writeGguf(path, { config, source, tokenizer: own });
}

interface Compared {
  readonly expected: { probabilities: number[][]; greedy: number[] };
  readonly answer: Answer;
}
let compared: Promise<Map<string, Compared>> | undefined;

/** All models' answers, of one process of llama.cpp. */
function everything(): Promise<Map<string, Compared>> {
  compared ??= (async () => {
    const models = await exported();
    const expected = new Map<string, Compared["expected"] & { request: Request }>();
    for (const [name, { model, path }] of models) {
      const { start, greedy } = await longest(model);
      const tokens = [start, ...Array.from({ length: 39 }, (_, i) => (i * 37 + 5) % VOCABULARY)];
      const request = { path, tokens, greedy: GREEDY, texts: ["w1 w12 w95", "w7"] };
      expected.set(name, { request, greedy, probabilities: probabilitiesOf(model, tokens) });
    }
    const answers = askLlama([...expected.values()].map(({ request }) => request));
    return new Map(
      [...expected].map(([name, own], i) => [name, { expected: own, answer: answers[i]! }]),
    );
  })();
  return compared;
}

async function exported(): Promise<Map<string, { model: Model; path: string }>> {
  const found = new Map<string, { model: Model; path: string }>();
  for (const [name, changes] of Object.entries(cases)) {
    const model = { ...tinyModel({ ...shared, ...changes }), tokenizer };
    const path = join(scratch, `${name}.gguf`);
    const source = sourceOfTree(model.parameters);
    await writeGguf(path, { ...model, source }, { dtype: "f32" });
    found.set(name, { model, path });
  }
  const { model } = found.get("llama, tied")!;
  const [half, eight] = Object.keys(rounded).map((name) => join(scratch, `${name}.gguf`));
  await writeGguf(half!, { ...model, source: sourceOfTree(model.parameters) }, { dtype: "f16" });
  writeQuantised(eight!, model);
  for (const [i, path] of [half!, eight!].entries()) {
    await convert(path, { to: `${path}-read`, dtype: "f32", tokenizer: "keep", maxShardGb: 5 });
    found.set(Object.keys(rounded)[i]!, { model: loadModel(`${path}-read`), path });
  }
  return found;
}

/** Of 16 starts the one that goes on with most different words: a repeated word shows little. */
async function longest({
  config,
  parameters,
}: Model): Promise<{ start: number; greedy: number[] }> {
  const starts = Array.from({ length: 16 }, (_, i) => [i + 1]);
  const settings = { maxNewTokens: GREEDY, temperature: 0 };
  const { tokens } = await sample(parameters, config, starts, settings);
  const variety = tokens.map((row) => new Set(row).size);
  const best = variety.indexOf(Math.max(...variety));
  return { start: best + 1, greedy: [...tokens[best]!] };
}

const probabilitiesOf = ({ config, parameters }: Model, ids: readonly number[]): number[][] =>
  scope(() => {
    const input = tensor(Int32Array.from(ids), [1, ids.length]);
    const scores = noGrad(() => logits(parameters, config, hidden(parameters, config, input)));
    return (scores.softmax().toArray() as number[][][])[0]!;
  });

function furthest(a: readonly number[][], b: readonly number[][]): number {
  assert.deepEqual([a.length, a[0]!.length], [b.length, b[0]!.length]);
  const off = a.flatMap((row, t) => row.map((p, i) => Math.abs(p - b[t]![i]!)));
  return Math.max(...off);
}

/** Hugging Face's own parser, which shares no line with ours. */
async function otherReader(): Promise<void> {
  const entry = join(installed, "node_modules/@huggingface/gguf/dist/index.js");
  const { gguf } = await import(pathToFileURL(entry).href);
  const { model, path } = (await exported()).get("llama, rope llama3")!;
  const { metadata, tensorInfos } = await gguf(path, { allowLocalFile: true });
  const { config } = model;
  assert.equal(metadata["general.architecture"], "llama");
  assert.equal(metadata["llama.embedding_length"], config.hidden_size);
  assert.equal(metadata["llama.attention.head_count_kv"], config.num_key_value_heads);
  assert.equal(metadata["llama.rope.freq_base"], 500);
  assert.deepEqual(metadata["tokenizer.ggml.tokens"].slice(0, 3), ["<eos>", "▁w1", "▁w2"]);
  const shapes = new Map<string, string>(
    tensorInfos.map(({ name, shape }: { name: string; shape: bigint[] }) => [name, shape.join()]),
  );
  assert.equal(shapes.size, model.parameters.size + 1);
  assert.equal(shapes.get("rope_freqs.weight"), "4");
  assert.equal(shapes.get("blk.2.attn_k.weight"), "32,16");
  assert.equal(shapes.get("blk.0.ffn_down.weight"), "64,32");
}
