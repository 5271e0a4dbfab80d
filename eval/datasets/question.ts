/** What a question set is read into: questions, and what could not be read, with its line. */
import type { Format } from "./formats.ts";

/** A question of a data set, whatever file it came from. */
export interface DataQuestion {
  /** The file's own id; else "#" and the number of its row, from 1. */
  readonly id: string;
  readonly question: string;
  /** Every accepted text, each once, the one that the set prefers first; never empty. */
  readonly answers: readonly string[];
  /** What the question is about, where the set says so. */
  readonly entity?: string | undefined;
  /** What is asked about it, in the set's own name: PopQA's `prop`, EntityQuestions' "P17". */
  readonly relation?: string | undefined;
  /** A heading that the set has for it: SimpleQA's topic. */
  readonly topic?: string | undefined;
  /** Popularity of the entity where the set has one: PopQA's `s_pop`, page views a month. */
  readonly popularity?: number | undefined;
}

/** One row that is no question, or has the id of an earlier one: counted, told, and left out. */
export interface Problem {
  /** Line of the file on which the row begins, from 1; of parquet, the row. */
  readonly line: number;
  /** To be read behind "line 7". */
  readonly message: string;
}

/** How rows are kept in a file; each may be gzipped. */
export const containers = ["jsonl", "json", "csv", "tsv", "parquet"] as const;
export type Container = (typeof containers)[number];

export interface ReadOptions {
  /** "auto", the default: that of the first row which is in a known one. */
  readonly format?: Format | "auto";
  /** Questions after which no more is read. Default all. */
  readonly limit?: number;
  /** Told each problem as it is met, of which `problems` keeps the first hundred. */
  readonly onProblem?: (problem: Problem) => void;
  /** Makes the first problem an error. */
  readonly strict?: boolean;
}

/** `questions.length + problemCount + blanks` is `rows`. */
export interface QuestionFile {
  readonly questions: readonly DataQuestion[];
  readonly format: Format;
  readonly container: Container;
  /** Rows that were read, whatever came of them. */
  readonly rows: number;
  /** Of these, empty lines. */
  readonly blanks: number;
  /** The first hundred problems. */
  readonly problems: readonly Problem[];
  readonly problemCount: number;
}
