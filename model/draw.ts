/** One step of sampling: from logits to tokens, and the log-probabilities of these. */

import { noGrad, scope, type Tensor, tensor } from "../tensor/mod.ts";
import { cumulate, drawFrom, type Filters, greedyChoice, samplingWeights } from "./filters.ts";

/** One completion in the making. */
export interface Row {
  readonly uniform: () => number;
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
  try {
    await drawTokens(scores, rows, settings);
    await recordLogProbs(scores, rows);
  } finally {
    scores.dispose();
  }
}

async function drawTokens(
  scores: Tensor,
  rows: readonly (readonly Row[])[],
  settings: DrawSettings,
): Promise<void> {
  const values = await scores.data();
  const vocabulary = scores.shape[1]!;
  rows.forEach((own, i) => {
    if (own.length === 0) return;
    const line = values.subarray(i * vocabulary, (i + 1) * vocabulary);
    const choose = chooser(line, settings);
    for (const row of own) {
      const token = choose(row);
      row.tokens.push(token);
      row.finished = settings.stopTokens.includes(token);
    }
  });
}

function chooser(line: ArrayLike<number>, settings: DrawSettings): (row: Row) => number {
  if (settings.temperature === 0) {
    const best = greedyChoice(line);
    requireFinite(line[best]!);
    return () => best;
  }
  const cumulative = cumulate(samplingWeights(line, settings));
  requireFinite(cumulative[cumulative.length - 1]!);
  return (row) => drawFrom(cumulative, row.uniform());
}

/** A NaN among the logits makes the sum of weights NaN: better no token than token 0. */
function requireFinite(value: number): void {
  if (Number.isFinite(value)) return;
  throw new Error(`sample: the model's logits are not finite (${value}): are its weights?`);
}

/**
 * Log-probabilities of the newest tokens, by the op that training uses, so that they are the same
 * bits. Samples of one prompt share a row of logits: turn k looks up its k-th distinct token.
 */
async function recordLogProbs(scores: Tensor, rows: readonly (readonly Row[])[]): Promise<void> {
  const found = rows.map(() => new Map<number, number>());
  const wanted = rows.map((own) => [...new Set(own.map((row) => row.tokens.at(-1)!))]);
  for (let k = 0; ; k++) {
    const sources = wanted.flatMap((tokens, i) => (k < tokens.length ? [i] : []));
    if (sources.length === 0) break;
    const looked = noGrad(() =>
      scope(() => {
        const all = { shape: [sources.length], device: scores.device };
        const column = (values: number[]) => tensor(Int32Array.from(values), all.shape, all);
        const lines = sources.length === rows.length ? scores : scores.embedding(column(sources));
        return lines.gatherLogProb(column(sources.map((i) => wanted[i]![k]!)));
      }),
    );
    const values = await looked.data();
    looked.dispose();
    sources.forEach((i, at) => {
      found[i]!.set(wanted[i]![k]!, values[at]!);
    });
  }
  rows.forEach((own, i) => {
    for (const row of own) row.logProbs.push(found[i]!.get(row.tokens.at(-1)!)!);
  });
}
