/** Group advantages: how much better an answer was than the others to the same question. */

export const advantageForms = ["reward", "centred", "std", "leaveOneOut", "batchStd"] as const;

export interface AdvantageForm {
  /**
   * reward: r (REINFORCE). centred: r - mean. std: (r - mean)/(std + epsilon). leaveOneOut: r - mean
   * of the others (RLOO). batchStd: (r - mean of the group)/(std of the whole batch + epsilon).
   */
  readonly form: (typeof advantageForms)[number];
  /** std divides by n - ddof. DeepSeekMath's formula leaves it open; TRL and verl take 1. */
  readonly ddof: 0 | 1;
  readonly epsilon: number;
}

/**
 * One advantage for each reward, over consecutive groups of `groupSize`
 * (https://arxiv.org/abs/2402.03300 §4.1.2; centred: https://arxiv.org/abs/2503.20783).
 * A null reward (no verdict) is left out of its group's statistics and gets advantage 0. So does a
 * reward without another to compare with. Adding one number to all rewards changes nothing, unless
 * the form is the reward itself.
 */
export function groupAdvantages(
  rewards: readonly (number | null)[],
  groupSize: number,
  form: AdvantageForm,
): Float64Array {
  if (rewards.length % groupSize !== 0) {
    throw new RangeError(`advantages: ${rewards.length} rewards in groups of ${groupSize}`);
  }
  if (form.form === "reward") return Float64Array.from(rewards, (r) => r ?? 0);
  const advantages = new Float64Array(rewards.length);
  const all = rewards.filter((r) => r !== null);
  for (let start = 0; start < rewards.length; start += groupSize) {
    const group = rewards.slice(start, start + groupSize);
    const scored = group.filter((r) => r !== null);
    if (scored.length < 2) continue;
    const scale = scaleOf(scored, all, form);
    const centre = mean(scored);
    group.forEach((r, i) => {
      if (r !== null) advantages[start + i] = (r - centre) * scale;
    });
  }
  return advantages;
}

function scaleOf(
  group: readonly number[],
  all: readonly number[],
  { form, ddof, epsilon }: AdvantageForm,
): number {
  const n = group.length;
  if (form === "centred") return 1;
  // r - Σ_{others}/(n-1) = (r - mean) · n/(n-1).
  if (form === "leaveOneOut") return n / (n - 1);
  const values = form === "batchStd" ? all : group;
  // Equal rewards have advantage 0. Their mean may be rounded, so that rewards and mean differ by as
  // little as their std does: without an epsilon the quotient would be of full size.
  if (values.every((r) => r === values[0])) return 0;
  const variance = varianceOf(values, ddof);
  return variance === 0 ? 0 : 1 / (Math.sqrt(variance) + epsilon);
}

function varianceOf(values: readonly number[], ddof: 0 | 1): number {
  const centre = mean(values);
  return values.reduce((total, r) => total + (r - centre) ** 2, 0) / (values.length - ddof);
}

const mean = (values: readonly number[]): number =>
  values.reduce((total, value) => total + value, 0) / values.length;
