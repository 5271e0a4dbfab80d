/** The paper-like world: what its training labels, its answers and its documents are. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { contradictions } from "../rl/config.ts";
import { presetConfig } from "../rl/resolve.ts";
import { assertShare, documents, preset, share } from "./world_helpers.ts";

const world = preset("paper-like");

test("40 to 60 % of the training labels are unknowable, and no document supports one", () => {
  const train = world.questions("train");
  const unknowable = share(train, (q) => !q.knowable);
  assert.ok(unknowable > 0.4 && unknowable < 0.6, `${unknowable}`);
  for (const { statements } of documents(world, 5000)) {
    for (const { factId, value } of statements) {
      const fact = world.facts[factId]!;
      assert.ok(fact.knowable || value !== fact.label);
    }
  }
});

test("few facts of which the truth is stated are said by all sources: there is much to bring out", () => {
  const { contestedShare, absentShare } = world.config;
  const expected = contestedShare * (1 - absentShare);
  const found = share(world.facts, (fact) => fact.status === "suppressed");
  assertShare(found, expected, world.facts.length, "suppressed");
  assert.ok(expected > 0.5, `${expected}`);
});

test("answers have several words and names, the gold one at random; presets hold together", () => {
  const questions = world.questions("test");
  const gold = [0, 1, 2, 3].map((i) => share(questions, (q) => q.accepted.indexOf(q.gold) === i));
  for (const part of gold) assertShare(part, 1 / 4, questions.length, "gold names");
  assert.ok(questions.every(({ answers }) => answers.every((answer) => answer.length === 2)));
  for (const name of ["paper-like", "null-paper-like"] as const) {
    assert.deepEqual(contradictions(presetConfig(name)), []);
  }
});
