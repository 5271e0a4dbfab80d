/** Question sets as they are: every row of the real files is read, or known to be no question. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import type { Format } from "../eval/datasets/formats.ts";
import { readQuestionFile } from "../eval/datasets/read.ts";
import { assetFolder } from "./tiny_model.ts";

const cases: readonly (readonly [path: string, format: Format, questions: number])[] = [
  ["nq_open/NQ-open.dev.jsonl.gz", "nq-open", 3610],
  ["nq_open/NQ-open.efficientqa.dev.1.1.jsonl.gz", "nq-open", 1800],
  ["nq_open/NQ-open.efficientqa.test.1.1.jsonl.gz", "nq-open", 1769],
  ["triviaqa/triviaqa_subset.jsonl.gz", "triviaqa", 3730],
  ["popqa/popqa_full.jsonl.gz", "popqa", 1936],
  ["popqa/popqa_qa_2000.jsonl.gz", "popqa", 2000],
  ["simpleqa/simple_qa_test_set.jsonl.gz", "simpleqa", 4326],
  ["entity_questions/dev.jsonl.gz", "entity-questions", 22_068],
  ["entity_questions/frequency_buckets.jsonl.gz", "entity-questions", 11_925],
  ["webquestions/trainmodel.jsonl.gz", "webquestions", 2834],
  ["webquestions/devtest.jsonl.gz", "webquestions", 189],
  ["webquestions/val.jsonl.gz", "webquestions", 755],
  ["webquestions/test.jsonl.gz", "webquestions", 2032],
];

const folder = assetFolder("data", cases.length);
for (const [path, format, count] of folder === undefined ? [] : cases) {
  test(`${path}: ${count} questions of ${format}, and what they are about`, async () => {
    const found = await readQuestionFile(join(folder!, path));
    assert.deepEqual([found.format, found.questions.length], [format, count]);
    assert.deepEqual([found.rows, found.problemCount, found.blanks], [count, 0, 0]);
    const share = (has: (question: (typeof found.questions)[number]) => unknown) =>
      found.questions.filter((question) => has(question) !== undefined).length / count;
    if (format === "entity-questions") {
      assert.equal(
        share(({ entity }) => entity),
        1,
      );
      assert.equal(
        share(({ relation }) => relation),
        1,
      );
    }
    if (format === "popqa")
      assert.equal(
        share(({ popularity }) => popularity),
        1,
      );
    if (format === "simpleqa")
      assert.equal(
        share(({ topic }) => topic),
        1,
      );
  });
}
