/** What the formats read their fields by: texts, lists that may be text themselves, numbers. */
import { z } from "zod";
import { pythonValue } from "./python.ts";
import type { DataQuestion } from "./question.ts";

/** Fields of a record by name. */
export type Fields = Readonly<Record<string, unknown>>;

/** How one data set names its fields. */
export interface FormatReader {
  /** One line for the help text. */
  readonly about: string;
  /** Where the format is described. */
  readonly source: string;
  /** Fields that are read: of parquet, no other column is. */
  readonly fields: readonly string[];
  /** Whether a record is of this format. `stem`: the file's name without endings. */
  readonly isLike: (fields: Fields, stem: string) => boolean;
  /** The question in a record; or what is wrong with it, to be read behind "line 7". */
  readonly read: (fields: Fields, id: string, stem: string) => DataQuestion | string;
}

/** A text that is not empty, without the white space around it. */
export const text = z.string().trim().min(1);

/** An id may be a number. */
export const key = z.union([text, z.number().transform(String)]).nullish();

/** A number, which in CSV is text. */
export const amount = z
  .union([z.number(), text.transform((some) => Number(some)).pipe(z.number())])
  .nullish();

/** Texts; one alone; or a list in JSON or Python within a text, as CSV has it. */
export const texts = z.union([
  z.array(z.string()),
  z.string().transform((some, context) => {
    if (!/^\s*\[\s*(['"]|\]\s*$)/.test(some)) return [some];
    const list = z.array(z.string()).safeParse(listIn(some));
    if (list.success) return list.data;
    context.addIssue({ code: "custom", message: "a list of texts that is not complete" });
    return z.NEVER;
  }),
]);

function listIn(some: string): unknown {
  for (const read of [JSON.parse, pythonValue]) {
    try {
      return read(some);
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
    }
  }
  return undefined;
}

/** The fields as `schema` has them, or which of them is wrong and how. */
export function parsed<T>(schema: z.ZodType<T>, fields: Fields): T | string {
  const found = schema.safeParse(fields);
  if (found.success) return found.data;
  const { path, message } = found.error.issues[0]!;
  const name = path.map(String).join(".");
  const isMissing = path.length === 1 && fields[String(path[0])] === undefined;
  if (isMissing) return `has no "${name}"`;
  return `has no fitting "${name}": ${message}`;
}

export interface Found {
  readonly id?: string | null | undefined;
  readonly question: string;
  readonly answers: readonly string[];
  readonly entity?: string | null | undefined;
  readonly relation?: string | null | undefined;
  readonly topic?: string | null | undefined;
  readonly popularity?: number | null | undefined;
}

/** The question with what is known of it; or what it lacks: an answer, or well-formed Unicode. */
export function questionOf(found: Found, number: string): DataQuestion | string {
  const answers = [...new Set(found.answers.map((answer) => answer.trim()))];
  const given = answers.filter((answer) => answer !== "");
  if (given.length === 0) return "has no answer";
  const id = found.id ?? number;
  const isBroken = (some: string) => !some.isWellFormed();
  if ([id, found.question, ...given].some(isBroken)) {
    return "has half of a character (a surrogate without the other)";
  }
  const { entity, relation, topic, popularity } = found;
  const optional = { entity: entity || null, relation: relation || null, topic: topic || null };
  const known = Object.entries({ ...optional, popularity }).filter(([, some]) => some != null);
  return { id, question: found.question, answers: given, ...Object.fromEntries(known) };
}
