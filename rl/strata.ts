/** Which training questions a run uses: all, or those of one accessibility before training. */

import type { TaskQuestion } from "../eval/task.ts";
import { randomStream } from "../tensor/mod.ts";
import type { TrainConfig } from "./config.ts";
import { UserError } from "./user_error.ts";

export const strata = ["all", "zero", "partial", "high", "zeroPartial"] as const;
export type Stratum = (typeof strata)[number];

/** A quarter of the samples right: above it a question counts as highly accessible. */
const HIGH = 0.25;

/** Whether a question with `count` right answers of `samples` belongs to a stratum. */
export function inStratum(stratum: Stratum, count: number, samples: number): boolean {
  const [zero, high] = [count === 0, count > HIGH * samples];
  switch (stratum) {
    case "all":
      return true;
    case "zero":
      return zero;
    case "high":
      return high;
    case "partial":
      return !zero && !high;
    case "zeroPartial":
      return !high;
  }
}

/**
 * The questions that training asks: those of `train.stratum` by `counts`, right answers among the
 * accessibility samples before training, and of these at most `train.questions`, drawn at random.
 * Throws a UserError that tells the size of each stratum where there are too few.
 */
export function trainingQuestions(
  questions: readonly TaskQuestion[],
  counts: readonly number[],
  config: TrainConfig,
  seed: number,
): readonly TaskQuestion[] {
  const { stratum, questions: most } = config.train;
  const { accessibilitySamples: samples } = config.evaluate;
  const own = questions.filter((_, i) => inStratum(stratum, counts[i]!, samples));
  if (own.length < (most ?? 1)) {
    const sizes = strata.map((name) => {
      const n = counts.filter((count) => inStratum(name, count, samples)).length;
      return `${name} ${n}`;
    });
    // Of a question file no samples are drawn where all of it is asked.
    const told = counts.length === 0 ? "" : ` (of ${samples} samples: ${sizes.join(", ")})`;
    throw new UserError(
      `train.stratum ${stratum} has ${own.length} questions, ${most ?? 1} are needed${told}; ` +
        "use a smaller train.questions",
    );
  }
  if (most === null || most === own.length) return own;
  const chosen = new Set(randomStream({ seed, purpose: "stratum" }).shuffle(own).slice(0, most));
  return own.filter((question) => chosen.has(question));
}
