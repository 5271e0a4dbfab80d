/** Which weights a run ends with: the best of its checkpoints, if validation can tell it from none. */

import { type GreedyAnswer, greedyAnswers, type Model } from "../eval/accuracy.ts";
import { type McNemar, mcnemar } from "../eval/statistics.ts";
import type { Task } from "../eval/task.ts";
import { bestCheckpoint, readCheckpoint } from "./checkpoints.ts";
import type { TrainConfig } from "./config.ts";
import { asking } from "./evaluate.ts";
import { validationQuestions } from "./questions.ts";
import type { Run } from "./run.ts";
import { disposePolicy, policyOf } from "./state.ts";

/**
 * Two-sided level at which the best checkpoint must beat the base model on validation: 5 %, divided
 * by the number of checkpoints that it is the best of (Bonferroni).
 */
export const selectionLevel = ({ train, evaluate }: TrainConfig): number =>
  0.05 / Math.ceil(train.steps / evaluate.every);

/** How to come by weights of a run. A server holds one model: what was asked for before is gone. */
export interface WeightsOfRun {
  /** Before training. */
  base(): Promise<Model>;
  /** Of a checkpoint; the caller frees what is not the base's. */
  at(checkpoint: string): Promise<Model>;
}

/** In this process. */
export const localWeights = (config: TrainConfig, base: Model): WeightsOfRun => ({
  base: async () => base,
  at: async (checkpoint) => policyOf(config, base, checkpoint),
});

export interface Choice {
  readonly model: Model;
  /** Step of the chosen checkpoint; 0: the base model. */
  readonly step: number;
  /** The best checkpoint against the base model on the validation questions. */
  readonly validation: McNemar;
  /** Greedy accuracy on the validation questions. */
  readonly accuracy: { readonly base: number; readonly best: number };
  /** Frees the chosen weights, unless they are the base model's. */
  readonly dispose: () => void;
}

/**
 * The checkpoint of the best validation score, provided that McNemar's test on the validation
 * questions finds it better than the base model; else the base model. The best of a dozen
 * checkpoints is above its start by luck alone: without the test, a run that learned nothing would
 * end with weights that were moved at random. No held-out question plays a part.
 */
export async function choose(
  run: Run<TrainConfig>,
  task: Task,
  { base, at }: WeightsOfRun,
): Promise<Choice> {
  const { config } = run;
  const correct = async (model: Model): Promise<boolean[]> => {
    const questions = validationQuestions(task, config);
    const answers = await greedyAnswers(asking(model, task, questions, config));
    return answers.map((answer: GreedyAnswer) => answer.correct);
  };
  const keepBase = async () => ({ model: await base(), step: 0, dispose: () => {} });
  const best = bestCheckpoint(run.checkpoints);
  const before = await correct(await base());
  if (best === null || best.step === 0) {
    const accuracy = { base: shareOf(before), best: shareOf(before) };
    return { ...(await keepBase()), validation: mcnemar([], []), accuracy };
  }
  readCheckpoint(best.path); // verifies its checksums
  const model = await at(best.path);
  const after = await correct(model);
  const validation = mcnemar(before, after);
  const accuracy = { base: shareOf(before), best: shareOf(after) };
  const dispose = () => disposePolicy(model);
  if (validation.fixed > validation.broken && validation.p < selectionLevel(config)) {
    return { model, step: best.step, validation, accuracy, dispose };
  }
  dispose();
  return { ...(await keepBase()), validation, accuracy };
}

const shareOf = (flags: readonly boolean[]): number =>
  flags.length === 0 ? Number.NaN : flags.filter(Boolean).length / flags.length;
