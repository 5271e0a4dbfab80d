/** Group advantages: how much better an answer was than the others to the same question. */

export interface AdvantageForm {
  /** centred: r - mean. std: (r - mean)/(std + epsilon). leaveOneOut: r - mean of the others. */
  readonly form: "centred" | "std" | "leaveOneOut";
  /** std divides by n - ddof. DeepSeekMath's formula leaves it open; TRL and verl take 1. */
  readonly ddof: 0 | 1;
  readonly epsilon: number;
}

/**
 * One advantage for each reward, over consecutive groups of `groupSize`
 * (https://arxiv.org/abs/2402.03300 §4.1.2; centred: https://arxiv.org/abs/2503.20783).
 * A null reward (no verdict) is left out of its group's statistics and gets advantage 0. So does a
 * reward without another to compare with. Adding one number to all rewards changes nothing.
 */
export function groupAdvantages(
  rewards: readonly (number | null)[],
  groupSize: number,
  form: AdvantageForm,
): Float64Array {
  if (rewards.length % groupSize !== 0) {
    throw new RangeError(`advantages: ${rewards.length} rewards in groups of ${groupSize}`);
  }
  const advantages = new Float64Array(rewards.length);
  for (let start = 0; start < rewards.length; start += groupSize) {
    const group = rewards.slice(start, start + groupSize);
    const scored = group.filter((r) => r !== null);
    if (scored.length < 2) continue;
    const scale = scaleOf(scored, form);
    const centre = mean(scored);
    group.forEach((r, i) => {
      if (r !== null) advantages[start + i] = (r - centre) * scale;
    });
  }
  return advantages;
}

function scaleOf(rewards: readonly number[], { form, ddof, epsilon }: AdvantageForm): number {
  const n = rewards.length;
  if (form === "centred") return 1;
  // r - Σ_{others}/(n-1) = (r - mean) · n/(n-1).
  if (form === "leaveOneOut") return n / (n - 1);
  const centre = mean(rewards);
  const variance = rewards.reduce((total, r) => total + (r - centre) ** 2, 0) / (n - ddof);
  // Equal rewards have centred values of exactly 0 and any finite scale; 0/0 must not arise.
  return variance === 0 ? 0 : 1 / (Math.sqrt(variance) + epsilon);
}

const mean = (values: readonly number[]): number =>
  values.reduce((total, value) => total + value, 0) / values.length;
