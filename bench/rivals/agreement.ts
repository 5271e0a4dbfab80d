/** Whether two participants computed the same: only then are their times compared. */

import { CHECKED_ROWS, type Task } from "./tasks.ts";

/** Largest difference, over the largest number: f32 sums in different orders differ by less. */
const TOLERANCE = 1e-3;
/** Greedy decoding takes another path where two logits are equal up to rounding: in few rows. */
const EQUAL_ROWS = 0.75;

/** Why `found` contradicts `expected`, or undefined where they agree. */
export function disagreement(
  task: Task,
  expected: readonly number[],
  found: readonly number[],
): string | undefined {
  if (found.length < expected.length) {
    return `${found.length} numbers to compare, expected ${expected.length}`;
  }
  if (task.kind === "decode") return ofTokens(expected, found);
  const largest = expected.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  for (const [i, x] of expected.entries()) {
    const difference = Math.abs(x - found[i]!);
    if (difference <= TOLERANCE * largest) continue;
    return `number ${i} is ${found[i]!.toPrecision(5)}, expected ${x.toPrecision(5)}`;
  }
  return undefined;
}

function ofTokens(expected: readonly number[], found: readonly number[]): string | undefined {
  const length = expected.length / CHECKED_ROWS;
  const rows = Array.from({ length: CHECKED_ROWS }, (_, row) =>
    expected.slice(row * length, (row + 1) * length).every((x, i) => x === found[row * length + i]),
  );
  const equal = rows.filter(Boolean).length;
  if (equal >= EQUAL_ROWS * CHECKED_ROWS) return undefined;
  return `${equal} of ${CHECKED_ROWS} greedy completions are equal`;
}
