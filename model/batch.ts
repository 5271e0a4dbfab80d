/** Token sequences as rectangles: right-padded tokens, the id to predict at each place, or -1. */

/** b rows of t positions, row-major. */
export interface Batch {
  readonly shape: readonly [b: number, t: number];
  readonly tokens: Int32Array;
  /** The id that should follow each token; -1 where nothing is to be predicted. */
  readonly targets: Int32Array;
}

/** Flat indices of the positions that have a target: what has to go through the head. */
export function countedRows({ targets }: Pick<Batch, "targets">): Int32Array {
  const rows = new Int32Array(targets.reduce((n, target) => n + (target >= 0 ? 1 : 0), 0));
  let next = 0;
  targets.forEach((target, i) => {
    if (target >= 0) rows[next++] = i;
  });
  return rows;
}

/** 1 for each token up to the last target of its row, 0 for the padding behind, which none reads. */
export function readPositions({ targets, shape: [b, t] }: Omit<Batch, "tokens">): Float32Array {
  const read = new Float32Array(b * t);
  for (let row = 0; row < b; row++) {
    const last = targets.subarray(row * t, (row + 1) * t).findLastIndex((target) => target >= 0);
    read.fill(1, row * t, row * t + last + 1);
  }
  return read;
}

type Sequences = readonly (readonly number[])[];

/** Next-token targets for whole sequences. The padding is token 0, which nothing attends to. */
export const sequenceBatch = (sequences: Sequences): Batch =>
  completionBatch(
    sequences.map((tokens) => tokens.slice(0, 1)),
    sequences.map((tokens) => tokens.slice(1)),
  );

/**
 * Prompts with their completions; targets are the completions' tokens, the last of which is
 * predicted but not read. Row i is [prompt completion[:-1] padding]. `length` sets t, so that
 * several batches have one layout.
 */
export function completionBatch(
  prompts: Sequences,
  completions: Sequences,
  options: { length?: number } = {},
): Batch {
  const b = prompts.length;
  if (completions.length !== b) {
    throw new RangeError(`completionBatch: ${b} prompts and ${completions.length} completions`);
  }
  requirePrompts(prompts, "completionBatch");
  const needed = prompts.reduce((most, prompt, i) => {
    return Math.max(most, prompt.length + Math.max(0, completions[i]!.length - 1));
  }, 0);
  const t = options.length ?? needed;
  if (t < needed) throw new RangeError(`completionBatch: length ${t}, a row needs ${needed}`);
  const tokens = new Int32Array(b * t);
  const targets = new Int32Array(b * t).fill(-1);
  prompts.forEach((prompt, i) => {
    const completion = completions[i]!;
    tokens.set(prompt, i * t);
    tokens.set(completion.slice(0, -1), i * t + prompt.length);
    targets.set(completion, i * t + prompt.length - 1);
  });
  return { shape: [b, t], tokens, targets };
}

/** Refuses an empty prompt: without a token there is nothing to predict from. */
export function requirePrompts(prompts: Sequences, where: string): void {
  const empty = prompts.findIndex((prompt) => prompt.length === 0);
  if (empty < 0) return;
  throw new RangeError(`${where}: prompt ${empty} is empty; begin it with the BOS token`);
}

/** Indices in runs of at most `size`, in the order of `lengths`: little padding in each run. */
export function byLength(lengths: readonly number[], size: number): number[][] {
  const order = lengths.map((_, i) => i).sort((a, b) => lengths[a]! - lengths[b]! || a - b);
  const runs: number[][] = [];
  for (let from = 0; from < order.length; from += size) runs.push(order.slice(from, from + size));
  return runs;
}
