/** Reads a question set: the rows of a file into questions and problems, one by one or all. */
import { UserError } from "../../model/errors.ts";
import { count } from "../table.ts";
import type { Fields } from "./fields.ts";
import { type Format, formatOf, formatReaders } from "./formats.ts";
import { openRows, stemOf } from "./open.ts";
import type { Container, DataQuestion, Problem, QuestionFile, ReadOptions } from "./question.ts";
import type { Row } from "./rows.ts";

/** Problems of which the text is kept. */
const KEPT = 100;

/** What became of one row. */
export interface QuestionRow {
  readonly row: Row;
  readonly container: Container;
  /** The format, from the first row on that is in a known one. */
  readonly format: Format | undefined;
  readonly question?: DataQuestion;
  /** To be read behind "line 7". */
  readonly problem?: string;
}

/**
 * The rows of a file in turn, gzipped or not: JSON lines, a JSON list, CSV, TSV (none of them is
 * taken into memory), parquet. How rows are kept is told by the contents, the format by the first
 * row that is in a known one. A row with the id of an earlier one is a problem. UserErrors: the file
 * can't be read, or not as rows.
 */
export async function* questionRows(
  path: string,
  { format = "auto" }: Pick<ReadOptions, "format"> = {},
): AsyncGenerator<QuestionRow> {
  const { container, rows } = await openRows(path);
  const stem = stemOf(path);
  const lineOf = new Map<string, number>();
  let known = format === "auto" ? undefined : format;
  for await (const row of rows) {
    if (known === undefined && isRecord(row.value)) known = formatOf(row.value, stem);
    const found = row.blank ? undefined : questionIn(row, known, stem);
    const outcome = { row, container, format: known };
    if (found === undefined) yield outcome;
    else if (typeof found === "string") yield { ...outcome, problem: found };
    else if (lineOf.has(found.id)) {
      const first = lineOf.get(found.id);
      yield { ...outcome, problem: `has the id "${found.id}", which is that of line ${first}` };
    } else {
      lineOf.set(found.id, row.line);
      yield { ...outcome, question: found };
    }
  }
}

const isRecord = (value: unknown): value is Fields =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** The question in a row, or what is wrong with it. */
function questionIn(row: Row, format: Format | undefined, stem: string): DataQuestion | string {
  if (row.fault !== undefined) return row.fault;
  const { value } = row;
  if (!isRecord(value)) return "is no record with named fields";
  if (format !== undefined) return formatReaders[format].read(value, `#${row.number}`, stem);
  const names = Object.keys(value);
  const some = names.slice(0, 6).map(shortened).join(", ");
  return `is in no known format: its fields are ${some}${names.length > 6 ? ", …" : ""}`;
}

const shortened = (name: string): string =>
  JSON.stringify(name.length > 30 ? `${name.slice(0, 30)}…` : name);

/**
 * Reads a whole file, see `questionRows`. A problem is counted, told, and left out. UserErrors
 * besides: no row is a question; `strict`, and there is a problem.
 */
export async function readQuestionFile(
  path: string,
  { format, limit = Number.POSITIVE_INFINITY, onProblem, strict = false }: ReadOptions = {},
): Promise<QuestionFile> {
  const questions: DataQuestion[] = [];
  const problems: Problem[] = [];
  let [rows, blanks, problemCount] = [0, 0, 0];
  let last: QuestionRow | undefined;
  for await (const outcome of questionRows(path, format === undefined ? {} : { format })) {
    rows++;
    last = outcome;
    const { question, problem: message, row } = outcome;
    if (question !== undefined) questions.push(question);
    else if (message === undefined) blanks++;
    else {
      if (strict) throw new UserError(`${path} line ${row.line} ${message}`);
      if (problemCount++ < KEPT) problems.push({ line: row.line, message });
      onProblem?.({ line: row.line, message });
    }
    if (questions.length >= limit) break;
  }
  if (questions.length === 0 || last?.format === undefined) {
    throw new UserError(noQuestion(path, rows, problems[0]));
  }
  const { container } = last;
  return { questions, format: last.format, container, rows, blanks, problems, problemCount };
}

/** One line on what of a file was left out; undefined where nothing was. */
export function problemText(
  path: string,
  { rows, problems, problemCount }: Pick<QuestionFile, "rows" | "problems" | "problemCount">,
): string | undefined {
  if (problemCount === 0) return undefined;
  const { line, message } = problems[0]!;
  const left = `${count(problemCount)} of ${count(rows)} rows left out`;
  return `${path}: ${left}, the first at line ${line}: ${message}`;
}

function noQuestion(path: string, rows: number, first: Problem | undefined): string {
  const why = first === undefined ? "" : `; line ${first.line} ${first.message}`;
  return `${path} holds no questions: ${rows} ${rows === 1 ? "row" : "rows"}${why}`;
}
