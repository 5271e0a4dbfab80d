/** Weights for answers that another policy sampled than the one that trains on them. */

export interface ImportanceForm {
  /** A ratio for each token, or one for each answer: the product over its tokens. */
  readonly level: "token" | "sequence";
  /** Ratios beyond the cap count as the cap, or not at all. */
  readonly mode: "truncate" | "mask";
  readonly cap: number;
}

/**
 * π_old/π_rollout for each token of each answer, bounded: what a term of the loss is multiplied by
 * where an engine's log-probabilities (`rollout`) differ from the trainer's (`old`). They carry no
 * gradient. All answers must be as long in both.
 */
export function importanceWeights(
  old: readonly (readonly number[])[],
  rollout: readonly (readonly number[])[],
  { level, mode, cap }: ImportanceForm,
): number[][] {
  const bounded = (ratio: number): number => (ratio <= cap ? ratio : mode === "truncate" ? cap : 0);
  return old.map((line, i) => {
    const other = rollout[i]!;
    if (other.length !== line.length) {
      throw new RangeError(
        `importanceWeights: answer ${i} has ${line.length} and ${other.length} log-probabilities`,
      );
    }
    const differences = line.map((x, t) => x - other[t]!);
    if (level === "token") return differences.map((d) => bounded(Math.exp(d)));
    const whole = bounded(Math.exp(differences.reduce((a, b) => a + b, 0)));
    return differences.map(() => whole);
  });
}
