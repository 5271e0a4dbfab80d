/** What documents say and how they are packed; the null world says it without a cue. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { neverStated } from "../eval/worlds/facts.ts";
import { packDocuments } from "../eval/worlds/pack.ts";
import { splitNames, type World, type WorldDocument } from "../eval/worlds/world.ts";
import { assertShare, build, documents, independence, preset, share } from "./world_helpers.ts";

describe("what sources say", () => {
  test("no document ever states an absent fact truthfully, nor an unknowable label", () => {
    const settings = fc.record({
      seed: fc.nat({ max: 1e6 }),
      voiceCue: fc.boolean(),
      absentShare: fc.constant(0.4),
      noiseShare: fc.constantFrom(0.05, 0.5),
      unknowableShare: fc.constant(0.5),
      answers: fc.constant(5),
      entities: fc.constant(30),
      qaShare: fc.constant(0.3),
    });
    fc.assert(
      fc.property(settings, (knobs) => {
        const world = build(knobs);
        assert.ok(world.facts.some((fact) => neverStated(fact).length > 0));
        for (const { statements } of documents(world, 3000)) {
          for (const { factId, value } of statements) {
            const fact = world.facts[factId]!;
            assert.ok(!(fact.absent && value === fact.truth), `fact ${factId} was stated`);
            assert.ok(fact.label === fact.truth || value !== fact.label, `label of ${factId}`);
          }
        }
      }),
      { seed: 12, numRuns: 6 },
    );
  });

  test("reliable sources never state a myth; unreliable ones always do where contested", () => {
    const world = preset("demo");
    for (const { statements, wording, kind } of documents(world, 5000)) {
      for (const { factId, value, origin } of statements) {
        if (origin === "noise") continue;
        const fact = world.facts[factId]!;
        const myth = origin === "unreliable" && (fact.contested || fact.absent);
        assert.equal(value, myth ? fact.myth : fact.truth);
        assert.notEqual(fact.myth, fact.truth);
        if (kind === "statements") assert.equal(origin, wording);
      }
    }
  });

  test("the tokens say what the statements list says", () => {
    const world = preset("demo", { aliases: 1 });
    const text = (document: WorldDocument) => world.vocabulary.decode(document.tokens);
    for (const document of documents(world, 300)) {
      for (const { factId, value } of document.statements) {
        const { name } = world.entities[world.facts[factId]!.entity]!;
        const stated = value.forms.some((form) =>
          document.kind === "question"
            ? text(document).includes(name) && text(document).endsWith(`A : ${form}`)
            : text(document).includes(` ${name} `) && text(document).includes(` ${form} .`),
        );
        assert.ok(stated, `"${text(document)}" does not say ${value.forms}`);
      }
    }
  });

  test("shares of the corpus match the knobs", () => {
    const world = preset("demo");
    const { config, facts } = world;
    const all = documents(world, 30_000);
    const written = all.filter((document) => document.kind === "statements");
    const asked = all.filter((document) => document.kind === "question");
    const n = facts.length;
    assertShare(
      share(facts, (f) => f.contested),
      config.contestedShare,
      n,
      "contested",
    );
    assertShare(
      share(facts, (f) => f.absent),
      config.absentShare,
      n,
      "absent",
    );
    assertShare(asked.length / all.length, config.qaShare, all.length, "questions");
    const claims = all.flatMap((document) => document.statements);
    // Reliable sources are silent on absent facts, which leaves noise a little over its share.
    const noise = share(claims, ({ origin }) => origin === "noise");
    assert.ok(noise > 0.047 && noise < 0.058, `noise ${noise}`);
    const reliable = share(written, ({ wording }) => wording === "reliable");
    assertShare(reliable, config.reliableShare, written.length, "reliable");
    const known = asked
      .flatMap((document) => document.statements)
      .filter(({ factId, origin }) => origin !== "noise" && !facts[factId]!.absent);
    const unreliable = share(known, ({ origin }) => origin === "unreliable");
    assertShare(unreliable, config.qaUnreliableShare, known.length, "unreliable answers");
  });

  test("question documents ask about the QA entities only", () => {
    const world = preset("smoke");
    const asked = new Set(world.splits.qa);
    const seen = new Set<number>();
    for (const { kind, statements } of documents(world, 8000)) {
      if (kind === "question") seen.add(world.facts[statements[0]!.factId]!.entity);
    }
    assert.deepEqual(
      [...seen].sort((a, b) => a - b),
      [...asked],
    );
  });

  test("entities are written about as often as their popularity says", () => {
    const world = preset("smoke");
    const counts = new Array<number>(world.entities.length).fill(0);
    const written = documents(world, 20_000).filter(({ kind }) => kind === "statements");
    for (const { statements } of written) counts[world.facts[statements[0]!.factId]!.entity]! += 1;
    for (const { id, popularity } of world.entities) {
      assertShare(counts[id]! / written.length, popularity, written.length, `entity ${id}`);
    }
    assert.ok(world.entities[0]!.popularity > 5 * world.entities.at(-1)!.popularity);
  });

  test("every name of an answer is used, and the gold one differs from fact to fact", () => {
    const world = build({ aliases: 3, priorSkew: 0, answers: 10 });
    const forms = new Map<number, number>();
    for (const fact of world.facts) forms.set(fact.goldForm, (forms.get(fact.goldForm) ?? 0) + 1);
    assert.equal(forms.size, 4);
    for (const n of forms.values()) assertShare(n / 450, 0.25, 450, "gold forms");
    const said = new Set(documents(world, 4000).flatMap(({ tokens }) => tokens));
    for (const { answers } of world.relations) {
      for (const form of answers.flatMap((answer) => answer.forms)) {
        assert.ok(said.has(world.vocabulary.encode(form)[0]!), `${form} is never said`);
      }
    }
    assert.ok(build({ aliases: 3, goldForm: "first" }).facts.every((fact) => fact.goldForm === 0));
  });
});

describe("the null world", () => {
  /** Wording against truthfulness, over contested facts that a source (not noise) reports. */
  const cue = (world: World) =>
    documents(world, 8000).flatMap(({ kind, wording, statements }) => {
      if (kind === "question") return [];
      return statements
        .filter(
          ({ factId, origin }) =>
            origin !== "noise" && world.facts[factId]!.status === "suppressed",
        )
        .map(
          ({ factId, value }) =>
            [wording === "reliable", value === world.facts[factId]!.truth] as const,
        );
    });
  /** Truthfulness of the first contested fact of a document against that of the second. */
  const agreement = (world: World) =>
    documents(world, 8000).flatMap(({ statements }) => {
      const told = statements.filter(
        ({ factId, origin }) => origin !== "noise" && world.facts[factId]!.status === "suppressed",
      );
      if (told.length < 2) return [];
      const [a, b] = told.map(({ factId, value }) => value === world.facts[factId]!.truth);
      return [[a!, b!] as const];
    });

  for (const [controlled, control] of [
    ["smoke", "null"],
    ["demo", "null-demo"],
    ["atlas", "null-atlas"],
    ["benchmarks", "null-benchmarks"],
    ["paper-like", "null-paper-like"],
  ] as const) {
    test(`${control}: wording is independent of truth, and in ${controlled} it is not`, () => {
      assert.ok(independence(cue(preset(control))) > 0.001);
      assert.ok(independence(cue(preset(controlled))) < 1e-100);
    });

    test(`${control}: differs from ${controlled} in the cue alone`, () => {
      const [a, b] = [preset(controlled), preset(control)];
      assert.deepEqual({ ...b.config, voiceCue: true }, a.config);
      assert.deepEqual(a.facts, b.facts);
      assert.deepEqual(a.vocabulary.words, b.vocabulary.words);
      for (const split of splitNames) assert.deepEqual(a.questions(split), b.questions(split));
    });
  }

  test("one value of a document does not tell whether the next is true", () => {
    assert.ok(independence(agreement(preset("null"))) > 0.001);
    assert.ok(independence(agreement(preset("smoke"))) < 1e-100);
  });

  test("has the same mix of wordings and of truths as the world it controls", () => {
    const truths = (world: World) => share(cue(world), ([, truthful]) => truthful);
    const reliable = (world: World) => share(cue(world), ([wording]) => wording);
    const [a, b] = [preset("smoke"), preset("null")];
    assert.ok(Math.abs(truths(a) - truths(b)) < 0.02, `${truths(a)} and ${truths(b)}`);
    assert.ok(Math.abs(reliable(a) - reliable(b)) < 0.02, `${reliable(a)} and ${reliable(b)}`);
  });
});

describe("packDocuments", () => {
  const options = { batch: 6, length: 64, step: 3 };

  test("is a function of seed and step", () => {
    const world = preset("smoke");
    const batch = packDocuments(world, options);
    assert.deepEqual(packDocuments(world, options), batch);
    assert.notDeepEqual(packDocuments(world, { ...options, step: 4 }).inputs, batch.inputs);
    assert.notDeepEqual(packDocuments(world, { ...options, seed: 9 }).inputs, batch.inputs);
  });

  for (const layout of ["packed", "single"] as const) {
    test(`${layout}: targets are the next inputs; padding and borders do not count`, () => {
      const world = preset("demo");
      const { pad, bos, eos } = world.vocabulary;
      const { inputs, targets, weights, tokens } = packDocuments(world, { ...options, layout });
      for (let row = 0; row < options.batch; row++) {
        assert.equal(inputs[row * options.length], bos);
        for (let i = 0; i < options.length; i++) {
          const at = row * options.length + i;
          if (i + 1 < options.length && inputs[at + 1] !== pad) {
            assert.equal(targets[at], inputs[at + 1]);
          }
          const counts = targets[at] !== pad && targets[at] !== bos;
          assert.equal(weights[at], counts ? 1 : 0);
          if (inputs[at] === eos) assert.equal(targets[at], layout === "packed" ? bos : pad);
        }
      }
      assert.equal(
        tokens,
        weights.reduce((sum, weight) => sum + weight, 0),
      );
      assert.equal(inputs.includes(pad), layout === "single");
    });

    test(`${layout}: questions keep their share of the documents`, () => {
      const world = preset("demo");
      const question = world.vocabulary.encode("Q")[0]!;
      let documentCount = 0;
      let questions = 0;
      for (let step = 0; step < 120; step++) {
        // The last document of a packed row may be cut after <bos>, where its kind is unseen.
        const { inputs, targets } = packDocuments(world, { ...options, batch: 24, step, layout });
        for (const [i, token] of inputs.entries()) {
          if (token !== world.vocabulary.bos) continue;
          documentCount += 1;
          if (targets[i] === question) questions += 1;
        }
      }
      assertShare(questions / documentCount, world.config.qaShare, documentCount, layout);
    });
  }

  test("refuses rows that are too short for the world", () => {
    const world = preset("demo");
    assert.throws(() => packDocuments(world, { ...options, length: 8 }), /at least 13 positions/);
    assert.throws(
      () => packDocuments(world, { ...options, length: 20, layout: "single" }),
      /at least 35 positions/,
    );
  });
});
