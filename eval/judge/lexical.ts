/** Lenient matches of words: one text within the other, or enough words in common. */

import { type Judge, verdict } from "./judge.ts";
import { answerKey, normaliseAnswer } from "./normalised.ts";

/**
 * Right if, as whole words after normalisation, the answer holds an accepted text or is held by one
 * (PopQA's own rule is the first half). Pays "1990" for "April 1990", and "the sister of X" for "X".
 * Of a text that normalising leaves nothing of, the whole is compared (`answerKey`).
 */
export const overlapJudge: Judge = ({ gold, accepted }, answer) => {
  const predicted = normaliseAnswer(answer);
  const holds = (outer: string, inner: string) =>
    inner !== "" && ` ${outer} `.includes(` ${inner} `);
  const match = accepted.find((name) => {
    const wanted = normaliseAnswer(name);
    return same(name, answer) || holds(predicted, wanted) || holds(wanted, predicted);
  });
  if (match === undefined) return verdict(false, predicted, `shares no whole text with "${gold}"`);
  return verdict(true, predicted, `overlaps with "${match}"`);
};

/**
 * Right if the best F1 of the answer's words with an accepted text's is at least `least`: 2·common /
 * (words of both), words counted as often as they stand (SQuAD, https://arxiv.org/abs/1606.05250);
 * 1 where both are one `answerKey`.
 */
export const wordF1Judge =
  (least: number): Judge =>
  ({ accepted }, answer) => {
    const predicted = normaliseAnswer(answer);
    const f1 = (name: string) =>
      same(name, answer) ? 1 : wordF1(predicted, normaliseAnswer(name));
    const best = Math.max(0, ...accepted.map(f1));
    return verdict(
      best >= least,
      predicted,
      `word F1 ${best.toFixed(2)}, at least ${least} wanted`,
    );
  };

const same = (name: string, answer: string): boolean =>
  answer.trim() !== "" && answerKey(name) === answerKey(answer);

/** F1 of two normalised texts' words; 0 where one has none. */
export function wordF1(a: string, b: string): number {
  const [left, right] = [a, b].map((text) => text.split(" ").filter((word) => word !== ""));
  if (left!.length === 0 || right!.length === 0) return 0;
  const rest = new Map<string, number>();
  for (const word of right!) rest.set(word, (rest.get(word) ?? 0) + 1);
  let common = 0;
  for (const word of left!) {
    const count = rest.get(word) ?? 0;
    if (count === 0) continue;
    common++;
    rest.set(word, count - 1);
  }
  return (2 * common) / (left!.length + right!.length);
}
