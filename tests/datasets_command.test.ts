/** The command that reads question sets: what it prints, what it writes, what it refuses. */
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { readQuestionFile } from "../eval/datasets/read.ts";
import { main } from "../eval/datasets.ts";
import { printedBy } from "./support/printed.ts";

const folder = mkdtempSync(join(tmpdir(), "anamnesis-datasets-command-"));
after(() => rmSync(folder, { recursive: true, force: true }));

/** Runs it in this process; what it printed on either stream. */
async function command(...args: readonly string[]) {
  const { code, lines } = await printedBy(() => main(args));
  return { code, text: lines.join("\n") };
}

const path = (name: string) => join(folder, name);
const rows = Array.from({ length: 40 }, (_, i) => ({
  ...{ question: `who wrote book ${i}`, answer: [`Ann ${i}`, `A. ${i}`] },
}));
const text = rows.map((row) => `${JSON.stringify(row)}\n`).join("");
writeFileSync(path("nq.jsonl"), `${text}\n{"question": "who"}\n[`);
writeFileSync(path("P19.test.json"), '[{"question": "Where was Ann born?", "answers": ["Rome"]}]');

describe("bun run eval/datasets.ts", () => {
  test("says what is in a file, and which lines are no questions", async () => {
    const { code, text } = await command(path("nq.jsonl"), "--problems", "1");
    assert.equal(code, 0, text);
    assert.match(text, /nq.jsonl: nq-open, jsonl, scored by exact\n/);
    assert.match(text, /\n {2}43 rows: 40 questions, 2 problems, 1 blank\n/);
    assert.match(text, /answers of a question: 2.00 on average, 2 at most\n/);
    assert.match(text, /longest question: 17 letters \(id #11\)\n/);
    assert.match(text, /\n {2}line 42 has no "answer"\n {2}and 1 problem more$/);
  });

  test("writes the plain form, which reads back as it was", async () => {
    const out = path("plain.jsonl");
    const { code, text } = await command(path("P19.test.json"), "--out", out);
    assert.equal(code, 0, text);
    const found = await readQuestionFile(out, { strict: true });
    assert.deepEqual(found.questions, [
      {
        ...{ id: "#1", question: "Where was Ann born?", answers: ["Rome"] },
        ...{ entity: "Ann", relation: "P19" },
      },
    ]);
  });

  test("several files, a sample and a split: ids say whence, nothing is lost", async () => {
    const files = [path("nq.jsonl"), path("P19.test.json")];
    const flags = ["--sample", "30", "--split", "50/20/30", "--seed", "1"];
    const { code, text } = await command(...files, ...flags, "--out", path("q.jsonl"));
    assert.equal(code, 0, text);
    assert.match(text, /\ntogether: 41 questions, 30 taken\ntrain: \d+ questions?\n/);
    const ids = ["train", "validation", "test"].flatMap((name) =>
      readFileSync(path(`q.${name}.jsonl`), "utf8")
        .split("\n")
        .flatMap((line) => (line === "" ? [] : [JSON.parse(line).id as string])),
    );
    assert.equal(new Set(ids).size, 30);
    assert.ok(ids.every((id) => /^(nq\/#\d+|P19\.test\/#1)$/.test(id)));
  });

  test("refuses in one line what it can't do, and writes nothing then", async () => {
    const out = path("none.jsonl");
    for (const [args, message] of [
      [[path("nope")], /cannot read .*nope: there is no such file/],
      [[path("nq.jsonl"), "--strict"], /nq.jsonl line 42 has no "answer"/],
      [[path("nq.jsonl"), "--format", "popqa"], /line 1 has no "possible_answers"/],
      [[path("nq.jsonl"), "--format", "squad"], /Allowed choices are auto, popqa/],
      [[path("nq.jsonl"), "--split", "80/20"], /Expected three shares, as 80\/10\/10/],
      [[path("nq.jsonl"), "--split", "0/0/0"], /shares of splits are train 0/],
      [[path("nq.jsonl"), path("nq.jsonl")], /two files are named "nq"/],
      [[], /missing required argument 'file'/],
    ] as const) {
      const { code, text } = await command(...args, "--out", out);
      assert.equal(code, 2, text);
      assert.match(text, message);
      assert.equal(existsSync(out), false);
    }
  });
});
