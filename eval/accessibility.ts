/** Repair rate by accessibility: which failed facts are repaired, by how often they were said. */
import { normalTwoSided } from "./distributions.ts";
import { type Interval, wilson } from "./statistics.ts";

/** Samples of each question, at the settings of the rollouts. */
export const accessibilitySamples = 128;

export interface AccessibilityBin {
  readonly label: string;
  /** Least and greatest count of right answers among 128. */
  readonly low: number;
  readonly high: number;
}

/** The paper's nine logarithmic bins. */
export const accessibilityBins: readonly AccessibilityBin[] = [
  [0, 0],
  [1, 1],
  [2, 2],
  [3, 4],
  [5, 8],
  [9, 16],
  [17, 32],
  [33, 64],
  [65, 128],
].map(([low, high]) => ({ label: labelOf(low!, high!), low: low!, high: high! }));

function labelOf(low: number, high: number): string {
  if (low === high) return `${low}`;
  return high === accessibilitySamples ? `≥${low}` : `${low}-${high}`;
}

/** Index of the bin of a count out of 128. */
export function accessibilityBin(count: number): number {
  const index = accessibilityBins.findIndex(({ low, high }) => count >= low && count <= high);
  if (index >= 0 && Number.isInteger(count)) return index;
  throw new RangeError(`accessibility: ${count} right of ${accessibilitySamples} samples`);
}

/** One question: right samples of 128 before training, and greedy before and after. */
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
 * for a low count regresses to the mean. 0 of 128 does not mean a probability of 0.
 */
export function repairByAccessibility(records: readonly AccessibilityRecord[]): RepairTable {
  const failed = accessibilityBins.map(() => 0);
  const repaired = accessibilityBins.map(() => 0);
  for (const { accessibleCount, greedyBefore, greedyAfter } of records) {
    const bin = accessibilityBin(accessibleCount);
    if (greedyBefore) continue;
    failed[bin]! += 1;
    if (greedyAfter) repaired[bin]! += 1;
  }
  const rows = accessibilityBins.map((bin, i): RepairRow => {
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
