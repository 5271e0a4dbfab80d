/** SimpleQA: the official CSV, whose metadata is a Python dictionary, and lines with its parts. */
import { z } from "zod";
import { type FormatReader, key, parsed, questionOf, text, texts } from "../fields.ts";
import { pythonValue } from "../python.ts";

const schema = z.object({
  id: key,
  original_index: key,
  problem: text.nullish(),
  question: text.nullish(),
  answer: texts,
  metadata: z.unknown().optional(),
  topic: z.string().nullish(),
  answer_type: z.string().nullish(),
});

/** The one answer, and `topic`; a metadata cell that can't be read is a fault of the row. */
export const simpleqa: FormatReader = {
  about: "SimpleQA: problem (or question), answer, metadata (or topic, answer_type)",
  source: "https://github.com/openai/simple-evals",
  fields: Object.keys(schema.shape),
  isLike: (fields) =>
    "answer" in fields &&
    ("problem" in fields || ("question" in fields && "topic" in fields && "answer_type" in fields)),
  read(fields, number) {
    const found = parsed(schema, fields);
    if (typeof found === "string") return found;
    const question = found.problem ?? found.question;
    if (question == null) return 'has no "problem"';
    const topic = found.topic ?? topicIn(found.metadata);
    if (topic instanceof SyntaxError) return `has a "metadata" that is no record: ${topic.message}`;
    const id = found.id ?? found.original_index;
    return questionOf({ id, question, answers: found.answer, topic }, number);
  },
};

/** The topic of metadata, which is a record, or a Python dictionary within a text. */
function topicIn(metadata: unknown): string | undefined | SyntaxError {
  let value = metadata;
  try {
    if (typeof value === "string") value = pythonValue(value);
  } catch (error) {
    if (error instanceof SyntaxError) return error;
    throw error;
  }
  if (value == null) return undefined;
  const topic = value instanceof Map ? value.get("topic") : (value as { topic?: unknown }).topic;
  return typeof topic === "string" ? topic : undefined;
}
