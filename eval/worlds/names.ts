/** Made-up words: names of people and answers, from syllables, in an order set by the seed. */
import type { RandomStream } from "../../tensor/random.ts";

const ONSETS = "b d f g h j k l m n p r s t v w z br dr fl gr kr pl st tr".split(" ");
const VOWELS = "a e i o u".split(" ");
const CODAS = "l n r s m k t d v".split(" ");

export type WordMaker = (count: number, endings: readonly string[]) => string[];

/** Makes capitalised words, never the same one twice; each ends in one of the given endings. */
export function wordMaker(stream: RandomStream): WordMaker {
  const stems = ONSETS.flatMap((a) => VOWELS.flatMap((b) => CODAS.map((c) => a + b + c)));
  const taken = new Set<string>();
  return (count, endings) => {
    const fresh = stems
      .flatMap((stem) => endings.map((ending) => stem[0]!.toUpperCase() + stem.slice(1) + ending))
      .filter((word) => !taken.has(word));
    if (fresh.length < count) {
      throw new RangeError(`made-up words: ${count} wanted, ${fresh.length} left to make`);
    }
    const words = stream.shuffle(fresh).slice(0, count);
    for (const word of words) taken.add(word);
    return words;
  };
}

/**
 * `count` distinct sequences of `length` words from one small pool for each place, so that a word
 * is shared by several sequences and identifies none (unless the length is 1).
 */
export function wordSequences(
  count: number,
  length: number,
  { make, stream, endings }: { make: WordMaker; stream: RandomStream; endings: readonly string[] },
): string[] {
  if (length === 1) return make(count, endings);
  const size = Math.max(2, Math.ceil((2.5 * count) ** (1 / length)));
  const pools = Array.from({ length }, (_, place) =>
    make(size, place === length - 1 ? endings : ["a", "o", "en", "i"]),
  );
  // Number i in base `size` with each later digit shifted by the first: every word of every pool
  // is then used about equally often, also when only some of the size^length are needed.
  const sequences = Array.from({ length: count }, (_, i) => {
    const first = i % size;
    let rest = Math.floor(i / size);
    const digits = [first];
    for (let place = 1; place < length; place++) {
      digits.push((first + rest) % size);
      rest = Math.floor(rest / size);
    }
    return digits.map((digit, place) => pools[place]![digit]).join(" ");
  });
  return stream.shuffle(sequences);
}
