/** Majority votes: who wins, who may vote, and estimates against enumeration. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { type Ballot, ballotKey, majority, voteBudgets, voteCurve } from "../eval/vote.ts";
import { randomStream } from "../tensor/mod.ts";

/** Ballots from letters: capitals are right, "-" casts no vote. */
const ballots = (letters: string): Ballot[] =>
  [...letters].map((letter) => ({
    key: letter === "-" ? null : letter,
    correct: letter !== "-" && letter === letter.toUpperCase(),
  }));
const winner = (letters: string) => majority(ballots(letters))?.key ?? null;

describe("a vote", () => {
  test("goes to the most frequent answer, and in a tie to the first seen", () => {
    assert.equal(winner("abbac"), "a");
    assert.equal(winner("baabc"), "b");
    assert.equal(winner("abbabc"), "b");
    assert.equal(winner("cab"), "c");
    assert.equal(winner("x"), "x");
  });

  test("counts no empty and no unfinished answer; nobody's vote is no answer", () => {
    assert.equal(winner("--a--"), "a");
    assert.equal(winner("---"), null);
    assert.equal(winner(""), null);
    const key = (text: string, finished = true) => ballotKey({ text, finished });
    assert.equal(key("The Delft."), "delft");
    assert.equal(key(" delft"), "delft");
    assert.equal(key("delft", false), null);
    assert.equal(key(""), null);
    assert.equal(key(" \n"), null);
    assert.deepEqual(
      ["The", "The The", " !!! "].map((text) => key(text)),
      ["the", "the the", "!!!"],
    );
    assert.equal(voteCurve([ballots("----")], { budgets: [1, 2, 4] })[2]!.value, 0);
  });

  test("is right as the first answer of its kind is", () => {
    const pair = [
      { key: "delft", correct: false },
      { key: "delft", correct: true },
    ];
    assert.equal(majority(pair)!.correct, false);
    assert.equal(majority(pair.toReversed())!.correct, true);
  });
});

/** P(the majority of n answers is right), summed over all sequences of n answers. */
function enumerated(probabilities: Readonly<Record<string, number>>, n: number): number {
  const letters = Object.keys(probabilities);
  const visit = (sequence: string, p: number): number => {
    if (sequence.length < n) {
      return letters.reduce((sum, l) => sum + visit(sequence + l, p * probabilities[l]!), 0);
    }
    const won = winner(sequence);
    return won !== null && won === won.toUpperCase() ? p : 0;
  };
  return visit("", 1);
}

const draw = (probabilities: Readonly<Record<string, number>>, n: number, row: number) => {
  const stream = randomStream({ seed: 5, purpose: "ballots", row });
  let sum = 0;
  const sums = Object.values(probabilities).map((p) => (sum += p));
  const letters = Object.keys(probabilities);
  return ballots(Array.from({ length: n }, () => letters[stream.weighted(sums)]!).join(""));
};

describe("the curve", () => {
  const distributions = [
    { A: 0.45, b: 0.35, c: 0.2 },
    { A: 0.3, B: 0.2, c: 0.4, "-": 0.1 },
    { A: 0.1, "-": 0.85, b: 0.05 },
  ];
  for (const p of distributions) {
    test(`is unbiased at every budget: ${JSON.stringify(p)}`, () => {
      const budgets = [1, 2, 3, 4, 5, 6];
      // A vote of 6 out of 6 samples to 6 out of 13: with and without samples left over.
      for (const n of [6, 13]) {
        const values = Array.from({ length: 1500 }, (_, row) =>
          voteCurve([draw(p, n, row)], { budgets, orders: 3, seed: row }),
        );
        for (const [i, budget] of budgets.entries()) {
          const found = values.map((curve) => curve[i]!.value);
          const mean = found.reduce((a, b) => a + b, 0) / found.length;
          const variance = found.reduce((a, b) => a + (b - mean) ** 2, 0) / found.length;
          const error = Math.sqrt(variance / found.length);
          const exact = enumerated(p, budget);
          const text = `${n} samples, ${budget} votes: ${mean}, exact ${exact} ± ${error}`;
          assert.ok(Math.abs(mean - exact) <= 4 * error + 1e-12, text);
        }
      }
    });
  }

  test("a vote of two is a vote of one: the first seen wins the tie", () => {
    assert.ok(Math.abs(enumerated({ A: 0.3, b: 0.7 }, 2) - 0.3) < 1e-12);
  });

  test("at a budget of one is the share of right answers; of all, the mode's", () => {
    const letters = fc.array(fc.constantFrom("A", "B", "c", "-"), { minLength: 1, maxLength: 30 });
    const property = fc.property(letters, fc.nat(99), (list, seed) => {
      const votes = ballots(list.join(""));
      const n = votes.length;
      const [one, all] = voteCurve([votes], { budgets: [1, n], seed });
      const right = votes.filter(({ correct }) => correct).length;
      assert.ok(Math.abs(one!.value - right / n) < 1e-12);
      const counts = ["A", "B", "c"].map((l) => list.filter((x) => x === l).length);
      const most = Math.max(...counts);
      if (counts.filter((x) => x === most).length > 1) return;
      assert.equal(all!.value, counts[2] === most ? 0 : 1);
    });
    fc.assert(property, { seed: 3 });
  });

  test("averages over questions, and refuses budgets beyond the samples", () => {
    const two = [ballots("AAAA"), ballots("bbbb")];
    assert.deepEqual(
      voteCurve(two, { budgets: [1, 4] }).map(({ value }) => value),
      [0.5, 0.5],
    );
    assert.equal(voteBudgets.at(-1), 256);
    assert.throws(() => voteCurve(two), /a vote of 8 out of 4 samples/);
    assert.throws(() => voteCurve(two, { budgets: [0] }), /a vote of 0/);
    assert.throws(() => voteCurve([], { budgets: [1] }), /no questions/);
  });
});
