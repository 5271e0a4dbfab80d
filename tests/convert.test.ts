/** The command that converts models, and a GGUF file that llama.cpp wrote itself. */

import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { gunzipSync } from "node:zlib";
import { loadModel, saveModel } from "../model/checkpoint.ts";
import { main } from "../model/convert.ts";
import { ggufFrom } from "../model/gguf.ts";
import { openGgufModel } from "../model/gguf_read.ts";
import { writeGguf } from "../model/gguf_write.ts";
import { sourceOfTree } from "../model/store.ts";
import { wordTokenizer } from "../model/tokenizer.ts";
import { printedBy } from "./support/printed.ts";
import { assetFolder, tinyModel } from "./tiny_model.ts";

const scratch = mkdtempSync(join(tmpdir(), "anamnesis-convert-"));
after(() => rmSync(scratch, { recursive: true, force: true }));
let count = 0;
const fresh = (ending = ""): string => join(scratch, `${count++}${ending}`);
const words = Array.from({ length: 23 }, (_, i) => `w${i}`);
const tokenizer = wordTokenizer(words, { special: ["w5"] });

const fixture = assetFolder("models/gguf-fixtures", 1);
if (fixture !== undefined) {
  test("a file of llama.cpp's own is read", () => {
    const bytes = gunzipSync(readFileSync(join(fixture, "ggml-vocab-gpt-2.gguf.gz")));
    const { metadata, entries } = ggufFrom(bytes);
    assert.equal(entries.size, 0);
    assert.equal(metadata.size, 16);
    assert.equal(metadata.get("general.architecture"), "gpt2");
    assert.equal(metadata.get("gpt2.context_length"), 1024);
    const tokens = metadata.get("tokenizer.ggml.tokens") as string[];
    assert.deepEqual([tokens.length, tokens[0], tokens[50_256]], [50_257, "!", "<|endoftext|>"]);
    assert.equal((metadata.get("tokenizer.ggml.merges") as string[])[0], "Ġ t");
  });
}

test("a GGUF file without the heads' width, or their key-value number, has llama.cpp's defaults", async () => {
  const path = fresh(".gguf");
  const read = async (model: ReturnType<typeof tinyModel>, ...absent: string[]) => {
    const { config: own, parameters } = model;
    await writeGguf(path, { config: own, source: sourceOfTree(parameters) });
    const bytes = readFileSync(path);
    // A key of another name is no key.
    for (const key of absent) bytes.write("?", bytes.indexOf(`llama.attention.${key}`));
    writeFileSync(path, bytes);
    const { config, weights } = openGgufModel(path);
    weights.close();
    return [config.head_dim, config.num_key_value_heads];
  };
  const full = tinyModel({ num_key_value_heads: 4 });
  for (const absent of [["key_length"], ["head_count_kv"], ["key_length", "head_count_kv"]]) {
    assert.deepEqual(await read(full, ...absent), [4, 4], `${absent}`);
  }
  const wide = tinyModel({ head_dim: 8 });
  await assert.rejects(
    read(wide, "key_length"),
    /llama\.attention\.value_length is 8; only 4 is supported/,
  );
});

/** What the command prints, and its exit code. */
async function run(...args: string[]): Promise<{ code: number; text: string }> {
  const { code, lines } = await printedBy(() => main(args));
  return { code, text: lines.map((line) => `${line}\n`).join("") };
}

test("the command converts both ways and between formats, in as many files as asked", async () => {
  const model = { ...tinyModel({ tie_word_embeddings: false }), tokenizer };
  const [folder, gguf, back, brain] = [fresh(), fresh(".gguf"), fresh(), fresh()];
  await saveModel(folder, model, { dtype: "f16" });
  assert.deepEqual(await run(folder, "--to", gguf), { code: 0, text: `${gguf}: llama in f16\n` });
  const { code, text } = await run(gguf, "--to", back);
  assert.equal(code, 0);
  assert.match(
    text,
    /: llama in f16\nits tokenizer \(t5\) is not converted: add tokenizer\.json\n$/,
  );
  const values = (path: string) =>
    new Map([...loadModel(path).parameters].map(([name, t]) => [name, [...t.dataSync()]]));
  assert.deepEqual(values(back), values(folder));
  const shards = ["--dtype", "bf16", "--max-shard-gb", "0.000004"];
  assert.equal((await run(folder, "--to", brain, ...shards)).code, 0);
  assert.ok(
    readdirSync(brain).includes("model-00002-of-00003.safetensors"),
    readdirSync(brain).join(),
  );
  assert.equal(loadModel(brain).tokenizer!.encode("w3 w4")[1], 4);
});

test("the command refuses in one line", async () => {
  const model = { ...tinyModel(), tokenizer };
  const folder = fresh();
  await saveModel(folder, model);
  const refused: [string[], RegExp][] = [
    [[folder], /--to <path>' not specified/],
    [[fresh(), "--to", fresh()], /there is no model folder or file/],
    [[folder, "--to", folder], /can't be converted into itself/],
    [[folder, "--to", fresh(), "--dtype", "q4_0"], /Allowed choices are f32, f16, bf16/],
    [[folder, "--to", join(fresh(), "x.gguf")], /cannot write .*x\.gguf: there is no such file/],
    [
      [join(folder, "config.json"), "--to", fresh()],
      /cannot read .*config\.json.config\.json: a part/,
    ],
  ];
  for (const [args, message] of refused) {
    const { code, text } = await run(...args);
    assert.equal(code, 2);
    assert.match(text, message);
    assert.equal(text.split("\n").length, 2, text);
  }
});
