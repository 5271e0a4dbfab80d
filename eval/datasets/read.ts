/** Reads a question set: rows of a file, streamed, into questions and problems. */
import { UserError } from "../../model/errors.ts";
import { bytesOf, linesOf } from "./bytes.ts";
import { plainQuestion } from "./plain.ts";
import type { DataQuestion, Problem, QuestionFile, ReadOptions } from "./question.ts";

/** Problems of which the text is kept. */
const KEPT = 100;

/**
 * Reads JSON lines, one question a line. A row that is no question, and one that has the id of an
 * earlier one, is a problem: counted, told, and left out. UserErrors: the file can't be read, no
 * row is a question, or `strict` and there is a problem.
 */
export async function readQuestionFile(
  path: string,
  { limit = Number.POSITIVE_INFINITY, onProblem, strict = false }: ReadOptions = {},
): Promise<QuestionFile> {
  const questions: DataQuestion[] = [];
  const problems: Problem[] = [];
  const lineOf = new Map<string, number>();
  let [rows, blanks, problemCount] = [0, 0, 0];
  const report = (line: number, message: string) => {
    if (strict) throw new UserError(`${path} line ${line} ${message}`);
    if (problemCount++ < KEPT) problems.push({ line, message });
    onProblem?.({ line, message });
  };
  for await (const { number, text, fault } of linesOf(bytesOf(path))) {
    rows++;
    if (fault === undefined && text.trim() === "") {
      blanks++;
      continue;
    }
    const found = fault ?? parse(text, `${number}`);
    if (typeof found === "string") report(number, found);
    else if (lineOf.has(found.id)) {
      report(number, `has the id "${found.id}", which is that of line ${lineOf.get(found.id)}`);
    } else {
      lineOf.set(found.id, number);
      questions.push(found);
    }
    if (questions.length >= limit) break;
  }
  if (questions.length === 0) throw new UserError(noQuestion(path, rows, problems[0]));
  return { questions, format: "plain", rows, blanks, problems, problemCount };
}

/** The question on a line, or what is wrong with it. */
function parse(line: string, number: string): DataQuestion | string {
  try {
    return plainQuestion(JSON.parse(line), number);
  } catch (error) {
    return `is not JSON: ${(error as Error).message}`;
  }
}

function noQuestion(path: string, rows: number, first: Problem | undefined): string {
  const why = first === undefined ? "" : `; line ${first.line} ${first.message}`;
  return `${path} holds no questions: ${rows} rows${why}`;
}
