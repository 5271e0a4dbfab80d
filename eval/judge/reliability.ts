/** How far a judge can be trusted: agreement with people, errors of either kind, before and after. */
import { cohenKappa, type Kappa } from "../agreement.ts";
import { type Difference, type Interval, newcombe, wilson } from "../statistics.ts";

/** One answer of a model, judged by a person and by the judge. */
export interface JudgedOutput {
  /** Whether the model gave it before or after training. */
  readonly stage: "before" | "after";
  /** The person's verdict: right or wrong. */
  readonly truth: boolean;
  /** The judge's verdict; null where none came. */
  readonly verdict: boolean | null;
}

/** successes / trials with Wilson's interval; null, in [0, 1], where there were no trials. */
export interface Rate extends Interval {
  readonly successes: number;
  readonly trials: number;
  readonly rate: number | null;
}

export interface StageReliability {
  /** Outputs on which the judge gave a verdict, and those on which it gave none (in no rate). */
  readonly judged: number;
  readonly unjudged: number;
  readonly agreement: Rate;
  /** Called right, of the answers that the person calls wrong: only those can be false positives. */
  readonly falsePositives: Rate;
  /** Called wrong, of the answers that the person calls right. */
  readonly falseNegatives: Rate;
  /** Wrong, of the answers that the judge calls right: the share of rewards paid for nothing. */
  readonly wronglyPaid: Rate;
  /** Agreement beyond what two raters with these shares of "right" reach by chance. */
  readonly kappa: Kappa;
}

export interface Reliability {
  readonly overall: StageReliability;
  readonly before: StageReliability;
  readonly after: StageReliability;
  /**
   * Agreement after minus before, for stages with questions of their own: Newcombe's interval of two
   * independent samples. Of the same questions asked twice it is not the interval: there the outputs
   * of a question go together, and `bootstrapGain` of the verdicts' agreement, by entity, has it.
   */
  readonly change: Difference;
}

/**
 * The judge-reliability study: human and judge verdicts on outputs of both stages. Training moves
 * the answers that are judged, so a judge that holds before need not hold after; the difference
 * comes with its interval, since two intervals that overlap decide nothing. That interval is for
 * stages that share no question (see `change`).
 */
export function judgeReliability(outputs: readonly JudgedOutput[]): Reliability {
  const [before, after] = (["before", "after"] as const).map((stage) =>
    stageReliability(outputs.filter((output) => output.stage === stage)),
  ) as [StageReliability, StageReliability];
  return {
    overall: stageReliability(outputs),
    before,
    after,
    change: newcombe(before.agreement, after.agreement),
  };
}

function stageReliability(outputs: readonly JudgedOutput[]): StageReliability {
  const count = (truth: boolean, verdict: boolean) =>
    outputs.filter((output) => output.truth === truth && output.verdict === verdict).length;
  const [right, missed] = [count(true, true), count(true, false)];
  const [paid, wrong] = [count(false, true), count(false, false)];
  const judged = right + missed + paid + wrong;
  return {
    judged,
    unjudged: outputs.length - judged,
    agreement: rate(right + wrong, judged),
    falsePositives: rate(paid, paid + wrong),
    falseNegatives: rate(missed, missed + right),
    wronglyPaid: rate(paid, paid + right),
    kappa: cohenKappa([
      [right, missed],
      [paid, wrong],
    ]),
  };
}

function rate(successes: number, trials: number): Rate {
  const share = trials === 0 ? null : successes / trials;
  return { successes, trials, rate: share, ...wilson(successes, trials) };
}
