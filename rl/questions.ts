/** Which questions a run trains on, chooses its weights by, and is tested on. */

import type { Question, World } from "../eval/worlds/world.ts";
import type { TrainConfig } from "./config.ts";

type Asked = "train" | "validation" | "test";

/**
 * The questions of a split: to train on and to validate by those of `train.questionSet`, to test by
 * those of `evaluate.questionSet`. A RangeError where the world leaves none.
 */
export function questionsOf(world: World, config: TrainConfig, split: Asked): readonly Question[] {
  const set = (split === "test" ? config.evaluate : config.train).questionSet ?? undefined;
  const questions = world.questions(split, set);
  if (questions.length > 0) return questions;
  throw new RangeError(`this world has no ${split} questions: give it more entities`);
}

/** Validation questions: their entities are in neither the training nor the held-out half. */
export function validationQuestions(world: World, config: TrainConfig): readonly Question[] {
  const { validationQuestions } = config.evaluate;
  return questionsOf(world, config, "validation").slice(0, validationQuestions ?? undefined);
}
