/** Exports of a run: the splits are ours, scripts launch with every setting, rewards are the server's. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { aliasJudge } from "../eval/judge/alias.ts";
import { ruleAsync } from "../eval/judge/llm.ts";
import { openModel } from "../model/checkpoint.ts";
import { exportRun } from "../rl/export.ts";
import type { EngineName } from "../rl/exporters/engines.ts";
import { resolveSettings } from "../rl/resolve.ts";
import { answerReader } from "../rl/reward_server.ts";
import { openQuestions } from "../rl/source.ts";
import { UserError } from "../rl/user_error.ts";
import { scratchFolder } from "./support/disk.ts";
import { openrlhfKeys, trlKeys, verlKeys } from "./support/engine_keys.ts";
import { inPython, launched, serving } from "./support/engines.ts";
import { hydraText } from "./support/hydra.ts";
import { questionLines, wordModel } from "./support/word_model.ts";

const { path: folder, fresh } = scratchFolder();
const model = await wordModel(folder);
const data = join(folder, "asked.jsonl");
fs.writeFileSync(data, questionLines.join("\n"));

const python = spawnSync("python3", ["-c", "import sys"]).status === 0;
/** Tests that run Python; scripts/ci.ts counts on as many. */
const NEED_PYTHON = 2;
if (!python) console.log(`skipped ${NEED_PYTHON} tests: no python3`);

/** The settings of most tests: bare prompts, for the model knows 34 words. */
const own = [
  ...["--data", data, "--model", model, "--data.prompt", "raw", "--train.max-new-tokens", "3"],
  ...["--train.questions-per-step", "4", "--lora", "0"],
];

/** Exports, and returns the folder. */
async function exported(to: EngineName, ...more: readonly string[]): Promise<string> {
  const out = fresh();
  await exportRun(["--to", to, "--out", out, ...own, ...more]);
  return out;
}

// biome-ignore lint/suspicious/noExplicitAny: tests read what they expect in it
const rowsOf = (path: string): any[] =>
  fs
    .readFileSync(path, "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));

const refusesExport = (argv: readonly string[], ...messages: RegExp[]): Promise<void> =>
  assert.rejects(exportRun(argv), (error) => {
    assert.ok(error instanceof UserError, `not a UserError: ${error}`);
    for (const message of messages) assert.match(error.message, message);
    return true;
  });

describe("an export to verl", () => {
  test("has our run's splits, whole rows, and the settings it came from", async () => {
    const out = await exported("verl");
    const stored = JSON.parse(fs.readFileSync(join(out, "settings.json"), "utf8"));
    assert.deepEqual(resolveSettings(stored.config), stored.config);
    const { weights, ...opened } = openModel(model);
    weights.close();
    const { task } = await openQuestions(stored.config, stored.config.data, opened, () => {});
    const entities = new Map<number, string>();
    for (const split of ["train", "validation", "test"] as const) {
      const rows = rowsOf(join(out, `${split}.json`));
      const questions = task.questions(split);
      assert.deepEqual(
        rows.map(({ extra_info }) => extra_info.id),
        questions.map(({ name }) => name),
      );
      for (const [i, row] of rows.entries()) {
        const { promptText, gold, accepted, entity } = questions[i]!;
        assert.deepEqual(row.prompt, [{ role: "user", content: promptText }]);
        assert.deepEqual(row.reward_model, { style: "rule", ground_truth: gold });
        const { extra_info: info } = row;
        assert.deepEqual([info.split, info.index, info.question], [split, i, promptText]);
        assert.deepEqual([info.aliases, info.entity], [accepted, entity]);
        assert.equal(entities.get(entity) ?? split, split, "an entity in two splits");
        entities.set(entity, split);
      }
    }
    assert.match(
      fs.readFileSync(join(out, "README.md"), "utf8"),
      /--reward alias --form raw --ends '<eos>'/,
    );
    const differences = fs.readFileSync(join(out, "DIFFERENCES.md"), "utf8");
    assert.match(differences, /Not run on this engine by us; written against version 0\.8/);
    assert.match(differences, /`grpo.stdEpsilon` `0.0001`: 0.000001 is added/);
  });

  test("launches with every setting, whatever the model's path holds", async () => {
    const odd = join(fresh(), `a b'c"d$HOME \${x} \\ é😀`);
    fs.cpSync(model, odd, { recursive: true });
    const out = await exported("verl", "--model", odd);
    const words = launched(out, "python3", "trainer.nnodes=3");
    assert.deepEqual(words.slice(0, 2), ["-m", "verl.trainer.main_ppo"]);
    assert.equal(words.at(-1), "trainer.nnodes=3");
    const given = new Map(
      words.slice(2, -1).map((word) => [word.split("=", 1)[0]!, word.slice(word.indexOf("=") + 1)]),
    );
    assert.equal(given.size, words.length - 3, "a key twice");
    assert.equal(hydraText(given.get("actor_rollout_ref.model.path")!), odd);
    assert.equal(given.get("trainer.n_gpus_per_node"), "2");
    for (const [key, name] of [
      ["data.train_files", "train.json"],
      ["data.val_files", "validation.json"],
      ["reward.custom_reward_function.path", "reward.py"],
    ] as const) {
      assert.equal(hydraText(given.get(key)!), join(fs.realpathSync(out), name));
    }
    assert.deepEqual(
      [...given.keys()].filter((key) => !verlKeys.has(key)),
      [],
    );
    const template = given.get("actor_rollout_ref.model.custom_chat_template")!;
    assert.equal(hydraText(template), "{{ messages[0]['content'] }}");
  });

  test("puts chats through the model's template, with its variables", async () => {
    const chat = join(fresh(), "model");
    fs.cpSync(model, chat, { recursive: true });
    const template = "<bos> {% for m in messages %}{{ m['content'] }} <eos> {% endfor %}";
    fs.writeFileSync(join(chat, "chat_template.jinja"), template);
    const more = ["--model", chat, "--data.prompt", "chat", "--data.prompt-text", "{question}"];
    const out = await exported("verl", ...more, "--data.system", "Where is home ?");
    const [{ prompt }] = rowsOf(join(out, "train.json"));
    assert.deepEqual(
      prompt.map(({ role }: { role: string }) => role),
      ["system", "user"],
    );
    const script = fs.readFileSync(join(out, "launch.sh"), "utf8");
    assert.match(script, /\n {2}\+data\.apply_chat_template_kwargs\.enable_thinking=false/);
    const rendered = await exported("openrlhf", ...more);
    assert.equal(rowsOf(join(rendered, "train.jsonl"))[0].input, "<bos> Where is person0 ? <eos> ");
  });

  test("shuffles labels as our control does", async () => {
    const gold = rowsOf(join(await exported("verl"), "train.json"));
    const rows = rowsOf(join(await exported("verl", "--train.labels", "shuffled"), "train.json"));
    const labels = (all: typeof rows) => all.map(({ reward_model }) => reward_model.ground_truth);
    assert.notDeepEqual(labels(rows), labels(gold));
    assert.deepEqual(labels(rows).sort(), labels(gold).sort());
    assert.deepEqual(
      rows.map(({ extra_info }) => extra_info.aliases[0]),
      labels(rows),
    );
  });

  if (python) {
    test("pays what the server pays: right, wrong, no verdict, and a server that comes back", async () => {
      const out = await exported("verl");
      const compiled = spawnSync("python3", ["-m", "py_compile", join(out, "reward.py")]);
      assert.equal(compiled.status, 0, String(compiled.stderr));
      let down = 2;
      await using server = await serving({
        judge: async (items) => {
          if (down-- > 0) throw new UserError("the judge is away");
          const judged = await ruleAsync(aliasJudge)(items);
          return judged.map((one, i) =>
            items[i]!.answer === "shrug" ? { ...one, score: null, reason: "unclear" } : one,
          );
        },
      });
      const gold = JSON.stringify('São "Paulo"');
      const info = '{"question": "where ?", "aliases": ["Sampa"], "num_turns": object()}';
      const call = (answer: string) =>
        `print(json.dumps(reward.compute_score("q", ${JSON.stringify(answer)}, ${gold}, ${info})))`;
      const env = { ANAMNESIS_REWARD_URL: server.url };
      const right = await inPython(out, call(' São "Paulo"\n'), env);
      assert.deepEqual([right.score, right.acc], [1, 1]);
      assert.deepEqual(Object.keys(right), ["score", "acc", "pred"]);
      assert.equal((await inPython(out, call("sampa"), env)).score, 1);
      assert.equal((await inPython(out, call("Rio"), env)).score, 0);
      assert.match(
        await inPython(out, call("shrug"), env),
        /RuntimeError: an answer has no verdict: unclear/,
      );
      const paid = await inPython(out, call("shrug"), { ...env, ANAMNESIS_NULL_SCORE: "0.25" });
      assert.deepEqual([paid.score, paid.acc], [0.25, 0.25]);
      const gone = { ANAMNESIS_REWARD_URL: "http://127.0.0.1:9/reward" };
      assert.match(await inPython(out, call("Rio"), gone), /RuntimeError: no reward from/);
    });
  }
});

describe("an export to TRL", () => {
  test("has rows of text where the form is no chat, and launches with its configuration", async () => {
    const out = await exported("trl", "--data.prompt", "raw");
    const [row] = rowsOf(join(out, "data/train.jsonl"));
    assert.deepEqual(
      [row.prompt, row.question, row.solution],
      [row.question, row.question, row.aliases[0]],
    );
    const words = launched(out, "trl", "--beta", "0.1");
    assert.deepEqual(words, [
      "grpo",
      "--config",
      "run.yaml",
      "--num_processes",
      "2",
      "--beta",
      "0.1",
    ]);
    const lines = fs.readFileSync(join(out, "run.yaml"), "utf8").trimEnd().split("\n");
    const keys = lines.map((line) => line.split(":", 1)[0]!);
    assert.equal(new Set(keys).size, keys.length);
    assert.deepEqual(
      keys.filter((key) => !trlKeys.grpo.has(key)),
      [],
    );
    const value = (key: string) => JSON.parse(lines[keys.indexOf(key)]!.slice(key.length + 1));
    const batch = value("per_device_train_batch_size") * value("gradient_accumulation_steps");
    assert.deepEqual([batch, value("generation_batch_size"), value("max_steps")], [32, 32, 120]);
  });

  test("has gold answers to imitate, and no reward, where the method is sft", async () => {
    const out = await exported("trl", "--method", "sft");
    assert.deepEqual(fs.readdirSync(join(out, "data")).sort(), [
      "test.jsonl",
      "train.jsonl",
      "validation.jsonl",
    ]);
    const rows = rowsOf(join(out, "data/train.jsonl"));
    assert.deepEqual(rows[0], { prompt: "Where is person0 ?", completion: " here" });
    assert.equal(fs.existsSync(join(out, "reward.py")), false);
    assert.deepEqual(launched(out, "trl")[0], "sft");
  });

  test("has the answers that the run would keep where the method is rft", async () => {
    const few = ["--train.steps", "3", "--optimizer.warmup", "0", "--reward", "contains"];
    const out = await exported("trl", "--method", "rft", "--rft.distinct", ...few);
    const rows = rowsOf(join(out, "data/train.jsonl"));
    const gold = new Map(
      rowsOf(join(await exported("trl", "--method", "sft"), "data/train.jsonl")).map(
        ({ prompt, completion }) => [prompt, completion.trim()],
      ),
    );
    for (const { prompt, completion } of rows) {
      assert.ok(completion.split(" ").includes(gold.get(prompt)), `${prompt}${completion}`);
    }
    assert.equal(new Set(rows.map((row) => JSON.stringify(row))).size, rows.length);
  });

  test("has pairs of gold and wrong answers where the method is dpo", async () => {
    const few = ["--train.steps", "1", "--optimizer.warmup", "0", "--dpo.sample-from", "base"];
    const out = await exported("trl", "--method", "dpo", ...few);
    const rows = rowsOf(join(out, "data/train.jsonl"));
    assert.ok(rows.length > 2);
    for (const { chosen, rejected } of rows) assert.notEqual(chosen, rejected);
    const again = await exported("trl", "--method", "dpo", ...few);
    assert.deepEqual(rowsOf(join(again, "data/train.jsonl")), rows);
    assert.match(
      fs.readFileSync(join(out, "DIFFERENCES.md"), "utf8"),
      /the pairs are those of our run/,
    );
  });

  if (python) {
    test("pays answers that are text or messages", async () => {
      const out = await exported("trl");
      await using server = await serving();
      const source =
        'told = [{"role": "assistant", "content": "Sampa"}]\n' +
        'paid = reward.reward(completions=["Rio", told], question=["a ?", "b ?"], ' +
        'solution=["Rio", "São Paulo"], aliases=[["Rio"], ["Sampa"]], prompts=[1, 2], id=["1", "2"])\n' +
        "print(json.dumps(paid))";
      assert.deepEqual(await inPython(out, source, { ANAMNESIS_REWARD_URL: server.url }), [1, 1]);
    });
  }
});

describe("an export to OpenRLHF", () => {
  test("launches with flags that it has", async () => {
    const out = await exported("openrlhf", "--lora", "4", "--grpo.dual-clip", "3");
    const words = launched(out, "python3");
    const keys = words.filter((word) => word.startsWith("--")).map((word) => word.slice(2));
    assert.equal(new Set(keys).size, keys.length);
    assert.deepEqual(
      keys.filter((key) => !openrlhfKeys.has(key)),
      [],
    );
    const after = (key: string) => words[words.indexOf(`--${key}`) + 1];
    assert.equal(after("reward.remote_url"), "http://127.0.0.1:8088/reward");
    assert.deepEqual([after("actor.dual_clip"), after("ds.lora.rank")], ["3", "4"]);
    assert.equal(after("data.prompt_dataset"), join(fs.realpathSync(out), "train.jsonl"));
  });

  test("is paid by the server for what it decodes: special tokens, moved white space", async () => {
    const rows = rowsOf(join(await exported("openrlhf"), "train.jsonl")).slice(0, 2);
    const read = answerReader({ form: "raw", think: false, ends: ["<eos>"] });
    await using server = await serving({ read });
    const ask = async (queries: string[]) => {
      const body = JSON.stringify({
        query: queries,
        prompts: rows.map(({ input }) => input),
        labels: rows.map(({ label }) => label),
      });
      const reply = await fetch(server.url, { method: "POST", body });
      // biome-ignore lint/suspicious/noExplicitAny: tests read what they expect in it
      return { status: reply.status, json: (await reply.json()) as any };
    };
    const gold = JSON.parse(rows[0].label).gold;
    const said = await ask([`${rows[0].input} ${gold}<eos><pad>`, `${rows[1].input} nowhere<eos>`]);
    assert.deepEqual(said.json.rewards, [1, 0]);
    const moved = rows[0].input.replaceAll(" ", "");
    assert.deepEqual((await ask([`${moved} ${gold}`, rows[1].input])).json.rewards, [1, 0]);
    assert.equal((await ask([`other ${gold}`, rows[1].input])).status, 422);
  });
});

describe("what can't be exported", () => {
  test("is refused by name before a folder is made", async () => {
    const out = fresh();
    const all = ["--to", "verl", "--out", out, ...own];
    await refusesExport(
      [...all, "--method", "dpo", "--optimizer.name", "sgd"],
      /method "dpo"/,
      /optimizer.name "sgd"/,
    );
    await refusesExport([...all, "--reward", "random"], /reward "random": it is drawn by step/);
    await refusesExport([...all, "--train.questions-per-step", "999"], /there are 28/);
    await refusesExport(["--to", "trl", "--out", out], /a world is not exported/);
    await refusesExport(
      ["--to", "slime", "--out", out, ...own],
      /--to is "slime"; expected one of verl/,
    );
    await refusesExport(["--out", out, ...own], /--to is missing/);
    await refusesExport(["--to", "verl", ...own], /--out is missing/);
    await refusesExport([...all, "--resume", "x"], /unknown flag --resume/);
    const beside = fs
      .readdirSync(folder)
      .filter((name) => out.endsWith(name.split(".partial")[0]!));
    assert.deepEqual(beside, []);
  });

  test("leaves a folder with files in it as it was, and nothing half done", async () => {
    const out = fresh();
    fs.mkdirSync(out);
    await exportRun(["--to", "verl", "--out", out, ...own]);
    const before = fs.readdirSync(out);
    await refusesExport(["--to", "trl", "--out", out, ...own], /8 files in it/);
    assert.deepEqual(fs.readdirSync(out), before);
    const none = fresh();
    const hard = [
      "--method",
      "rft",
      "--reward",
      "exact",
      "--train.steps",
      "1",
      "--optimizer.warmup",
      "0",
    ];
    const answers = join(fresh(), "q.jsonl");
    fs.mkdirSync(join(answers, ".."));
    fs.writeFileSync(
      answers,
      questionLines
        .join("\n")
        .replaceAll('"here"]', '"Where Where"]')
        .replaceAll('"there"]', '"Where ?"]')
        .replaceAll('"home"]', '"Where is"]')
        .replaceAll('"away"]', '"is Where ?"]'),
    );
    await refusesExport(
      ["--to", "trl", "--out", none, ...own, "--data", answers, ...hard],
      /would be empty: no right answer/,
    );
    assert.deepEqual(
      fs.readdirSync(folder).filter((name) => none.endsWith(name.split(".partial")[0]!)),
      [],
    );
  });
});
