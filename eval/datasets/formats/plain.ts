/** The plain form, which this project writes: any set with the usual field names is read by it. */
import { z } from "zod";
import { amount, type FormatReader, key, parsed, questionOf, text, texts } from "../fields.ts";

const schema = z.object({
  id: key,
  question: text.nullish(),
  text: text.nullish(),
  answers: texts.nullish(),
  answer: texts.nullish(),
  possible_answers: texts.nullish(),
  aliases: texts.nullish(),
  entity: z.string().nullish(),
  subj: z.string().nullish(),
  relation: z.string().nullish(),
  prop: z.string().nullish(),
  topic: z.string().nullish(),
  popularity: amount,
  s_pop: amount,
});

/**
 * `question` or `text`; the answers in `answers`, `answer`, `possible_answers` and `aliases` (one or
 * a list, together, in this order); where known `id`, `entity` or `subj`, `relation` or `prop`,
 * `topic`, `popularity` or `s_pop`.
 */
export const plain: FormatReader = {
  about: "question (or text), answers (or answer), entity and id where known",
  source: "this project",
  fields: Object.keys(schema.shape),
  isLike: (fields) =>
    ["question", "text"].some((name) => name in fields) &&
    ["answers", "answer", "possible_answers"].some((name) => name in fields),
  read(fields, number) {
    const found = parsed(schema, fields);
    if (typeof found === "string") return found;
    const question = found.question ?? found.text;
    if (question == null) return 'has neither "question" nor "text"';
    const lists = [found.answers, found.answer, found.possible_answers, found.aliases];
    if (lists.every((list) => list == null)) return 'has no "answers" and no "answer"';
    return questionOf(
      {
        ...found,
        question,
        answers: lists.flatMap((list) => list ?? []),
        entity: found.entity ?? found.subj,
        relation: found.relation ?? found.prop,
        popularity: found.popularity ?? found.s_pop,
      },
      number,
    );
  },
};
