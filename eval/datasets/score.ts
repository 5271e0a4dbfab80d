/** How each question set scores an answer: exact match, containment and F1 as its script has them. */
import { wordF1 } from "../judge/lexical.ts";
import { answerKey } from "../judge/normalised.ts";
import type { Format } from "./formats.ts";
import { normalisedAs } from "./normalise.ts";

export interface Scorer {
  /** The number that the set's own script reports; "model": a language model judges. */
  readonly primary: "exact" | "contains" | "f1" | "model";
  /** Where the rule is from. */
  readonly source: string;
  /** How it differs from `normaliseAnswer`, which the judges here use. */
  readonly differs: string;
  readonly normalise: (text: string) => string;
  /** Whether the answer, normalised, is one of the accepted ones. */
  readonly exact: (prediction: string, answers: readonly string[]) => boolean;
  /** Whether an accepted answer stands within the prediction. */
  readonly contains: (prediction: string, answers: readonly string[]) => boolean;
  /** In [0, 1]. A list is a prediction of several answers: WebQuestions counts each. */
  readonly f1: (prediction: string | readonly string[], answers: readonly string[]) => number;
}

/** F1 of the words, as often as they stand there; of several texts the best (SQuAD, TriviaQA). */
const bestF1 =
  (normalise: (text: string) => string): Scorer["f1"] =>
  (prediction, answers) => {
    const some = typeof prediction === "string" ? [prediction] : prediction;
    const gold = answers.map(normalise);
    return Math.max(
      0,
      ...some.map(normalise).flatMap((text) => gold.map((one) => wordF1(text, one))),
    );
  };

/**
 * F1 of two lists, letter for letter: precision counts predictions that are gold, recall gold ones
 * that are predicted. One text is a list of one.
 */
function listF1(prediction: string | readonly string[], answers: readonly string[]): number {
  const predicted = typeof prediction === "string" ? [prediction] : prediction;
  if (predicted.length === 0 || answers.length === 0) return 0;
  const precision = predicted.filter((text) => answers.includes(text)).length / predicted.length;
  const recall = answers.filter((text) => predicted.includes(text)).length / answers.length;
  return precision + recall === 0 ? 0 : (2 * precision * recall) / (precision + recall);
}

const TOKEN = /[\p{L}\p{N}\p{M}]+|[^\p{Z}\p{C}]/gu;
const tokens = (text: string): string[] =>
  [...text.normalize("NFD").matchAll(TOKEN)].map(([token]) => token.toLowerCase());

/** Whether the tokens of an answer follow each other in those of the prediction (DPR). */
function containsTokens(prediction: string, answers: readonly string[]): boolean {
  const text = tokens(prediction);
  return answers.map(tokens).some((answer) => {
    const isAt = (from: number) => answer.every((token, i) => text[from + i] === token);
    return answer.length > 0 && text.some((_, from) => isAt(from));
  });
}

/** PopQA: an answer as it is, in lower case, or with a capital first and small letters behind. */
function containsSpelling(prediction: string, answers: readonly string[]): boolean {
  return answers.some((answer) => {
    const [first = "", ...rest] = answer;
    const capital = first.toUpperCase() + rest.join("").toLowerCase();
    return [answer, answer.toLowerCase(), capital].some((some) => prediction.includes(some));
  });
}

function scorer(
  rule: Pick<Scorer, "primary" | "source" | "differs" | "normalise"> &
    Partial<Pick<Scorer, "contains" | "f1">>,
): Scorer {
  const { normalise } = rule;
  return {
    exact: (prediction, answers) => {
      const predicted = normalise(prediction);
      return answers.some((answer) => normalise(answer) === predicted);
    },
    contains: containsTokens,
    f1: bestF1(normalise),
    ...rule,
  };
}

const SQUAD =
  "Only ASCII punctuation goes (“ and – stay), symbols as $ and + go with it; no NFKC; an answer " +
  "of articles alone matches an empty prediction.";

const scorers: Readonly<Record<Format, Scorer>> = {
  "nq-open": scorer({
    primary: "exact",
    source: "google-research/language, language/orqa/utils/eval_utils.py",
    differs: `${SQUAD} Letters are decomposed (NFD) first, so that "à" loses its a as an article.`,
    normalise: normalisedAs.nqOpen,
  }),
  triviaqa: scorer({
    primary: "exact",
    source: "mandarjoshi90/triviaqa, evaluation/triviaqa_evaluation.py",
    differs: 'Punctuation turns to a space in place of nothing: "AC/DC" is two words. No NFKC.',
    normalise: normalisedAs.triviaqa,
  }),
  popqa: scorer({
    primary: "contains",
    source: "AlexTMallen/adaptive-retrieval, run_model.py",
    differs:
      "Letter for letter, in three spellings of the answer; within words too. No exact match.",
    normalise: normalisedAs.squad,
    contains: containsSpelling,
  }),
  simpleqa: scorer({
    primary: "model",
    source: "openai/simple-evals, simpleqa_eval.py",
    differs: "A model says CORRECT, INCORRECT or NOT_ATTEMPTED; the rules here are SQuAD's.",
    normalise: normalisedAs.squad,
  }),
  "entity-questions": scorer({
    primary: "contains",
    source: "princeton-nlp/EntityQuestions, utils/has_answer_fn.py; facebookresearch/DPR",
    differs: `Tokens of letters and digits, in lower case. Exact match is DPR's reader's: ${SQUAD}`,
    normalise: normalisedAs.squad,
  }),
  webquestions: scorer({
    primary: "f1",
    source: "percyliang/sempre, parser/scripts/evaluation.py",
    differs: `F1 compares lists letter for letter. Exact match is DPR's reader's: ${SQUAD}`,
    normalise: normalisedAs.squad,
    f1: listF1,
  }),
  plain: scorer({
    primary: "exact",
    source: "this project",
    differs: "It is normaliseAnswer, and the text itself where that leaves nothing.",
    normalise: answerKey,
  }),
};

/** The rule of a format's question set. */
export const scorerOf = (format: Format): Scorer => scorers[format];
