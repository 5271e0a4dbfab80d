/** Answers that people have judged: EfficientQA's file, read line by line. */

import { z } from "zod";
import { UserError } from "../../model/errors.ts";
import { openRows } from "../datasets/open.ts";
import type { JudgeItem } from "./prompt.ts";

export const opinions = ["right", "possible", "wrong"] as const;
/** definitely correct, possibly correct, definitely incorrect. */
export type Opinion = (typeof opinions)[number];

export interface HumanVerdict extends JudgeItem {
  readonly opinion: Opinion;
}

const row = z.object({
  question: z.string().min(1),
  answer: z.array(z.string()).min(1),
  def_correct_predictions: z.array(z.string()),
  poss_correct_predictions: z.array(z.string()),
  def_incorrect_predictions: z.array(z.string()),
});

/**
 * Every judged prediction of a file in the format of NQ-open.efficientqa.test.1.1.jsonl (gzipped or
 * not). The first accepted answer stands as gold. A UserError names the first line that is none.
 */
export async function readHumanVerdicts(path: string): Promise<HumanVerdict[]> {
  const { container, rows } = await openRows(path);
  if (container !== "jsonl") throw new UserError(`${path} is ${container}, expected JSON lines`);
  const found: HumanVerdict[] = [];
  for await (const { value, line, fault, blank } of rows) {
    if (fault !== undefined) throw new UserError(`${path} line ${line} ${fault}`);
    if (blank) continue;
    const parsed = row.safeParse(value);
    if (!parsed.success) {
      const { path: field, message } = parsed.error.issues[0]!;
      throw new UserError(`${path} line ${line}: "${field.join(".")}": ${message}`);
    }
    const { question, answer: accepted, ...lists } = parsed.data;
    const of = (opinion: Opinion, answers: readonly string[]) =>
      answers.map((answer) => ({ question, gold: accepted[0]!, accepted, answer, opinion }));
    found.push(
      ...of("right", lists.def_correct_predictions),
      ...of("possible", lists.poss_correct_predictions),
      ...of("wrong", lists.def_incorrect_predictions),
    );
  }
  if (found.length === 0) throw new UserError(`${path} holds no judged answers`);
  return found;
}
