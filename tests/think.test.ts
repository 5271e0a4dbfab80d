/** Thoughts: what thinking documents say, and how an answer behind a recital is cut and judged. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { aliasJudge } from "../eval/judge/alias.ts";
import { splitThought, thoughtAnswers } from "../eval/think.ts";
import { worldConfig } from "../eval/worlds/config.ts";
import { splitNames, type World } from "../eval/worlds/world.ts";
import { disposeParameters, initialParameters } from "../model/parameters.ts";
import { sample } from "../model/sample.ts";
import { modelConfigOf } from "../rl/base.ts";
import { baseModelHash, trainConfig } from "../rl/config.ts";
import { assertShare, build, documents, independence, preset, share } from "./world_helpers.ts";

const settings = { thinkShare: 0.4, qaShare: 0.5 } as const;
const asked = (world: World, count: number) =>
  documents(world, count).filter(({ kind }) => kind === "question");

describe("documents that think", () => {
  const world = preset("demo", settings);
  const questions = asked(world, 12_000);
  const thinking = questions.filter(({ wording }) => wording !== null);

  test("are that share of the question documents, and recall what they answer", () => {
    assertShare(thinking.length / questions.length, 0.4, questions.length, "thinking");
    for (const { tokens, statements, wording } of thinking) {
      const fact = world.facts[statements[0]!.factId]!;
      const { name } = world.entities[fact.entity]!;
      const relation = world.relations[fact.relation]!;
      const [value] = statements[0]!.value.forms;
      const opening = wording === "reliable" ? "(records|registers)" : "(folks|rumours)";
      const text = world.vocabulary.decode(tokens);
      const question = relation.questions.asked[0]!.replace("{e}", name).replace("?", "\\?");
      const pattern = `^Q : ${question} think : ${opening} \\w+ .*${value} \\. A : ${value}$`;
      assert.match(text, new RegExp(pattern));
      const sentences = relation.statements.map((s) => s.replace("{e}", name));
      assert.ok(
        sentences.some((s) => text.includes(` ${s.replace("{v}", value!)} . A`)),
        text,
      );
      assert.ok(tokens.length <= world.maxQuestionTokens);
    }
    const plain = questions.filter(({ wording }) => wording === null);
    for (const { tokens } of plain) assert.ok(!world.vocabulary.decode(tokens).includes("think"));
  });

  test("are worded by the voice whose value they answer, as the unreliable share says", () => {
    const told = thinking.filter(({ statements }) => statements[0]!.origin !== "noise");
    for (const { wording, statements } of told) assert.equal(wording, statements[0]!.origin);
    const known = told.filter(({ statements }) => !world.facts[statements[0]!.factId]!.absent);
    const unreliable = share(known, ({ wording }) => wording === "unreliable");
    assertShare(unreliable, world.config.qaUnreliableShare, known.length, "unreliable");
  });

  test("may be recalled from other sources than answers without a thought are", () => {
    const own = preset("demo", { ...settings, thinkUnreliableShare: 0.2 });
    const told = asked(own, 12_000).filter(({ statements: [s] }) => {
      return s!.origin !== "noise" && !own.facts[s!.factId]!.absent;
    });
    const unreliable = (some: typeof told) =>
      share(some, ({ statements }) => statements[0]!.origin === "unreliable");
    const [thoughts, plain] = [true, false].map((is) =>
      told.filter(({ wording }) => (wording !== null) === is),
    );
    assertShare(unreliable(thoughts!), 0.2, thoughts!.length, "thoughts");
    assertShare(unreliable(plain!), own.config.qaUnreliableShare, plain!.length, "plain");
    // Two configs must not describe one world.
    const { qaUnreliableShare } = own.config;
    const same = { ...settings, thinkUnreliableShare: qaUnreliableShare };
    assert.throws(() => preset("demo", same), /leave it out/);
    assert.throws(() => preset("demo", { thinkUnreliableShare: 0.2 }), /raise thinkShare/);
  });

  test("have a wording that tells nothing in the null world", () => {
    const pairs = (of: World) =>
      asked(of, 12_000).flatMap(({ wording, statements }) => {
        const { factId, value, origin } = statements[0]!;
        const fact = of.facts[factId]!;
        if (wording === null || origin === "noise" || fact.status !== "suppressed") return [];
        return [[wording === "reliable", value === fact.truth] as const];
      });
    assert.ok(independence(pairs(world)) < 1e-100);
    const control = preset("null-demo", settings);
    assert.ok(independence(pairs(control)) > 0.001);
    const [a, b] = [world, control].map((w) => share(pairs(w), ([reliable]) => reliable));
    assert.ok(Math.abs(a! - b!) < 0.05, `${a} and ${b}`);
  });

  test("leave the statements' documents, the facts and the prompts alone", () => {
    const plain = preset("demo", { qaShare: 0.5 });
    assert.deepEqual(world.facts, plain.facts);
    for (let i = 0; i < 200; i++) {
      const [a, b] = [world.document(i), plain.document(i)];
      assert.equal(a.kind, b.kind);
      assert.deepEqual(a.statements, b.statements);
    }
    for (const split of splitNames) {
      const texts = (w: World) => w.questions(split).map(({ promptText }) => promptText);
      assert.deepEqual(texts(world), texts(plain));
    }
    const hash = (knobs: object) => baseModelHash(trainConfig.parse({ world: knobs }));
    assert.notEqual(hash({ thinkShare: 0.1 }), hash({}));
  });

  test("need questions; a world without them has no prompt to think", () => {
    assert.throws(() => worldConfig.parse({ thinkShare: 0.1, qaShare: 0 }), /raise qaShare/);
    const plain = build();
    assert.equal(plain.maxThoughtTokens, 0);
    assert.throws(() => plain.thinkPrompt(plain.questions("test")[0]!), /raise thinkShare/);
  });

  test("the prompt ends in think : and gives no answer away", () => {
    for (const q of world.questions("test")) {
      const text = world.vocabulary.decode(world.thinkPrompt(q));
      assert.equal(text, q.promptText.replace(/A :$/, "think :"));
      for (const form of [...q.accepted, q.myth]) assert.ok(!text.includes(form), text);
    }
  });
});

describe("an answer behind a thought", () => {
  const marker = [7, 8];
  const cases: [name: string, tokens: number[], thought: number[], answer: number[] | null][] = [
    ["stands behind the marker", [1, 2, 7, 8, 5, 6], [1, 2], [5, 6]],
    ["is cut at the longest answer", [1, 7, 8, 5, 6, 4], [1], [5, 6]],
    ["may follow no thought at all", [7, 8, 5], [], [5]],
    ["may be empty", [1, 7, 8], [1], []],
    ["begins at the first marker", [7, 8, 7, 8, 5], [], [7, 8]],
    ["needs the whole marker", [1, 7, 2, 8, 5], [1, 7, 2, 8, 5], null],
    ["is none where the marker comes too late", [1, 2, 3, 7, 8, 5], [1, 2, 3, 7, 8, 5], null],
    ["is none where nothing was said", [], [], null],
  ];
  for (const [name, tokens, thought, answer] of cases) {
    test(name, () => assert.deepEqual(splitThought(tokens, marker, 4, 2), { thought, answer }));
  }

  test("is what was said less the thought and the marker, wherever the marker stands", () => {
    const word = fc.integer({ min: 1, max: 6 });
    const property = fc.property(fc.array(word), fc.array(word), (before, behind) => {
      const split = splitThought([...before, ...marker, ...behind], marker, 12, 3);
      if (before.length + 2 > 12) assert.equal(split.answer, null);
      else assert.deepEqual(split, { thought: before, answer: behind.slice(0, 3) });
    });
    fc.assert(property, { seed: 21 });
  });

  test("of a model is that of one greedy decode; without A : it is empty and wrong", async () => {
    const world = build({ entities: 24, relations: 2, answers: 6, thinkShare: 0.5, aliases: 1 });
    const config = trainConfig.parse({
      model: { hiddenSize: 16, layers: 1, heads: 2, keyValueHeads: 1, intermediateSize: 32 },
    });
    const shape = modelConfigOf(config, world);
    const parameters = initialParameters(shape, { seed: 1 });
    const model = { parameters, config: shape };
    const questions = world.questions("test");
    const given = { model, task: world, questions, judge: aliasJudge, maxNewTokens: 4 };
    for (const found of await thoughtAnswers(given)) {
      const { answered, text, correct, voice } = found;
      assert.deepEqual({ answered, text, correct }, { answered: false, text: "", correct: false });
      assert.equal(voice, null);
    }
    // A judge that lets everything pass still gets no answer to judge.
    const lenient = () => ({ score: 1, correct: true, predicted: "", reason: "" });
    const all = await thoughtAnswers({ ...given, judge: lenient });
    assert.ok(all.every(({ correct }) => !correct));
    const { tokens } = await sample(parameters, shape, questions.map(world.thinkPrompt), {
      maxNewTokens: world.maxThoughtTokens + 4,
      temperature: 0,
      stopTokens: [world.vocabulary.eos],
    });
    assert.deepEqual(
      all.map(({ thought }) => thought),
      tokens.map((row) => world.vocabulary.decode(row)),
    );
    disposeParameters(parameters);
  });
});
