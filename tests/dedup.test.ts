/** Texts as vectors, and the pairs with a high cosine against all pairs one by one. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type Embedder, joinedEmbedder, lexicalEmbedder } from "../eval/dedup/embed.ts";
import { type Extractor, extractorEmbedder } from "../eval/dedup/sentences.ts";
import { similarPairs } from "../eval/dedup/similar.ts";
import { sifEmbedder, type WordVectors } from "../eval/dedup/word_vectors.ts";
import { contentWords, plainText, stem } from "../eval/dedup/words.ts";
import { randomStream } from "../tensor/random.ts";

function near(found: number, expected: number, tolerance = 1e-6): void {
  assert.ok(Math.abs(found - expected) <= tolerance, `${found}, expected ${expected}`);
}

/** Cosines of all pairs, plainly. */
async function cosines(embedder: Embedder, a: readonly string[], b: readonly string[]) {
  const { width } = embedder;
  const [x, y] = [await embedder.embed(a), await embedder.embed(b)];
  return a.map((_, i) =>
    b.map((_, j) => {
      let sum = 0;
      for (let k = 0; k < width; k++) sum += x[i * width + k]! * y[j * width + k]!;
      return sum;
    }),
  );
}

describe("words", () => {
  test("are stems without function words and possessives", () => {
    assert.deepEqual(
      ["directed", "director", "directs", "direct"].map(stem),
      Array(4).fill("direct"),
    );
    assert.equal(stem("song"), "song");
    assert.deepEqual(contentWords("Who is the director of Obama's films, and whose film?"), [
      "direct",
      "obama",
      "film",
    ]);
    assert.equal(plainText("Obama’s"), "obama");
    assert.notEqual(plainText("?!"), plainText("..."));
  });
});

describe("embedders", () => {
  const corpus = ["where was Ann born", "where was Bob born", "who directed the film Lima", "the"];
  const vectors: WordVectors = {
    width: 4,
    rows: new Map([
      ["born", 0],
      ["birthplace", 1],
      ["where", 2],
    ]),
    values: Float32Array.of(1, 0, 0, 0, 0.9, 0.435, 0, 0, 0, 0, 1, 0),
  };
  const made = () => {
    const lexical = lexicalEmbedder(corpus, { width: 256 });
    const sif = sifEmbedder(vectors, corpus);
    return [lexical, sif, joinedEmbedder([lexical, sif])];
  };

  test("give rows of length 1 (0 of nothing), the same ones every time, whatever stands beside", async () => {
    for (const [i, embedder] of made().entries()) {
      const rows = await embedder.embed([...corpus, ""]);
      assert.equal(rows.length, 5 * embedder.width);
      const squares = [0, 1, 2, 3, 4].map((row) =>
        rows
          .subarray(row * embedder.width, (row + 1) * embedder.width)
          .reduce((sum, x) => sum + x * x, 0),
      );
      for (const square of squares.slice(0, 3)) near(square, 1);
      assert.equal(squares[4], 0);
      const alone = await made()[i]!.embed([corpus[2]!]);
      assert.deepEqual(alone, rows.subarray(2 * embedder.width, 3 * embedder.width));
    }
    assert.throws(() => lexicalEmbedder(corpus, { width: 7 }), /width is 7/);
  });

  test("lexical: an inflected re-wording is nearer than the same words about another", async () => {
    const embedder = lexicalEmbedder(corpus);
    const [[reworded, other, none]] = (await cosines(
      embedder,
      ["who directed the film Lima"],
      ["who is the director of Lima", "where was Bob born", ""],
    )) as [number[]];
    assert.ok(reworded! > 0.5 && other! < 0.3, `${reworded}, ${other}`);
    assert.equal(none, 0);
    // Words and letter groups each have half of the square.
    const [[same]] = (await cosines(embedder, ["Lima"], ["Lima"])) as [number[]];
    near(same!, 1);
  });

  test("word vectors: meanings are compared, unknown words have directions of their own", async () => {
    const sif = sifEmbedder(vectors, corpus);
    const table = await cosines(
      sif,
      ["Ann born"],
      ["Ann birthplace", "Zoe born", "Zoe Rex", "Ann born"],
    );
    const [meaning, otherName, unrelated, same] = table[0]!;
    near(same!, 1);
    assert.ok(meaning! > 0.8 && meaning! > otherName!, `${table[0]}`);
    assert.ok(otherName! > unrelated!, `${table[0]}`);
  });

  test("joined: the cosine is the mean of the parts'", async () => {
    const [lexical, sif, joined] = made() as [Embedder, Embedder, Embedder];
    const [a, b] = [corpus.slice(0, 2), corpus.slice(1, 3)];
    const [x, y, z] = [
      await cosines(lexical, a, b),
      await cosines(sif, a, b),
      await cosines(joined, a, b),
    ];
    for (const i of [0, 1]) for (const j of [0, 1]) near(z[i]![j]!, (x[i]![j]! + y[i]![j]!) / 2);
  });
});

describe("similarPairs", () => {
  const stream = randomStream({ seed: 5, purpose: "texts" });
  /** Random unit vectors, by the text's number: no text is looked at. */
  const width = 8;
  const table = new Map<string, Float32Array>();
  const random: Embedder = {
    name: "random",
    width,
    embed: (texts) =>
      Float32Array.from(
        texts.flatMap((text) => {
          const known =
            table.get(text) ?? Float32Array.from({ length: width }, () => stream.normal());
          const length = table.has(text) ? 1 : Math.hypot(...known);
          table.set(
            text,
            known.map((x) => x / length),
          );
          return [...table.get(text)!];
        }),
      ),
  };
  const named = (side: string, n: number) => Array.from({ length: n }, (_, i) => `${side}${i}`);
  const all = { threshold: 0.6, neighbours: 100_000 };

  test("finds all pairs above the threshold, over the edges of blocks, from either side", async () => {
    for (const [m, n] of [
      [1, 1],
      [0, 5],
      [5, 0],
      [515, 40],
      [3, 4200],
    ] as const) {
      const [a, b] = [named("a", m), named("b", n)];
      const exact = await cosines(random, a, b);
      const expected = exact.flatMap((row, i) =>
        row.flatMap((x, j) => (x >= 0.6 ? [`${i} ${j}`] : [])),
      );
      const found = await similarPairs(a, b, random, all);
      assert.deepEqual(
        found.candidates.map((pair) => `${pair.a} ${pair.b}`),
        expected,
      );
      assert.equal(found.crowded, 0);
      for (const pair of found.candidates) near(pair.similarity, exact[pair.a]![pair.b]!, 1e-12);
      const turned = await similarPairs(b, a, random, all);
      const flipped = turned.candidates.map((pair) => `${pair.b} ${pair.a}`);
      assert.deepEqual(new Set(flipped), new Set(expected));
    }
  });

  test("keeps the nearest of each text of either side, counts the others, and adds what must be", async () => {
    const [a, b] = [named("a", 20), named("b", 15)];
    const exact = await cosines(random, a, b);
    const nearest = (values: readonly number[]) => values.indexOf(Math.max(...values));
    const expected = new Set(exact.map((row, i) => `${i} ${nearest(row)}`));
    for (const j of b.keys()) expected.add(`${nearest(exact.map((row) => row[j]!))} ${j}`);
    expected.add("3 3");
    const options = { threshold: -1, neighbours: 1, always: (i: number) => (i === 3 ? [3] : []) };
    const found = await similarPairs(a, b, random, options);
    assert.deepEqual(new Set(found.candidates.map((pair) => `${pair.a} ${pair.b}`)), expected);
    assert.equal(found.candidates.length, expected.size);
    assert.equal(found.crowded, 35);
  });
});

describe("a sentence encoder", () => {
  test("is asked in batches, and gives a row a text, of length 1", async () => {
    const sizes: number[] = [];
    const extractor: Extractor = async (texts, options) => {
      assert.deepEqual(options, { pooling: "mean", normalize: true });
      sizes.push(texts.length);
      const data = Float32Array.from(texts.flatMap((text) => [text.length, 3]));
      return { data, dims: [texts.length, 2] };
    };
    const { name, width, embed } = await extractorEmbedder("small", extractor);
    assert.deepEqual([name, width], ["small", 2]);
    const texts = Array.from({ length: 70 }, (_, i) => "x".repeat(i));
    const rows = await embed(texts);
    assert.deepEqual(sizes, [1, 64, 6]);
    for (const i of [0, 4, 69]) {
      near(rows[2 * i]!, i / Math.hypot(i, 3));
      near(rows[2 * i + 1]!, 3 / Math.hypot(i, 3));
    }
    const wrong: Extractor = async (texts) => ({ data: [1], dims: [texts.length, 7, 2] });
    await assert.rejects(extractorEmbedder("odd", wrong), /shape \[1 7 2\], expected \[1 width\]/);
  });
});
