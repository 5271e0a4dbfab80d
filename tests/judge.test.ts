/** The rule judges: what each counts as right, and that a noisy one errs at its rates. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { aliasJudge } from "../eval/judge/alias.ts";
import { exactJudge } from "../eval/judge/exact.ts";
import type { Judge } from "../eval/judge/judge.ts";
import { overlapJudge, wordF1Judge } from "../eval/judge/lexical.ts";
import { noisyJudge } from "../eval/judge/noisy.ts";
import { answerKey, normaliseAnswer, normalisedJudge } from "../eval/judge/normalised.ts";

const question = { id: 7, gold: "The Hague", accepted: ["The Hague", "Den Haag", "'s-Gravenhage"] };
const runs = { seed: 20260507, numRuns: 200 };

describe("rule judges", () => {
  for (const [answer, exact, normalised, alias] of [
    ["The Hague", true, true, true],
    ["the hague", false, true, true],
    ["Hague.", false, true, true],
    ["  a  Hague ", false, true, true],
    ["Den Haag", false, false, true],
    ["s Gravenhage", false, false, false],
    ["‘s-gravenhage", false, false, true],
    ["The Hague Amsterdam", false, false, false],
    ["Amsterdam", false, false, false],
    ["the", false, false, false],
    ["", false, false, false],
  ] as const) {
    test(`"${answer}": exact ${exact}, normalised ${normalised}, alias ${alias}`, () => {
      const judges: [Judge, boolean][] = [
        [exactJudge, exact],
        [normalisedJudge, normalised],
        [aliasJudge, alias],
      ];
      for (const [judge, right] of judges) {
        const { score, correct, reason } = judge(question, answer);
        assert.equal(correct, right, reason);
        assert.equal(score, right ? 1 : 0);
        assert.ok(reason.length > 0);
      }
    });
  }

  test("an empty gold text is matched by nothing", () => {
    const empty = { id: 1, gold: "", accepted: ["", " "] };
    for (const answer of ["", " ", "the", "."]) {
      assert.equal(normalisedJudge(empty, answer).correct, false);
      assert.equal(aliasJudge(empty, answer).correct, false);
    }
  });

  test("a text of which normalising leaves nothing is matched by itself, in any case", () => {
    const texts = ["A", "The The", "!!!", "..."];
    for (const gold of texts) {
      const asked = { id: 1, gold, accepted: [gold] };
      for (const judge of [normalisedJudge, aliasJudge, overlapJudge, wordF1Judge(0.5)]) {
        for (const answer of texts) assert.equal(judge(asked, answer).correct, answer === gold);
        assert.ok(judge(asked, ` ${gold.toUpperCase()} `).correct);
        for (const answer of ["", "Paris"]) assert.equal(judge(asked, answer).correct, false);
      }
    }
  });

  test("normalising keeps letters of every script and the words inside words", () => {
    assert.equal(normaliseAnswer("São  Tomé"), "são tomé");
    assert.equal(normaliseAnswer("Aïn"), "aïn");
    assert.equal(normaliseAnswer("Andorra, the Theatre"), "andorra theatre");
    assert.equal(normaliseAnswer("N’Djamena"), normaliseAnswer("N'Djamena"));
  });

  test("normalising twice is normalising once; a stricter judge implies a laxer one", () => {
    fc.assert(
      fc.property(
        fc.string({ unit: "grapheme" }),
        fc.string({ unit: "grapheme" }),
        (gold, answer) => {
          const once = normaliseAnswer(answer);
          assert.equal(normaliseAnswer(once), once);
          const asked = { id: 1, gold, accepted: [gold, "other"] };
          assert.equal(answerKey(once), once);
          assert.equal(answerKey(answer) === "", answer.trim() === "");
          if (exactJudge(asked, answer).correct && gold.trim() !== "") {
            assert.ok(normalisedJudge(asked, answer).correct);
          }
          if (normalisedJudge(asked, answer).correct) assert.ok(aliasJudge(asked, answer).correct);
        },
      ),
      runs,
    );
  });
});

describe("noisyJudge", () => {
  const rateOf = (judge: Judge, answer: (i: number) => string, calledRight: boolean) => {
    const verdicts = Array.from({ length: 4000 }, (_, id) =>
      judge({ ...question, id }, answer(id)),
    );
    return verdicts.filter(({ correct }) => correct === calledRight).length / verdicts.length;
  };

  test("errs at its two rates", () => {
    const judge = noisyJudge(aliasJudge, { falsePositive: 0.1, falseNegative: 0.3, seed: 5 });
    const falsePositives = rateOf(judge, (i) => `wrong ${i % 3}`, true);
    const falseNegatives = rateOf(judge, () => "Den Haag", false);
    assert.ok(Math.abs(falsePositives - 0.1) < 0.024, `${falsePositives}`);
    assert.ok(Math.abs(falseNegatives - 0.3) < 0.036, `${falseNegatives}`);
  });

  test("says the same of the same answer, and is another judge under another seed", () => {
    const options = { falsePositive: 0.5, falseNegative: 0.5 };
    const verdicts = (seed: number) => {
      const judge = noisyJudge(exactJudge, { ...options, seed });
      return Array.from({ length: 64 }, (_, id) => judge({ ...question, id }, "Delft").correct);
    };
    assert.deepEqual(verdicts(1), verdicts(1));
    assert.notDeepEqual(verdicts(1), verdicts(2));
    const judge = noisyJudge(exactJudge, { ...options, seed: 1 });
    const answers = Array.from({ length: 64 }, (_, i) => judge(question, `answer ${i}`).correct);
    assert.ok(answers.includes(true) && answers.includes(false));
  });

  test("without noise is the judge itself; passes on a missing verdict; names a bad rate", () => {
    const silent = noisyJudge(aliasJudge, { falsePositive: 0, falseNegative: 0, seed: 1 });
    assert.deepEqual(silent(question, "Den Haag"), aliasJudge(question, "Den Haag"));
    const absent: Judge = () => ({ score: null, correct: false, predicted: "", reason: "timeout" });
    const noisy = noisyJudge(absent, { falsePositive: 1, falseNegative: 1, seed: 1 });
    assert.equal(noisy(question, "x").score, null);
    const bad = { falsePositive: 2, falseNegative: 0, seed: 1 };
    assert.throws(() => noisyJudge(aliasJudge, bad), /falsePositive is 2/);
  });
});
