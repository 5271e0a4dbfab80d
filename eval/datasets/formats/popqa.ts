/** PopQA: one fact of Wikidata a row, with the page views of subject and object. */
import { z } from "zod";
import { amount, type FormatReader, key, parsed, questionOf, text, texts } from "../fields.ts";

const schema = z.object({
  id: key,
  question: text,
  possible_answers: texts,
  subj: z.string().nullish(),
  prop: z.string().nullish(),
  obj: z.string().nullish(),
  s_pop: amount,
});

/** `possible_answers` is a list in JSON within the TSV's cell; `obj`, where there, stands first. */
export const popqa: FormatReader = {
  about: "PopQA: question, possible_answers (a list), subj, prop, obj, s_pop",
  source: "https://github.com/AlexTMallen/adaptive-retrieval",
  fields: Object.keys(schema.shape),
  isLike: (fields) =>
    "question" in fields &&
    "possible_answers" in fields &&
    ["s_pop", "subj", "prop"].some((name) => name in fields),
  read(fields, number) {
    const found = parsed(schema, fields);
    if (typeof found === "string") return found;
    const { id, question, subj, prop, obj, s_pop, possible_answers } = found;
    // Only an object that is an answer: some rows have several facts behind one question.
    const first = possible_answers.filter((answer) => answer === obj);
    return questionOf(
      {
        ...{ id, question, entity: subj, relation: prop, popularity: s_pop },
        answers: [...first, ...possible_answers],
      },
      number,
    );
  },
};
