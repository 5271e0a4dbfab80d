/** One step of sampling: from logits to tokens, and the log-probabilities of these. */

import { noGrad, scope, type Tensor, tensor } from "../tensor/mod.ts";
import { cumulate, drawFrom, type Filters, samplingWeights } from "./filters.ts";

/** One completion in the making. */
export interface Row {
  /** Its next random word, a u32: the same stream whatever else is sampled. */
  readonly bits: () => number;
  readonly tokens: number[];
  readonly logProbs: number[];
  finished: boolean;
}

export interface DrawSettings extends Filters {
  /** 0: greedy. The logits are divided by it already. */
  readonly temperature: number;
  readonly stopTokens: readonly number[];
}

/** Draws one token for each of `rows[i]` from row i of the logits, and disposes the logits. */
export async function draw(
  scores: Tensor,
  rows: readonly (readonly Row[])[],
  settings: DrawSettings,
): Promise<void> {
  const { temperature, topK = 0, topP = 1, minP = 0 } = settings;
  try {
    if (temperature === 0) await drawGreedily(scores, rows, settings);
    else if (topK > 0 || topP < 1 || minP > 0) await drawFiltered(scores, rows, settings);
    else await drawAll(scores, rows, settings);
  } finally {
    scores.dispose();
  }
}

function record(row: Row, token: number, logProb: number, { stopTokens }: DrawSettings): void {
  // A NaN among the logits makes the log-probability NaN: better no token than token 0.
  if (!Number.isFinite(logProb)) {
    throw new Error(`sample: the model's logits are not finite (${logProb}): are its weights?`);
  }
  row.tokens.push(token);
  row.logProbs.push(logProb);
  row.finished = stopTokens.includes(token);
}

/** The first of the most probable tokens, the same for all samples of a row. */
async function drawGreedily(
  scores: Tensor,
  rows: readonly (readonly Row[])[],
  settings: DrawSettings,
): Promise<void> {
  const [tokens, logProbs] = await read(() => {
    const best = scores.argmax();
    return [best, scores.gatherLogProb(best)];
  });
  rows.forEach((own, i) => {
    for (const row of own) record(row, tokens![i]!, logProbs![i]!, settings);
  });
}

/** By inversion, on the device: what comes back is a token and a number for each sample. */
async function drawAll(
  scores: Tensor,
  rows: readonly (readonly Row[])[],
  settings: DrawSettings,
): Promise<void> {
  const all = rows.flat();
  const lines = rows.flatMap((own, i) => own.map(() => i));
  const words = all.map((row) => row.bits());
  const [tokens, logProbs] = await read(() =>
    scores.drawClasses(column(lines, scores), column(words, scores)),
  );
  all.forEach((row, i) => {
    record(row, tokens![i]!, logProbs![i]!, settings);
  });
}

/** Filters sort and cut the distribution, in f64 on the host. */
async function drawFiltered(
  scores: Tensor,
  rows: readonly (readonly Row[])[],
  settings: DrawSettings,
): Promise<void> {
  const values = await scores.data();
  const vocabulary = scores.shape[1]!;
  const chosen = rows.map((own, i) => {
    if (own.length === 0) return [];
    const line = values.subarray(i * vocabulary, (i + 1) * vocabulary);
    const sums = cumulate(samplingWeights(line, settings));
    return own.map((row) => drawFrom(sums, row.bits() * 2 ** -32));
  });
  const found = await logProbsOf(scores, chosen);
  rows.forEach((own, i) => {
    own.forEach((row, k) => {
      const token = chosen[i]![k]!;
      record(row, token, found[i]!.get(token)!, settings);
    });
  });
}

/**
 * Log-probabilities of tokens without filters, by the op that training uses, so that they are the
 * same bits. Samples of one prompt share a row of logits: turn k looks up its k-th distinct token.
 */
async function logProbsOf(
  scores: Tensor,
  chosen: readonly (readonly number[])[],
): Promise<Map<number, number>[]> {
  const found = chosen.map(() => new Map<number, number>());
  const wanted = chosen.map((tokens) => [...new Set(tokens)]);
  for (let k = 0; ; k++) {
    const sources = wanted.flatMap((tokens, i) => (k < tokens.length ? [i] : []));
    if (sources.length === 0) return found;
    const [values] = await read(() => {
      const lines =
        sources.length === chosen.length ? scores : scores.embedding(column(sources, scores));
      const targets = sources.map((i) => wanted[i]![k]!);
      return [lines.gatherLogProb(column(targets, scores))];
    });
    sources.forEach((i, at) => {
      found[i]!.set(wanted[i]![k]!, values![at]!);
    });
  }
}

const column = (values: readonly number[], { device }: Tensor): Tensor =>
  tensor(Int32Array.from(values), [values.length], { device });

/** The values of what `body` computes. */
async function read(body: () => Tensor[]): Promise<ArrayLike<number>[]> {
  const results = noGrad(() => scope(body));
  try {
    return await Promise.all(results.map((t) => t.data()));
  } finally {
    for (const t of results) t.dispose();
  }
}
