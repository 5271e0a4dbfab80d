/** The accuracy of knowing nothing: always the commonest training answer of the relation. */

interface Asked {
  readonly relation: number;
  readonly gold: string;
  readonly accepted: readonly string[];
}

/**
 * Share of `test` questions that the most frequent gold answer of their relation in `train` gets
 * right (ties: the first seen). A gain below this may be a shifted answer prior, not recall.
 */
export function majorityBaseline(train: readonly Asked[], test: readonly Asked[]): number {
  if (test.length === 0) throw new RangeError("majorityBaseline: no test questions");
  const guesses = new Map<number, string>();
  for (const [relation, questions] of Map.groupBy(train, (question) => question.relation)) {
    const sizes = [...Map.groupBy(questions, (question) => question.gold)];
    sizes.sort(([, a], [, b]) => b.length - a.length);
    guesses.set(relation, sizes[0]![0]);
  }
  const right = test.filter(({ relation, accepted }) => accepted.includes(guesses.get(relation)!));
  return right.length / test.length;
}
