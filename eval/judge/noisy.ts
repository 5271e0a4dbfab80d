/** A judge that errs at set rates: to study how training exploits a faulty reward. */
import { randomStream } from "../../tensor/random.ts";
import { type Judge, verdict } from "./judge.ts";

export interface NoisyOptions {
  /** Chance that a wrong answer is called right. */
  readonly falsePositive: number;
  /** Chance that a right answer is called wrong. */
  readonly falseNegative: number;
  readonly seed: number;
}

/**
 * `judge` with its verdict turned at the set rates. Whether it errs is a function of the seed, the
 * question and the answer: asked again it says the same, so an error can be learned.
 */
export function noisyJudge(judge: Judge, options: NoisyOptions): Judge {
  const { falsePositive, falseNegative, seed } = options;
  for (const [name, rate] of Object.entries({ falsePositive, falseNegative })) {
    if (rate >= 0 && rate <= 1) continue;
    throw new RangeError(`noisyJudge: ${name} is ${rate}, expected a share in [0, 1]`);
  }
  return (question, answer) => {
    const honest = judge(question, answer);
    if (honest.score === null) return honest;
    const rate = honest.correct ? falseNegative : falsePositive;
    const stream = randomStream({ seed, purpose: `noisy judge: ${answer}`, row: question.id });
    if (stream.uniform() >= rate) return honest;
    const kind = honest.correct ? "false negative" : "false positive";
    return verdict(!honest.correct, honest.predicted, `${kind}: ${honest.reason}`);
  };
}
