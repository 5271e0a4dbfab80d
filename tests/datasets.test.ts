/** Question sets: what each reader makes of small files of the official shapes, and of bad ones. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { gzipSync } from "node:zlib";
import { readQuestionFile } from "../eval/datasets/read.ts";
import { assetFolder } from "./tiny_model.ts";

const folder = mkdtempSync(join(tmpdir(), "anamnesis-datasets-"));
after(() => rmSync(folder, { recursive: true, force: true }));

/** Writes a file, gzipped where its name says so. */
function file(name: string, content: string | Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, name.endsWith(".gz") ? gzipSync(content) : content);
  return path;
}

describe("plain JSON lines", () => {
  const lines = [
    { question: "Who wrote Emma?", answer: "Jane Austen", entity: "Emma", popularity: 5 },
    { id: "x", text: " When? ", answers: ["1815", "1815", " "], relation: "year" },
  ].map((row) => JSON.stringify(row));
  const questions = [
    {
      id: "1",
      question: "Who wrote Emma?",
      answers: ["Jane Austen"],
      entity: "Emma",
      popularity: 5,
    },
    { id: "x", question: "When?", answers: ["1815"], relation: "year" },
  ];

  test("give questions, with line ends of any style, a byte order mark, and gzipped", async () => {
    for (const text of [lines.join("\n"), `\uFEFF${lines.join("\r\n")}\r\n`]) {
      for (const name of ["plain.jsonl", "plain.jsonl.gz"]) {
        const found = await readQuestionFile(file(name, text));
        assert.deepEqual(found.questions, questions);
        assert.deepEqual([found.rows, found.blanks, found.problemCount], [2, 0, 0]);
      }
    }
    const one = await readQuestionFile(file("plain.jsonl", lines.join("\n")), { limit: 1 });
    assert.deepEqual(one.questions, questions.slice(0, 1));
  });

  test("with bad rows: each is told with its line, the others are read", async () => {
    const bad = Buffer.concat([
      Buffer.from(`${lines[0]}\n\n{"question": \n{"question": "a"}\n{"answer": "a"}\n[]\n`),
      Buffer.from([0x22, 0xff, 0x22, 0x0a]),
      Buffer.from(`{"id": "1", "question": "a", "answer": "b"}\n${lines[1]}`),
    ]);
    const told: number[] = [];
    const path = file("bad.jsonl", bad);
    const found = await readQuestionFile(path, { onProblem: ({ line }) => told.push(line) });
    assert.deepEqual(found.questions, questions);
    assert.deepEqual([found.rows, found.blanks, found.problemCount], [9, 1, 6]);
    assert.deepEqual(told, [3, 4, 5, 6, 7, 8]);
    for (const [i, message] of [
      /^is not JSON: /,
      /^has no "answers" and no "answer"/,
      /^has neither "question" nor "text"/,
      /expected object/,
      /^is not UTF-8/,
      /^has the id "1", which is that of line 1/,
    ].entries()) {
      assert.match(found.problems[i]!.message, message);
    }
    await assert.rejects(readQuestionFile(path, { strict: true }), /bad.jsonl line 3 is not JSON/);
  });

  test("of which no row is a question are an error, as is what can't be read", async () => {
    for (const [content, message] of [
      ["", /holds no questions: 0 rows$/],
      ["\n\n[]\n", /holds no questions: 3 rows; line 3 /],
      [Uint8Array.of(0xff, 0xfe, 0x22, 0, 0x0a, 0), /UTF-16/],
    ] as const) {
      await assert.rejects(readQuestionFile(file("none.jsonl", content)), message);
    }
    const whole = gzipSync(lines.join("\n"));
    writeFileSync(join(folder, "cut.jsonl.gz"), whole.subarray(0, whole.length - 9));
    await assert.rejects(readQuestionFile(join(folder, "cut.jsonl.gz")), /cannot read .*cut/);
    await assert.rejects(readQuestionFile(join(folder, "no.jsonl")), /there is no such file/);
    await assert.rejects(readQuestionFile(folder), /it is a folder/);
  });
});

const nq = assetFolder("data/nq_open", 1);
if (nq !== undefined) {
  test("NQ-open's development set: 3,610 questions", async () => {
    const found = await readQuestionFile(join(nq, "NQ-open.dev.jsonl.gz"));
    assert.deepEqual([found.questions.length, found.problemCount], [3610, 0]);
    assert.deepEqual(found.questions[1]!.answers, ["Bobby Scott", "Bob Russell"]);
  });
}
