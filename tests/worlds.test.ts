/** What the invented worlds promise: splits, names, vocabulary, questions, and the same bits. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { majorityBaseline } from "../eval/baseline.ts";
import { worldConfig } from "../eval/worlds/config.ts";
import { type WorldPreset, worldPresets } from "../eval/worlds/presets.ts";
import { atlasRelations, inventedRelations, openings } from "../eval/worlds/templates.ts";
import { splitNames, type World } from "../eval/worlds/world.ts";
import { assertShare, build, documents, preset, share } from "./world_helpers.ts";

/** A number that changes with any token of the world's documents, prompts and words. */
function fingerprint(world: World): string {
  let hash = 0x811c9dc5;
  const add = (value: number) => {
    hash = Math.imul(hash ^ value, 0x01000193) >>> 0;
  };
  for (const word of world.vocabulary.words) for (const letter of word) add(letter.codePointAt(0)!);
  for (const { tokens } of documents(world, 300)) tokens.forEach(add);
  for (const split of splitNames) for (const q of world.questions(split)) q.prompt.forEach(add);
  return hash.toString(16).padStart(8, "0");
}

describe("a world", () => {
  test("is the same on every runtime (golden)", () => {
    assert.equal(fingerprint(preset("smoke")), "f63a4145");
    assert.equal(fingerprint(preset("null-demo")), "bf307a4a");
    assert.equal(fingerprint(preset("smoke", { aliases: 2, answerTokens: 3 })), "901fd505");
  });

  test("is a function of its config, and changes with the seed", () => {
    assert.equal(fingerprint(preset("smoke")), fingerprint(preset("smoke")));
    assert.notEqual(fingerprint(preset("smoke")), fingerprint(preset("smoke", { seed: 2 })));
  });

  for (const name of Object.keys(worldPresets) as WorldPreset[]) {
    test(`${name}: splits share no entity and cover them all, at the shares of the config`, () => {
      const world = preset(name);
      const { config, splits } = world;
      const all = splitNames.flatMap((split) => splits[split]);
      assert.equal(new Set(all).size, all.length);
      assert.equal(all.length, world.entities.length);
      const n = world.entities.length;
      const near = (ids: readonly number[], expected: number) =>
        assert.ok(Math.abs(ids.length - expected) <= 3, `${ids.length} entities, not ${expected}`);
      // The frontier, a quarter of four sets, has no entity of the QA documents.
      const asked = config.questionSets === "four" ? 0.75 : 1;
      near(splits.qa, n * asked * config.qaEntityShare);
      near(splits.test, (n - splits.qa.length) * config.testShare);
      const rest = n - splits.qa.length - splits.test.length;
      near(splits.validation, rest * config.validationShare);
      for (const split of splitNames) {
        const entities = new Set(splits[split]);
        for (const q of world.questions(split)) assert.ok(entities.has(q.entity));
      }
      const questions = splitNames.reduce((sum, split) => sum + world.questions(split).length, 0);
      assert.equal(questions, world.facts.length);
      const popularity = world.entities.reduce((sum, entity) => sum + entity.popularity, 0);
      assert.ok(Math.abs(popularity - 1) < 1e-9);
    });
  }

  test("refuses knobs that are unknown, out of range, or would do nothing", () => {
    assert.throws(() => worldConfig.parse({ entitys: 3 }), /entitys/);
    assert.throws(() => worldConfig.parse({ noiseShare: 1.5 }), /noiseShare/);
    assert.throws(() => worldConfig.parse({ facts: "atlas", entities: 99 }), /invented facts only/);
    assert.throws(() => worldConfig.parse({ atlas: { cities: 9 } }), /real facts only/);
    assert.throws(() => worldConfig.parse({ qaShare: 1 }), /no document would state/);
    assert.throws(() => build({ testShare: 0 }), /split "test" has no entity/);
  });
});

describe("names and words", () => {
  test("every word of a person's name is shared by other people; full names are unique", () => {
    for (const world of [preset("smoke"), preset("demo"), build({ entities: 12 })]) {
      const names = world.entities.map((entity) => entity.name);
      assert.equal(new Set(names).size, names.length);
      const uses = new Map<string, number>();
      for (const word of names.flatMap((name) => name.split(" "))) {
        uses.set(word, (uses.get(word) ?? 0) + 1);
      }
      assert.ok(Math.min(...uses.values()) >= 2, "a word that names one person");
      assert.equal(
        names.every((name) => name.split(" ").length === 2),
        true,
      );
    }
  });

  test("every answer belongs to many facts, so that no value names one", () => {
    const world = preset("demo");
    const uses = new Map(world.relations.flatMap((r) => r.answers.map((a) => [a, 0])));
    for (const { truth, myth } of world.facts) {
      uses.set(truth, uses.get(truth)! + 1);
      uses.set(myth, uses.get(myth)! + 1);
    }
    assert.ok(Math.min(...uses.values()) >= 5);
  });

  test("the vocabulary is closed: encode and decode are inverse, other words are refused", () => {
    const { vocabulary, ...world } = preset("smoke");
    for (let i = 0; i < 500; i++) {
      const { tokens } = world.document(i);
      assert.deepEqual(vocabulary.encode(vocabulary.decode(tokens)), tokens.slice(1, -1));
    }
    assert.equal(new Set(vocabulary.words).size, vocabulary.size);
    assert.throws(() => vocabulary.encode("records deny"), /"deny" is not one of its/);
    assert.throws(() => vocabulary.decode([vocabulary.size]), /token/);
  });

  test("the words of a voice occur in no other place: the opening is the whole cue", () => {
    const words = (texts: readonly string[]) => new Set(texts.flatMap((text) => text.split(" ")));
    const relations = [...inventedRelations, ...Object.values(atlasRelations)];
    const others = words(relations.flatMap((r) => [...r.statements, r.question, "Q : A ."]));
    const voices = [words(openings.reliable), words(openings.unreliable)] as const;
    assert.ok(voices[0].isDisjointFrom(voices[1]));
    for (const voice of voices) assert.ok(voice.isDisjointFrom(others));
  });

  test("answers have the asked number of words, and relations share none", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 0, max: 4 }), (n, aliases) => {
        const world = build({ entities: 60, answerTokens: n, aliases, answers: 20 });
        const texts = world.relations.map((r) => r.answers.flatMap((answer) => answer.forms));
        assert.equal(new Set(texts.flat()).size, 3 * 20 * (1 + aliases));
        for (const q of world.questions("test")) {
          assert.equal(q.answers.length, 1 + aliases);
          assert.ok(q.answers.every((tokens) => tokens.length === n));
          assert.ok(q.accepted.includes(q.gold));
          assert.deepEqual(
            q.answers.map((a) => world.vocabulary.decode(a)),
            q.accepted,
          );
        }
      }),
      { seed: 11, numRuns: 15 },
    );
  });
});

describe("questions", () => {
  test("ask neutrally, accept the truth, and say what became of the fact", () => {
    const world = preset("demo");
    for (const split of splitNames) {
      for (const q of world.questions(split)) {
        const fact = world.facts[q.factId]!;
        assert.equal(q.prompt[0], world.vocabulary.bos);
        assert.equal(world.vocabulary.decode(q.prompt), q.promptText);
        assert.match(q.promptText, /^Q : .+ \? A :$/);
        assert.deepEqual(q.accepted, fact.truth.forms);
        assert.equal(q.knowable, !fact.absent);
        const suppressed = fact.contested ? "suppressed" : "stored";
        assert.equal(q.status, fact.absent ? "absent" : suppressed);
        assert.ok(!q.accepted.includes(q.myth));
        assert.ok(q.prompt.length + q.answers[0]!.length + 1 <= world.maxQuestionTokens);
      }
    }
  });

  test("with unknowable labels, that share of training questions alone is unsupported", () => {
    const world = preset("demo", { unknowableShare: 0.6, absentShare: 0 });
    const train = world.questions("train");
    assertShare(
      share(train, (q) => !q.knowable),
      0.6,
      train.length,
      "unknowable",
    );
    for (const split of ["qa", "validation", "test"] as const) {
      assert.ok(world.questions(split).every((q) => q.knowable));
    }
    for (const q of train.filter((question) => !question.knowable)) {
      const { truth, myth } = world.facts[q.factId]!;
      assert.ok(!truth.forms.includes(q.gold) && !myth.forms.includes(q.gold));
      assert.deepEqual(q.accepted, [q.gold]);
    }
  });

  test("the reliable prompt is how a reliable document goes on with the truth", () => {
    const world = preset("smoke", { absentShare: 0 });
    const starts = documents(world, 20_000)
      .filter(({ wording }) => wording === "reliable")
      .map(({ tokens }) => tokens.join(" "));
    const { vocabulary } = world;
    for (const fact of world.facts.slice(0, 30)) {
      const value = vocabulary.encode(fact.truth.forms[0]!);
      const text = [...world.reliablePrompt(fact), ...value, vocabulary.period].join(" ");
      assert.ok(
        starts.some((start) => start.startsWith(`${text} `)),
        world.entities[fact.entity]!.name,
      );
    }
    const myth = world.voicePrompt(world.facts[0]!, "unreliable");
    assert.match(vocabulary.decode(myth), /^folks say /);
  });

  test("the majority baseline answers each relation's commonest training gold", () => {
    const ask = (relation: number, gold: string) => ({
      relation,
      gold,
      accepted: [gold, `${gold}!`],
    });
    const train = [ask(0, "a"), ask(0, "b"), ask(0, "b"), ask(1, "c")];
    assert.equal(
      majorityBaseline(train, [ask(0, "a"), ask(0, "b"), ask(1, "c"), ask(2, "d")]),
      0.5,
    );
    const world = preset("demo");
    const baseline = majorityBaseline(world.questions("train"), world.questions("test"));
    assert.ok(baseline > 0.02 && baseline < 0.13, `${baseline}`);
  });
});
