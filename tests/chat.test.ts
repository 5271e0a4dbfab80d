/** Chat templates and stop tokens: real ones of Qwen and OLMo 2, and made-up ones that always run. */

import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { gunzipSync } from "node:zlib";
import fc from "fast-check";
import { completionBatch } from "../model/batch.ts";
import { chatFrom, chatOf, type Message, withoutThought } from "../model/chat.ts";
import { loadModel, saveModel } from "../model/checkpoint.ts";
import { lineBreakTokens, stopTokensOf } from "../model/stop_tokens.ts";
import { loadTokenizer, type Tokenizer, tokenizerOf, wordTokenizer } from "../model/tokenizer.ts";
import { assetFolder, tinyConfig, tinyModel } from "./tiny_model.ts";

const folder = mkdtempSync(join(tmpdir(), "anamnesis-chat-"));
after(() => rmSync(folder, { recursive: true, force: true }));

const user = (content: string): Message => ({ role: "user", content });
const assistant = (content: string): Message => ({ role: "assistant", content });

const special = ["<pad>", "<bos>", "<eos>", "<user>", "<assistant>", "<end>"];
const words = [...special, "who", "wrote", "it", "?", "she", "did", "anamnesis-marks-the-answer"];
const TEMPLATE =
  "{{ bos_token }}{% for m in messages %} <{{ m.role }}> {{ m.content }} <end>{% endfor %}" +
  "{% if add_generation_prompt %} <assistant>{% endif %}{% if shout %} !{% endif %}";

/** A tokenizer of whole words with the texts that a model's folder has beside it. */
function withTexts(settings: object, companions: Record<string, string> = {}): Tokenizer {
  const { json } = wordTokenizer(words, { special }).files();
  const plain = tokenizerOf({ json, settings, companions });
  return { ...plain, files: () => ({ json, settings, companions }) };
}

describe("a chat", () => {
  const names = { bos_token: { content: "<bos>" }, eos_token: "<eos>" };

  test("is the template's text as ids, with its BOS and no other", () => {
    const tokenizer = withTexts({ ...names, chat_template: TEMPLATE });
    const chat = chatOf(tokenizer)!;
    const turns = [user("who wrote it ?"), assistant("she did"), user("who ?")];
    assert.equal(
      chat.render(turns),
      "<bos> <user> who wrote it ? <end> <assistant> she did <end> <user> who ? <end> <assistant>",
    );
    const ids = chat.encode(turns, { generationPrompt: false });
    assert.deepEqual(ids, [1, 3, 6, 7, 8, 9, 5, 4, 10, 11, 5, 3, 6, 9, 5]);
    assert.equal(chat.turnEnd, 5);
    assert.match(chat.render(turns, { variables: { shout: true } }), / !$/);
  });

  test("comes from chat_template.jinja first, then from the settings' default", () => {
    const list = [
      { name: "tool_use", template: "tools" },
      { name: "default", template: "listed" },
    ];
    const file = { "chat_template.jinja": "file" };
    const textOf = (t: Tokenizer) => chatOf(t)?.render([user("?")]);
    assert.equal(textOf(withTexts({ chat_template: list }, file)), "file");
    assert.equal(textOf(withTexts({ chat_template: list })), "listed");
    assert.equal(textOf(withTexts({ chat_template: "one" })), "one");
    assert.equal(textOf(withTexts({ chat_template: list.slice(0, 1) })), undefined);
    assert.equal(textOf(withTexts({})), undefined);
  });

  test("says what is wrong with a template, and with messages that one refuses", () => {
    const broken = { chat_template: "{% for m in messages %}" };
    assert.throws(() => chatOf(withTexts(broken)), /the chat template can't be parsed: /);
    const strict =
      "{% for m in messages %}{% if m.role == 'system' %}" +
      "{{ raise_exception('no system role') }}{% endif %}{{ m.content }}{% endfor %}";
    const chat = chatOf(withTexts({ chat_template: strict }))!;
    const refused = () => chat.render([{ role: "system", content: "be brief" }, user("who ?")]);
    assert.throws(refused, {
      name: "UserError",
      message: /refuses the messages \(system, user\): .*no system role/,
    });
    assert.equal(chat.turnEnd, undefined, "nothing stands behind an answer");
    const wrong = withTexts({ chat_template: 7 });
    assert.throws(() => chatOf(wrong), /tokenizer_config\.json: chat_template: /);
  });

  test("an answer behind a thought is what follows it; one that never ends gives none", () => {
    assert.equal(withoutThought("<think>\nParis? Rome?\n</think>\n\nRome "), "Rome");
    assert.equal(withoutThought(" Rome"), "Rome");
    assert.equal(withoutThought("<think>\nParis? Rome?"), "");
  });
});

describe("stop tokens", () => {
  const config = tinyConfig({ vocab_size: 13, eos_token_id: [2, 0] });

  test("are those of template, generation_config.json, config.json and settings, in order", () => {
    const settings = { eos_token: "<assistant>", chat_template: TEMPLATE };
    const companions = { "generation_config.json": '{"eos_token_id": [3, 5]}' };
    const tokenizer = withTexts(settings, companions);
    assert.deepEqual(stopTokensOf(config, tokenizer, chatOf(tokenizer)), [5, 3, 2, 0, 4]);
    assert.deepEqual(stopTokensOf(config, tokenizer, undefined), [3, 5, 2, 0, 4]);
    assert.deepEqual(stopTokensOf(tinyConfig(), withTexts({}), undefined), []);
  });

  test("a generation_config.json that is broken is named", () => {
    const given = (text: string) => withTexts({}, { "generation_config.json": text });
    const of = (text: string) => () => stopTokensOf(config, given(text), undefined);
    assert.throws(of("{"), /generation_config\.json is not JSON/);
    assert.throws(of('{"eos_token_id": "end"}'), /eos_token_id is neither an id nor a list/);
  });
});

test("a saved folder keeps template and stop tokens, and other texts beside them", async () => {
  const { config, parameters } = tinyModel({ vocab_size: 13 });
  const companions = { "chat_template.jinja": TEMPLATE, "generation_config.json": "{}" };
  const dir = join(folder, "kept");
  const tokenizer = wordTokenizer(words, { special });
  const files = () => ({ ...tokenizer.files(), companions });
  await saveModel(dir, { config, parameters, tokenizer: { ...tokenizer, files } });
  const again = loadModel(dir).tokenizer!;
  assert.deepEqual(again.files().companions, companions);
  assert.equal(chatOf(again)!.turnEnd, 5);
  writeFileSync(join(dir, "special_tokens_map.json"), "[]");
  assert.equal(loadTokenizer(dir).files().companions?.["special_tokens_map.json"], "[]");
});

test("what is learned is a matter of position: the answer's ids and its stop token", () => {
  const id = fc.nat(5); // few ids, so that prompts and answers share them
  const texts = fc.record({
    prompt: fc.array(id, { minLength: 1, maxLength: 6 }),
    answer: fc.array(id, { minLength: 1, maxLength: 6 }),
  });
  fc.assert(
    fc.property(fc.array(texts, { minLength: 1, maxLength: 4 }), (rows) => {
      const { targets, shape } = completionBatch(
        rows.map(({ prompt }) => prompt),
        rows.map(({ answer }) => answer),
      );
      rows.forEach(({ prompt, answer }, i) => {
        const row = Array.from(targets.subarray(i * shape[1], (i + 1) * shape[1]));
        const before = Array(prompt.length - 1).fill(-1);
        const behind = Array(shape[1] - before.length - answer.length).fill(-1);
        assert.deepEqual(row, [...before, ...answer, ...behind]);
      });
    }),
    { seed: 5 },
  );
});

const models = assetFolder("models/tokenizer-qwen3", 5) && join(assetFolder("models", 0)!);
if (models !== undefined) {
  const read = (name: string) => {
    const path = join(models, name);
    return JSON.parse(gunzipSync(readFileSync(path)).toString("utf8")) as unknown;
  };
  const tokenizerAt = (name: string): Tokenizer => {
    const settings = `${name}/tokenizer_config.json.gz`;
    const has = existsSync(join(models, settings));
    return tokenizerOf({
      json: read(`${name}/tokenizer.json.gz`),
      ...(has && { settings: read(settings) }),
    });
  };
  const vectors = (name: string) =>
    JSON.parse(
      readFileSync(join(models, "tokenizer-test-vectors", `${name}.json`), "utf8"),
    ) as readonly { text: string; ids: number[] }[];
  const template = (name: string) =>
    readFileSync(join(models, "chat-templates", `${name}.jinja`), "utf8");
  const agrees = (tokenizer: Tokenizer, name: string) => {
    const all = vectors(name);
    assert.equal(all.length, 46);
    for (const { text, ids } of all) assert.deepEqual(tokenizer.encode(text, { bare: true }), ids);
  };
  const SYSTEM =
    "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant." +
    "<|im_end|>\n";
  const turns = [user("Who wrote it?"), assistant("She did."), user("Who?")];
  const written =
    "<|im_start|>user\nWho wrote it?<|im_end|>\n<|im_start|>assistant\nShe did.<|im_end|>\n" +
    "<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\n";

  test("Qwen2.5: ids of 46 texts, its template, and one answer's end", () => {
    const tokenizer = tokenizerAt("tokenizer-qwen2.5");
    agrees(tokenizer, "qwen2");
    const chat = chatFrom(template("qwen2.5-7b-instruct"), tokenizer);
    assert.equal(chat.render(turns), SYSTEM + written);
    const brief: Message = { role: "system", content: "Be brief." };
    const own = `<|im_start|>system\nBe brief.<|im_end|>\n${written}`;
    assert.equal(chat.render([brief, ...turns]), own);
    // <|im_start|>, "user", "\n", …: one id for a special token, not its letters.
    const ids = chat.encode([brief, user("Who?")]);
    assert.equal(tokenizer.idOf("<|im_start|>"), ids[0]);
    assert.equal(ids.filter((id) => id === ids[0]).length, 3);
    assert.equal(chat.turnEnd, tokenizer.idOf("<|im_end|>"));
    const stops = stopTokensOf(tinyConfig({ vocab_size: 151665 }), tokenizer, chat);
    assert.equal(stops[0], chat.turnEnd);
  });

  test("Qwen3: ids of 46 texts; enable_thinking false closes the thought", () => {
    const tokenizer = tokenizerAt("tokenizer-qwen3");
    agrees(tokenizer, "qwen2");
    const chat = chatFrom(template("qwen3"), tokenizer);
    assert.equal(chat.render(turns), written);
    const variables = { enable_thinking: false };
    assert.equal(chat.render(turns, { variables }), `${written}<think>\n\n</think>\n\n`);
    assert.equal(chat.turnEnd, tokenizer.idOf("<|im_end|>"));
    assert.equal(chatOf(tokenizer)?.render(turns), written, "the settings' own template");
  });

  test("GPT-2: ids of 46 texts; every token with a line break in it ends a line", () => {
    const tokenizer = tokenizerAt("tokenizer-gpt2");
    agrees(tokenizer, "gpt2");
    const breaks = lineBreakTokens(tokenizer);
    assert.deepEqual(
      breaks.slice(0, 2),
      tokenizer.encode("\n\n\n", { bare: true }).slice(-1).concat([628]),
    );
    for (const id of breaks) assert.match(tokenizer.decode([id]), /\n/);
  });

  test("OLMo 2: the format of its Instruct models, with BOS once", () => {
    const { json } = tokenizerAt("tokenizer-olmo2").files();
    const end = "<|endoftext|>";
    const tokenizer = tokenizerOf({ json, settings: { bos_token: end, eos_token: end } });
    const text =
      "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}" +
      "{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}" +
      "{% if m.role != 'assistant' or not loop.last %}\n{% endif %}{% endfor %}" +
      "{% if add_generation_prompt %}<|assistant|>\n{% endif %}";
    const chat = chatFrom(text.replaceAll("\n", "{{ '\\n' }}"), tokenizer);
    assert.equal(
      chat.render(turns),
      `${end}<|user|>\nWho wrote it?\n<|assistant|>\nShe did.${end}\n<|user|>\nWho?\n<|assistant|>\n`,
    );
    const ids = chat.encode([user("Who?")]);
    assert.deepEqual([ids[0], ids.indexOf(100257, 1)], [100257, -1]);
    assert.equal(chat.turnEnd, 100257);
  });

  test("stories260K: BOS by its own rule, none where the text is bare", () => {
    const tokenizer = loadTokenizer(join(models, "stories260K"));
    assert.equal(tokenizer.encode("Once upon")[0], 1);
    assert.deepEqual(
      tokenizer.encode("Once upon", { bare: true }),
      tokenizer.encode("Once upon").slice(1),
    );
    assert.deepEqual(lineBreakTokens(tokenizer), [13]);
    assert.equal(chatOf(tokenizer), undefined);
  });
}
