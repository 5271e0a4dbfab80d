/** Exact log-probabilities of given completions, by teacher forcing. */

import { noGrad, scope, type Tensor, tensor } from "../tensor/mod.ts";
import { type Batch, byLength, completionBatch, countedRows, readPositions } from "./batch.ts";
import type { ModelConfig } from "./config.ts";
import { type Balance, balance, disposeRouting, type Routing } from "./experts.ts";
import { factsOf } from "./families.ts";
import { scoringRows } from "./memory.ts";
import { type ParameterTree, parameter } from "./parameters.ts";
import { hidden, type LogProbOptions, logits, tokenLogProbs } from "./transformer.ts";

/**
 * The training path on a host-side batch: log-probability of each target, [b t]; 0 where there is
 * none. "Old" and new log-probabilities of a policy step both come from here, on the same batch:
 * then their ratio is exactly 1 before the first update.
 */
export function batchLogProbs(
  parameters: ParameterTree,
  config: ModelConfig,
  batch: Batch,
  options: Pick<LogProbOptions, "temperature" | "routing"> = {},
): Tensor {
  const { device } = parameter(parameters, "model.norm.weight");
  return scope(() => {
    const tokens = tensor(batch.tokens, batch.shape, { device });
    const targets = tensor(batch.targets, batch.shape, { device });
    const rows = countedRows(batch);
    // A row more or less changes no bit of the others, so padding need not see the head.
    const some = rows.length < batch.targets.length ? { rows } : {};
    return tokenLogProbs(parameters, config, tokens, targets, { ...options, ...some });
  });
}

/** How even the loads of the experts were in a pass over `batch`; frees the routing. */
export function batchBalance(routing: readonly Routing[], batch: Batch): Balance {
  const { device } = routing[0]!.probabilities;
  const found = scope(() => {
    const counted = tensor(readPositions(batch), [batch.targets.length], { device });
    return balance(routing, counted);
  });
  disposeRouting(routing);
  return found;
}

/** The same of a pass of its own; undefined where the model has no experts. */
export async function routerLoads(
  parameters: ParameterTree,
  config: ModelConfig,
  batch: Batch,
): Promise<{ auxLoss: number; busiest: number } | undefined> {
  const { experts } = factsOf(config);
  const layers = Array.from({ length: config.num_hidden_layers }, (_, layer) => layer);
  if (!experts || !layers.some(experts.inLayer)) return undefined;
  const { device } = parameter(parameters, "model.norm.weight");
  const loads = noGrad(() =>
    scope(() => {
      const routing: Routing[] = [];
      hidden(parameters, config, tensor(batch.tokens, batch.shape, { device }), { routing });
      return batchBalance(routing, batch);
    }),
  );
  const [[auxLoss], [busiest]] = await Promise.all([loads.loss.data(), loads.busiest.data()]);
  for (const t of [loads.loss, loads.busiest]) t.dispose();
  return { auxLoss: auxLoss!, busiest: busiest! };
}

/**
 * Beside the log-probabilities, -Σ p·log p of each target's distribution, [b t] both; 0 where there
 * is no target. All logits of these positions are in memory at once.
 */
export function batchScores(
  parameters: ParameterTree,
  config: ModelConfig,
  batch: Batch,
  options: { temperature?: number } = {},
): { logProbs: Tensor; entropies: Tensor } {
  const { device } = parameter(parameters, "model.norm.weight");
  const [logProbs, entropies] = scope(() => {
    const size = batch.targets.length;
    const rows = countedRows(batch);
    const targets = Int32Array.from(rows, (row) => batch.targets[row]!);
    const index = tensor(rows, [rows.length], { device });
    const states = hidden(parameters, config, tensor(batch.tokens, batch.shape, { device }));
    const own = states.reshape([size, config.hidden_size]).embedding(index);
    const scores = logits(parameters, config, own, options.temperature ?? 1);
    const all = scores.logSoftmax();
    const place = (x: Tensor) =>
      x
        .reshape([rows.length, 1])
        .scatterRows(index, size)
        .reshape([...batch.shape]);
    const found = scores.gatherLogProb(tensor(targets, [rows.length], { device }));
    return [place(found), place(all.exp().mul(all).sum({ axes: -1 }).neg())] as const;
  });
  return { logProbs, entropies };
}

export interface ScoreOptions {
  /** Divides the logits; default 1. */
  readonly temperature?: number;
  /** Sequences that are in work at a time; default 256, fewer of a large model. Changes no result. */
  readonly rowsPerBatch?: number;
}

/**
 * log P(token | prompt, earlier tokens) for every token of every completion. Their sum is the log
 * of the probability that sampling at this temperature, without filters, gives this completion.
 */
export async function sequenceLogProbs(
  parameters: ParameterTree,
  config: ModelConfig,
  prompts: readonly (readonly number[])[],
  completions: readonly (readonly number[])[],
  options: ScoreOptions = {},
): Promise<number[][]> {
  const { temperature = 1, rowsPerBatch } = options;
  const lengths = prompts.map((prompt, i) => prompt.length + (completions[i]?.length ?? 0));
  const results: number[][] = prompts.map(() => []);
  const together = rowsPerBatch ?? scoringRows(config, Math.max(0, ...lengths), 256);
  for (const run of byLength(lengths, together)) {
    const batch = completionBatch(
      run.map((i) => prompts[i]!),
      run.map((i) => completions[i]!),
    );
    const found = noGrad(() => batchLogProbs(parameters, config, batch, { temperature }));
    const values = await found.data();
    found.dispose();
    run.forEach((i, row) => {
      const first = row * batch.shape[1] + prompts[i]!.length - 1;
      results[i] = Array.from(values.subarray(first, first + completions[i]!.length));
    });
  }
  return results;
}
