/** Which questions a run trains on, chooses its weights by, and is tested on. */

import type { Task, TaskQuestion } from "../eval/task.ts";
import type { TrainConfig } from "./config.ts";

type Asked = "train" | "validation" | "test";

/**
 * The questions of a split: to train on and to validate by those of `train.questionSet`, to test by
 * those of `evaluate.questionSet`. A RangeError where the world leaves none.
 */
export function questionsOf(
  task: Task,
  config: TrainConfig,
  split: Asked,
): readonly TaskQuestion[] {
  const set = (split === "test" ? config.evaluate : config.train).questionSet ?? undefined;
  const questions = task.questions(split, set);
  if (questions.length > 0) return questions;
  throw new RangeError(`there is no ${split} question: more entities are needed`);
}

/** Of a question file, training questions that a measurement asks: it may hold tens of thousands. */
const MEASURED = 500;

/** The training questions that are measured before and after: all of a world. */
export function measuredTraining(task: Task, config: TrainConfig): readonly TaskQuestion[] {
  const all = questionsOf(task, config, "train");
  return config.data === undefined ? all : all.slice(0, MEASURED);
}

/** Validation questions: their entities are in neither the training nor the held-out half. */
export function validationQuestions(task: Task, config: TrainConfig): readonly TaskQuestion[] {
  const { validationQuestions } = config.evaluate;
  return questionsOf(task, config, "validation").slice(0, validationQuestions ?? undefined);
}
