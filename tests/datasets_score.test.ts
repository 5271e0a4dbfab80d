/** Scores of question sets by hand-made cases, and splits that stay when questions are added. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { formats } from "../eval/datasets/formats.ts";
import type { DataQuestion } from "../eval/datasets/question.ts";
import { scorerOf } from "../eval/datasets/score.ts";
import { groupKeys, sampleQuestions, splitNames, splitQuestions } from "../eval/datasets/split.ts";

const seed = Number(process.env.ANAMNESIS_SEED ?? 20_262);
const runs = { seed, numRuns: Number(process.env.ANAMNESIS_PROPERTY_RUNS ?? 60) };

describe("answers are normalised as the official scripts do", () => {
  // The right sides are what the rules written in Python give.
  const cases: readonly (readonly [text: string, squad: string, nq: string, trivia: string])[] = [
    ["  The  Beatles! ", "beatles", "beatles", "beatles"],
    ["AC/DC", "acdc", "acdc", "ac dc"],
    ["an_a", "ana", "ana", ""],
    ["“the” a–b", "“ ” –b", "“ ” –b", "“ ” –b"],
    ["don’t stop´s", "don’t stop´s", "don’t stop´s", "don t stop s"],
    ["à la carte", "à la carte", "\u0300 la carte", "à la carte"],
    ["The the", "", "", ""],
    ["A\x1cb\x85c", "b c", "b c", "b c"],
    ["ΑΣ $5+", "ας 5", "ας 5", "ας 5"],
    ["Anthem theatre", "anthem theatre", "anthem theatre", "anthem theatre"],
  ];
  for (const [text, squad, nq, trivia] of cases) {
    test(JSON.stringify(text), () => {
      assert.equal(scorerOf("simpleqa").normalise(text), squad);
      assert.equal(scorerOf("nq-open").normalise(text), nq);
      assert.equal(scorerOf("triviaqa").normalise(text), trivia);
    });
  }
});

describe("scores", () => {
  test("exact match: any accepted answer, by the set's own normal form", () => {
    const answers = ["AC/DC", "The Band"];
    assert.equal(scorerOf("nq-open").exact("acdc", answers), true);
    assert.equal(scorerOf("triviaqa").exact("acdc", answers), false);
    assert.equal(scorerOf("triviaqa").exact("ac dc.", answers), true);
    assert.equal(scorerOf("nq-open").exact("a band", answers), true);
    assert.equal(scorerOf("nq-open").exact("band of", answers), false);
    assert.equal(scorerOf("nq-open").exact("e\u0301", ["é"]), true);
    assert.equal(scorerOf("simpleqa").exact("e\u0301", ["é"]), false);
    // So the scripts have it: an answer of articles alone.
    assert.equal(scorerOf("nq-open").exact("", ["The The"]), true);
    assert.equal(scorerOf("plain").exact("!!!", ["The The"]), false);
    assert.equal(scorerOf("plain").exact("the the", ["The The"]), true);
  });

  test("containment: PopQA's in three spellings, letter for letter; DPR's by whole tokens", () => {
    const popqa = scorerOf("popqa").contains;
    assert.equal(popqa("a politician.", ["Politician"]), true);
    assert.equal(popqa("New york is it", ["new York"]), true);
    assert.equal(popqa("NEW YORK is it", ["New York"]), false);
    assert.equal(popqa("Romania", ["Oman", "man"]), true);
    const entity = scorerOf("entity-questions").contains;
    assert.equal(entity("NEW-YORK is it", ["New York"]), false);
    assert.equal(entity("It is NEW  YORK, yes", ["New York"]), true);
    assert.equal(entity("Romania", ["Oman"]), false);
    assert.equal(entity("in São Paulo", ["Sa\u0303o Paulo"]), true);
    assert.equal(entity("York New", ["New York"]), false);
  });

  test("F1: words for TriviaQA, whole answers for WebQuestions", () => {
    const words = scorerOf("triviaqa").f1;
    assert.equal(words("the big red dog", ["big dog", "x"]), (2 * 2) / (3 + 2));
    assert.equal(words("dog dog", ["dog"]), 2 / 3);
    assert.equal(words("cat", ["dog"]), 0);
    assert.equal(words("the", ["a"]), 0);
    const lists = scorerOf("webquestions").f1;
    assert.equal(lists(["a", "b", "c"], ["a", "b"]), 0.8);
    assert.equal(lists("a", ["a", "b"]), 2 / 3);
    assert.equal(lists("A", ["a"]), 0);
    assert.equal(lists([], ["a"]), 0);
    assert.equal(lists(["a", "a"], ["a", "b"]), 2 / 3);
  });

  test("of every format: each accepted answer is right, F1 lies between 0 and 1", () => {
    const answer = fc.string({ unit: "grapheme", minLength: 1 }).map((some) => `x${some}`.trim());
    const answers = fc.array(answer, { minLength: 1, maxLength: 4 });
    for (const format of formats) {
      const { exact, contains, f1, source, differs } = scorerOf(format);
      assert.ok(source !== "" && differs !== "");
      const check = fc.property(answers, fc.nat(3), answer, (all, i, other) => {
        const right = all[i % all.length]!;
        assert.ok(exact(right, all) && contains(`it is ${right} .`, all), right);
        assert.ok(f1(all, all) === 1);
        const share = f1(other, all);
        assert.ok(share >= 0 && share <= 1);
      });
      fc.assert(check, runs);
    }
  });
});

describe("splits", () => {
  const made = (count: number, from = 0): DataQuestion[] =>
    Array.from({ length: count }, (_, n) => {
      const i = from + n;
      const entity = i % 3 === 0 ? {} : { entity: `Person ${i % 400}` };
      return { id: `${i}`, question: `Who ${i % 7} is ${i % 400}?`, answers: ["x"], ...entity };
    });
  const shares = { train: 0.8, validation: 0.1, test: 0.1, seed: 3 };
  const placesOf = (questions: readonly DataQuestion[], seed = 3) => {
    const splits = splitQuestions(questions, { ...shares, seed });
    return new Map(splitNames.flatMap((name) => splits[name].map(({ id }) => [id, name])));
  };

  /** What two questions may not share across splits. */
  const keysOf = ({ question, entity }: DataQuestion): string[] => [
    `? ${question.toLowerCase()}`,
    ...(entity === undefined ? [] : [`@ ${entity.toLowerCase()}`]),
  ];
  /** Few entities and few texts, so that questions are joined in chains; some are all symbols. */
  const mixed = fc
    .array(fc.record({ text: fc.nat(9), name: fc.option(fc.nat(9)), loud: fc.boolean() }))
    .map((rows) =>
      rows.map(({ text, name, loud }, i): DataQuestion => {
        const cased = (words: string) => (loud ? words.toUpperCase() : words);
        const entity =
          name === null ? {} : { entity: cased(name > 7 ? "!".repeat(name) : `n${name}`) };
        const question = text > 7 ? "?".repeat(text) : cased(`where is t${text} ?`);
        return { id: `${i}`, question, answers: ["x"], ...entity };
      }),
    );

  test("share no entity and no text, in whatever case; none is lost", () => {
    const even = { train: 1, validation: 1, test: 1 };
    fc.assert(
      fc.property(mixed, fc.nat(99), (all, some) => {
        const splits = splitQuestions(all, { ...even, seed: some });
        const keys = splitNames.map((name) => new Set(splits[name].flatMap(keysOf)));
        for (const [i, own] of keys.entries()) {
          for (const other of keys.slice(i + 1)) assert.ok(own.isDisjointFrom(other));
        }
        assert.equal(
          splitNames.reduce((n, name) => n + splits[name].length, 0),
          all.length,
        );
      }),
      runs,
    );
    const all = made(2000);
    const { train } = splitQuestions(all, shares);
    const share = train.length / all.length;
    assert.ok(share > 0.72 && share < 0.88, `train ${share}`);
    const seeds = [3, 4].map((own) => JSON.stringify([...placesOf(all, own)]));
    assert.notEqual(seeds[0], seeds[1]);
  });

  test("a text once with and once without its entity stays together, for every seed", () => {
    const two: DataQuestion[] = [
      { id: "1", question: "Who wrote X?", answers: ["x"], entity: "X" },
      { id: "2", question: "Who wrote X?", answers: ["x"] },
    ];
    for (let own = 0; own < 200; own++) {
      const places = placesOf(two, own);
      assert.equal(places.get("1"), places.get("2"), `seed ${own}`);
    }
  });

  test("are those of the smallest key: of the entity where there is one, whatever joins", () => {
    fc.assert(
      fc.property(mixed, (all) => {
        const keys = groupKeys(all);
        // By the definition: keys that are reached over shared ones, until none is added.
        for (const [i, question] of all.entries()) {
          let reached = new Set(keysOf(question));
          for (let size = 0; size < reached.size; ) {
            size = reached.size;
            const near = all.map(keysOf).filter((own) => own.some((key) => reached.has(key)));
            reached = new Set([...reached, ...near.flat()]);
          }
          const others = all.flatMap((other, j) => (reached.has(keysOf(other)[0]!) ? [j] : []));
          const same = all.flatMap((_, j) => (keys[j] === keys[i] ? [j] : []));
          assert.deepEqual(same, others);
          const named = others.some((j) => all[j]!.entity !== undefined);
          assert.match(keys[i]!, named ? /^entity / : /^text /);
        }
      }),
      runs,
    );
    const long = Array.from({ length: 20_000 }, (_, i): DataQuestion => {
      return { id: `${i}`, question: `t${(i + 1) >> 1}`, answers: ["x"], entity: `e${i >> 1}` };
    });
    for (const all of [long, long.toReversed()]) {
      assert.deepEqual([...new Set(groupKeys(all))], ["entity e0"]);
    }
  });

  test("of questions with entities that share no text are those of the entity's name alone", () => {
    const places = [..."abcdefghijklmnopqrstuvwxyz"].map((name) => {
      const all = [1, 2].map((n) => {
        return { id: `${n}`, question: `${n} of ${name}?`, answers: ["x"], entity: name };
      });
      const [first, second] = placesOf(all).values();
      assert.equal(first, second);
      return first![0];
    });
    // As they were before texts counted too.
    assert.equal(places.join(""), "tvtttttttttttttvtttttttttt");
  });

  test("stay as they are when questions of others come, go, or change their order", () => {
    const few = placesOf(made(500));
    const more = placesOf([...made(1000, 500), ...made(500).reverse()]);
    for (const [id, name] of few) assert.equal(more.get(id), name);
  });

  test("of shares that are none are refused", () => {
    for (const train of [-1, Number.NaN, Number.POSITIVE_INFINITY]) {
      assert.throws(
        () => splitQuestions(made(3), { ...shares, train }),
        /shares of splits are train/,
      );
    }
    const none = { train: 0, validation: 0, test: 0, seed: 1 };
    assert.throws(() => splitQuestions(made(3), none), /not all 0/);
    assert.equal(splitQuestions(made(30), { ...none, test: 1 }).test.length, 30);
  });

  test("a sample keeps its order, and all but one of its questions when one comes", () => {
    const before = sampleQuestions(made(300), 40, 5);
    assert.equal(before.length, 40);
    assert.deepEqual(
      before,
      made(300).filter((question) => before.some(({ id }) => id === question.id)),
    );
    const after = new Set(sampleQuestions(made(301), 40, 5).map(({ id }) => id));
    assert.ok(before.filter(({ id }) => !after.has(id)).length <= 1);
    assert.equal(sampleQuestions(made(10), 40, 5).length, 10);
    const other = sampleQuestions(made(300), 40, 6);
    assert.notDeepEqual(other, before);
  });
});
