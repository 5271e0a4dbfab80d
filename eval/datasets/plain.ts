/** The plain form of a question: one JSON object, with the field names that are common. */
import { z } from "zod";
import type { DataQuestion } from "./question.ts";

const text = z.string().trim().min(1);
const texts = z.union([z.string().transform((one) => [one]), z.array(z.string())]);

const fields = z.object({
  id: z.union([z.string().min(1), z.number().transform(String)]).nullish(),
  text: text.nullish(),
  question: text.nullish(),
  answers: texts.nullish(),
  answer: texts.nullish(),
  possible_answers: texts.nullish(),
  aliases: texts.nullish(),
  entity: z.string().nullish(),
  subj: z.string().nullish(),
  relation: z.string().nullish(),
  prop: z.string().nullish(),
  popularity: z.number().nullish(),
  s_pop: z.number().nullish(),
});

/**
 * The question in `value`, or what is wrong with it: `question` or `text`; the answers in `answers`,
 * `answer`, `possible_answers` and `aliases` (one or a list, together, in this order); `id`, else
 * `number`; where known `entity` or `subj`, `relation` or `prop`, `popularity` or `s_pop`.
 */
export function plainQuestion(value: unknown, number: string): DataQuestion | string {
  const parsed = fields.safeParse(value);
  if (!parsed.success) {
    const { path, message } = parsed.error.issues[0]!;
    return path.length > 0 ? `"${path.join(".")}": ${message}` : message;
  }
  const { id, question, text, entity, subj, relation, prop, popularity, s_pop, ...rest } =
    parsed.data;
  const asked = question ?? text;
  if (asked == null) return 'has neither "question" nor "text"';
  const lists = [rest.answers, rest.answer, rest.possible_answers, rest.aliases];
  const given = lists.flatMap((list) => list ?? []).map((answer) => answer.trim());
  const answers = [...new Set(given)].filter((answer) => answer !== "");
  if (answers.length === 0) return 'has no "answers" and no "answer"';
  return {
    ...{ id: id ?? number, question: asked, answers },
    ...known({ entity: entity ?? subj, relation: relation ?? prop }),
    ...known({ popularity: popularity ?? s_pop }),
  };
}

/** The fields that have a value. */
function known<T>(some: Record<string, T | null | undefined>): Record<string, T> {
  const entries = Object.entries(some).filter((entry): entry is [string, T] => entry[1] != null);
  return Object.fromEntries(entries);
}
