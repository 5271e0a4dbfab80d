/** Whether a server's log-probabilities are those that it sampled from: asked of the server itself. */

import { UserError } from "../../model/errors.ts";

/** Where the two temperatures differ by less, the server takes none into account. */
const SAME = 0.02;
const HOT = 4;

/** What one token after a prompt is most likely, log-probability, at a temperature. */
export type TopLogProb = (temperature: number) => Promise<number>;

/**
 * Asks for the likeliest next token's log-probability at temperature 1 and 4. Taken from
 * softmax(logits / T) the second is much lower; equal ones come from logits before the temperature.
 * processed: after it. unclear: the token is too certain at both to tell.
 */
export async function logProbMode(top: TopLogProb): Promise<"processed" | "raw" | "unclear"> {
  const [cool, hot] = [await top(1), await top(HOT)];
  if (Math.abs(cool - hot) > SAME) return "processed";
  return cool > -1e-3 ? "unclear" : "raw";
}

/** Throws a UserError where they are raw: a ratio against them would be wrong at this temperature. */
export async function requireProcessed(
  top: TopLogProb,
  temperature: number,
  { name, remedy, print }: { name: string; remedy: string; print: (text: string) => void },
): Promise<void> {
  // At 1 both modes say the same, and greedy answers are compared at 1.
  if (temperature === 1 || temperature === 0) return;
  const mode = await logProbMode(top);
  if (mode === "processed") return;
  const why = `log-probabilities before the temperature of ${temperature}`;
  if (mode === "raw") throw new UserError(`${name} returns ${why}: ${remedy}`);
  print(`${name}: could not tell whether it returns ${why}; ${remedy}`);
}
