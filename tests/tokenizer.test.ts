/** Tokenizers: closed vocabularies, tokenizer.json files, and the generate command's mistakes. */

import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Tokenizer as HuggingFace } from "@huggingface/tokenizers";
import fc from "fast-check";
import { saveModel } from "../model/checkpoint.ts";
import { main } from "../model/generate.ts";
import { loadTokenizer, tokenizerOf, wordTokenizer } from "../model/tokenizer.ts";
import { printedBy } from "./support/printed.ts";
import { assetFolder, tinyModel } from "./tiny_model.ts";

const words = ["<pad>", "<bos>", "<eos>", "capital", "of", "Côte", "d'Ivoire", "is", "12", "."];
const special = ["<pad>", "<bos>", "<eos>"];

test("a word tokenizer turns words into their places and back", () => {
  const tokenizer = wordTokenizer(words, { special });
  assert.deepEqual(tokenizer.encode("capital of  Côte d'Ivoire ."), [3, 4, 5, 6, 9]);
  assert.equal(tokenizer.decode([1, 3, 4, 2, 0]), "capital of");
  assert.equal(tokenizer.vocabularySize, 10);
  assert.equal(tokenizer.idOf("<eos>"), 2);
  assert.deepEqual(tokenizer.encode(""), []);
  assert.throws(() => tokenizer.encode("capital of Paris"), {
    name: "UserError",
    message: '"Paris" is not one of the 10 words that this model knows',
  });
  assert.throws(() => tokenizer.decode([10]), /id 10 is outside of \[0, 10\)/);
  assert.throws(() => wordTokenizer(["a", "b", "a"]), /"a" .*occurs twice/);
  assert.throws(() => wordTokenizer(["a b"]), /"a b" .*holds a space/);
  assert.throws(() => wordTokenizer(["a"], { special: ["b"] }), /special word "b"/);
});

test("its tokenizer.json is read back by us and by Hugging Face's library", () => {
  const { json, settings } = JSON.parse(JSON.stringify(wordTokenizer(words, { special }).files()));
  const ours = tokenizerOf({ json, settings });
  const theirs = new HuggingFace(json, settings);
  fc.assert(
    fc.property(fc.array(fc.nat(words.length - 1), { minLength: 1, maxLength: 9 }), (ids) => {
      const text = ids.map((id) => words[id]).join(" ");
      assert.deepEqual(ours.encode(text), ids);
      assert.deepEqual(theirs.encode(text).ids, ids);
      const shown = ids
        .filter((id) => id > 2)
        .map((id) => words[id])
        .join(" ");
      assert.equal(ours.decode(ids), shown);
      assert.equal(theirs.decode(ids, { skip_special_tokens: true }), shown);
    }),
    { seed: 3 },
  );
  assert.throws(() => ours.encode("Paris"), /"Paris" is not one of/);
  json.model.vocab["."] = 99;
  assert.throws(() => tokenizerOf({ json }, "x.json"), /x\.json: the ids of its words/);
  assert.throws(
    () => tokenizerOf({ json: { model: { type: "?" } } }, "x.json"),
    /x\.json is not a token/,
  );
});

const stories = assetFolder("models/stories260K", 1);
if (stories !== undefined) {
  test("stories260K's tokenizer gives llama2.c's ids, and the text again", () => {
    const tokenizer = loadTokenizer(stories);
    assert.equal(tokenizer.vocabularySize, 512);
    const golden = JSON.parse(readFileSync(join(stories, "golden_tokens.json"), "utf8"));
    for (const { text, ids } of golden as { text: string; ids: number[] }[]) {
      assert.deepEqual(tokenizer.encode(text), ids);
      assert.equal(tokenizer.decode(ids), text);
    }
  });
}

/** Exit code and stderr of the generate command. */
const generate = (...args: string[]) => printedBy(() => main(args));

test("generate writes samples, and explains mistakes in one line with exit code 2", async () => {
  const folder = mkdtempSync(join(tmpdir(), "generate-"));
  const { config, parameters } = tinyModel({ vocab_size: 10, bos_token_id: 1, eos_token_id: 2 });
  await saveModel(folder, { config, parameters });
  const model = ["--model", folder];
  const mistake = async (message: RegExp, ...args: string[]) => {
    const { code, errors, out } = await generate(...args);
    assert.deepEqual([code, errors.length, out.length], [2, 1, 0], errors.join());
    assert.match(errors[0]!, message);
    assert.match(errors[0]!, /^error: [^\n]*$/);
  };
  await mistake(/no tokenizer\.json/, ...model);
  await saveModel(folder, { config, parameters, tokenizer: wordTokenizer(words, { special }) });
  const good = await generate(
    ...model,
    "--prompt",
    "capital of",
    "--samples",
    "3",
    "--max-tokens",
    "4",
  );
  assert.deepEqual([good.code, good.errors, good.out.length], [0, [], 3]);
  assert.ok(good.out.every((text) => text.startsWith("capital of")));
  const again = await generate(
    ...model,
    "--prompt",
    "capital of",
    "--samples",
    "3",
    "--max-tokens",
    "4",
  );
  assert.deepEqual(again.out, good.out);
  assert.equal((await generate(...model)).code, 0);

  await mistake(/required option '--model/, "--prompt", "x");
  await mistake(/unknown option '--promt'.*--prompt/, ...model, "--promt", "x");
  await mistake(/--max-tokens.*'many'.*whole number/, ...model, "--max-tokens", "many");
  await mistake(/--temperature.*'-1'/, ...model, "--temperature=-1");
  await mistake(/too many arguments/, ...model, "of");
  await mistake(/there is no model folder .*no/, "--model", join(folder, "no"));
  await mistake(/"Paris" is not one of the 10 words/, ...model, "--prompt", "capital of Paris");
  await mistake(/2 tokens; with --max-tokens 64 .* 64 positions/, ...model, "--prompt", "is is");
  await mistake(
    /--device abacus is not here; available: .*reference/,
    ...model,
    "--device",
    "abacus",
  );
  const path = join(folder, "model.safetensors");
  writeFileSync(path, readFileSync(path).fill(255, 0, 8));
  await mistake(/model\.safetensors: the header claims/, ...model);
  rmSync(path);
  await mistake(/cannot read .*model\.safetensors: there is no such file/, ...model);
  rmSync(folder, { recursive: true });
});
