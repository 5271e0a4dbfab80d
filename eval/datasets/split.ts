/** Splits and samples of a question set that stay as they are when questions are added. */
import { UserError } from "../../model/errors.ts";
import { randomStream } from "../../tensor/random.ts";
import { plainText } from "../dedup/words.ts";
import type { DataQuestion } from "./question.ts";

export const splitNames = ["train", "validation", "test"] as const;
export type SplitName = (typeof splitNames)[number];

export interface SplitOptions extends Readonly<Record<SplitName, number>> {
  readonly seed: number;
}

/**
 * Each question's split, by a number that depends on the seed and on its group (`groupKeys`): train
 * and test share no entity and no text. Questions stay where they are when others come or go that
 * share nothing with them. One that joins groups moves all but one of them, and one that brings a
 * group a key smaller than its others moves that group. The shares (of their sum) are met on average,
 * not exactly. A UserError where they are negative or all 0.
 */
export function splitQuestions(
  questions: readonly DataQuestion[],
  { seed, ...shares }: SplitOptions,
): Readonly<Record<SplitName, readonly DataQuestion[]>> {
  const sum = splitNames.reduce((total, name) => total + shares[name], 0);
  if (!(sum > 0 && splitNames.every((name) => shares[name] >= 0) && Number.isFinite(sum))) {
    const given = splitNames.map((name) => `${name} ${shares[name]}`).join(", ");
    throw new UserError(`shares of splits are ${given}; expected numbers from 0 on, not all 0`);
  }
  const splits: Record<SplitName, DataQuestion[]> = { train: [], validation: [], test: [] };
  const groups = groupKeys(questions);
  for (const [i, question] of questions.entries()) {
    const place = sum * placeOf(groups[i]!, seed, "split");
    const isTrain = place < shares.train;
    const name = isTrain
      ? "train"
      : place < shares.train + shares.validation
        ? "validation"
        : "test";
    splits[name].push(question);
  }
  return splits;
}

/**
 * Each question's group: those that share an entity or a text (`plainText`: in whatever case) are in
 * one, and so are those that others join. A group is named by the smallest of its keys, "entity E"
 * and "text T": of one entity whose texts no other has, by the entity; without any, by its text.
 */
export function groupKeys(questions: readonly DataQuestion[]): string[] {
  const parents = new Map<string, string>();
  const root = (key: string): string => {
    let top = key;
    for (let next = parents.get(top); next !== undefined; next = parents.get(top)) top = next;
    // So that a chain of many questions is walked once.
    for (let at = key; at !== top; ) {
      const next = parents.get(at)!;
      parents.set(at, top);
      at = next;
    }
    return top;
  };
  const texts = questions.map(({ question, entity }) => {
    const text = `text ${plainText(question)}`;
    const name = plainText(entity ?? "");
    const [a, b] = [root(text), root(name === "" ? text : `entity ${name}`)];
    if (a !== b) parents.set(a < b ? b : a, a < b ? a : b);
    return text;
  });
  return texts.map(root);
}

/**
 * `count` questions at random, in their order: those whose numbers, made of seed and id, are the
 * lowest. A question more in the file takes the place of one at most. All where there are no more.
 */
export function sampleQuestions(
  questions: readonly DataQuestion[],
  count: number,
  seed: number,
): readonly DataQuestion[] {
  if (questions.length <= count) return questions;
  const places = questions.map(({ id }) => placeOf(id, seed, "sample"));
  const order = places.map((_, i) => i).sort((a, b) => places[a]! - places[b]! || a - b);
  return order
    .slice(0, count)
    .sort((a, b) => a - b)
    .map((i) => questions[i]!);
}

/** A number in [0, 1) that depends on seed, purpose and text alone. */
const placeOf = (text: string, seed: number, purpose: string): number =>
  randomStream({ seed, purpose: `${purpose} ${text}` }).uniform();
