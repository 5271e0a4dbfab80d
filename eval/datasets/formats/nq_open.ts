/** Natural Questions in the open-domain form, EfficientQA's sets, and DPR's files of two columns. */
import { z } from "zod";
import { type FormatReader, parsed, questionOf, text, texts } from "../fields.ts";

const schema = z.object({ question: text, answer: texts });

/**
 * `answer` is the list that scores count. What people judged right besides (EfficientQA's
 * `def_correct_predictions`) is no answer here: it is for studies of judges.
 */
export const nqOpen: FormatReader = {
  about: "NQ-open, EfficientQA: question, answer (a list); DPR's question and list, unnamed",
  source: "https://github.com/google-research-datasets/natural-questions/tree/master/nq_open",
  fields: Object.keys(schema.shape),
  isLike: ({ question, answer, ...rest }) => {
    const isList = Array.isArray(answer) || /^\s*\[\s*['"]/.test(`${answer}`);
    const others = Object.keys(rest).filter((name) => !name.endsWith("_correct_predictions"));
    return question !== undefined && isList && others.every((name) => /incorrect/.test(name));
  },
  read(fields, number) {
    const found = parsed(schema, fields);
    if (typeof found === "string") return found;
    return questionOf({ question: found.question, answers: found.answer }, number);
  },
};
