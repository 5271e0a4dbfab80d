/** Texts as weighted means of word vectors (SIF), and a reader of word vectors. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { fileError, UserError } from "../../model/errors.ts";
import { readSafetensors } from "../../model/safetensors.ts";
import { randomStream } from "../../tensor/random.ts";
import { type Embedder, normalise } from "./embed.ts";
import { wordsOf } from "./words.ts";

export interface WordVectors {
  readonly width: number;
  /** Row of a word. */
  readonly rows: ReadonlyMap<string, number>;
  /** Flat [words width]. */
  readonly values: Float32Array;
}

/**
 * Reads a folder: vectors.safetensors with `embeddings` [words width], and `scales` [words] where
 * they are quantised, and words.txt or words.txt.gz, a word a line. UserErrors name the file.
 */
export function readWordVectors(folder: string): WordVectors {
  const path = join(folder, "vectors.safetensors");
  const { tensors } = readSafetensors(path);
  const embeddings = tensors.get("embeddings");
  const scales = tensors.get("scales");
  if (embeddings?.shape.length !== 2) {
    throw new UserError(`${path} has no tensor "embeddings" of shape [words width]`);
  }
  const [count, width] = embeddings.shape as [number, number];
  const words = readWords(folder);
  if (words.length !== count || (scales !== undefined && scales.values.length !== count)) {
    throw new UserError(
      `${folder}: ${words.length} words, ${count} vectors, ${scales?.values.length ?? "no"} scales`,
    );
  }
  const values = Float32Array.from(embeddings.values);
  for (let i = 0; scales !== undefined && i < values.length; i++) {
    values[i]! *= scales.values[Math.floor(i / width)]!;
  }
  return { width, rows: new Map(words.map((word, i) => [word, i])), values };
}

function readWords(folder: string): string[] {
  const plain = join(folder, "words.txt");
  const path = existsSync(plain) ? plain : `${plain}.gz`;
  try {
    const bytes = readFileSync(path);
    const text = new TextDecoder().decode(path === plain ? bytes : gunzipSync(bytes));
    return text.replace(/\n$/, "").split("\n");
  } catch (error) {
    throw fileError(error, `cannot read ${path}`);
  }
}

/** a of the weight a/(a + p(word)), the source's value. */
const SMOOTHING = 1e-3;
/** Texts that the common direction is found from, and rounds of finding it. */
const [SAMPLE, ROUNDS] = [2000, 30];

/**
 * Mean of word vectors with weights a/(a + p(w)), p(w) the word's share of `corpus`, without the
 * direction that most texts share. Arora 2017, "A Simple but Tough-to-Beat Baseline for Sentence
 * Embeddings". A word without a vector gets a random one of its own, or questions about unknown
 * names would be equal.
 */
export function sifEmbedder(vectors: WordVectors, corpus: Iterable<string>): Embedder {
  const { width, rows, values } = vectors;
  const texts = [...corpus];
  const counts = new Map<string, number>();
  let total = 0;
  for (const word of texts.flatMap(wordsOf)) {
    counts.set(word, (counts.get(word) ?? 0) + 1);
    total++;
  }
  const unknown = new Map<string, Float32Array>();
  const vectorOf = (word: string): Float32Array => {
    const row = rows.get(word);
    if (row !== undefined) return values.subarray(row * width, (row + 1) * width);
    const known = unknown.get(word) ?? directionOf(word, width);
    unknown.set(word, known);
    return known;
  };
  const mean = (text: string): Float64Array => {
    const out = new Float64Array(width);
    for (const word of wordsOf(text)) {
      const weight = SMOOTHING / (SMOOTHING + (counts.get(word) ?? 0) / Math.max(1, total));
      const vector = vectorOf(word);
      for (let i = 0; i < width; i++) out[i]! += weight * vector[i]!;
    }
    normalise(out);
    return out;
  };
  const step = Math.max(1, Math.floor(texts.length / SAMPLE));
  const common = commonDirection(texts.filter((_, i) => i % step === 0).map(mean), width);
  return {
    name: "word vectors",
    width,
    embed: (some) => {
      const out = new Float32Array(some.length * width);
      for (const [i, text] of some.entries()) {
        const row = mean(text);
        const along = common.reduce((sum, x, j) => sum + x * row[j]!, 0);
        for (let j = 0; j < width; j++) row[j]! -= along * common[j]!;
        normalise(row);
        out.set(row, i * width);
      }
      return out;
    },
  };
}

/** A unit vector that depends on the word alone. */
function directionOf(word: string, width: number): Float32Array {
  const stream = randomStream({ seed: 0, purpose: `word ${word}` });
  const vector = Float32Array.from({ length: width }, () => stream.normal());
  normalise(vector);
  return vector;
}

/** First right singular vector of the rows, by power iteration; 0 of fewer rows than two. */
function commonDirection(rows: readonly Float64Array[], width: number): Float64Array {
  let direction = new Float64Array(width);
  // Removing it from one text would remove that text.
  if (rows.length < 2) return direction;
  for (const row of rows) for (let i = 0; i < width; i++) direction[i]! += row[i]!;
  normalise(direction);
  for (let round = 0; round < ROUNDS; round++) {
    const next = new Float64Array(width);
    for (const row of rows) {
      const along = row.reduce((sum, x, i) => sum + x * direction[i]!, 0);
      for (let i = 0; i < width; i++) next[i]! += along * row[i]!;
    }
    normalise(next);
    direction = next;
  }
  return direction;
}
