/** The judge-reliability study on exact numbers, and what each rule reward pays. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { normaliseAnswer } from "../eval/judge/normalised.ts";
import { type JudgedOutput, judgeReliability } from "../eval/judge/reliability.ts";
import { newcombe } from "../eval/statistics.ts";
import { trainConfig } from "../rl/config.ts";
import { rewardOf } from "../rl/reward.ts";
import { build } from "./world_helpers.ts";

function near(found: number | null, expected: number, tolerance: number): void {
  assert.ok(Math.abs(found! - expected) <= tolerance, `${found}, expected ${expected}`);
}

/** `counts`: right and called right, right and called wrong, wrong called right, wrong called wrong. */
const outputs = (stage: JudgedOutput["stage"], counts: readonly number[]): JudgedOutput[] =>
  [
    [true, true],
    [true, false],
    [false, true],
    [false, false],
  ].flatMap(([truth, verdict], i) =>
    Array.from({ length: counts[i]! }, () => ({ stage, truth: truth!, verdict: verdict! })),
  );

describe("judge reliability", () => {
  test("of 89 and 95 of 100 with no false positive is 92 % of 200, and cannot tell the stages apart", () => {
    const study = judgeReliability([
      ...outputs("before", [30, 11, 0, 59]),
      ...outputs("after", [60, 5, 0, 35]),
    ]);
    near(study.before.agreement.rate, 0.89, 1e-12);
    near(study.after.agreement.rate, 0.95, 1e-12);
    const { agreement, falsePositives, falseNegatives, wronglyPaid, kappa } = study.overall;
    near(agreement.rate, 0.92, 1e-12);
    near(agreement.low, 0.874, 5e-4);
    near(agreement.high, 0.95, 5e-4);
    // None of 94 wrong answers, not of 200: up to 3.9 % of them may be called right.
    assert.deepEqual([falsePositives.successes, falsePositives.trials], [0, 94]);
    near(falsePositives.high, 0.0393, 5e-5);
    assert.deepEqual([falseNegatives.successes, falseNegatives.trials], [16, 106]);
    assert.deepEqual([wronglyPaid.successes, wronglyPaid.trials], [0, 90]);
    // p_e = 0.53·0.45 + 0.47·0.55
    near(kappa.kappa, (0.92 - 0.497) / 0.503, 1e-12);
    assert.ok(kappa.low < kappa.kappa! && kappa.kappa! < kappa.high);
    near(study.change.estimate, 0.06, 1e-12);
    assert.ok(study.change.low < 0 && study.change.high > 0.06);
    const [before, after] = [89, 95].map((successes) => ({ successes, trials: 100 }));
    assert.deepEqual(study.change, newcombe(before!, after!));
  });

  test("counts every output once, and leaves those without a verdict out of the rates", () => {
    const counts = fc.array(fc.nat(20), { minLength: 4, maxLength: 4 });
    fc.assert(
      fc.property(counts, counts, fc.nat(5), (a, b, silent) => {
        const none = { stage: "after", truth: true, verdict: null } as const;
        const study = judgeReliability([
          ...outputs("before", a),
          ...outputs("after", b),
          ...Array.from({ length: silent }, () => none),
        ]);
        const all = a.map((x, i) => x + b[i]!);
        const { overall, before, after } = study;
        assert.equal(overall.unjudged, silent);
        assert.equal(overall.judged, before.judged + after.judged);
        assert.equal(overall.agreement.successes, all[0]! + all[3]!);
        assert.equal(overall.falsePositives.trials + overall.falseNegatives.trials, overall.judged);
        assert.equal(overall.wronglyPaid.successes, all[2]);
        assert.equal(overall.falseNegatives.successes, all[1]);
      }),
      { seed: 20260507, numRuns: 100 },
    );
    const empty = judgeReliability([]);
    assert.deepEqual(empty.change, { estimate: null, low: -1, high: 1 });
    assert.equal(empty.overall.agreement.rate, null);
    assert.equal(empty.overall.kappa.kappa, null);
  });
});

describe("rewards in a world with several names for an answer", () => {
  const world = build({ aliases: 3, goldForm: "random", entities: 60, answers: 6 });
  const questions = world.questions("train");
  const pays = (reward: "exact" | "normalised" | "alias") => {
    const pay = rewardOf(trainConfig.parse({ reward }));
    return (i: number, answer: string) => pay(questions[i]!, answer, { step: 0, row: 0 }).score;
  };
  const [exact, normalised, alias] = [pays("exact"), pays("normalised"), pays("alias")];

  test("exact pays the gold form alone, alias every name: a quarter as often", () => {
    let [paid, accepted] = [0, 0];
    for (const [i, { gold, accepted: names }] of questions.entries()) {
      assert.equal(names.length, 4);
      for (const name of names) {
        assert.equal(exact(i, name), name === gold ? 1 : 0);
        assert.equal(alias(i, name), 1);
        paid += exact(i, name)!;
        accepted += alias(i, name)!;
      }
    }
    assert.equal(accepted, 4 * paid);
  });

  test("the gold form cannot be told from the answer: facts of one answer differ in it", () => {
    const forms = Map.groupBy(questions, ({ accepted }) => [...accepted].sort().join());
    const several = [...forms.values()].filter((same) => same.length > 3);
    assert.ok(several.length > 0);
    assert.ok(several.some((same) => new Set(same.map(({ gold }) => gold)).size > 1));
  });

  test("normalised and alias pay other spellings of a name, exact does not; none pays a myth", () => {
    for (const [i, { gold, accepted, myth }] of questions.entries()) {
      const spelled = `The ${gold.toUpperCase()}.`;
      assert.deepEqual([exact(i, spelled), normalised(i, spelled), alias(i, spelled)], [0, 1, 1]);
      const other = accepted.find((name) => name !== gold)!;
      assert.equal(normalised(i, other), 0);
      if (accepted.includes(myth)) continue;
      assert.deepEqual([exact(i, myth), normalised(i, myth), alias(i, myth)], [0, 0, 0]);
    }
  });
});

describe("normaliseAnswer", () => {
  /** The rule of SQuAD's evaluation: lower case, no punctuation, no articles, single spaces. */
  function official(text: string): string {
    const kept = [...text.toLowerCase()].filter((c) => !`!"#%&'()*,-./:;?@[\\]_{}`.includes(c));
    const words = kept.join("").split(/\s+/);
    return words.filter((word) => word !== "" && !["a", "an", "the"].includes(word)).join(" ");
  }

  test("is the official scripts' on ASCII text; only the symbols $+<=>^`|~ are treated otherwise", () => {
    const word = fc.constantFrom(
      "The",
      "a",
      "AN",
      "then",
      "Ana",
      "O'Neil",
      "U.S.",
      "(the)",
      "x-ray",
    );
    const noise = fc.constantFrom(" ", "  ", ", ", ".", "-", "_", "\t", "!?", " & ");
    fc.assert(
      fc.property(fc.array(fc.tuple(word, noise), { maxLength: 8 }), (parts) => {
        const text = parts.flat().join("");
        assert.equal(normaliseAnswer(text), official(text));
      }),
      { seed: 20260507, numRuns: 300 },
    );
    assert.equal(normaliseAnswer("C#"), official("C#"));
    assert.equal(normaliseAnswer("-3.5"), official("35"));
    assert.notEqual(normaliseAnswer("C++"), normaliseAnswer("C"));
    assert.notEqual(normaliseAnswer("$5"), normaliseAnswer("5"));
  });
});
