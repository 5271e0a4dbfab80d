/** Texts as unit vectors whose products are similarities: TF-IDF of words and letter groups. */
import { purposeWord } from "../../tensor/random.ts";
import { stem, wordsOf } from "./words.ts";

/** Texts -> vectors. A sentence encoder fits in as well as the built-in ones. */
export interface Embedder {
  readonly name: string;
  readonly width: number;
  /** Flat [texts width], each row of length 1, or 0 where a text has nothing to go by. */
  embed(texts: readonly string[]): Float32Array | Promise<Float32Array>;
}

export interface LexicalOptions {
  /** Numbers of a vector: the first half for words, the second for groups of letters. */
  readonly width?: number;
}

/** Lengths of groups of letters, with a mark at either end of a word. */
const GROUPS = [3, 4, 5];

/**
 * Half of the square of a vector is TF-IDF of stemmed words, half of letter groups (spelling,
 * inflection): the cosine is the mean of both cosines. Features are hashed to places and signs
 * (Weinberger 2009, https://arxiv.org/abs/0902.2206); idf = ln((1+N)/(1+df)) + 1 counts places over
 * `corpus`, which should hold both sets that are compared. The same texts give the same vectors.
 */
export function lexicalEmbedder(
  corpus: Iterable<string>,
  { width = 1024 }: LexicalOptions = {},
): Embedder {
  if (!(Number.isInteger(width) && width >= 2 && width % 2 === 0)) {
    throw new RangeError(`lexicalEmbedder: width is ${width}, expected an even number above 0`);
  }
  const frequency = new Float64Array(width);
  let texts = 0;
  for (const text of corpus) {
    texts++;
    const places = new Set(features(text, width).map(({ place }) => place));
    for (const place of places) frequency[place]!++;
  }
  const inverse = frequency.map((df) => Math.log((1 + texts) / (1 + df)) + 1);
  return {
    name: "lexical",
    width,
    embed(some) {
      const out = new Float32Array(some.length * width);
      for (const [i, text] of some.entries()) {
        const row = out.subarray(i * width, (i + 1) * width);
        for (const { place, sign } of features(text, width)) row[place]! += sign * inverse[place]!;
        normalise(row.subarray(0, width / 2));
        normalise(row.subarray(width / 2));
        normalise(row);
      }
      return out;
    },
  };
}

/** Several embedders side by side: the cosine is the mean of theirs. */
export function joinedEmbedder(parts: readonly Embedder[]): Embedder {
  const width = parts.reduce((sum, part) => sum + part.width, 0);
  return {
    name: parts.map(({ name }) => name).join(" + "),
    width,
    async embed(texts) {
      const out = new Float32Array(texts.length * width);
      let from = 0;
      for (const part of parts) {
        const rows = await part.embed(texts);
        for (let i = 0; i < texts.length; i++) {
          out.set(rows.subarray(i * part.width, (i + 1) * part.width), i * width + from);
        }
        from += part.width;
      }
      for (let i = 0; i < texts.length; i++) normalise(out.subarray(i * width, (i + 1) * width));
      return out;
    },
  };
}

/** Scales a vector to length 1, unless it is 0. */
export function normalise(row: Float32Array | Float64Array): void {
  let square = 0;
  for (const x of row) square += x * x;
  if (square === 0) return;
  const scale = 1 / Math.sqrt(square);
  for (let i = 0; i < row.length; i++) row[i]! *= scale;
}

/** Hashed places and signs of a text's words (below width/2) and letter groups (above). */
function features(text: string, width: number): { place: number; sign: number }[] {
  const half = width / 2;
  const feature = (name: string, from: number) => {
    const hash = purposeWord(name);
    return { place: from + (hash % half), sign: hash & 0x80000000 ? 1 : -1 };
  };
  return wordsOf(text).flatMap((word) => {
    const marked = `<${word}>`;
    const groups = GROUPS.flatMap((length) =>
      Array.from({ length: Math.max(0, marked.length - length + 1) }, (_, i) =>
        feature(`${length} ${marked.slice(i, i + length)}`, half),
      ),
    );
    return [feature(stem(word), 0), ...groups];
  });
}
