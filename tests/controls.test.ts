/** Shuffled labels: another question's answer of the same relation, each given once. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { buildWorld } from "../eval/worlds/presets.ts";
import { trainConfig, worldOf } from "../rl/config.ts";
import { shuffledLabels } from "../rl/controls.ts";

const world = buildWorld(worldOf(trainConfig.parse({ world: { entities: 40, answers: 9 } })));
const questions = world.questions("train");

test("each question has another's label, each label is given once, all else is as it was", () => {
  const shuffled = shuffledLabels(questions, 3);
  assert.deepEqual(shuffledLabels(questions, 3), shuffled);
  assert.notDeepEqual(shuffledLabels(questions, 4), shuffled);
  let moved = 0;
  for (const [i, question] of questions.entries()) {
    const { gold, accepted, answers, ...rest } = shuffled[i]!;
    const { gold: g, accepted: a, answers: w, ...before } = question;
    assert.deepEqual(rest, before);
    assert.ok(accepted.includes(gold));
    const giver = questions.find(
      (other) =>
        other.id !== question.id &&
        other.relation === question.relation &&
        other.gold === gold &&
        `${other.answers}` === `${answers}`,
    );
    assert.ok(giver, `question ${question.id} keeps its own label`);
    if (gold !== g) moved++;
  }
  assert.ok(moved > questions.length / 2);
  for (const relation of world.relations) {
    const golds = (list: typeof questions) =>
      list
        .filter((question) => question.relation === relation.id)
        .map(({ gold }) => gold)
        .toSorted();
    assert.deepEqual(golds(shuffled), golds(questions));
  }
});

test("no questions, and a relation with one question", () => {
  assert.deepEqual(shuffledLabels([], 1), []);
  assert.deepEqual(shuffledLabels([questions[0]!], 1), [questions[0]!]);
});
