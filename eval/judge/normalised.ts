/** Normalised match, as SQuAD and TriviaQA score: case, punctuation and articles do not count. */
import { type Judge, verdict } from "./judge.ts";

/**
 * Lower case, punctuation to nothing, the words a, an and the dropped, single spaces. Quotes of
 * any style and Unicode composition do not count either. Punctuation is what Unicode calls so, with
 * #, %, & and the marks of a number among it: as under SQuAD's rule "C#" is "C", "3.5" is "35" and
 * "-5" is "5". What Unicode calls a symbol (+, $, <, =) stays: SQuAD's rule drops the ASCII ones.
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

/**
 * What tells answers apart: `normaliseAnswer`, or where that leaves nothing ("A", "The The", "!!!")
 * the text itself, trimmed and in lower case. "" of a blank text alone, which is no answer.
 */
export const answerKey = (text: string): string =>
  normaliseAnswer(text) || text.trim().toLowerCase();

export const normalisedJudge: Judge = ({ gold }, answer) => {
  const predicted = answerKey(answer);
  const right = predicted !== "" && predicted === answerKey(gold);
  return verdict(right, predicted, right ? "matches the gold text" : `does not match "${gold}"`);
};
