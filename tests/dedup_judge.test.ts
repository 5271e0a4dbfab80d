/** The judge of pairs, and what must hold of every de-duplication: levels, thresholds, either side. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { deduplicate, precisionRecall } from "../eval/dedup/deduplicate.ts";
import { lexicalEmbedder } from "../eval/dedup/embed.ts";
import { levels, type PairJudge, type QaRecord, ruleJudge } from "../eval/dedup/pair_judge.ts";

function near(found: number, expected: number, tolerance = 1e-6): void {
  assert.ok(Math.abs(found - expected) <= tolerance, `${found}, expected ${expected}`);
}

const runs = { seed: 20260507, numRuns: 60 };
const word = fc.constantFrom(
  ..."born capital river Ann Bob Oslo Lima 1988 director film of the".split(" "),
);
const phrase = fc.array(word, { minLength: 1, maxLength: 6 }).map((words) => words.join(" "));
const question = (id: string) =>
  fc.record({
    id: fc.constant(id),
    text: phrase,
    answers: fc.array(fc.constantFrom("Oslo", "Lima", "1988"), { minLength: 1, maxLength: 2 }),
    entity: fc.option(fc.constantFrom("Ann", "Bob", "Ann Bob"), { nil: undefined }),
  });
const questions = (side: string) =>
  fc.nat(9).chain((n) => fc.tuple(...Array.from({ length: n }, (_, i) => question(`${side}${i}`))));

describe("ruleJudge", () => {
  const filler = Array.from({ length: 40 }, (_, i): QaRecord => {
    return { id: `f${i}`, text: `what is the capital city of land${i}`, answers: [`town${i}`] };
  });
  const [armenia, georgia] = ["Armenia", "Georgia"].map(
    (name) => `What is the capital of ${name}?`,
  );
  const cases: readonly (readonly [
    string,
    Omit<QaRecord, "id">,
    Omit<QaRecord, "id">,
    string | null,
  ])[] = [
    [
      "re-worded",
      { text: armenia!, answers: ["Yerevan"] },
      { text: "Which city is the capital of Armenia", answers: ["yerevan."] },
      "question",
    ],
    [
      "another entity",
      { text: armenia!, answers: ["Yerevan"] },
      { text: georgia!, answers: ["Tbilisi"] },
      null,
    ],
    [
      "another entity, the same answer",
      { text: armenia!, answers: ["Yerevan"] },
      { text: georgia!, answers: ["Yerevan"] },
      null,
    ],
    [
      "only punctuation",
      { text: armenia!, answers: ["Yerevan"] },
      { text: "what is capital of ARMENIA", answers: ["Erebuni"] },
      "question",
    ],
    [
      "other labels",
      { text: "who directed Vertigo", answers: ["Hitchcock"] },
      { text: "director of Vertigo", answers: ["Sir Alfred"] },
      "fact",
    ],
    [
      "another question word",
      { text: "when was the Titanic built", answers: ["1911"] },
      { text: "where was the Titanic built", answers: ["Belfast"] },
      "entity",
    ],
    [
      "one answer",
      { text: "where was Ann Lee born", answers: ["Oslo"], entity: "Ann Lee" },
      { text: "what is the birthplace of Ann Lee", answers: ["Oslo"], entity: "ann lee" },
      "fact",
    ],
    [
      "another relation",
      { text: "where was Ann Lee born", answers: ["Oslo"], entity: "Ann Lee" },
      { text: "whom did Ann Lee marry", answers: ["Bo"], entity: "Ann Lee" },
      "entity",
    ],
    [
      "entities that only resemble",
      { text: "where was Ann Lee born", answers: ["Oslo"], entity: "Ann Lee" },
      { text: "where was Ann Leeds born", answers: ["Oslo"], entity: "Ann Leeds" },
      null,
    ],
    [
      "a mention",
      { text: "where was Ann Lee born", answers: ["Oslo"], entity: "Ann Lee" },
      { text: "what is Ann Lee's birthplace", answers: ["Oslo"] },
      "fact",
    ],
    [
      "part of a word is no mention",
      { text: "where was Ann born", answers: ["Oslo"], entity: "Ann" },
      { text: "where was Annika born", answers: ["Oslo"] },
      null,
    ],
    [
      "turned round",
      { text: "who directed Vertigo", answers: ["Hitchcock"], entity: "Vertigo" },
      { text: "which film of 1958 is by Hitchcock", answers: ["Vertigo"], entity: "Hitchcock" },
      "fact",
    ],
    [
      "an answer that both name",
      { text: "who makes the Nissan Sunny", answers: ["Nissan"], entity: "Nissan Sunny" },
      { text: "who makes the Nissan Micra", answers: ["Nissan"], entity: "Nissan Micra" },
      null,
    ],
    [
      "another number",
      { text: "when did season 4 of Flash start", answers: ["2017"] },
      { text: "when did season 5 of Flash start", answers: ["2018"] },
      null,
    ],
  ];
  for (const [name, first, second, level] of cases) {
    test(`${name}: ${level ?? "nothing shared"}, from either side`, async () => {
      const [a, b] = [
        { id: "a", ...first },
        { id: "b", ...second },
      ];
      const judge = ruleJudge([...filler, a, b]);
      const verdicts = await judge([
        { a, b, similarity: 0 },
        { a: b, b: a, similarity: 0 },
      ]);
      assert.deepEqual(
        verdicts.map((verdict) => verdict.level),
        [level, level],
        verdicts[0]!.reason,
      );
      assert.ok(verdicts.every(({ reason }) => reason.length > 5));
    });
  }
});

describe("deduplicate", () => {
  const setUp = (a: readonly QaRecord[], b: readonly QaRecord[]) => {
    const all = [...a, ...b];
    return {
      embedder: lexicalEmbedder(
        all.map(({ text }) => text),
        { width: 128 },
      ),
      judge: ruleJudge(all),
    };
  };
  const text = (pairs: readonly object[]) =>
    pairs.map((pair) => JSON.stringify(pair, ["removed", "because", "level"])).sort();
  const pairsOf = (result: Awaited<ReturnType<typeof deduplicate>>) =>
    result.removed.map(({ removed, because, level }) => ({ removed, because, level }));

  test("removes a level's pairs and the closer levels'; fewer above a higher threshold; the same from either side", async () => {
    await fc.assert(
      fc.asyncProperty(questions("a"), questions("b"), async (a, b) => {
        const options = setUp(a, b);
        let before: string[] = [];
        for (const level of levels) {
          const result = await deduplicate(a, b, { ...options, level });
          const gone = result.removed.map((pair) => pair.removed);
          assert.ok(before.every((id) => gone.includes(id)));
          assert.ok(
            result.removed.every((pair) => levels.indexOf(pair.level) <= levels.indexOf(level)),
          );
          assert.deepEqual(
            a.map(({ id }) => id).filter((id) => !gone.includes(id)),
            result.kept,
          );
          const { questions: n, kept, removedQuestions, verified, candidates } = result.counts;
          assert.equal(kept + removedQuestions, n);
          assert.ok(result.removed.length <= verified && verified <= candidates);
          before = gone;

          const turned = pairsOf(await deduplicate(b, a, { ...options, level }));
          const flipped = turned.map((pair) => ({
            ...pair,
            removed: pair.because,
            because: pair.removed,
          }));
          assert.deepEqual(text(flipped), text(pairsOf(result)));
          const stricter = text(
            pairsOf(await deduplicate(a, b, { ...options, level, threshold: 0.7 })),
          );
          assert.ok(stricter.every((pair) => text(pairsOf(result)).includes(pair)));
        }
      }),
      runs,
    );
  });

  test("always finds an identical question, though nothing else is looked at", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.string({ minLength: 1 }), { minLength: 1, maxLength: 6 }),
        async (texts) => {
          const a = texts.map((text, i): QaRecord => ({ id: `a${i}`, text, answers: [`${i}`] }));
          const b = texts.map((text, i): QaRecord => ({ id: `b${i}`, text, answers: ["other"] }));
          const options = {
            ...setUp(a, b),
            level: "question",
            threshold: 1,
            neighbours: 1,
          } as const;
          assert.deepEqual((await deduplicate(a, b, options)).kept, []);
        },
      ),
      runs,
    );
  });

  test("gives the judge batches, and refuses a judge that leaves pairs out", async () => {
    const a = Array.from(
      { length: 30 },
      (_, i): QaRecord => ({ id: `${i}`, text: "where", answers: ["x"] }),
    );
    const sizes: number[] = [];
    const judge: PairJudge = async (pairs) => {
      sizes.push(pairs.length);
      return pairs.map(({ a: one, b: other }) => {
        return { level: one.id === other.id && one.id < "2" ? "entity" : null, reason: "odd" };
      });
    };
    const options = { ...setUp(a, a), judge, level: "entity", batch: 400, neighbours: 30 } as const;
    const result = await deduplicate(a, a, options);
    assert.deepEqual(sizes, [400, 400, 100]);
    assert.deepEqual(
      result.removed.map(({ removed }) => removed),
      a.map(({ id }) => id).filter((id) => id < "2"),
    );
    const lazy: PairJudge = async (pairs) => (await judge(pairs)).slice(1);
    await assert.rejects(
      deduplicate(a, a, { ...options, judge: lazy }),
      /399 verdicts on 400 pairs/,
    );
  });

  test("of nothing removes nothing", async () => {
    for (const [a, b] of [
      [[], []],
      [[{ id: "1", text: "x", answers: ["y"] }], []],
    ] as const) {
      const result = await deduplicate(a, b, { ...setUp(a, b), level: "entity" });
      assert.deepEqual([result.kept.length, result.counts.candidates], [a.length, 0]);
    }
  });

  test("precision and recall have their denominators, and none without any", () => {
    const { precision, recall } = precisionRecall(
      new Set(["a", "b", "c"]),
      new Set(["a", "b", "d", "e"]),
    );
    assert.deepEqual([precision.successes, precision.trials, recall.trials], [2, 3, 4]);
    near(precision.rate!, 2 / 3);
    assert.ok(recall.low < 0.5 && recall.high > 0.5);
    assert.equal(precisionRecall(new Set(), new Set(["a"])).precision.rate, null);
    assert.equal(precisionRecall(new Set(["a"]), new Set()).recall.rate, null);
  });
});
