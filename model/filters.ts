/** From logits to a distribution to draw from: top-k, top-p, min-p, and inversion. */

export interface Filters {
  /** Keep the k most probable; 0 (default): all. */
  readonly topK?: number;
  /** Keep the smallest set of most probable tokens that holds this much; 1 (default): all. */
  readonly topP?: number;
  /** Keep what has at least this share of the largest probability; 0 (default): all. */
  readonly minP?: number;
}

/** Refuses filters out of range, naming setting and value. */
export function requireFilters({ topK = 0, topP = 1, minP = 0 }: Filters): void {
  const complain = (name: string, value: number, wanted: string): never => {
    throw new RangeError(`sampling: ${name} is ${value}, expected ${wanted}`);
  };
  if (!(Number.isInteger(topK) && topK >= 0)) complain("topK", topK, "a whole number >= 0");
  if (!(topP > 0 && topP <= 1)) complain("topP", topP, "a number in (0, 1]");
  if (!(minP >= 0 && minP <= 1)) complain("minP", minP, "a number in [0, 1]");
}

/**
 * softmax(logits) restricted by the filters and normalised again, in f64. Top-k goes first, top-p
 * and then min-p look at what the ones before left. Of equal tokens the first is kept first.
 */
export function samplingProbabilities(
  logits: ArrayLike<number>,
  filters: Filters = {},
): Float64Array {
  const weights = samplingWeights(logits, filters);
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return weights.map((weight) => weight / total);
}

/** The same up to a common factor: the largest weight is 1. */
export function samplingWeights(
  logits: ArrayLike<number>,
  { topK = 0, topP = 1, minP = 0 }: Filters = {},
): Float64Array {
  const weights = new Float64Array(logits.length);
  let top = -Infinity;
  for (let i = 0; i < logits.length; i++) if (logits[i]! > top) top = logits[i]!;
  for (let i = 0; i < logits.length; i++) weights[i] = Math.exp(logits[i]! - top);
  if (topK > 0 || topP < 1) keepMostProbable(weights, topK || weights.length, topP);
  if (minP > 0) for (let i = 0; i < weights.length; i++) if (weights[i]! < minP) weights[i] = 0;
  return weights;
}

/** Zeroes all but the k largest weights, and of these what follows `share` of their sum. */
function keepMostProbable(weights: Float64Array, k: number, share: number): void {
  const order = Array.from(weights.keys()).sort((a, b) => weights[b]! - weights[a]! || a - b);
  const kept = order.slice(0, k);
  const goal = share * kept.reduce((sum, i) => sum + weights[i]!, 0);
  let sum = 0;
  let count = 0;
  while (count < kept.length && (share === 1 || sum < goal)) sum += weights[kept[count++]!]!;
  for (const i of order.slice(count)) weights[i] = 0;
}

/** Running sums, in place: what `drawFrom` looks into. */
export function cumulate(weights: Float64Array): Float64Array {
  let sum = 0;
  for (let i = 0; i < weights.length; i++) {
    sum += weights[i]!;
    weights[i] = sum;
  }
  return weights;
}

/** The first index whose running sum exceeds u · total, u in [0, 1). */
export function drawFrom(cumulative: Float64Array, u: number): number {
  const goal = u * cumulative[cumulative.length - 1]!;
  let low = 0;
  let high = cumulative.length - 1;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (cumulative[middle]! > goal) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** The most probable token: the first of equal ones; the first NaN where there is one. */
export function greedyChoice(logits: ArrayLike<number>): number {
  let best = 0;
  for (let i = 0; i < logits.length; i++) {
    if (logits[i]! > logits[best]!) best = i;
    if (Number.isNaN(logits[i])) return i;
  }
  return best;
}
