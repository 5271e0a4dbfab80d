/** The extraction world: what its documents say, and the warm-up that teaches its questions. */
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { answerProbabilities } from "../eval/accuracy.ts";
import { buildWorld } from "../eval/worlds/presets.ts";
import { splitNames, type World } from "../eval/worlds/world.ts";
import { loadModel } from "../model/checkpoint.ts";
import { baseModelHash, contradictions, trainConfig, worldOf } from "../rl/config.ts";
import { presetConfig } from "../rl/resolve.ts";
import { readRunConfig } from "../rl/run.ts";
import { runCommand, smallRun } from "./support/command.ts";
import { assertShare, documents, preset, share } from "./world_helpers.ts";

const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;

describe("the extraction world", () => {
  const world = preset("extraction");
  const texts = documents(world, 6000);

  test("has no question among its documents, and one voice", () => {
    for (const { kind, wording } of texts)
      assert.deepEqual([kind, wording], ["statements", "reliable"]);
  });

  test("facts are stored unless absent; stored ones are stated truthfully, noise apart", () => {
    assert.ok(world.facts.every(({ status, absent }) => status === (absent ? "absent" : "stored")));
    assertShare(
      share(world.facts, (f) => f.absent),
      0.1,
      world.facts.length,
      "absent",
    );
    const told = texts.flatMap(({ statements }) => statements);
    const noise = share(told, ({ origin }) => origin === "noise");
    // Sources leave absent facts out, noise does not.
    const expected = 0.05 / (0.05 + 0.95 * 0.9);
    assert.ok(Math.abs(noise - expected) < 0.006, `${noise}, not ${expected}`);
    for (const { factId, value, origin } of told) {
      const fact = world.facts[factId]!;
      if (origin === "noise") assert.ok(!(fact.absent && value === fact.truth));
      else assert.equal(value, fact.truth);
    }
  });

  test("puts each relation in three sentences", () => {
    const all = texts.map(({ tokens }) => world.vocabulary.decode(tokens)).join(" ");
    for (const { id, statements } of world.relations) {
      assert.equal(statements.length, 3);
      const { entity } = world.facts.find((fact) => fact.relation === id && !fact.absent)!;
      const { name } = world.entities[entity]!;
      for (const statement of statements) {
        const begin = statement.replace("{e}", name).replace("{v}", "");
        assert.ok(all.includes(` ${begin}`), begin);
      }
    }
  });
});

describe("the warm-up", () => {
  const knobs = { qaShare: 0, entities: 24, relations: 2 };

  test("is needed where documents ask nothing, and part of the base model's name where used", () => {
    const cold = trainConfig.safeParse({ world: knobs });
    assert.match(cold.error!.issues[0]!.message, /nothing teaches the base model what a question/);
    assert.deepEqual(contradictions(presetConfig("extraction")), []);
    const hash = (warmStart: object) => baseModelHash(trainConfig.parse({ warmStart }));
    assert.equal(hash({ learningRate: 1e-3, questionsPerStep: 5 }), hash({}));
    assert.notEqual(hash({ steps: 5 }), hash({}));
    assert.notEqual(hash({ steps: 5, learningRate: 1e-3 }), hash({ steps: 5 }));
  });

  test("makes gold answers of the QA entities likelier; both models are kept", async () => {
    const folder = mkdtempSync(join(tmpdir(), "anamnesis-warm-"));
    after(() => rmSync(folder, { recursive: true, force: true }));
    const warm = ["--warm-start.steps", "20", "--warm-start.learning-rate", "1e-2"];
    const flags = [
      ...[...smallRun, "--world.qa-share", "0", ...warm],
      ...["--train.steps", "1", "--optimizer.warmup", "1", "--train.questions-per-step", "2"],
      ...["--train.group-size", "2", "--evaluate.pass-at-k-samples", "2"],
      ...["--evaluate.pass-at-k", "1", "--evaluate.accessibility-samples", "2"],
    ];
    const first = runCommand(folder, "train.ts", [...flags, "--out", join(folder, "a")]);
    assert.equal(first.code, 0, first.text);
    assert.match(first.text, /no questions in pre-training/);
    assert.match(first.text, /warm-up/);
    const kept = readdirSync(join(folder, ".cache", "base"));
    assert.equal(kept.length, 2);
    const again = runCommand(folder, "train.ts", [...flags, "--out", join(folder, "b")]);
    assert.match(again.text, /pre-trained before/);
    assert.doesNotMatch(again.text, /warm-up/);

    const config = trainConfig.parse(readRunConfig(join(folder, "a")).config);
    const world = buildWorld(worldOf(config));
    const cold = { ...config, warmStart: { ...config.warmStart, steps: 0 } };
    const [before, warmed] = await Promise.all(
      [cold, config].map((c) =>
        goldProbability(world, join(folder, ".cache", "base", baseModelHash(c).slice(0, 16))),
      ),
    );
    assert.ok(warmed! > 5 * before!, `${before} -> ${warmed}`);
  });
});

/** Mean probability of a right answer to the QA entities' questions. */
async function goldProbability(world: World, folder: string): Promise<number> {
  const questions = world.questions("qa");
  const asked = { model: loadModel(folder), task: world, questions, maxNewTokens: 4 };
  return mean(await answerProbabilities(asked, 1));
}

test("warm-up questions are of entities that no other split asks about", () => {
  const world = preset("extraction");
  const entities = splitNames.map((split) => new Set(world.questions(split).map((q) => q.entity)));
  for (const other of entities.slice(1)) assert.ok(entities[0]!.isDisjointFrom(other));
  const asked = share(world.entities, ({ id }) => entities[0]!.has(id));
  assert.ok(asked >= 0.1 && asked <= 0.17, `${asked}`);
});
