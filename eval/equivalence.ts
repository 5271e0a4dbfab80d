/** Equivalence claims such as "PPO = GRPO": two one-sided tests against a margin set beforehand. */
import { studentAtMost, studentQuantile } from "./distributions.ts";
import {
  type BootstrapOptions,
  bootstrapGain,
  type Interval,
  isPoint,
  type PairedOutcome,
  sampleVariance,
  wilson,
} from "./statistics.ts";

/** The interval of level 1 - 2α of a difference, after minus before. */
export interface Equivalence extends Interval {
  readonly estimate: number;
  readonly margin: number;
  /** Whether the whole interval lies inside ±margin. No significant difference is not enough. */
  readonly equivalent: boolean;
}

export interface EquivalenceOptions {
  /** Largest difference, on the scale of the values, that counts as none: 0.03 is 3 points. */
  readonly margin: number;
  /** Chance α of calling methods equivalent that differ by the margin. Default 0.05. */
  readonly alpha?: number;
}

/**
 * Equivalence of two methods on the same questions: the 1 - 2α interval (90 %) of the mean of
 * after - before, bootstrapped by entity, inside ±margin. Two one-sided tests of Schuirmann 1987,
 * https://doi.org/10.1007/BF01068419, in their interval form.
 * Where all entities have the same difference d, resampling shows no spread, though other entities
 * may differ; then the interval is d ± the Wilson bound of a share of which 0 of n were seen.
 */
export function equivalentOutcomes(
  outcomes: readonly PairedOutcome[],
  { margin, alpha = 0.05, ...bootstrap }: EquivalenceOptions & Omit<BootstrapOptions, "level">,
): Equivalence {
  const level = 1 - 2 * alpha;
  const found = bootstrapGain(outcomes, { ...bootstrap, level });
  const unseen = isPoint(found, 1) ? wilson(0, found.entities, level).high : 0;
  return inside(found.estimate, found.low - unseen, found.high + unseen, margin);
}

export interface StudentEquivalence extends Equivalence {
  /** The larger p-value of the two one-sided tests: below α exactly where `equivalent`. */
  readonly p: number;
  readonly freedom: number;
}

/**
 * Equivalence of two methods over independent runs, paired: one difference for each world or seed.
 * d ± t(1-α; n-1)·s/√n inside ±margin. One difference has no spread to be known by, and equal ones
 * are no evidence that there is none: the interval is then all numbers, p = 1, never equivalent.
 * `equivalentOutcomes` has a bound for methods that agree on every question.
 */
export function equivalentMeans(
  differences: readonly number[],
  options: EquivalenceOptions,
): StudentEquivalence {
  const n = differences.length;
  if (n === 0) throw new RangeError("equivalence: no differences");
  const estimate = differences.reduce((a, b) => a + b, 0) / n;
  if (n === 1) return student(estimate, Number.POSITIVE_INFINITY, 1, options);
  return student(estimate, Math.sqrt(sampleVariance(differences) / n), n - 1, options);
}

/**
 * The same where the runs of the two methods share nothing: the difference of their means b - a,
 * with Welch's error √(s²_a/n_a + s²_b/n_b) and Satterthwaite's degrees of freedom. Where neither
 * method's runs differ nothing is decided, as of paired ones.
 * Throws a RangeError where a method has fewer than two runs.
 */
export function equivalentUnpaired(
  a: readonly number[],
  b: readonly number[],
  options: EquivalenceOptions,
): StudentEquivalence {
  if (a.length < 2 || b.length < 2) {
    throw new RangeError(`equivalence: ${a.length} and ${b.length} runs, both need at least 2`);
  }
  const [shareA, shareB] = [sampleVariance(a) / a.length, sampleVariance(b) / b.length];
  const variance = shareA + shareB;
  const parts = shareA ** 2 / (a.length - 1) + shareB ** 2 / (b.length - 1);
  const freedom = variance === 0 ? a.length + b.length - 2 : variance ** 2 / parts;
  const mean = (values: readonly number[]) => values.reduce((x, y) => x + y, 0) / values.length;
  return student(mean(b) - mean(a), Math.sqrt(variance), freedom, options);
}

function student(
  estimate: number,
  error: number,
  freedom: number,
  { margin, alpha = 0.05 }: EquivalenceOptions,
): StudentEquivalence {
  // The mean of equal values may be off by rounding, and then they have a spread of that size.
  const known = Number.isFinite(error) && error > 1e-9 * Math.max(margin, Math.abs(estimate));
  const half = known ? studentQuantile(1 - alpha, freedom) * error : Number.POSITIVE_INFINITY;
  const distance = margin - Math.abs(estimate);
  return {
    ...inside(estimate, estimate - half, estimate + half, margin),
    p: known ? studentAtMost(-distance / error, freedom) : 1,
    freedom,
  };
}

function inside(estimate: number, low: number, high: number, margin: number): Equivalence {
  if (!(margin > 0)) throw new RangeError(`equivalence: margin is ${margin}, expected above 0`);
  return { estimate, low, high, margin, equivalent: low > -margin && high < margin };
}
