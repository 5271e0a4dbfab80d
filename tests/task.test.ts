/** A world is a task, and settings of data leave the keys of all earlier runs as they were. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Task } from "../eval/task.ts";
import { baseModelHash, type PresetName } from "../rl/config.ts";
import { configHash } from "../rl/hash.ts";
import { presetConfig } from "../rl/resolve.ts";
import { build } from "./world_helpers.ts";

/** First 16 digits: of a run's settings, and of its base model. A change starts every sweep anew. */
const KEYS: Partial<Record<PresetName, readonly [run: string, base: string]>> = {
  smoke: ["7d592bf1861d76c1", "44182b4d332303c8"],
  null: ["245cd4080f8c3436", "9630e30d4c0bd567"],
  demo: ["cdc58c2381b4776c", "1fe3861c79d3da77"],
  "null-demo": ["4e3b4188b1a85307", "a5a75af1f6c547c0"],
  atlas: ["c5e0b4db83190452", "43e066472dc64cb2"],
  "null-atlas": ["8c42e82d187774fb", "c97bd6315c785e64"],
  benchmarks: ["c70717b00552c6f9", "b709976b21c142c0"],
  "null-benchmarks": ["76f0a6a1235bc4af", "a399b1cb7ad1fddb"],
  extraction: ["a8005a7876721081", "d118fd671ab6d08f"],
  "paper-like": ["da37977d60d268e5", "4e3ae78fdca74781"],
  "null-paper-like": ["b1c70288271d1b65", "88458b254020b663"],
};

test("the keys of runs and base models of worlds are those of the first sweeps", () => {
  for (const [name, [run, base]] of Object.entries(KEYS)) {
    const config = presetConfig(name as PresetName);
    assert.equal(configHash(config).slice(0, 16), run, `run ${name}`);
    assert.equal(baseModelHash(config).slice(0, 16), base, `base model of ${name}`);
  }
});

describe("a world as a task", () => {
  const world = build({ entities: 24, relations: 2, answers: 6 });
  const task: Task = world;

  test("reads answers as its vocabulary does, and ends them with <eos>", () => {
    assert.deepEqual(task.stopTokens, [world.vocabulary.eos]);
    for (const { accepted, answers } of task.questions("test")) {
      answers.forEach((answer, i) => {
        assert.equal(task.answerText([...answer, world.vocabulary.eos]), accepted[i]);
      });
    }
    assert.equal(task.tokenizer.vocabularySize, world.vocabulary.size);
  });

  test("brings out what is stored by a reliable source's statement", () => {
    for (const question of world.questions("test")) {
      const expected = world.reliablePrompt(world.facts[question.factId]!);
      assert.deepEqual(task.stored!.prompt(question), expected);
    }
    assert.equal(task.stored!.stopToken, world.vocabulary.period);
  });
});
