/** Mistakes of the user: reported in plain words with exit code 2 and no stack trace. */

import { UserError } from "../model/errors.ts";

export { UserError };

/** One UserError for a list of problems, so that a command line is corrected in one go. */
export function userErrorOf(problems: readonly string[], hint = ""): UserError {
  const lines =
    problems.length === 1
      ? [problems[0]!]
      : [`${problems.length} problems:`, ...problems.map((problem) => `  - ${problem}`)];
  return new UserError([...lines, ...(hint ? [hint] : [])].join("\n"));
}

/** Runs a command; a UserError ends the process with its message alone, others keep their stack. */
export async function runMain(main: () => void | Promise<void>): Promise<void> {
  try {
    await main();
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    console.error(`error: ${error.message}`);
    process.exit(error.exitCode);
  }
}

/** Optimal string alignment distance: insertions, deletions, substitutions, neighbour swaps. */
export function editDistance(a: string, b: string): number {
  let before: number[] = [];
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const current = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitute = previous[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      let best = Math.min(previous[j]! + 1, current[j - 1]! + 1, substitute);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        best = Math.min(best, before[j - 2]! + 1);
      }
      current.push(best);
    }
    before = previous;
    previous = current;
  }
  return previous[b.length]!;
}

/**
 * The name most like `given`, or null when none is near (more than a third of its letters differ).
 * Letter case and dashes do not count; the last part of a dotted name, or the beginning of that
 * part, may stand for the whole.
 */
export function nearest(given: string, names: readonly string[]): string | null {
  const plain = (name: string) => name.replace(/^-+|-/g, "").toLowerCase();
  const last = (name: string) => name.split(".").at(-1)!;
  const target = plain(given);
  let best: string | null = null;
  let bestDistance = Math.max(1.5, target.length / 3);
  for (const name of names) {
    const whole = editDistance(target, plain(name));
    const part = editDistance(last(target), last(plain(name))) + 0.5;
    const begun = target.length >= 3 && last(plain(name)).startsWith(last(target));
    const distance = Math.min(whole, part, begun ? 1 : whole);
    if (distance < bestDistance) [best, bestDistance] = [name, distance];
  }
  return best;
}

/** "; did you mean X?" or nothing; "X or Y" where several groups have a setting of that name. */
export function suggestion(given: string, names: readonly string[]): string {
  const name = nearest(given, names);
  if (name === null) return "";
  const last = (text: string) => text.split(".").at(-1)!;
  const others = names.filter((other) => other.includes(".") && last(other) === last(name));
  const all = given.includes(".") || others.length === 0 ? [name] : others.toSorted();
  return `; did you mean ${all.join(" or ")}?`;
}
