/** TriviaQA: the official JSON with its aliases, Hugging Face's names for them, and flat lines. */
import { z } from "zod";
import { type FormatReader, key, parsed, questionOf, text, texts } from "../fields.ts";
import { normalisedAs } from "../normalise.ts";

const names = texts.nullish();
const answer = z.object({
  Value: text.nullish(),
  value: text.nullish(),
  Aliases: names,
  aliases: names,
  NormalizedAliases: names,
  normalized_aliases: names,
  HumanAnswers: names,
});
const schema = z.object({
  Question: text.nullish(),
  question: text.nullish(),
  QuestionId: key,
  question_id: key,
  id: key,
  Answer: answer.nullish(),
  answer: z.union([texts, answer]).nullish(),
  aliases: names,
});

/**
 * Answers: the value, the aliases, the answers of people; then those normalised aliases that are the
 * normal form of none of these. The official test split has no answers.
 */
export const triviaqa: FormatReader = {
  about: "TriviaQA: Question, Answer with Value, Aliases, NormalizedAliases; or its flat forms",
  source: "https://github.com/mandarjoshi90/triviaqa",
  fields: Object.keys(schema.shape),
  isLike: (fields) => {
    if ("Question" in fields && ("Answer" in fields || "QuestionId" in fields)) return true;
    if (!("question" in fields)) return false;
    const { answer, aliases } = fields;
    const isRecord = typeof answer === "object" && answer !== null && "aliases" in answer;
    return isRecord || (typeof answer === "string" && aliases !== undefined);
  },
  read(fields, number) {
    const found = parsed(schema, fields);
    if (typeof found === "string") return found;
    const question = found.Question ?? found.question;
    if (question == null) return 'has no "Question"';
    const given = found.Answer ?? found.answer;
    if (given == null) return 'has no "Answer"';
    const id = found.QuestionId ?? found.question_id ?? found.id;
    return questionOf({ id, question, answers: answersIn(given, found.aliases ?? []) }, number);
  },
};

function answersIn(given: z.infer<typeof answer> | string[], aliases: readonly string[]): string[] {
  if (Array.isArray(given)) return [...given, ...aliases];
  const value = given.Value ?? given.value;
  const lists = [given.Aliases, given.aliases, given.HumanAnswers];
  const all = [...(value == null ? [] : [value]), ...lists.flatMap((list) => list ?? [])];
  const normal = new Set(all.map(normalisedAs.triviaqa));
  const official = given.NormalizedAliases ?? given.normalized_aliases ?? [];
  return [...all, ...official.filter((alias) => !normal.has(alias)), ...aliases];
}
