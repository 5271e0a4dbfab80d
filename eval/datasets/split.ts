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
 * Each question's split, by a number that depends on the seed and on what it is about: the entity,
 * else its own text; in whatever case, so that train and test share neither. A question never moves
 * because others come or go; the shares (of their sum) are met on average, not exactly. A UserError
 * where they are negative or all 0.
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
  for (const question of questions) {
    const place = sum * placeOf(groupOf(question), seed, "split");
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

/** What a question shares with those that may not be in another split. */
function groupOf({ entity, question }: DataQuestion): string {
  return entity === undefined ? `text ${plainText(question)}` : `entity ${plainText(entity)}`;
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
