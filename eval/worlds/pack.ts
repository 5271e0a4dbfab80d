/** Turns a world's documents into training batches: rows of tokens, targets and weights. */
import { type RandomStream, randomStream } from "../../tensor/random.ts";
import type { World } from "./world.ts";

export interface PackOptions {
  /** Rows. */
  readonly batch: number;
  /** Positions of a row. */
  readonly length: number;
  /** Which batch of the sequence. */
  readonly step: number;
  /** Seed of the sequence; the world's own unless pre-training has another. */
  readonly seed?: number;
  /**
   * "packed" (default): documents end to end, the last one cut at the end of the row, so that every
   * position is used. "single": one document a row, then padding.
   */
  readonly layout?: "packed" | "single";
}

export interface TrainingBatch {
  readonly batch: number;
  readonly length: number;
  /** Token ids [batch length]. */
  readonly inputs: Int32Array;
  /** The token after each input [batch length]; <pad> where there is none. */
  readonly targets: Int32Array;
  /** 1 where the target counts, 0 on padding and before a new document's <bos> [batch length]. */
  readonly weights: Float32Array;
  /** Sum of the weights. */
  readonly tokens: number;
}

/**
 * Batch number `step`: a function of (seed, step) and the world alone.
 *
 * Packing cuts the last document of a row rather than look for one that fits: only short documents
 * fit into a short rest, so looking would give questions more than their share of the corpus.
 */
export function packDocuments(world: World, options: PackOptions): TrainingBatch {
  const { batch, length, step, seed = world.config.seed, layout = "packed" } = options;
  requireRoom(world, options);
  const { pad, bos } = world.vocabulary;
  const inputs = new Int32Array(batch * length).fill(pad);
  const targets = new Int32Array(batch * length).fill(pad);
  const weights = new Float32Array(batch * length);
  const fill = layout === "packed" ? documentsEndToEnd : oneDocument;
  let tokens = 0;
  for (let row = 0; row < batch; row++) {
    const stream = randomStream({ seed, purpose: "documents", step, row });
    const text = fill(world, stream, length + 1);
    for (let i = 0; i + 1 < text.length; i++) {
      const at = row * length + i;
      inputs[at] = text[i]!;
      targets[at] = text[i + 1]!;
      weights[at] = text[i + 1] === bos ? 0 : 1;
      tokens += weights[at]!;
    }
  }
  return { batch, length, inputs, targets, weights, tokens };
}

function documentsEndToEnd(world: World, stream: RandomStream, size: number): readonly number[] {
  const text: number[] = [];
  while (text.length < size) text.push(...world.drawDocument(stream).tokens);
  return text.slice(0, size);
}

function oneDocument(world: World, stream: RandomStream): readonly number[] {
  return world.drawDocument(stream).tokens;
}

function requireRoom(world: World, { batch, length, layout }: PackOptions): void {
  const needed = layout === "single" ? world.maxDocumentTokens - 1 : world.maxQuestionTokens;
  if (Number.isInteger(batch) && batch > 0 && Number.isInteger(length) && length >= needed) return;
  throw new RangeError(
    `packDocuments: batch ${batch} of rows of ${length} positions; ` +
      `this world needs at least 1 row of at least ${needed} positions`,
  );
}
