/** Question sets, wordings and leaks: who is asked about, in which words, and what is given away. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { worldConfig } from "../eval/worlds/config.ts";
import { paraphrases } from "../eval/worlds/paraphrases.ts";
import { questionRecords } from "../eval/worlds/questions.ts";
import { inventedRelations, openings } from "../eval/worlds/templates.ts";
import { questionSetNames, splitNames, type World } from "../eval/worlds/world.ts";
import { baseModelHash, contradictions, trainConfig } from "../rl/config.ts";
import { questionsOf } from "../rl/questions.ts";
import { presetConfig } from "../rl/resolve.ts";
import { assertShare, build, documents, preset, share } from "./world_helpers.ts";

const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;
/** A question's words without the name it asks about. */
const shape = (world: World, text: string, entity: number) =>
  text.replace(world.entities[entity]!.name, "{e}");

describe("four question sets", () => {
  const world = preset("benchmarks");

  test("share no entity with each other, nor do the splits of a set; each has all splits", () => {
    const seen = new Map<number, string>();
    for (const split of splitNames) {
      for (const set of world.sets) {
        const questions = world.questions(split, set);
        // The frontier is not asked about in pre-training.
        assert.equal(questions.length === 0, split === "qa" && set === "frontier");
        for (const q of questions) {
          assert.equal(q.set, set);
          assert.equal(world.entities[q.entity]!.set, set);
          const place = `${split} ${set}`;
          assert.equal(seen.get(q.entity) ?? place, place);
          seen.set(q.entity, place);
        }
      }
      const all = world.sets.flatMap((set) => world.questions(split, set));
      assert.equal(all.length, world.questions(split).length);
    }
    assert.equal(seen.size, world.entities.length);
  });

  test("trivia asks about the most popular people, then asked, tail and frontier", () => {
    const popularity = (set: (typeof questionSetNames)[number]) =>
      world.entities.filter((e) => e.set === set).map((e) => e.popularity);
    const [asked, trivia, tail, frontier] = questionSetNames.map(popularity);
    for (const set of [asked, trivia, tail, frontier]) assert.equal(set!.length, 200);
    assert.ok(Math.min(...trivia!) > Math.max(...asked!));
    assert.ok(Math.min(...asked!) > Math.max(...tail!));
    assert.ok(Math.min(...tail!) > Math.max(...frontier!));
  });

  test("nine of ten frontier facts are absent or of a person whom one or two documents name", () => {
    const counts = new Map<number, number>();
    // As many as the preset's pre-training reads.
    const { steps, batch, length } = presetConfig("benchmarks").pretrain;
    const sample = documents(world, 4000);
    const size = mean(sample.map(({ tokens }) => tokens.length));
    const n = Math.round((steps * batch * length) / size);
    const rare = world.entities.filter(
      ({ set, popularity }) => set === "frontier" && popularity < 1e-4,
    );
    assertShare(rare.length / 200, 2 / 3, 200, "rare people");
    const expected = mean(
      rare.map(({ popularity }) => popularity * n * (1 - world.config.qaShare)),
    );
    assert.ok(expected > 0.8 && expected < 3, `${expected} documents each`);
    const rareIds = new Set(rare.map(({ id }) => id));
    const facts = world.facts.filter((f) => world.entities[f.entity]!.set === "frontier");
    const hard = share(facts, (fact) => fact.absent || rareIds.has(fact.entity));
    assert.ok(Math.abs(hard - 0.9) < 0.03, `${hard}`);
    for (const { statements, kind } of sample) {
      for (const { factId, value } of statements) {
        const fact = world.facts[factId]!;
        assert.ok(!(fact.absent && value === fact.truth));
        if (kind === "statements") counts.set(fact.entity, (counts.get(fact.entity) ?? 0) + 1);
      }
    }
    const seen = rare.filter(({ id }) => counts.has(id)).length;
    assert.ok(seen < 25, `${seen} of ${rare.length} rare people in 4,000 documents`);
  });

  test("no wording belongs to two sets, and documents word the asked facts in every one", () => {
    for (const { questions, name } of world.relations) {
      const all = Object.values(questions).flat();
      assert.equal(new Set(all).size, all.length, name);
      assert.deepEqual(
        questionSetNames.map((set) => questions[set].length),
        [3, 1, 1, 1],
      );
    }
    const asked = documents(world, 20_000).filter(({ kind }) => kind === "question");
    const counts = new Map<string, number>();
    for (const { tokens, statements } of asked) {
      const fact = world.facts[statements[0]!.factId]!;
      assert.ok(world.splits.qa.includes(fact.entity));
      const text = shape(world, world.vocabulary.decode(tokens), fact.entity);
      const question = text.slice(4, text.indexOf(" A :"));
      counts.set(question, (counts.get(question) ?? 0) + 1);
    }
    assert.equal(counts.size, world.relations.length * 6);
    for (const { questions, name } of world.relations) {
      for (const set of questionSetNames) {
        for (const question of questions[set]) {
          const p = 1 / (4 * 4 * questions[set].length);
          assertShare(counts.get(question)! / asked.length, p, asked.length, `${name} ${set}`);
        }
      }
    }
  });

  test("questions say nothing of their answers", () => {
    for (const split of splitNames) {
      for (const q of world.questions(split)) {
        for (const form of [...q.accepted, q.myth]) {
          assert.ok(!` ${q.promptText} `.includes(` ${form} `), q.promptText);
        }
      }
    }
  });

  test("a run trains on one set and tests another; both must exist", () => {
    const settings = { world: { questionSets: "four", entities: 80 } };
    const config = trainConfig.parse({
      ...settings,
      train: { questionSet: "tail" },
      evaluate: { questionSet: "trivia" },
    });
    const small = build({ questionSets: "four", entities: 80 });
    const sets = (split: "train" | "validation" | "test") => [
      ...new Set(questionsOf(small, config, split).map(({ set }) => set)),
    ];
    assert.deepEqual(
      [sets("train"), sets("validation"), sets("test")],
      [["tail"], ["tail"], ["trivia"]],
    );
    assert.equal(questionsOf(small, trainConfig.parse(settings), "test").length > 100, true);
    const one = { ...presetConfig("demo"), train: config.train };
    assert.match(contradictions(one).join(), /train.questionSet tail: this world has asked/);
  });

  test("too few people for four sets are refused", () => {
    assert.throws(() => build({ questionSets: "four", entities: 24 }), /has no \w+ question/);
  });
});

describe("wordings", () => {
  test("every relation has three, and no word of a voice's opening", () => {
    const voices = new Set(Object.values(openings).flat().join(" ").split(" "));
    for (const { name } of inventedRelations) {
      const { asked, trivia } = paraphrases[name]!;
      for (const text of [...asked, trivia]) {
        assert.match(text, /^[a-z ,{}]+ \?$/, text);
        assert.equal(text.split("{e}").length, 2, text);
        for (const word of text.split(" ")) assert.ok(!voices.has(word), `${word} in "${text}"`);
      }
    }
  });

  test("each question has one of them, all in use", () => {
    const world = preset("demo", { questionWordings: 3 });
    const [relation] = world.relations;
    const own = world.questions("test").filter((q) => q.relation === 0);
    for (const wording of relation!.questions.asked) {
      const text = `Q : ${wording} A :`;
      const found = share(own, (q) => shape(world, q.promptText, q.entity) === text);
      assertShare(found, 1 / 3, own.length, wording);
    }
  });
});

describe("leaks", () => {
  const settings = { questionWordings: 2, leakShare: 0.3 } as const;
  const world = preset("demo", settings);
  const leaked = world.questions("train").filter(({ id, factId }) => id !== factId);

  test("the share of test facts has a training question in other words, with the same answer", () => {
    const test = new Map(world.questions("test").map((q) => [q.factId, q]));
    assertShare(leaked.length / test.size, 0.3, test.size, "leaked");
    for (const q of leaked) {
      const original = test.get(q.factId)!;
      assert.equal(q.split, "train");
      assert.notEqual(q.promptText, original.promptText);
      assert.equal(q.gold, original.gold);
      assert.equal(q.entity, original.entity);
    }
    const ids = splitNames.flatMap((split) => world.questions(split).map(({ id }) => id));
    assert.equal(new Set(ids).size, ids.length);
  });

  test("change nothing else of the world, and not the base model", () => {
    const clean = preset("demo", { ...settings, leakShare: 0 });
    for (const split of ["qa", "validation", "test"] as const) {
      assert.deepEqual(world.questions(split), clean.questions(split));
    }
    const own = world.questions("train").filter(({ id, factId }) => id === factId);
    assert.deepEqual(own, clean.questions("train"));
    for (let i = 0; i < 200; i++) assert.deepEqual(world.document(i), clean.document(i));
    const hash = (knobs: object) => baseModelHash(trainConfig.parse({ world: knobs }));
    assert.equal(hash(settings), hash({ questionWordings: 2 }));
    assert.notEqual(hash({ questionWordings: 2 }), hash({}));
    assert.notEqual(hash({ questionSets: "four" }), hash({}));
  });

  test("records are plain text with the true fact, so that a de-duplication can be scored", () => {
    const { train, test } = questionRecords(world);
    assert.equal(train.length, world.questions("train").length);
    assert.equal(test.length, world.questions("test").length);
    const facts = new Set(test.map(({ factId }) => factId));
    assert.equal(train.filter(({ factId }) => facts.has(factId)).length, leaked.length);
    for (const { text, answers, entity, factId } of [...train, ...test]) {
      assert.ok(text.includes(entity) && text.endsWith(" ?") && !text.startsWith("Q"), text);
      assert.deepEqual(new Set(answers), new Set(world.facts[factId]!.truth.forms));
      for (const answer of answers) assert.ok(!` ${text} `.includes(` ${answer} `));
    }
  });

  test("need a second wording, of a single set, and invented facts", () => {
    const refused = (knobs: object, message: RegExp) =>
      assert.throws(() => worldConfig.parse(knobs), message);
    refused({ leakShare: 0.1 }, /second wording/);
    refused({ leakShare: 0.1, questionWordings: 2, questionSets: "four" }, /re-words free/);
    refused({ facts: "atlas", questionWordings: 2 }, /invented facts only/);
    refused({ facts: "atlas", questionSets: "four" }, /invented facts only/);
  });
});

test("a base model of the old knobs keeps its name", () => {
  assert.equal(baseModelHash(presetConfig("smoke")).slice(0, 16), "44182b4d332303c8");
  assert.equal(baseModelHash(presetConfig("demo")).slice(0, 16), "1fe3861c79d3da77");
});
