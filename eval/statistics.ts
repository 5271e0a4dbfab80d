/** Intervals and tests for recall: Wilson, Newcombe, McNemar, bootstrap by entity, Holm. */
import { randomStream } from "../tensor/random.ts";
import {
  binomialAtMost,
  normalQuantile,
  normalTwoSided,
  studentQuantile,
} from "./distributions.ts";

export interface Interval {
  readonly low: number;
  readonly high: number;
}

/**
 * Whether an interval of values of the order of `scale` is one point, but for rounding (by default a
 * relative 1e-9): resampling showed no spread, for the mean of seven times 1 isn't quite 1.
 */
export const isPoint = ({ low, high }: Interval, scale: number, rounding = 1e-9): boolean =>
  high - low <= rounding * Math.max(scale, Math.abs(low), Math.abs(high));

/**
 * Wilson score interval of a proportion of `successes` out of `trials`: correct at 0 and 1 too.
 * (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n). No trials give [0, 1].
 */
export function wilson(successes: number, trials: number, level = 0.95): Interval {
  if (!(Number.isInteger(trials) && successes >= 0 && successes <= trials)) {
    throw new RangeError(`wilson: ${successes} successes of ${trials} trials`);
  }
  if (trials === 0) return { low: 0, high: 1 };
  const z = normalQuantile((1 + level) / 2);
  const p = successes / trials;
  const shrink = 1 + z ** 2 / trials;
  const centre = p + z ** 2 / (2 * trials);
  const half = z * Math.sqrt((p * (1 - p)) / trials + z ** 2 / (4 * trials ** 2));
  return {
    low: successes === 0 ? 0 : (centre - half) / shrink,
    high: successes === trials ? 1 : (centre + half) / shrink,
  };
}

/** `b` minus `a`, with its interval; the estimate is null where one of them has no trials. */
export interface Difference extends Interval {
  readonly estimate: number | null;
}

/** How many of how many. */
export interface Count {
  readonly successes: number;
  readonly trials: number;
}

/**
 * Difference p_b - p_a of two independent proportions, from their Wilson bounds l and u:
 * d - √((p_b - l_b)² + (u_a - p_a)²) to d + √((u_b - p_b)² + (p_a - l_a)²). Method 10 of Newcombe
 * 1998, Statistics in Medicine 17, 873-890. For the same questions asked twice take
 * `bootstrapGain`: the two are not independent. Without trials on a side: [-1, 1], no estimate.
 */
export function newcombe(a: Count, b: Count, level = 0.95): Difference {
  const [boundA, boundB] = [a, b].map((x) => wilson(x.successes, x.trials, level)) as [
    Interval,
    Interval,
  ];
  if (a.trials === 0 || b.trials === 0) return { estimate: null, low: -1, high: 1 };
  const [pA, pB] = [a.successes / a.trials, b.successes / b.trials];
  const estimate = pB - pA;
  return {
    estimate,
    low: estimate - Math.hypot(pB - boundB.low, boundA.high - pA),
    high: estimate + Math.hypot(boundB.high - pB, pA - boundA.low),
  };
}

export interface McNemar {
  /** Wrong before, right after. */
  readonly fixed: number;
  /** Right before, wrong after. */
  readonly broken: number;
  /** Two-sided p-value of "as many fixed as broken". */
  readonly p: number;
  readonly method: "exact binomial" | "chi-square, continuity-corrected";
}

/**
 * McNemar's test on the same questions before and after: the exact binomial where fewer than 25
 * changed, else (|fixed - broken| - 1)² / (fixed + broken) on one degree of freedom.
 */
export function mcnemar(before: readonly boolean[], after: readonly boolean[]): McNemar {
  if (before.length !== after.length) {
    throw new RangeError(`mcnemar: ${before.length} outcomes before, ${after.length} after`);
  }
  let fixed = 0;
  let broken = 0;
  for (const [i, was] of before.entries()) {
    if (!was && after[i]!) fixed += 1;
    if (was && !after[i]!) broken += 1;
  }
  return mcnemarFromCounts(fixed, broken);
}

/** `mcnemar` from the number of questions fixed and broken. */
export function mcnemarFromCounts(fixed: number, broken: number): McNemar {
  const discordant = fixed + broken;
  if (discordant < 25) {
    const tail = discordant === 0 ? 1 : binomialAtMost(Math.min(fixed, broken), discordant, 0.5);
    return { fixed, broken, p: Math.min(1, 2 * tail), method: "exact binomial" };
  }
  const distance = Math.max(0, Math.abs(fixed - broken) - 1);
  const p = normalTwoSided(distance / Math.sqrt(discordant));
  return { fixed, broken, p, method: "chi-square, continuity-corrected" };
}

export interface BootstrapOptions {
  readonly seed: number;
  /** Default 10,000. */
  readonly resamples?: number;
  /** Default 0.95. */
  readonly level?: number;
}

/** One observation: the entity it belongs to and the values that a statistic sums. */
export interface Clustered {
  readonly entity: number;
  readonly values: readonly number[];
}

export interface Estimate extends Interval {
  readonly estimate: number;
  readonly entities: number;
  readonly resamples: number;
}

/**
 * Percentile bootstrap of a statistic of column sums, resampling whole entities: questions about
 * one entity are not independent. `statistic` gets the sum of each value over the resample, and so
 * can form means, differences and ratios whose parts are resampled together.
 * Throws where the statistic is not finite, as a ratio whose denominator can be 0.
 */
export function bootstrapByEntity(
  rows: readonly Clustered[],
  statistic: (sums: Float64Array) => number,
  { seed, resamples = 10_000, level = 0.95 }: BootstrapOptions,
): Estimate {
  const { sums, entities, width } = sumsByEntity(rows);
  const stream = randomStream({ seed, purpose: "bootstrap by entity" });
  const total = new Float64Array(width);
  const results = new Float64Array(resamples);
  for (let i = 0; i < entities; i++) addRow(total, sums, i);
  const estimate = statistic(total);
  for (let resample = 0; resample < resamples; resample++) {
    total.fill(0);
    for (let i = 0; i < entities; i++) addRow(total, sums, stream.int(entities));
    results[resample] = statistic(total);
  }
  const bad = results.filter((value) => !Number.isFinite(value)).length;
  if (bad > 0 || !Number.isFinite(estimate)) {
    throw new RangeError(
      `bootstrap: the statistic is ${estimate}, and not finite in ${bad} of ${resamples} ` +
        `resamples of ${entities} entities; report it as undefined`,
    );
  }
  results.sort();
  const low = quantile(results, (1 - level) / 2);
  return { estimate, low, high: quantile(results, (1 + level) / 2), entities, resamples };
}

export interface PairedOutcome {
  readonly entity: number;
  /** 0 or 1, or any measure of one question such as its pass@k. */
  readonly before: number;
  readonly after: number;
}

/** Mean of after - before with its interval, resampled by entity. */
export function bootstrapGain(
  outcomes: readonly PairedOutcome[],
  options: BootstrapOptions,
): Estimate {
  const rows = outcomes.map(({ entity, before, after }) => ({
    entity,
    values: [1, after - before],
  }));
  return bootstrapByEntity(rows, (sums) => sums[1]! / sums[0]!, options);
}

/** Column sums of each entity, flat [entities width], and how many rows there were. */
export function sumsByEntity(rows: readonly Clustered[]) {
  const width = rows[0]?.values.length ?? 0;
  if (width === 0) throw new RangeError("bootstrap: no observations");
  const places = new Map<number, number>();
  for (const { entity } of rows) if (!places.has(entity)) places.set(entity, places.size);
  const sums = new Float64Array(places.size * width);
  for (const { entity, values } of rows) {
    if (values.length !== width) {
      throw new RangeError(`bootstrap: rows of ${width} and of ${values.length} values`);
    }
    const at = places.get(entity)! * width;
    for (let column = 0; column < width; column++) sums[at + column]! += values[column]!;
  }
  return { sums, entities: places.size, width };
}

/** Adds row number `row` of the flat [rows width] `sums` to `total`. */
export function addRow(total: Float64Array, sums: Float64Array, row: number): void {
  const at = row * total.length;
  for (let column = 0; column < total.length; column++) total[column]! += sums[at + column]!;
}

/** Linear interpolation between order statistics of a sorted sample. */
function quantile(sorted: Float64Array, share: number): number {
  const at = share * (sorted.length - 1);
  const below = Math.floor(at);
  const low = sorted[below]!;
  return low + (at - below) * (sorted[Math.min(below + 1, sorted.length - 1)]! - low);
}

/**
 * Holm's step-down adjustment of the p-values of one table: reject where the adjusted value is
 * below α, and the chance of any false rejection is at most α. In the order given.
 */
export function holm(pValues: readonly number[]): number[] {
  const order = pValues.map((_, i) => i).sort((a, b) => pValues[a]! - pValues[b]!);
  const adjusted = new Array<number>(pValues.length).fill(1);
  let largest = 0;
  for (const [rank, i] of order.entries()) {
    largest = Math.max(largest, Math.min(1, (pValues.length - rank) * pValues[i]!));
    adjusted[i] = largest;
  }
  return adjusted;
}

/**
 * Mean, and half the width of its Student t interval: mean ± t·s/√n over independent runs. One value
 * has no interval (null). Throws a RangeError without values.
 */
export function meanInterval(
  values: readonly number[],
  level = 0.95,
): { readonly mean: number; readonly half: number | null } {
  const n = values.length;
  if (n === 0) throw new RangeError("meanInterval: no values");
  const mean = values.reduce((a, b) => a + b, 0) / n;
  if (n === 1) return { mean, half: null };
  const t = studentQuantile((1 + level) / 2, n - 1);
  return { mean, half: t * Math.sqrt(sampleVariance(values) / n) };
}

/** Σ (x - mean)² / (n - 1), over at least two values. */
export function sampleVariance(values: readonly number[]): number {
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  return values.reduce((sum, x) => sum + (x - mean) ** 2, 0) / (values.length - 1);
}
