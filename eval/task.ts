/** What measuring and training need to know of a source of questions: a world, or a file of them. */
import type { Tokenizer } from "../model/tokenizer.ts";
import type { JudgedQuestion } from "./judge/judge.ts";
import type { FactStatus, QuestionSet, Split } from "./worlds/world.ts";

export interface TaskQuestion extends JudgedQuestion {
  /** No entity is asked about in two splits; its questions are resampled together. */
  readonly entity: number;
  readonly relation: number;
  readonly relationName: string;
  readonly split: Split;
  /** Token ids behind which the answer follows. */
  readonly prompt: readonly number[];
  readonly promptText: string;
  /** Token ids of each accepted answer, without the stop token that ends it. */
  readonly answers: readonly (readonly number[])[];
  /** What only a world's books tell; a file of questions has none of it. */
  readonly set?: QuestionSet;
  readonly status?: FactStatus;
  readonly myth?: string;
}

/**
 * Everything that sampling, rewards, methods and reports read. A world of facts is one (world.ts);
 * a file of questions with the tokenizer of a model is another (data_task.ts).
 */
export interface Task {
  readonly tokenizer: Tokenizer;
  /** Each of them ends an answer; the first is the one that ends a given (gold) answer. */
  readonly stopTokens: readonly number[];
  /** The questions of a split, those of one set if it is given. */
  questions(split: Split, set?: QuestionSet): readonly TaskQuestion[];
  /** Questions that name no entity: splits share none of their texts, and no more is known. */
  readonly unnamed?: number;
  /** What an answer says, as judges read it, without the token that ended it. */
  answerText(tokens: readonly number[]): string;
  /**
   * How to bring out what is stored without asking: only a world can say. Where it is there,
   * `answers` are also all the answers that are right, so that their probabilities add up.
   */
  readonly stored?: {
    /** Token ids behind which the model states what it stores. */
    prompt(question: TaskQuestion): readonly number[];
    /** Ends the statement. */
    readonly stopToken: number;
  };
}
