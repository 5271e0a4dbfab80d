/** rl/train.ts on a model's folder and a question file, as a user runs it; and with wrong input. */

import assert from "node:assert/strict";
import {
  appendFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { loadModel, saveModel } from "../model/checkpoint.ts";
import { disposeParameters } from "../model/parameters.ts";
import { trainConfig } from "../rl/config.ts";
import { Progress } from "../rl/progress.ts";
import { type Outcome, type Summary, story } from "../rl/report.ts";
import { resolveConfig } from "../rl/resolve.ts";
import { openSource, requireSameFiles, type Source } from "../rl/source.ts";
import { runCommand } from "./support/command.ts";
import { scratchFolder } from "./support/disk.ts";
import { names, questionLines, wordModel, words } from "./support/word_model.ts";

const { path: folder } = scratchFolder();
mkdirSync(folder, { recursive: true });
const model = await wordModel(folder);
const data = join(folder, "questions.jsonl");
writeFileSync(data, questionLines.join("\n"));

const small = [
  ...["--model", model, "--data", data, "--data.prompt", "raw", "--optimizer.warmup", "1"],
  ...["--train.steps", "3", "--train.questions-per-step", "4", "--train.group-size", "4"],
  ...["--train.max-new-tokens", "3", "--evaluate.pass-at-k", "1,4", "--evaluate.every", "2"],
  ...["--evaluate.pass-at-k-samples", "4", "--evaluate.accessibility-samples", "4"],
  ...["--no-track.tensorboard"],
];
const train = (...args: string[]) => runCommand(folder, "train.ts", args);
const jsonIn = (...path: string[]) => JSON.parse(readFileSync(join(folder, ...path), "utf8"));
const linesIn = (...path: string[]): Record<string, unknown>[] =>
  readFileSync(join(folder, ...path), "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));

describe("a run on real questions", () => {
  test("trains adapters, measures held-out entities, and reports no truth that nobody knows", () => {
    const { code, text } = train(...small, "--lora", "2", "--out", "run");
    assert.equal(code, 0, text);
    assert.match(
      text,
      /questions +.*questions\.jsonl \(plain, jsonl\): train 28, validation 6, test 14/,
    );
    assert.match(text, /prompts +raw, for example "(Where )?is person/);
    assert.match(text, /adapters +rank 2 on q_proj, v_proj/);
    assert.doesNotMatch(text, /stored|myth|suppressed|NaN/);
    const { heldout, params } = jsonIn("run", "summary.json");
    assert.equal(heldout.n, 14);
    assert.ok(params > 0);
    for (const key of ["stored", "exactPassAtK"]) assert.ok(!(key in heldout), key);
    assert.deepEqual(heldout.byStatus, []);
    assert.deepEqual(
      heldout.byRelation.map(({ n }: { n: number }) => n),
      [7, 7],
    );
    const ledger = linesIn("run", "ledger.jsonl");
    assert.equal(ledger.length, 42);
    assert.ok(!("stored" in ledger[0]!) && !("myth" in ledger[0]!), JSON.stringify(ledger[0]));
    const splits = names.map((name) => [
      ...new Set(
        ledger.filter((row) => `${row.question} `.includes(`${name} `)).map((r) => r.split),
      ),
    ]);
    assert.ok(
      splits.every((own) => own.length <= 1),
      "an entity is in two splits",
    );
  });

  test("its checkpoints are adapters in PEFT's layout that name their base, not a copy of it", () => {
    const checkpoint = join(folder, "run", "checkpoints", "step-000003");
    const adapter = JSON.parse(readFileSync(join(checkpoint, "adapter_config.json"), "utf8"));
    assert.deepEqual([adapter.r, adapter.peft_type], [2, "LORA"]);
    assert.equal(adapter.base_model_name_or_path, model);
    assert.ok(existsSync(join(checkpoint, "adapter_model.safetensors")));
    assert.ok(!existsSync(join(checkpoint, "model.safetensors")));
  });

  test("all weights trained, its checkpoints open as models", () => {
    const { code, text } = train(...small, "--lora", "0", "--out", "whole");
    assert.equal(code, 0, text);
    const { config, tokenizer } = loadModel(join(folder, "whole", "checkpoints", "step-000003"));
    assert.equal(config.vocab_size, words.length);
    assert.deepEqual(tokenizer!.encode("Where is person3 ?").length, 4);
  });

  for (const method of ["ppo", "sft", "dpo", "rft"]) {
    test(`trains all weights by ${method}`, () => {
      const { code, text } = train(...small, "--lora", "0", "--method", method, "--out", method);
      assert.equal(code, 0, text);
      assert.equal(linesIn(method, "metrics.jsonl").length, 4);
    });
  }

  test("goes on where it was stopped, on the same questions alone", () => {
    const other = join(folder, "own.jsonl");
    cpSync(data, other);
    const flags = [...small, "--data", other, "--out", "again"];
    assert.equal(train(...flags).code, 0);
    assert.match(train("--resume", "again").text, /run folder: again/);
    appendFileSync(other, `\n${questionLines[0]!.replace("person0", "person1")}`);
    const { code, text } = train("--resume", "again");
    assert.equal(code, 2);
    assert.match(text, /own\.jsonl changed since again began; start another run/);
  });
});

describe("what a run began with", () => {
  const never = { requested: false, check: async () => false, [Symbol.dispose]() {} };
  const open = async (...args: string[]) => {
    const resolved = resolveConfig([...small, ...args]);
    assert.ok(resolved.help === null);
    const output = { write: () => true };
    const source = await openSource(resolved.config, new Progress({ output }), never);
    disposeParameters(source.base.parameters);
    return source;
  };

  test("is asked for again: another model, of the same sizes, is refused", async () => {
    const dir = join(folder, "began");
    mkdirSync(dir);
    const own = join(folder, "own-model");
    cpSync(model, own, { recursive: true });
    const before = await open("--model", own);
    requireSameFiles(dir, false, before);
    requireSameFiles(dir, true, before);
    for (const name of ["model.safetensors", "config.json"]) {
      const path = join(own, name);
      const bytes = readFileSync(path);
      // The last byte of a weight; a config.json with one more line's end.
      const other = name === "config.json" ? [...bytes, 10] : bytes.with(-1, bytes.at(-1)! ^ 1);
      writeFileSync(path, Uint8Array.from(other));
      const after = await open("--model", own);
      assert.throws(() => requireSameFiles(dir, true, after), /own-model changed since .*began/);
      writeFileSync(path, bytes);
    }
    // A run from before models were hashed goes on, and is told of changes from then on.
    const { [own]: _, ...old } = before.files!;
    writeFileSync(join(dir, "data.json"), JSON.stringify(old));
    requireSameFiles(dir, true, before);
    assert.deepEqual(JSON.parse(readFileSync(join(dir, "data.json"), "utf8")), before.files);
  });

  test("is told: entities apart, or texts alone where questions name none", async () => {
    const { lines } = await open();
    assert.match(lines[0]!, /; no entity in two of them$/);
    const bare = join(folder, "bare.jsonl");
    const nameless = questionLines.map((line, i) => {
      const { entity, ...rest } = JSON.parse(line);
      return JSON.stringify(i % 3 === 0 ? rest : { entity, ...rest });
    });
    writeFileSync(bare, nameless.join("\n"));
    const source = await open("--data", bare);
    assert.match(source.lines[0]!, /; no text in two of them \(16 questions name no entity\)$/);
    assert.equal(source.task.unnamed, 16);
    const heldout = { passAtK: { before: {} }, before: 0.1, after: 0.9, p: 1e-6, lastStep: 0.9 };
    const summary = {
      heldout,
      chosenStep: 3,
      validation: {},
      method: "grpo",
    } as unknown as Summary;
    const config = trainConfig.parse({});
    const closing = ({ task }: Source) => story(summary, { task, config } as Outcome).at(-1);
    assert.match(closing(await open())!, /^None of the entities that were tested was trained on/);
    assert.match(closing(source)!, /^None of the questions that were tested was trained on/);
  });
});

describe("settings of real questions", () => {
  const config = (...args: string[]) => {
    const found = resolveConfig(args);
    assert.ok(found.help === null);
    return found;
  };

  test("--model, --data and --lora are short names, and imply the preset data", () => {
    const { config: found, origins } = config("--model=M", "--data", "F", "--lora", "4");
    assert.deepEqual([found.data?.model, found.data?.file, found.lora.rank], ["M", "F", 4]);
    assert.deepEqual([found.preset, found.train.maxNewTokens], ["data", 32]);
    assert.equal(origins.get("data.file"), "flag");
    assert.equal(trainConfig.parse({}).data, undefined);
  });

  const wrong: [name: string, args: string[], message: RegExp][] = [
    ["no model", ["--data", "F"], /--data\.model is missing: Folder of the model/],
    ["no file", ["--model", "M"], /--data\.file is missing: Question file/],
    ["the preset alone", ["--preset", "data"], /preset data needs .*--data FILE --model FOLDER/],
    [
      "a world",
      ["--data", "F", "--model", "M", "--world.entities", "99"],
      /^world: settings of a w/,
    ],
    ["a world's set", ["--data", "F", "--model", "M", "--train.question-set", "trivia"], /no such/],
    ["no test", ["--data", "F", "--model", "M", "--data.test-share", "0"], /nothing is held out/],
    ["no slot", ["--data", "F", "--model", "M", "--data.prompt-text", "Q:"], /no \{question\}/],
  ];
  for (const [name, args, message] of wrong) {
    test(`with ${name} are refused`, () => {
      assert.throws(() => resolveConfig(args), { name: "UserError", message });
    });
  }
});

describe("a user's mistake", () => {
  const mistakes: [name: string, args: () => string[], message: RegExp][] = [
    ["no such model", () => ["--model", "nowhere"], /there is no model folder nowhere/],
    [
      "no such questions",
      () => ["--data", "none.jsonl"],
      /cannot read none\.jsonl: there is no such/,
    ],
    ["another file", () => ["--data", join(model, "config.json")], /config\.json is no JSON list/],
    ["a chat without template", () => ["--data.prompt", "chat"], /has no chat template/],
    [
      "long prompts",
      () => ["--train.max-new-tokens", "62"],
      /no question is left: prompts of up to 4/,
    ],
    ["words it doesn't know", () => ["--data.prompt", "qa"], /"Q:" is not one of the 34 words/],
  ];
  for (const [name, args, message] of mistakes) {
    test(`${name}: is told in a line, and leaves no folder`, () => {
      const { code, text } = train(...small, ...args(), "--out", "never");
      assert.equal(code, 2, text);
      assert.match(text, message);
      assert.doesNotMatch(text, /\n +at /);
      assert.ok(!existsSync(join(folder, "never")));
    });
  }

  test("a model without a tokenizer is told", async () => {
    const bare = join(folder, "bare");
    const { config, parameters } = loadModel(model);
    await saveModel(bare, { config, parameters });
    const { code, text } = train(...small, "--model", bare, "--out", "never");
    assert.equal(code, 2, text);
    assert.match(text, /bare has no tokenizer\.json: questions can't become tokens/);
  });
});
