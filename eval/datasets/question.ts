/** What a question set is read into: questions, and what could not be read, with its line. */

/** A question of a data set, whatever file it came from. */
export interface DataQuestion {
  /** The file's own id, else the number of its line (JSON lines, CSV, TSV) or of its row. */
  readonly id: string;
  readonly question: string;
  /** Every accepted text, the one that the set prefers first; never empty. */
  readonly answers: readonly string[];
  /** What the question is about, where the set says so. */
  readonly entity?: string | undefined;
  /** What is asked about it, in the set's own name: PopQA's `prop`, EntityQuestions' "P17". */
  readonly relation?: string | undefined;
  /** Popularity of the entity where the set has one: PopQA's `s_pop`, page views a month. */
  readonly popularity?: number | undefined;
}

/** One row that could not be read: reported, counted, and left out. */
export interface Problem {
  /** Line of the file at which the row begins, from 1; of parquet, the row. */
  readonly line: number;
  readonly message: string;
}

/** How a set names its fields. */
export const formats = ["plain"] as const;
export type Format = (typeof formats)[number];

export interface ReadOptions {
  /** "auto", the default: recognised from the first rows. */
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
  /** Rows that were read, whatever came of them. */
  readonly rows: number;
  /** Of these, empty lines. */
  readonly blanks: number;
  /** The first hundred rows that are no question, or have the id of an earlier one. */
  readonly problems: readonly Problem[];
  readonly problemCount: number;
}
