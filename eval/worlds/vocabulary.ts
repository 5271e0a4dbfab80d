/** A closed word-level vocabulary: one token for each word that a world can say. */

export const PAD = "<pad>";
export const BOS = "<bos>";
export const EOS = "<eos>";
const SPECIALS = [PAD, BOS, EOS];

export interface Vocabulary {
  readonly words: readonly string[];
  readonly size: number;
  /** Fills the unused end of a row. */
  readonly pad: number;
  readonly bos: number;
  /** Ends a document, and so a sampled answer. */
  readonly eos: number;
  /** Ends a statement, and so an answer after a voice prompt. */
  readonly period: number;
  /** Words separated by single spaces to token ids. Throws on a word that is not there. */
  encode(text: string): number[];
  /** Token ids to words separated by spaces; <pad>, <bos> and <eos> are left out. */
  decode(ids: ArrayLike<number>): string;
}

/** The vocabulary of all words in `texts`: the special tokens, then the words in code order. */
export function vocabularyOf(texts: Iterable<string>): Vocabulary {
  const found = new Set<string>(["."]);
  for (const text of texts) for (const word of text.split(" ")) found.add(word);
  for (const word of [...SPECIALS, ""]) found.delete(word);
  // Array.sort compares code units: the same order in every locale.
  const words = [...SPECIALS, ...[...found].sort()];
  const ids = new Map(words.map((word, id) => [word, id]));
  const idOf = (word: string): number => {
    const id = ids.get(word);
    if (id !== undefined) return id;
    throw new RangeError(
      `vocabulary: "${word}" is not one of its ${words.length} words; ` +
        "a closed vocabulary knows only the words of its own world",
    );
  };
  return {
    words,
    size: words.length,
    pad: 0,
    bos: 1,
    eos: 2,
    period: idOf("."),
    encode: (text) => text.split(" ").filter(Boolean).map(idOf),
    decode: (tokens) => decodeWords(words, tokens),
  };
}

function decodeWords(words: readonly string[], tokens: ArrayLike<number>): string {
  const out: string[] = [];
  for (let i = 0; i < tokens.length; i++) {
    const word = words[tokens[i]!];
    if (word === undefined) {
      throw new RangeError(`vocabulary: token ${tokens[i]} of ${words.length}`);
    }
    if (!SPECIALS.includes(word)) out.push(word);
  }
  return out.join(" ");
}
