/** What commands with a few flags of their own share: numbers as flags, and how a command ends. */

import { type Command, CommanderError, InvalidArgumentError } from "commander";
import { UserError } from "./errors.ts";

/** A parser of a flag's value; "Expected a number from 0 to 1." where it doesn't fit. */
export const number =
  (fits: (value: number) => boolean, wanted: string) =>
  (text: string): number => {
    const value = Number(text);
    if (text.trim() !== "" && fits(value)) return value;
    throw new InvalidArgumentError(`Expected ${wanted}.`);
  };

export const whole = (least: number) =>
  number((n) => Number.isSafeInteger(n) && n >= least, `a whole number of at least ${least}`);

/** Refuses what no flag takes, throws instead of ending the process, and prints nothing itself. */
export const strict = (command: Command): Command =>
  command
    .allowExcessArguments(false)
    .showSuggestionAfterError(true)
    .configureOutput({ writeErr: () => {} })
    .exitOverride();

/** Runs `body`. The exit code: 0, or 2 with one line of explanation on stderr for a user's mistake. */
export async function exitCodeOf(body: () => Promise<void>): Promise<number> {
  try {
    await body();
    return 0;
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return 0;
    if (!(error instanceof CommanderError || error instanceof UserError)) throw error;
    console.error(`error: ${error.message.replace(/^error: /, "").replaceAll("\n", " ")}`);
    return 2;
  }
}
