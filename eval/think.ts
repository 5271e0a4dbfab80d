/** Recall by reciting first: the analogue of a chain of thought, one greedy decode. */

import { sample } from "../model/sample.ts";
import type { Asked, GreedyAnswer } from "./accuracy.ts";
import { openingsInUse } from "./worlds/documents.ts";
import { questionFrame } from "./worlds/templates.ts";
import type { Voice, World } from "./worlds/world.ts";

export interface ThoughtAnswer extends GreedyAnswer {
  /** What was recited between "think :" and "A :", or all that was said if no "A :" came. */
  readonly thought: string;
  /** Whose words open the thought; null where they are nobody's. */
  readonly voice: Voice | null;
  /** Whether an "A :" came in time. */
  readonly answered: boolean;
}

/**
 * Lets the model go on from "Q : … ? think :" greedily and judges what follows the first "A :".
 *
 * The text ends at <eos>. The thought, with the "A :" that ends it, has at most `maxThoughtTokens`
 * tokens (by default as many as the longest of the world's documents), the answer `maxNewTokens`, as
 * an answer without a thought. A model that has not come to its "A :" by then has not answered: the
 * text is empty and counts as wrong. Throws a RangeError in a world whose documents do not think.
 */
export async function thoughtAnswers(
  { model, task: world, questions, judge, maxNewTokens }: Asked<World>,
  maxThoughtTokens = world.maxThoughtTokens,
): Promise<ThoughtAnswer[]> {
  const prompts = questions.map((question) => world.thinkPrompt(question));
  const { tokens } = await sample(model.parameters, model.config, prompts, {
    maxNewTokens: maxThoughtTokens + maxNewTokens,
    temperature: 0,
    stopTokens: [world.vocabulary.eos],
  });
  const marker = world.vocabulary.encode(questionFrame.after);
  return questions.map((question, i) => {
    const { thought, answer } = splitThought(tokens[i]!, marker, maxThoughtTokens, maxNewTokens);
    const text = world.answerText(answer ?? []);
    const recited = world.answerText(thought);
    const correct = answer !== null && judge(question, text).correct;
    return { text, correct, thought: recited, voice: voiceOf(world, recited), answered: !!answer };
  });
}

/** Parts tokens at the first `marker` that ends within `maxThought` tokens; else no answer. */
export function splitThought(
  tokens: readonly number[],
  marker: readonly number[],
  maxThought: number,
  maxAnswer: number,
): { thought: readonly number[]; answer: readonly number[] | null } {
  for (let at = 0; at + marker.length <= Math.min(tokens.length, maxThought); at++) {
    if (!marker.every((token, i) => tokens[at + i] === token)) continue;
    const start = at + marker.length;
    return { thought: tokens.slice(0, at), answer: tokens.slice(start, start + maxAnswer) };
  }
  return { thought: tokens, answer: null };
}

function voiceOf({ config }: World, thought: string): Voice | null {
  const opens = (voice: Voice) =>
    openingsInUse(config, voice).some((opening) => thought.startsWith(`${opening} `));
  return opens("reliable") ? "reliable" : opens("unreliable") ? "unreliable" : null;
}
