/** eval/recall.ts as a user runs it: on a folder, on stories260K, on a server; stopped, and wrong. */

import assert from "node:assert/strict";
import {
  appendFileSync,
  cpSync,
  mkdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { main } from "../eval/recall.ts";
import { wilson } from "../eval/statistics.ts";
import { scratchFolder } from "./support/disk.ts";
import { mockServer, type Received } from "./support/mock_server.ts";
import { printedBy } from "./support/printed.ts";
import { places, questionLines, wordModel } from "./support/word_model.ts";
import { assetFolder } from "./tiny_model.ts";

const { path: folder } = scratchFolder();
mkdirSync(folder, { recursive: true });
const model = await wordModel(folder);
const data = join(folder, "questions.jsonl");
writeFileSync(data, questionLines.join("\n"));

/** Runs the command in this process; what it printed on both streams. */
async function recall(...args: string[]): Promise<{ code: number; out: string; errors: string }> {
  const { code, out, errors } = await printedBy(() => main(args));
  return { code, out: out.join("\n"), errors: errors.join("\n") };
}

const jsonIn = (...path: string[]) => JSON.parse(readFileSync(join(...path), "utf8"));
const linesIn = (...path: string[]) =>
  readFileSync(join(...path), "utf8")
    .split("\n")
    .filter((line) => line.endsWith("}")); // a line that a kill cut short stays
const rowsIn = (...path: string[]) => linesIn(...path).map((line) => JSON.parse(line));

const out = join(folder, "out");
const local = ["--model", model, "--data", data, "--prompt", "raw", "--max-new-tokens", "4"];
const small = [...local, "--samples", "8", "--out", out];

describe("a model's folder", () => {
  test("is asked, judged and reported; figures follow from the questions' rows", async () => {
    const { code, out: text, errors } = await recall(...small);
    assert.equal(code, 0, errors);
    assert.match(text, /greedy answer +\d.*\n.*one sample.*\nmajority of 8 samples.*\nany of 8/);
    const summary = jsonIn(out, "summary.json");
    const rows = rowsIn(out, "questions.jsonl");
    assert.deepEqual([rows.length, summary.questions, summary.entities], [48, 48, 24]);
    const right = rows.filter((row) => row.greedy.correct).length;
    assert.deepEqual(summary.greedy, { value: right / 48, ...wilson(right, 48), n: 48 });
    for (const { samples, right: count, judged, answers } of rows) {
      const own = samples.filter((s: { text: string }) => answers.includes(s.text)).length;
      assert.deepEqual([count, judged], [own, 8]);
    }
    const mean = rows.reduce((sum, row) => sum + row.right, 0) / (8 * 48);
    assert.ok(Math.abs(summary.passAtK["1"].value - mean) < 1e-12);
    const any = rows.filter((row) => row.right > 0).length;
    assert.ok(any > 0, "the random model says something right");
    assert.ok(Math.abs(summary.passAtK["8"].value - any / 48) < 1e-12);
    assert.equal(
      summary.bins.reduce((total: number, { n }: { n: number }) => total + n, 0),
      48,
    );
    assert.deepEqual(summary.groups.map(({ name }: { name: string }) => name).toSorted(), [
      "Where",
      "is",
    ]);
    assert.match(readFileSync(join(out, "report.md"), "utf8"), /### Accessibility/);
  });

  test("stopped in the middle of a line it goes on, and ends with the same answers", async () => {
    const answers = join(out, "answers.jsonl");
    const whole = linesIn(answers);
    truncateSync(answers, Buffer.byteLength(whole.slice(0, 20).join("\n")) + 30);
    const { code, errors } = await recall(...small);
    assert.equal(code, 0, errors);
    assert.match(errors, /20 of 48 questions were answered before/);
    assert.deepEqual(linesIn(answers), whole);
    const { errors: nothing } = await recall(...small, "--judge", "exact");
    assert.match(nothing, /48 of 48 questions were answered before/, "another judge asks nothing");
  });

  test("of which some questions are asked: those, whatever else is asked", async () => {
    const part = join(folder, "part");
    const { code, errors } = await recall(
      ...local,
      "--samples",
      "8",
      "--limit",
      "5",
      "--out",
      part,
    );
    assert.equal(code, 0, errors);
    const all = new Map(rowsIn(out, "answers.jsonl").flatMap(pairOf));
    const own = rowsIn(part, "answers.jsonl");
    assert.equal(own.length, 5);
    for (const row of own) assert.deepEqual(all.get(row.id), row);
  });
});

test("a model whose template, stop tokens or weights were changed is another model", async () => {
  const own = join(folder, "changed");
  cpSync(model, own, { recursive: true });
  const asked = ["--model", own, "--data", data, "--prompt", "raw", "--max-new-tokens", "2"];
  const args = [...asked, "--samples", "0", "--limit", "2", "--out", join(folder, "changed-out")];
  assert.equal((await recall(...args)).code, 0);
  assert.match((await recall(...args)).errors, /2 of 2 questions were answered before/);
  writeFileSync(join(own, "notes.txt"), "no part of the model");
  assert.equal((await recall(...args)).code, 0);
  for (const name of ["generation_config.json", "tokenizer_config.json", "chat_template.jinja"]) {
    writeFileSync(join(own, name), name.endsWith(".json") ? "{}" : "Where is person1 ?");
    const { code, errors } = await recall(...args);
    assert.equal(code, 2, name);
    assert.match(errors, /changed-out holds answers that other settings gave \(weights/);
    rmSync(join(own, name));
  }
});

const pairOf = (row: { id: string }) => [[row.id, row] as const];

describe("a user's mistake", () => {
  const mistakes: [args: string[], message: RegExp][] = [
    [["--data", data], /give one of --model FOLDER and --endpoint URL/],
    [["--model", model, "--endpoint", "http://x", "--data", data], /give one of/],
    [["--model", "nowhere", "--data", data], /there is no model folder nowhere/],
    [["--model", model, "--data", "none.jsonl", "--prompt", "raw"], /cannot read none\.jsonl/],
    [["--model", model, "--data", data, "--prompt", "chat"], /has no chat template/],
    [["--model", model, "--data", data, "--judge", "mine"], /--judge mine is none of exact/],
    [["--model", model, "--data", data, "--think", "--prompt", "raw"], /needs --think-text/],
    [["--model", model, "--data", data, "--samples", "few"], /--samples.*whole number/],
    [[...small, "--temperature", "0.5"], /other settings gave \(temperature 1 -> 0\.5\)/],
    [[...local, "--out", model], /model holds other files, no measurement/],
    [[...local, "--max-new-tokens", "63", "--out", "x"], /no prompt leaves room/],
  ];
  for (const [args, message] of mistakes) {
    test(`is told in one line: ${message.source}`, async () => {
      const { code, errors, out: text } = await recall(...args);
      assert.deepEqual([code, text], [2, ""]);
      assert.match(errors.split("\n").at(-1)!, message);
    });
  }
});

/** A server whose model knows where everybody is on its third sample, and after thinking. */
const reply = ({ body }: Received, taught: readonly string[]) => {
  const text: string = body.messages?.at(-1).content ?? body.prompt;
  const index = questionLines.findIndex((line) => text.includes(JSON.parse(line).question));
  const gold: string = JSON.parse(questionLines[index]!).answers[0];
  const wrong = places.find((place) => place !== gold)!;
  const texts = Array.from({ length: body.n ?? 1 }, (_, i) => {
    if (/Answer:/.test(text)) return `I recall.\nAnswer: ${gold}`;
    return i === 2 || taught.includes(gold) ? gold : wrong;
  });
  return {
    json: {
      choices: texts.map((content) => ({
        ...(body.messages ? { message: { content } } : { text: ` ${content}\nQ: next` }),
        finish_reason: "stop",
      })),
    },
  };
};

describe("a server", () => {
  test("is asked by conversations: greedy, samples, and once more to think", async () => {
    await using server = await mockServer((request) => reply(request, ["home"]));
    const served = join(folder, "served");
    const {
      code,
      out: text,
      errors,
    } = await recall(
      ...["--endpoint", `${server.url}/v1`, "--endpoint-model", "m", "--data", data],
      ...["--samples", "4", "--think", "--system", "Be brief.", "--out", served],
    );
    assert.equal(code, 0, errors);
    assert.equal(server.received.length, 3 * 48);
    const [first] = server.received;
    assert.deepEqual(first!.body.messages[0], { role: "system", content: "Be brief." });
    assert.match(first!.body.messages[1].content, /in a few words\.\n\n(Where )?is person/);
    const summary = jsonIn(served, "summary.json");
    assert.equal(summary.greedy.value, 0.25);
    assert.equal(summary.thought.value, 1);
    assert.deepEqual([summary.thought.against.fixed, summary.thought.against.broken], [36, 0]);
    assert.deepEqual([summary.passAtK["1"].value, summary.passAtK["4"].value], [0.4375, 1]);
    assert.equal(summary.vote["4"].value, 0.25);
    assert.match(text, /Thinking first mends 36 answers and breaks 0/);
  });

  test("of one model needs no name, of several says which there are", async () => {
    const script =
      (...models: string[]) =>
      (request: Received) =>
        request.path === "/v1/models"
          ? { json: { data: models.map((id) => ({ id })) } }
          : reply(request, []);
    await using server = await mockServer(script("only"));
    const args = ["--endpoint", server.url, "--data", data, "--limit", "3", "--samples", "0"];
    const alone = await recall(...args, "--out", join(folder, "only"));
    assert.equal(alone.code, 0, alone.errors);
    assert.equal(server.received.at(-1)!.body.model, "only");
    server.answer(script("a", "b"));
    const many = await recall(...args, "--out", join(folder, "many"));
    assert.equal(many.code, 2);
    assert.match(many.errors, /the endpoint at .* has 2 models: a,b; .*--endpoint-model/);
    server.answer(script());
    const rest = ["--endpoint-model", "m", "--out", join(folder, "none")];
    const none = await recall(...args, "--judge", server.url, ...rest);
    assert.match(none.errors, /the judge at .* has no model/);
  });

  test("that fails in the middle loses no answer, and the same command goes on", async () => {
    let served = 0;
    await using server = await mockServer((request) =>
      ++served > 40 ? { status: 401, json: { error: { message: "no more" } } } : reply(request, []),
    );
    const args = [
      ...["--endpoint", server.url, "--endpoint-model", "m", "--data", data],
      ...["--samples", "2", "--concurrency", "4", "--out", join(folder, "fails")],
    ];
    const failed = await recall(...args);
    assert.equal(failed.code, 2);
    assert.match(failed.errors, /error: m at .*: HTTP 401/);
    const kept = linesIn(folder, "fails", "answers.jsonl").length;
    assert.ok(kept >= 17 && kept <= 20, `${kept}`);
    server.answer((request) => reply(request, []));
    const before = server.received.length;
    assert.equal((await recall(...args)).code, 0);
    assert.equal(server.received.length - before, 2 * (48 - kept));
    assert.equal(jsonIn(folder, "fails", "summary.json").greedy.value, 0);
  });

  test("continues texts in the form qa; a line is an answer; another server judges", async () => {
    await using server = await mockServer((request) => reply(request, ["here", "away"]));
    const grade = (request: Received) => {
      const { content } = request.body.messages.at(-1);
      const [, gold] = content.match(/GOLD: "(\w+)"/)!;
      const right = content.includes(`ANSWER: "${gold}"`);
      const none = gold === "home";
      const verdict = right ? "CORRECT" : "INCORRECT";
      const text = none ? "I can't say." : JSON.stringify({ reason: "", verdict });
      return { json: { choices: [{ message: { content: text }, finish_reason: "stop" }] } };
    };
    await using judge = await mockServer(grade);
    const args = [
      ...["--endpoint", server.url, "--endpoint-model", "m", "--data", data, "--prompt", "qa"],
      ...["--samples", "0", "--judge", judge.url, "--judge-model", "j"],
      ...["--out", join(folder, "qa")],
    ];
    const { code, out: text, errors } = await recall(...args);
    assert.equal(code, 0, errors);
    assert.ok(server.received.every(({ path }) => path === "/v1/completions"));
    assert.deepEqual(server.received[0]!.body.stop, ["\n"]);
    const { greedy, unjudged } = jsonIn(folder, "qa", "summary.json");
    assert.deepEqual([greedy.n, greedy.value, unjudged], [36, 2 / 3, 12]);
    assert.match(text, /12 answers have no verdict and are in no figure/);
    const asked = judge.received.length;
    await recall(...args);
    // What had no verdict is asked again, nothing else.
    assert.equal(judge.received.length - asked, 12);
  });
});

const stories = assetFolder("models/stories260K", 1);
if (stories !== undefined) {
  test("stories260K: what its stories go on with is found by its rule, more often in sixteen tries", async () => {
    const prompts = join(folder, "stories.jsonl");
    for (const [i, name] of ["Lily", "Tom", "Sam", "Mia"].entries()) {
      const question = `One day, ${name} went to the park and saw`;
      appendFileSync(
        prompts,
        `${JSON.stringify({ id: `${i}`, question, answers: ["big", "dog"] })}\n`,
      );
    }
    const { code, errors } = await recall(
      ...["--model", stories, "--data", prompts, "--prompt", "raw", "--judge", "contains"],
      ...["--samples", "16", "--max-new-tokens", "12", "--out", join(folder, "stories")],
    );
    assert.equal(code, 0, errors);
    const { passAtK, vote, greedy } = jsonIn(folder, "stories", "summary.json");
    assert.equal(greedy.value, 1, "a big box");
    assert.ok(passAtK["1"].value > 0.1 && passAtK["16"].value > passAtK["1"].value);
    assert.deepEqual(vote, {}, "whole continuations cast no votes");
  });
}
