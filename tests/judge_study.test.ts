/** Judges against people's verdicts: the file of EfficientQA, rules of words, and the command. */

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import fc from "fast-check";
import { aliasJudge } from "../eval/judge/alias.ts";
import { readHumanVerdicts } from "../eval/judge/human.ts";
import { overlapJudge, wordF1, wordF1Judge } from "../eval/judge/lexical.ts";
import { main } from "../eval/judge_study.ts";
import { UserError } from "../model/errors.ts";
import { scratchFolder } from "./support/disk.ts";
import { mockServer } from "./support/mock_server.ts";
import { printedBy } from "./support/printed.ts";
import { assetFolder } from "./tiny_model.ts";

const { fresh } = scratchFolder();

const line = (
  question: string,
  answer: string[],
  right: string[],
  wrong: string[],
  may: string[] = [],
) =>
  JSON.stringify({
    ...{ question, answer, def_correct_predictions: right, def_incorrect_predictions: wrong },
    ...{ poss_correct_predictions: may, answer_and_def_correct_predictions: [...answer, ...right] },
  });

const file = (...lines: string[]): string => {
  const path = `${fresh()}.jsonl`;
  writeFileSync(path, `${lines.join("\n")}\n`);
  return path;
};

/** What the command printed, and how it ended. */
async function printed(args: readonly string[]) {
  const { code, out, errors } = await printedBy(() => main(args));
  const text = (lines: readonly string[]) => lines.map((line) => `${line}\n`).join("");
  return { code, out: text(out), err: text(errors) };
}

describe("rules of words", () => {
  const question = {
    id: 0,
    gold: "Raj Guru Gajaraj Mishra",
    accepted: ["Raj Guru Gajaraj Mishra", "53"],
  };

  test("contain an accepted text, or are contained in one, by whole words", () => {
    for (const answer of ["Gajaraj Mishra", "it is 53.", "the 53"]) {
      assert.ok(overlapJudge(question, answer).correct, answer);
    }
    for (const answer of ["", "531", "Mish", "raj guru gajraj mishra"]) {
      assert.ok(!overlapJudge(question, answer).correct, answer);
    }
    assert.ok(wordF1Judge(2 / 3)(question, "raj guru gajraj mishra").correct);
    assert.ok(!wordF1Judge(0.8)(question, "raj guru gajraj mishra").correct);
  });

  test("never call wrong what the alias rule calls right, and F1 is symmetric in [0, 1]", () => {
    const text = fc.string({ unit: "grapheme" });
    fc.assert(
      fc.property(text, fc.array(text, { minLength: 1 }), (answer, accepted) => {
        const asked = { id: 0, gold: accepted[0]!, accepted };
        if (!aliasJudge(asked, answer).correct) return;
        assert.ok(overlapJudge(asked, answer).correct);
        assert.ok(wordF1Judge(1)(asked, answer).correct);
      }),
    );
    const words = fc.array(fc.constantFrom("a", "b", "c")).map((all) => all.join(" "));
    fc.assert(
      fc.property(words, words, (a, b) => {
        const f1 = wordF1(a, b);
        assert.equal(f1, wordF1(b, a));
        assert.ok(f1 >= 0 && f1 <= 1);
        const same = [a, b].map((one) => one.split(" ").sort().join(" "));
        assert.equal(f1 === 1, a !== "" && same[0] === same[1]);
      }),
    );
    assert.equal(wordF1("a a b", "a b b"), 2 / 3);
  });
});

describe("people's verdicts", () => {
  test("are read with the question's accepted answers; what is no such line is named", async () => {
    const path = file(line("q", ["A", "B"], ["a!"], ["C", "D"], ["E"]), line("r", ["X"], [], []));
    const found = await readHumanVerdicts(path);
    assert.deepEqual(
      found.map(({ answer, opinion, gold, accepted }) => [answer, opinion, gold, accepted.length]),
      [
        ["a!", "right"],
        ["E", "possible"],
        ["C", "wrong"],
        ["D", "wrong"],
      ].map((two) => [...two, "A", 2]),
    );
    const bad = [
      [
        file(line("q", ["A"], ["B"], []), '{"question": "r", "answer": ["A"]}'),
        /line 2: "def_correct/,
      ],
      [file(line("q", ["A"], [], []), "{"), /line 2 is not JSON/],
      [file(line("q", ["A"], [], [])), /holds no judged answers/],
      [`${fresh()}.jsonl`, /no such file/],
    ] as const;
    for (const [broken, message] of bad) {
      await assert.rejects(readHumanVerdicts(broken), (error: Error) => {
        assert.ok(error instanceof UserError, `${error.stack}`);
        assert.match(error.message, message);
        return true;
      });
    }
  });

  test("beside each judge's, a language model's among them", async () => {
    const path = file(
      line("who ?", ["Goethe"], ["goethe", "J. W. Goethe"], ["Schiller"], ["Johann"]),
      line("when ?", ["1749"], [], ["1750", "the 18th century"]),
    );
    await using server = await mockServer(({ body }) => {
      const right = /ANSWER: "(J\. W\. Goethe|goethe|Johann)"/.test(body.messages[1].content);
      const content = JSON.stringify({ reason: "r", verdict: right ? "CORRECT" : "INCORRECT" });
      return { json: { choices: [{ message: { content }, finish_reason: "stop" }] } };
    });
    const cache = `${fresh()}/v.jsonl`;
    const asked = ["--data", path, "--model", "big", "--cache", cache];
    const online = await printed([...asked, "--url", server.url, "--examples", "2"]);
    assert.equal(online.code, 0, online.err);
    assert.match(online.out, /6 answers that people judged: 2 right, 1 possible, 3 wrong/);
    assert.match(online.out, /^alias.*80\.0 %.*\(4\/5\).*50\.0 % \[.*\(1\/2\) +0\/1 +0$/m);
    assert.match(online.out, /^big +100\.0 %.*1\.000.*\(0\/3\).*\(0\/2\) +1\/1 +0$/m);
    assert.match(
      online.out,
      /alias: any accepted text: right called wrong\n {2}who \? \| J\. W\. Goethe/,
    );
    assert.doesNotMatch(online.out, /left\nover/);
    const offline = await printed([...asked, "--offline"]);
    assert.match(offline.out, /^big +100\.0 %/m);
    assert.equal(server.received.length, 6);
  });

  test("a wrong command line ends in one sentence and code 2", async () => {
    for (const [args, message] of [
      [["--data", "nowhere"], /no such file/],
      [[], /--data/],
      [["--data", file(line("q", ["A"], ["B"], [])), "--offline"], /--offline needs --model/],
      [["--data", file(line("q", ["A"], ["B"], [])), "--model", "m", "--offline"], /--cache/],
    ] as const) {
      const { code, err } = await printed(args);
      assert.equal(code, 2);
      assert.match(err, message);
    }
  });

  const folder = assetFolder("data/nq_open", 1);
  const name = "of EfficientQA: 5,886, of which no rule of match sees one, as people saw the rest";
  test(name, { skip: folder === undefined }, async () => {
    const real = join(folder!, "NQ-open.efficientqa.test.1.1.jsonl.gz");
    const all = await readHumanVerdicts(real);
    const of = (opinion: string) => all.filter((one) => one.opinion === opinion).length;
    assert.deepEqual([of("right"), of("possible"), of("wrong")], [753, 984, 4149]);
    const matched = all.filter(
      ({ answer, ...rest }) => aliasJudge({ id: 0, ...rest }, answer).correct,
    );
    assert.equal(matched.length, 0);
    const { out } = await printed(["--data", real]);
    assert.match(out, /^contains.*88\.4 % .*0\.422 .*\(77\/4149\).*\(493\/753\)/m);
    assert.match(out, /people were shown only those that the matching had left/);
  });
});
