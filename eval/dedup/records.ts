/** Questions from JSON lines: the field names of the usual data sets, errors that name the line. */
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { z } from "zod";
import { fileError, UserError } from "../../model/errors.ts";
import type { QaRecord } from "./pair_judge.ts";

/** A question with the line that it was read from, to be written as it was. */
export interface QaLine extends QaRecord {
  readonly line: string;
}

const text = z.string().trim().min(1);
const texts = z.union([z.string().transform((one) => [one]), z.array(z.string())]);

const fields = z.object({
  id: z.union([z.string(), z.number().transform(String)]).optional(),
  text: text.optional(),
  question: text.optional(),
  answers: texts.optional(),
  answer: texts.optional(),
  possible_answers: texts.optional(),
  aliases: texts.optional(),
  entity: z.string().nullish(),
  subj: z.string().nullish(),
});

/**
 * One question a line, from a file that may be gzipped (.gz): `text` or `question`; the answers in
 * `answers`, `answer`, `possible_answers` and `aliases` (one or a list, together); `entity` or
 * `subj` where known; `id`, else the line's number. Blank lines are passed over. A UserError names
 * file and line of the first record that is none, and of an id that stands twice.
 */
export function readQuestions(path: string): QaLine[] {
  const records: QaLine[] = [];
  const lineOf = new Map<string, number>();
  for (const [i, line] of readText(path).split(/\r?\n/).entries()) {
    if (line.trim() === "") continue;
    const record = parseLine(line, `${path} line ${i + 1}`, `${i + 1}`);
    const before = lineOf.get(record.id);
    if (before !== undefined) {
      throw new UserError(`${path} line ${i + 1}: id "${record.id}" is that of line ${before}`);
    }
    lineOf.set(record.id, i + 1);
    records.push(record);
  }
  if (records.length === 0) throw new UserError(`${path} holds no questions`);
  return records;
}

function parseLine(line: string, where: string, number: string): QaLine {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw new UserError(`${where} is not JSON: ${(cause as Error).message}`, { cause });
  }
  const parsed = fields.safeParse(value);
  if (!parsed.success) {
    const { path, message } = parsed.error.issues[0]!;
    throw new UserError(`${where}: ${path.length > 0 ? `"${path.join(".")}": ` : ""}${message}`);
  }
  const { id = number, question, entity, subj, ...rest } = parsed.data;
  const asked = rest.text ?? question;
  if (asked === undefined) throw new UserError(`${where} has neither "text" nor "question"`);
  const lists = [rest.answers, rest.answer, rest.possible_answers, rest.aliases];
  const answers = lists.flatMap((list) => list ?? []);
  if (answers.length === 0) throw new UserError(`${where} has no "answers" and no "answer"`);
  return { id, text: asked, answers, entity: entity ?? subj ?? undefined, line };
}

function readText(path: string): string {
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(path);
    if (path.endsWith(".gz")) bytes = gunzipSync(bytes);
  } catch (error) {
    throw fileError(error, `cannot read ${path}`);
  }
  return new TextDecoder().decode(bytes);
}
