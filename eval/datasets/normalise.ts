/** How the official scripts of question sets normalise an answer before they compare it. */

/** Python's `string.punctuation`. */
const PUNCTUATION = /[!"#$%&'()*+,\-./:;<=>?@[\\\]^_`{|}~]/g;
/** The articles as whole words; a word is what Python's `\b` takes for one. */
const ARTICLES = /(?<![\p{L}\p{N}_])(?:an?|the)(?![\p{L}\p{N}_])/gu;
/** What Python's `split()` takes for white space: four control characters are among it. */
const SPACES = new RegExp(`[\\p{White_Space}${String.fromCharCode(28, 29, 30, 31)}]+`, "gu");

const tidy = (text: string): string =>
  text.replace(ARTICLES, " ").replace(SPACES, " ").replace(/^ | $/g, "");

/** SQuAD's, which DPR's reader has too: lower case, ASCII punctuation to nothing, no articles. */
export const squadNormalised = (text: string): string =>
  tidy(text.toLowerCase().replace(PUNCTUATION, ""));

/** NQ-open's: SQuAD's, of the text in Unicode's decomposed form. */
const nqNormalised = (text: string): string => squadNormalised(text.normalize("NFD"));

/** TriviaQA's: punctuation, four kinds of quote among it, turns to a space, and "_" too. */
const triviaNormalised = (text: string): string =>
  tidy(text.toLowerCase().replace(PUNCTUATION, " ").replace(/[‘’´]/g, " "));

export const normalisedAs = {
  squad: squadNormalised,
  nqOpen: nqNormalised,
  triviaqa: triviaNormalised,
} as const;
