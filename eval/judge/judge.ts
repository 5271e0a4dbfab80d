/** What a judge is: a function from a question and an answer to a verdict with its reason. */

export interface JudgedQuestion {
  readonly id: number;
  /** The one text that the data set calls right. */
  readonly gold: string;
  /** Every text that means the same, the gold among them. */
  readonly accepted: readonly string[];
}

export interface Judgement {
  /** The reward: 1 right, 0 wrong; null where no verdict came, to be left out, never taken as 0. */
  readonly score: number | null;
  readonly correct: boolean;
  /** The answer as it was compared. */
  readonly predicted: string;
  readonly reason: string;
}

export type Judge = (question: JudgedQuestion, answer: string) => Judgement;

/** A verdict of right or wrong. */
export function verdict(correct: boolean, predicted: string, reason: string): Judgement {
  return { score: correct ? 1 : 0, correct, predicted, reason };
}
