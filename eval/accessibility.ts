/** Repair rate by accessibility: which failed facts are repaired, by how often they were said. */
import { normalTwoSided } from "./distributions.ts";
import { type Interval, wilson } from "./statistics.ts";

export interface AccessibilityBin {
  readonly label: string;
  /** Least and greatest count of right answers among the samples. */
  readonly low: number;
  readonly high: number;
}

/**
 * Logarithmic bins of counts out of `samples`: 0, 1, 2, 3-4, 5-8, … up to all of them. Of 128
 * samples (the paper's number) there are nine.
 */
export function accessibilityBins(samples: number): AccessibilityBin[] {
  const edges: [low: number, high: number][] = [[0, 0]];
  for (let high = 1; ; high *= 2) {
    const low = edges.at(-1)![1] + 1;
    if (2 * high > samples) edges.push([low, samples]);
    else edges.push([low, high]);
    if (edges.at(-1)![1] >= samples) break;
  }
  const labelOf = (low: number, high: number) => {
    if (low === high) return `${low}`;
    return high === samples ? `≥${low}` : `${low}-${high}`;
  };
  return edges.map(([low, high]) => ({ label: labelOf(low, high), low, high }));
}

/** One question: right samples before training, and greedy before and after. */
export interface AccessibilityRecord {
  readonly accessibleCount: number;
  readonly greedyBefore: boolean;
  readonly greedyAfter: boolean;
}

export interface RepairRow {
  readonly bin: AccessibilityBin;
  /** Questions of the bin that greedy decoding failed before. */
  readonly n: number;
  /** Of these, right after. */
  readonly repaired: number;
  /** repaired / n; null for an empty bin. */
  readonly rate: number | null;
  readonly interval: Interval;
  /** Fewer than 20 questions: show greyed out. */
  readonly few: boolean;
}

export interface RepairTable {
  readonly rows: readonly RepairRow[];
  readonly trend: Trend;
}

/**
 * Repair rate of the questions that greedy failed before, in each bin, with Wilson intervals.
 * Counts should come from other samples than the ones that chose the questions: a question picked
 * for a low count regresses to the mean. 0 of 128 does not mean a probability of 0. Throws a
 * RangeError on a count that is no whole number from 0 to `samples`.
 */
export function repairByAccessibility(
  records: readonly AccessibilityRecord[],
  samples: number,
): RepairTable {
  const bins = accessibilityBins(samples);
  const failed = bins.map(() => 0);
  const repaired = bins.map(() => 0);
  for (const { accessibleCount, greedyBefore, greedyAfter } of records) {
    const bin = bins.findIndex(
      ({ low, high }) => accessibleCount >= low && accessibleCount <= high,
    );
    if (bin < 0 || !Number.isInteger(accessibleCount)) {
      throw new RangeError(`accessibility: ${accessibleCount} right of ${samples} samples`);
    }
    if (greedyBefore) continue;
    failed[bin]! += 1;
    if (greedyAfter) repaired[bin]! += 1;
  }
  const rows = bins.map((bin, i): RepairRow => {
    const n = failed[i]!;
    const right = repaired[i]!;
    const rate = n === 0 ? null : right / n;
    return { bin, n, repaired: right, rate, interval: wilson(right, n), few: n < 20 };
  });
  return { rows, trend: cochranArmitage(repaired, failed) };
}

export interface Trend {
  /** Standard normal if there is no trend; positive where the rate rises with the bin. */
  readonly z: number;
  readonly p: number;
}

/**
 * Cochran-Armitage test for a linear trend of proportions over groups with scores 0, 1, 2, ...:
 * z = Σ tᵢ(xᵢ - nᵢp) / √(p(1-p)(Σ nᵢtᵢ² - (Σ nᵢtᵢ)²/N)). Without variation z is 0 and p is 1.
 */
export function cochranArmitage(successes: readonly number[], trials: readonly number[]): Trend {
  const total = sum(trials);
  const p = total === 0 ? 0 : sum(successes) / total;
  const covariance = sum(successes.map((x, t) => t * (x - trials[t]! * p)));
  const spread =
    sum(trials.map((n, t) => n * t * t)) - sum(trials.map((n, t) => n * t)) ** 2 / total;
  const variance = p * (1 - p) * spread;
  if (!(variance > 0)) return { z: 0, p: 1 };
  const z = covariance / Math.sqrt(variance);
  return { z, p: normalTwoSided(z) };
}

const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);
