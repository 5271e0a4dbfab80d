/** Strata of training questions: what belongs where, what is refused, a run on one of them. */

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import * as fc from "fast-check";
import type { Question } from "../eval/worlds/world.ts";
import { trainConfig } from "../rl/config.ts";
import { JsonLines } from "../rl/json_lines.ts";
import { inStratum, strata, trainingQuestions } from "../rl/strata.ts";
import { runCommand, smallRun } from "./support/command.ts";
import { SEED } from "./support/samples.ts";

const folder = mkdtempSync(join(tmpdir(), "anamnesis-strata-"));
after(() => rmSync(folder, { recursive: true, force: true }));

const configOf = (train: object) =>
  trainConfig.parse({ train, evaluate: { accessibilitySamples: 128 } });
const asked = (n: number) => Array.from({ length: n }, (_, id) => ({ id }) as Question);

test("zero, partial and high part the questions; zeroPartial is the first two", () => {
  const counts = fc.array(fc.integer({ min: 0, max: 128 }), { minLength: 1, maxLength: 60 });
  fc.assert(
    fc.property(counts, (all) => {
      const sizes = Object.fromEntries(
        strata.map((name) => [name, all.filter((count) => inStratum(name, count, 128)).length]),
      );
      assert.equal(sizes.zero! + sizes.partial! + sizes.high!, all.length);
      assert.equal(sizes.zero! + sizes.partial!, sizes.zeroPartial);
      assert.equal(sizes.all, all.length);
    }),
    { seed: SEED },
  );
  assert.deepEqual(
    [0, 1, 32, 33].map((count) => inStratum("partial", count, 128)),
    [false, true, true, false],
  );
});

test("so many of a stratum are drawn at random, in the order of the questions", () => {
  const questions = asked(90);
  const counts = questions.map(({ id }) => [0, 5, 100][id % 3]!);
  const some = trainingQuestions(questions, counts, configOf({ stratum: "zero", questions: 7 }), 1);
  assert.equal(some.length, 7);
  assert.ok(some.every(({ id }) => id % 3 === 0));
  assert.deepEqual(
    some,
    some.toSorted((a, b) => a.id - b.id),
  );
  const other = trainingQuestions(
    questions,
    counts,
    configOf({ stratum: "zero", questions: 7 }),
    2,
  );
  assert.notDeepEqual(some, other, "the seed draws");
  assert.equal(trainingQuestions(questions, counts, configOf({}), 1).length, 90);
  assert.equal(trainingQuestions(questions, counts, configOf({ stratum: "high" }), 1).length, 30);
  assert.throws(
    () => trainingQuestions(questions, counts, configOf({ stratum: "zero", questions: 31 }), 1),
    /zero has 30 questions, 31 are needed.*all 90, zero 30, partial 30, high 30, zeroPartial 60/,
  );
  assert.throws(
    () => trainingQuestions(asked(2), [9, 9], configOf({ stratum: "zero" }), 1),
    /zero has 0 questions, 1 are needed/,
  );
  // Of a question file nothing was counted where all of it is asked: no sizes are made up.
  assert.throws(
    () => trainingQuestions(asked(50), [], configOf({ questions: 100 }), 1),
    /train\.stratum all has 50 questions, 100 are needed; use a smaller/,
  );
});

test("a run trains on its stratum alone, and logs curves where they are asked for", () => {
  const out = join(folder, "run");
  const small = [
    ...["--train.steps", "2", "--train.questions-per-step", "4", "--train.group-size", "4"],
    ...["--optimizer.warmup", "0", "--evaluate.accessibility-samples", "8"],
    ...["--evaluate.pass-at-k-samples", "8", "--evaluate.pass-at-k", "1,8"],
  ];
  const flags = ["--train.stratum", "zeroPartial", "--evaluate.curves", "--out", out];
  const { code, text } = runCommand(folder, "train.ts", [...smallRun, ...small, ...flags]);
  assert.equal(code, 0, text);
  const rows = (name: string) => new JsonLines(join(out, name)).rows();
  const training = rows("ledger.jsonl").filter(({ split }) => split === "train");
  const solved = training.filter(({ firstSolved }) => firstSolved !== null);
  assert.ok(training.length > 0);
  for (const row of solved) assert.ok(inStratum("zeroPartial", row.accessible as number, 8));
  const told = /training on (\d+) of (\d+) questions: zeroPartial/.exec(text);
  const own = training.filter((row) => inStratum("zeroPartial", row.accessible as number, 8));
  if (own.length < training.length) assert.equal(Number(told?.[1]), own.length);
  const points = rows("metrics.jsonl").filter((row) => "validation/accuracy" in row);
  assert.ok(points.length > 0);
  for (const row of points) {
    for (const name of ["heldout/accuracy", "train/accuracy"]) {
      assert.ok((row[name] as number) >= 0 && (row[name] as number) <= 1, name);
    }
  }
});
