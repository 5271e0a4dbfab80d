/** What a run measures: everything before and after on the held-out half, little while it trains. */

import {
  type Asked,
  answerProbabilities,
  countCorrect,
  type GreedyAnswer,
  greedyAnswers,
  type Model,
  storedFacts,
} from "../eval/accuracy.ts";
import { rules } from "../eval/judge/rules.ts";
import type { Task, TaskQuestion } from "../eval/task.ts";
import { completionBatch } from "../model/batch.ts";
import { routerLoads } from "../model/score.ts";
import { seedsOf, type TrainConfig } from "./config.ts";
import { heldOutRule } from "./data_config.ts";
import type { Progress } from "./progress.ts";
import { measuredTraining, questionsOf, validationQuestions } from "./questions.ts";

/** A full measurement of one model on the held-out questions. Written to the run folder as JSON. */
export interface Measurement {
  readonly greedy: readonly GreedyAnswer[];
  /** Greedy after a reliable source's statement: is the fact stored at all? Only a world can tell. */
  readonly stored?: readonly boolean[] | undefined;
  /** Right answers among `passAtKSamples`, for pass@k. */
  readonly sampled: readonly number[];
  /** Right answers among `accessibilitySamples`, drawn anew: for the accessibility bins only. */
  readonly accessible: readonly number[];
  /** Exact probability that one sample is right, where all right answers are known. */
  readonly probability?: readonly number[] | undefined;
  /** Greedy answers to the training questions (`measuredTraining`): right or wrong. */
  readonly trained: readonly boolean[];
}

/** Before training also: right answers among `accessibilitySamples` to each training question. */
export interface BaseMeasurement extends Measurement {
  readonly trainAccessible: readonly number[];
}

// Steps that no rollout has, so that measurements draw their own randomness.
const PASS_AT_K_STEP = 1_000_000;
const ACCESSIBILITY_STEP = 2_000_000;
const TRAINING_STEP = 3_000_000;
const VALIDATION_STEP = 4_000_000;

export function asking<T extends Task>(
  model: Model,
  task: T,
  questions: readonly TaskQuestion[],
  config: TrainConfig,
): Asked<T> {
  const { maxNewTokens } = config.train;
  return { model, task, questions, judge: rules[heldOutRule(config)], maxNewTokens };
}

export const accuracyOf = (answers: readonly { correct: boolean }[]): number =>
  answers.length === 0 ? Number.NaN : answers.filter((a) => a.correct).length / answers.length;

/** Measures `model` on the held-out entities; `when` names the stage of the progress bar. */
export async function measure(
  model: Model,
  task: Task,
  config: TrainConfig,
  progress: Progress,
  when: "before" | "after",
): Promise<Measurement> {
  const questions = questionsOf(task, config, "test");
  const asked = asking(model, task, questions, config);
  const { passAtKSamples, accessibilitySamples } = config.evaluate;
  const { temperature } = config.train;
  const seed = seedsOf(config).rl;
  using stage = progress.stage(`measure ${when}`, 2 * questions.length, { unit: "questions" });
  const greedy = await greedyAnswers(asked);
  const stored = await storedFacts(asked);
  const probability = task.stored && (await answerProbabilities(asked, temperature));
  const trained = await greedyAnswers(asking(model, task, measuredTraining(task, config), config));
  const count = (samples: number, step: number, done: number) =>
    countCorrect(asked, {
      ...{ samples, temperature, seed, step },
      onProgress: (n) => stage.update(done + n),
    });
  const sampled = await count(passAtKSamples, PASS_AT_K_STEP, 0);
  const accessible = await count(accessibilitySamples, ACCESSIBILITY_STEP, questions.length);
  stage.finish({ greedy: `${(100 * accuracyOf(greedy)).toFixed(1)} %` });
  return {
    greedy,
    stored,
    sampled,
    accessible,
    probability,
    trained: trained.map((a) => a.correct),
  };
}

/**
 * Right answers among `accessibilitySamples` to each training question, at rollout settings. Of a
 * question file only where a stratum asks for it: it may hold tens of thousands.
 */
export async function accessibilityOfTraining(
  model: Model,
  task: Task,
  config: TrainConfig,
): Promise<number[]> {
  if (config.data !== undefined && config.train.stratum === "all") return [];
  return countCorrect(asking(model, task, questionsOf(task, config, "train"), config), {
    samples: config.evaluate.accessibilitySamples,
    temperature: config.train.temperature,
    seed: seedsOf(config).rl,
    step: TRAINING_STEP,
  });
}

export interface Validation {
  readonly accuracy: number;
  /** Mean probability of a right answer: breaks ties between checkpoints of equal accuracy. Where it
   * is not known, the share of right ones among a few samples. */
  readonly probability: number;
  /** What checkpoints are selected by. */
  readonly score: number;
}

/** Selection uses this and nothing else: no held-out question is ever seen by it. */
export async function validate(model: Model, task: Task, config: TrainConfig): Promise<Validation> {
  const asked = asking(model, task, validationQuestions(task, config), config);
  const accuracy = accuracyOf(await greedyAnswers(asked));
  const { temperature } = config.train;
  const probabilities = task.stored
    ? await answerProbabilities(asked, temperature)
    : await sampledShares(asked, config);
  const probability = probabilities.reduce((a, b) => a + b, 0) / probabilities.length;
  return { accuracy, probability, score: scoreOf(accuracy, probability, probabilities.length) };
}

/**
 * Accuracy first, then probability: one of n questions more is 1/n of accuracy, and the whole range of
 * probabilities weighs less. Below 1,000 questions 1/1000 is less.
 */
export const scoreOf = (accuracy: number, probability: number, n: number): number =>
  accuracy + (n < 1000 ? 1e-3 : 0.5 / n) * probability;

const VALIDATION_SAMPLES = 4;

async function sampledShares(asked: Asked, config: TrainConfig): Promise<number[]> {
  const [samples, step] = [VALIDATION_SAMPLES, VALIDATION_STEP];
  const { temperature } = config.train;
  const counts = await countCorrect(asked, {
    samples,
    temperature,
    seed: seedsOf(config).rl,
    step,
  });
  return counts.map((right) => right / samples);
}

/** How even the loads of the experts are on questions and gold answers; empty without experts. */
export async function routerMetrics(
  { parameters, config }: Model,
  questions: readonly TaskQuestion[],
): Promise<Record<string, number>> {
  const some = questions.slice(0, 256);
  const batch = completionBatch(
    some.map(({ prompt }) => prompt),
    some.map(({ answers }) => answers[0]!),
  );
  const loads = await routerLoads(parameters, config, batch);
  return loads ? { router_aux_loss: loads.auxLoss, "router/busiest_expert": loads.busiest } : {};
}
