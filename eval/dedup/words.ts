/** Words of a question as duplicates are judged by: normalised, function words out, endings off. */
import { normaliseAnswer } from "../judge/normalised.ts";

/** Words that a question has whatever it asks about. */
const FUNCTION_WORDS = new Set(
  (
    "who whom whose what which when where why how is are was were be been being am do does did " +
    "has have had of in on at to for from by with as and or but it its his her hers their theirs he " +
    "she they that this these those there than then so if into out up over about can could will " +
    "would should may might must not no i you we us me my your our also name names named called"
  ).split(" "),
);

const ASKS = new Map<string, string>([
  ...["who", "whom", "whose"].map((word) => [word, "who"] as const),
  ...["when", "where", "how", "why"].map((word) => [word, word] as const),
]);

const ENDINGS = [
  "ations",
  "ation",
  "ings",
  "ions",
  "ing",
  "ion",
  "ors",
  "ers",
  "ed",
  "er",
  "or",
  "es",
  "s",
];

/**
 * `normaliseAnswer` without possessive endings, so that "Obama's child" mentions Obama. A text of
 * which that leaves nothing ("?!") stays as it is: two such texts aren't the same.
 */
export function plainText(text: string): string {
  const plain = normaliseAnswer(text.replace(/['’]s(?![\p{L}\p{N}])/gu, ""));
  return plain === "" ? text.trim().toLowerCase() : plain;
}

/** Words of the plain text: lower case, no punctuation, no articles. */
export const wordsOf = (text: string): string[] =>
  plainText(text)
    .split(" ")
    .filter((word) => word !== "");

/** The word without an ending of inflection: "directed", "director" and "directs" are "direct". */
export function stem(word: string): string {
  const ending = ENDINGS.find((end) => word.endsWith(end) && word.length - end.length >= 4);
  return ending === undefined ? word : word.slice(0, -ending.length);
}

/** What kind of thing the first such word asks for; null: "what", "which", or no question word. */
export function asksFor(text: string): string | null {
  const asking = wordsOf(text).find((word) => ASKS.has(word));
  return asking === undefined ? null : ASKS.get(asking)!;
}

/** Stems of all words but function words, each once, in the order of the text. */
export const contentWords = (text: string): string[] => [
  ...new Set(
    wordsOf(text)
      .filter((word) => !FUNCTION_WORDS.has(word))
      .map(stem),
  ),
];

/** In how many texts each content word stands. */
export class DocumentFrequencies {
  readonly texts: number;
  readonly #counts = new Map<string, number>();

  constructor(texts: Iterable<string>) {
    let n = 0;
    for (const text of texts) {
      n++;
      for (const word of contentWords(text)) {
        this.#counts.set(word, (this.#counts.get(word) ?? 0) + 1);
      }
    }
    this.texts = n;
  }

  of(word: string): number {
    return this.#counts.get(word) ?? 0;
  }

  /** ln((1 + N)/(1 + df)) + 1: rare words weigh most, none weighs nothing. */
  inverse(word: string): number {
    return Math.log((1 + this.texts) / (1 + this.of(word))) + 1;
  }
}
