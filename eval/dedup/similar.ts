/** Pairs of texts with a high cosine: a block of products at a time, the nearest of each text. */
import { noGrad, scope, tensor } from "../../tensor/mod.ts";
import type { Embedder } from "./embed.ts";

export interface SimilarOptions {
  /** Least cosine of a candidate. */
  readonly threshold: number;
  /** Nearest texts kept for each text of either side. */
  readonly neighbours: number;
  /** Pairs (index on side b) that are candidates whatever their cosine, for each text of a. */
  readonly always?: (a: number) => Iterable<number>;
}

export interface Candidate {
  readonly a: number;
  readonly b: number;
  readonly similarity: number;
}

export interface Similar {
  /** In the order of a, then b; each pair once. */
  readonly candidates: readonly Candidate[];
  /** Texts with more neighbours above the threshold than were kept. */
  readonly crowded: number;
}

const [ROWS, COLUMNS] = [512, 4096];
/** The f32 product may fall short of the threshold that the pair's exact product reaches. */
const ROUNDING = 1e-4;

/**
 * All pairs (a, b) with cosine >= threshold that are among the `neighbours` nearest of a or of b:
 * the same set with the sides exchanged. Memory: the vectors of b, and one block of 512 × 4096.
 */
export async function similarPairs(
  a: readonly string[],
  b: readonly string[],
  embedder: Embedder,
  { threshold, neighbours, always = () => [] }: SimilarOptions,
): Promise<Similar> {
  const { width } = embedder;
  const blocks = await Promise.all(chunks(b, COLUMNS).map((some) => embedder.embed(some)));
  const cosines = new Map<number, number>();
  const keep = (i: number, j: number, cosine: number) => cosines.set(i * b.length + j, cosine);
  const columns = b.map(() => new Nearest(neighbours));
  let crowded = 0;
  for (const [chunk, some] of chunks(a, ROWS).entries()) {
    const first = chunk * ROWS;
    const vectors = await embedder.embed(some);
    const exact = (i: number, j: number) =>
      dot(vectors, i - first, blocks[Math.floor(j / COLUMNS)]!, j % COLUMNS, width);
    const rows = some.map(() => new Nearest(neighbours));
    for (const [part, block] of blocks.entries()) {
      const products = await product(vectors, block, width);
      const n = block.length / width;
      for (let at = 0; at < products.length; at++) {
        if (products[at]! < threshold - ROUNDING) continue;
        const [i, j] = [first + Math.floor(at / n), part * COLUMNS + (at % n)];
        const cosine = exact(i, j);
        if (cosine < threshold) continue;
        rows[i - first]!.offer(j, cosine);
        columns[j]!.offer(i, cosine);
      }
    }
    for (const [row, nearest] of rows.entries()) {
      const i = first + row;
      if (nearest.offered > neighbours) crowded++;
      for (const { index, cosine } of nearest.kept) keep(i, index, cosine);
      for (const j of always(i)) keep(i, j, exact(i, j));
    }
  }
  for (const [j, nearest] of columns.entries()) {
    if (nearest.offered > neighbours) crowded++;
    for (const { index, cosine } of nearest.kept) keep(index, j, cosine);
  }
  const candidates = [...cosines]
    .sort(([x], [y]) => x - y)
    .map(([key, similarity]) => {
      return { a: Math.floor(key / b.length), b: key % b.length, similarity };
    });
  return { candidates, crowded };
}

/** The nearest few texts, nearest first; of equals, the first seen. */
class Nearest {
  readonly kept: { readonly index: number; readonly cosine: number }[] = [];
  readonly #most: number;
  /** How many were offered, kept or not. */
  offered = 0;

  constructor(most: number) {
    this.#most = most;
  }

  offer(index: number, cosine: number): void {
    this.offered++;
    const { kept } = this;
    let at = kept.length;
    while (at > 0 && kept[at - 1]!.cosine < cosine) at--;
    if (at === this.#most) return;
    kept.splice(at, 0, { index, cosine });
    if (kept.length > this.#most) kept.pop();
  }
}

const chunks = <T>(items: readonly T[], size: number): (readonly T[])[] =>
  Array.from({ length: Math.ceil(items.length / size) }, (_, i) =>
    items.slice(i * size, (i + 1) * size),
  );

/** Row i of a times row j of b, in f64: the same whichever side comes first. */
function dot(a: Float32Array, i: number, b: Float32Array, j: number, width: number): number {
  let sum = 0;
  for (let k = 0; k < width; k++) sum += a[i * width + k]! * b[j * width + k]!;
  return sum;
}

/** A·Bᵀ of flat [rows width] and [columns width], row-major. */
async function product(a: Float32Array, b: Float32Array, width: number) {
  const matrix = (values: Float32Array) => tensor(values, [values.length / width, width]);
  const result = noGrad(() => scope(() => matrix(a).matmul(matrix(b).transpose())));
  try {
    return await result.data();
  } finally {
    result.dispose();
  }
}
