/** Normalised match, as SQuAD and TriviaQA score: case, punctuation and articles do not count. */
import { type Judge, verdict } from "./judge.ts";

/**
 * Lower case, punctuation to nothing, the words a, an and the dropped, single spaces. Quotes of
 * any style and Unicode composition do not count either. Symbols that carry meaning (+, $) stay.
 */
export function normaliseAnswer(text: string): string {
  return text
    .normalize("NFKC")
    .toLowerCase()
    .replace(/[\p{P}`´]/gu, "")
    .replace(/(?<![\p{L}\p{N}])(?:a|an|the)(?![\p{L}\p{N}])/gu, " ")
    .trim()
    .replace(/\s+/gu, " ");
}

export const normalisedJudge: Judge = ({ gold }, answer) => {
  const predicted = normaliseAnswer(answer);
  const right = predicted !== "" && predicted === normaliseAnswer(gold);
  return verdict(right, predicted, right ? "matches the gold text" : `does not match "${gold}"`);
};
