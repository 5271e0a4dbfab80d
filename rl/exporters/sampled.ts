/** Rows of answers that the starting model gives: what rejection fine-tuning keeps, and DPO's pairs. */

import type { Model } from "../../eval/accuracy.ts";
import type { FileQuestion } from "../../eval/data_task.ts";
import { localSampler } from "../../eval/engines/sampler.ts";
import type { Task } from "../../eval/task.ts";
import { seedsOf, type TrainConfig } from "../config.ts";
import type { Interrupt } from "../interrupt.ts";
import { pairsOf } from "../methods/dpo.ts";
import { rightAnswers } from "../methods/supervised.ts";
import type { Progress } from "../progress.ts";
import type { BatchReward, Reward } from "../reward.ts";
import { questionsOfStep, type Rollout, rollOut } from "../rollout.ts";
import { UserError } from "../user_error.ts";
import { imitationRow, preferenceRow, type Row, type RowForm } from "./rows.ts";

export interface Sampling {
  readonly base: Model;
  readonly task: Task;
  readonly config: TrainConfig;
  readonly form: RowForm;
  readonly reward: Reward | BatchReward;
  readonly progress: Progress;
  readonly interrupt: Interrupt;
}

/**
 * The answers of our run's steps, in their order, but for the model that gives them: the same
 * questions, and (dpo.sampleFrom base) the same draws.
 */
export function trainingRows(
  sampling: Sampling,
  questions: readonly FileQuestion[],
): AsyncGenerator<Row> {
  const { train } = sampling.config;
  const order = { seed: seedsOf(sampling.config).rl, count: train.questionsPerStep };
  return sampledRows(sampling, "train", train.steps, (step) =>
    questionsOfStep(questions, { ...order, step }),
  );
}

/** One group of answers to each of the questions. */
export function heldOutRows(
  sampling: Sampling,
  questions: readonly FileQuestion[],
): AsyncGenerator<Row> {
  const { questionsPerStep: size } = sampling.config.train;
  const steps = Math.ceil(questions.length / size);
  return sampledRows(sampling, "validation", steps, (step) =>
    questions.slice(step * size, (step + 1) * size),
  );
}

async function* sampledRows(
  { base, task, config, form, reward, progress, interrupt }: Sampling,
  name: string,
  steps: number,
  questionsOf: (step: number) => readonly unknown[],
): AsyncGenerator<Row> {
  const { train } = config;
  const sampler = localSampler(base);
  using stage = progress.stage(`sample ${name}`, steps);
  for (let step = 0; step < steps; step++) {
    if (await interrupt.check()) throw new UserError("stopped: nothing was exported");
    const asked = questionsOf(step) as readonly FileQuestion[];
    const draw = { ...train, seed: seedsOf(config).rl, step };
    const rollouts = await rollOut(sampler, task, asked, reward, draw);
    for (let at = 0; at < rollouts.length; at += train.groupSize) {
      yield* rowsOf(rollouts.slice(at, at + train.groupSize), task, config, form);
    }
    stage.update(step + 1);
  }
  stage.finish();
}

/** Of one question's answers. */
function rowsOf(group: readonly Rollout[], task: Task, config: TrainConfig, form: RowForm): Row[] {
  const { train, rft, dpo, method } = config;
  const question = group[0]!.question as FileQuestion;
  const words = (tokens: readonly number[]): string => form.prompts.words(tokens).trim();
  if (method === "rft") {
    const kept = rightAnswers(group, train.groupSize, rft);
    return kept.map(({ tokens }) => imitationRow(form, question, words(tokens)));
  }
  const pairs = pairsOf(group, train.groupSize, dpo.pairsPerQuestion, task.stopTokens[0]!);
  return pairs.map(({ rejected }) => preferenceRow(form, question, words(rejected)));
}
