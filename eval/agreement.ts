/** Agreement and association: Cohen's kappa of two raters, Spearman's correlation of ranks. */
import { normalQuantile, studentAtMost } from "./distributions.ts";
import { type Interval, wilson } from "./statistics.ts";

export interface Kappa extends Interval {
  /** Null where undefined: no observations, or both raters always say the same one thing. */
  readonly kappa: number | null;
  /** Observed share of agreement, and the one expected of independent raters; null without any. */
  readonly observed: number | null;
  readonly expected: number | null;
}

/**
 * Cohen's κ = (p_o - p_e)/(1 - p_e) of a square table of counts, rows rater A, columns rater B;
 * p_e = Σ p_i. p_.i. Interval κ ± z·SE, inside [-1, 1], with the large-sample
 * SE² = (Σ p_ii ((1-p_e) - (p_i.+p_.i)(1-p_o))² + (1-p_o)² Σ_{i≠j} p_ij (p_.i+p_j.)²
 *        - (p_o p_e - 2p_e + p_o)²) / (n (1-p_e)⁴),
 * Fleiss, Cohen & Everitt 1969, Psychological Bulletin 72, 323-327. Where that is 0 (they never
 * disagree) the bounds are those of Wilson's interval of p_o put into κ. Undefined κ: [-1, 1].
 * Throws a RangeError on a table that is not square or has a count below 0.
 */
export function cohenKappa(counts: readonly (readonly number[])[], level = 0.95): Kappa {
  const size = counts.length;
  if (counts.some((row) => row.length !== size || row.some((count) => !(count >= 0)))) {
    throw new RangeError(
      `cohenKappa: expected a square table of counts, found ${counts.join("; ")}`,
    );
  }
  const n = counts.flat().reduce((a, b) => a + b, 0);
  if (n === 0) return { kappa: null, observed: null, expected: null, low: -1, high: 1 };
  const share = counts.map((row) => row.map((count) => count / n));
  const rows = share.map((row) => row.reduce((a, b) => a + b, 0));
  const columns = share.map((_, j) => share.reduce((sum, row) => sum + row[j]!, 0));
  const agreed = counts.reduce((sum, row, i) => sum + row[i]!, 0);
  const observed = agreed / n;
  const expected = rows.reduce((sum, row, i) => sum + row * columns[i]!, 0);
  const rest = 1 - expected;
  if (rest < 1e-12) return { kappa: null, observed, expected, low: -1, high: 1 };
  const kappa = (observed - expected) / rest;
  let terms = -((observed * expected - 2 * expected + observed) ** 2);
  for (const [i, row] of share.entries()) {
    for (const [j, p] of row.entries()) {
      if (i === j) terms += p * (rest - (rows[i]! + columns[i]!) * (1 - observed)) ** 2;
      else terms += p * ((1 - observed) * (columns[i]! + rows[j]!)) ** 2;
    }
  }
  if (terms < 1e-12) {
    const bound = wilson(agreed, n, level);
    const low = Math.max(-1, (bound.low - expected) / rest);
    return { kappa, observed, expected, low, high: (bound.high - expected) / rest };
  }
  const half = (normalQuantile((1 + level) / 2) * Math.sqrt(terms / n)) / rest ** 2;
  const [low, high] = [Math.max(-1, kappa - half), Math.min(1, kappa + half)];
  return { kappa, observed, expected, low, high };
}

export interface RankCorrelation {
  /** Null where one side has no two different values. */
  readonly rho: number | null;
  /** Two-sided p-value of no association; 1 where rho is null. */
  readonly p: number;
  readonly method: "all permutations" | "Student t";
}

/** Up to this many pairs all orders are counted (8! = 40,320). */
const EXACT = 8;

/**
 * Spearman's ρ: the correlation of ranks, ties sharing their mean rank. p counts all permutations
 * of up to 8 pairs; beyond, t = ρ√((n-2)/(1-ρ²)) on n - 2 degrees of freedom. Spearman 1904;
 * Kendall & Gibbons 1990, Rank Correlation Methods. Throws a RangeError on unequal lengths.
 */
export function spearman(x: readonly number[], y: readonly number[]): RankCorrelation {
  const n = x.length;
  if (n !== y.length) throw new RangeError(`spearman: ${n} and ${y.length} values`);
  const method = n <= EXACT ? "all permutations" : "Student t";
  const [a, b] = [centredRanks(x), centredRanks(y)];
  const scale = Math.sqrt(dot(a, a) * dot(b, b));
  if (scale === 0) return { rho: null, p: 1, method };
  const rho = Math.max(-1, Math.min(1, dot(a, b) / scale));
  if (n <= EXACT) return { rho, p: shareAtLeast(a, b, Math.abs(dot(a, b)) - 1e-9), method };
  const t = Math.abs(rho) * Math.sqrt((n - 2) / (1 - rho ** 2));
  return { rho, p: 2 * studentAtMost(-t, n - 2), method };
}

/** Ranks from 1, ties sharing their mean, less their mean (n + 1)/2. */
function centredRanks(values: readonly number[]): number[] {
  return values.map((value) => {
    const below = values.filter((other) => other < value).length;
    const equal = values.filter((other) => other === value).length;
    return below + (equal + 1) / 2 - (values.length + 1) / 2;
  });
}

const dot = (a: readonly number[], b: readonly number[]): number =>
  a.reduce((sum, value, i) => sum + value * b[i]!, 0);

/** Share of the orders of b whose |Σ a·b| is at least `least`. */
function shareAtLeast(a: readonly number[], b: readonly number[], least: number): number {
  const order = [...b];
  let [all, reached] = [0, 0];
  const place = (from: number, sum: number): void => {
    if (from === a.length) {
      all++;
      if (Math.abs(sum) >= least) reached++;
    }
    for (let i = from; i < a.length; i++) {
      [order[from], order[i]] = [order[i]!, order[from]!];
      place(from + 1, sum + a[from]! * order[from]!);
      [order[from], order[i]] = [order[i]!, order[from]!];
    }
  };
  place(0, 0);
  return reached / all;
}
