/** Majority vote: the most frequent of n sampled answers, for any n from one set of samples. */

import { randomStream } from "../tensor/mod.ts";
import { type Asked, eachSampled, type SampledAnswer, type SampledOptions } from "./accuracy.ts";
import { answerKey } from "./judge/normalised.ts";

/** One sampled answer as a vote. */
export interface Ballot {
  /**
   * The answer under `answerKey`, which tells equal answers; null casts no vote. An answer casts
   * none if it is blank, or if it was cut off, for then it is a fragment.
   */
  readonly key: string | null;
  readonly correct: boolean;
}

export const ballotKey = ({ text, finished }: SampledAnswer): string | null =>
  finished ? answerKey(text) || null : null;

/**
 * The ballot that stands for the most frequent answer: the first of its kind; of equally frequent
 * answers the one seen first. null where nobody votes: such a question is not answered.
 */
export function majority(ballots: readonly Ballot[]): Ballot | null {
  const counts = new Map<string, { first: Ballot; n: number }>();
  let most = 0;
  for (const ballot of ballots) {
    if (ballot.key === null) continue;
    const entry = counts.get(ballot.key) ?? { first: ballot, n: 0 };
    counts.set(ballot.key, entry);
    most = Math.max(most, ++entry.n);
  }
  // A Map keeps the order in which answers were first seen.
  for (const { first, n } of counts.values()) if (n === most) return first;
  return null;
}

export interface VotePoint {
  readonly budget: number;
  /** Share of questions whose majority answer is right. */
  readonly value: number;
}

export interface VoteOptions {
  readonly budgets?: readonly number[];
  /** Random orders of the samples that are averaged over; the more, the less noise. */
  readonly orders?: number;
  readonly seed?: number;
}

/** Sizes of a vote, in powers of two; the paper's is 32. */
export const voteBudgets: readonly number[] = [1, 2, 4, 8, 16, 32, 64, 128, 256];

/**
 * Accuracy of the majority of n answers, for every budget n up to the N samples of each question.
 *
 * The samples are put into `orders` random orders; each is cut into ⌊N/n⌋ consecutive parts of n, and
 * the value is the share of parts whose majority is right, averaged over parts, orders and questions.
 * Samples are exchangeable, so every part is distributed as n fresh samples in their order (ties
 * included): the estimate is unbiased for each n. It is an incomplete U-statistic: parts of one order
 * share no sample, orders only average out which samples met. At n = N one vote is left, whose ties
 * alone the orders average over, so that large budgets are the noisiest; budgets of one curve share
 * their samples. Throws a RangeError without questions, or unless 1 <= n <= N.
 */
export function voteCurve(
  questions: readonly (readonly Ballot[])[],
  { budgets = voteBudgets, orders = 8, seed = 0 }: VoteOptions = {},
): VotePoint[] {
  if (questions.length === 0) throw new RangeError("voteCurve: no questions");
  const fewest = Math.min(...questions.map((ballots) => ballots.length));
  for (const budget of budgets) {
    if (Number.isInteger(budget) && budget >= 1 && budget <= fewest) continue;
    throw new RangeError(`voteCurve: a vote of ${budget} out of ${fewest} samples`);
  }
  const sums = budgets.map(() => 0);
  questions.forEach((ballots, row) => {
    for (let order = 0; order < orders; order++) {
      const stream = randomStream({ seed, purpose: "vote", step: order, row });
      const shuffled = stream.shuffle(ballots);
      budgets.forEach((budget, i) => {
        sums[i]! += shareRight(shuffled, budget);
      });
    }
  });
  return budgets.map((budget, i) => ({ budget, value: sums[i]! / (orders * questions.length) }));
}

/** Share of the consecutive parts of `size` whose majority is right. */
function shareRight(ballots: readonly Ballot[], size: number): number {
  const parts = Math.floor(ballots.length / size);
  let right = 0;
  for (let part = 0; part < parts; part++) {
    if (majority(ballots.slice(part * size, (part + 1) * size))?.correct) right++;
  }
  return right / parts;
}

/** Samples answers to each question and judges them as ballots. */
export async function sampledBallots(asked: Asked, options: SampledOptions): Promise<Ballot[][]> {
  const all: Ballot[][] = [];
  await eachSampled(asked, options, (question, answers) => {
    const known = new Map<string, boolean>();
    const right = (text: string): boolean => {
      const verdict = known.get(text) ?? asked.judge(question, text).correct;
      known.set(text, verdict);
      return verdict;
    };
    all.push(answers.map((answer) => ({ key: ballotKey(answer), correct: right(answer.text) })));
  });
  return all;
}
