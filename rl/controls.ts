/** Controls on the training labels: what a method gains from them must vanish when they are wrong. */

import type { TaskQuestion } from "../eval/task.ts";
import { randomStream } from "../tensor/mod.ts";

/**
 * The questions with each other's answers: a cycle through a random order of those of one relation,
 * so that every label is a plausible one, and as frequent as before, but another question's. A
 * relation with a single question keeps its label. A function of the seed.
 */
export function shuffledLabels<Q extends TaskQuestion>(questions: readonly Q[], seed: number): Q[] {
  const given = new Map<number, Q>();
  for (const relation of new Set(questions.map((question) => question.relation))) {
    const own = questions.filter((question) => question.relation === relation);
    const order = randomStream({ seed, purpose: "shuffled labels", step: relation }).shuffle(own);
    order.forEach((question, i) => {
      given.set(question.id, order[(i + 1) % order.length]!);
    });
  }
  return questions.map((question) => {
    const { gold, accepted, answers } = given.get(question.id)!;
    return { ...question, gold, accepted, answers };
  });
}
