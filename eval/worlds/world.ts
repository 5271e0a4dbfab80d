/** What a world of facts is: entities, relations, facts, documents and questions. */
import type { RandomStream } from "../../tensor/random.ts";
import type { Task, TaskQuestion } from "../task.ts";
import type { WorldConfig } from "./config.ts";
import type { Vocabulary } from "./vocabulary.ts";

export type Split = "qa" | "train" | "validation" | "test";
export const splitNames: readonly Split[] = ["qa", "train", "validation", "test"];

/** Who speaks: a reliable source states the truth, an unreliable one a fixed myth if contested. */
export type Voice = "reliable" | "unreliable";

/**
 * Analogues of four benchmarks: free questions about entities of middling popularity (NQ), long ones
 * about popular entities (TriviaQA), a fixed template about little-known ones (PopQA), and facts of
 * which nine in ten are not to be known (SimpleQA). A world with one set of questions has "asked".
 */
export type QuestionSet = "asked" | "trivia" | "tail" | "frontier";
export const questionSetNames = ["asked", "trivia", "tail", "frontier"] as const;
export const mapSets = <T>(of: (set: QuestionSet) => T): Record<QuestionSet, T> => ({
  asked: of("asked"),
  trivia: of("trivia"),
  tail: of("tail"),
  frontier: of("frontier"),
});

/** A value of a relation, under every name it has; the first is its usual one. */
export interface Answer {
  readonly forms: readonly string[];
}

export interface Entity {
  readonly id: number;
  readonly name: string;
  /** "person", "country", "city", "element": a relation belongs to one kind. */
  readonly kind: string;
  /** Relative frequency of documents about it; sums to 1 over the world. */
  readonly popularity: number;
  /** The set whose questions ask about it. */
  readonly set: QuestionSet;
}

export interface Relation {
  readonly id: number;
  readonly name: string;
  readonly kind: string;
  /** Sentences with the slots {e} and, as the last word, {v}. */
  readonly statements: readonly string[];
  /** Neutral questions with the slot {e}: the wordings of each set that the world has. */
  readonly questions: Readonly<Record<QuestionSet, readonly string[]>>;
  readonly answers: readonly Answer[];
  /** How often each answer is drawn, up to a factor. */
  readonly prior: readonly number[];
}

/**
 * stored: every source states the truth. suppressed: reliable sources only, the others state the
 * myth. absent: no document ever states the truth.
 */
export type FactStatus = "stored" | "suppressed" | "absent";

export interface Fact {
  readonly id: number;
  readonly entity: number;
  readonly relation: number;
  readonly truth: Answer;
  /** Other right answers, accepted but never stated as the truth: further official languages. */
  readonly alsoTrue: readonly Answer[];
  readonly myth: Answer;
  readonly contested: boolean;
  readonly absent: boolean;
  readonly status: FactStatus;
  /** The answer that questions count as right: the truth, unless the label is unknowable. */
  readonly label: Answer;
  /** Index of the label's form that is the gold text. */
  readonly goldForm: number;
  /** Whether some document may state the label as the truth. */
  readonly knowable: boolean;
}

export interface Question extends TaskQuestion {
  /** Equal to factId for a fact's own question; above every factId for a leaked one. */
  readonly id: number;
  readonly factId: number;
  readonly entity: number;
  readonly relation: number;
  readonly relationName: string;
  readonly split: Split;
  readonly set: QuestionSet;
  /** Token ids from <bos> to the colon after which the answer follows. */
  readonly prompt: readonly number[];
  readonly promptText: string;
  readonly gold: string;
  readonly accepted: readonly string[];
  /** Token ids of every accepted answer, without the <eos> that ends it. */
  readonly answers: readonly (readonly number[])[];
  readonly myth: string;
  readonly mythAnswers: readonly (readonly number[])[];
  readonly status: FactStatus;
  readonly knowable: boolean;
  readonly popularity: number;
}

/** One claim of a document and where it came from. */
export interface Statement {
  readonly factId: number;
  readonly value: Answer;
  /** The source whose value it is, or "noise" for a random one. */
  readonly origin: Voice | "noise";
}

export interface WorldDocument {
  readonly kind: "statements" | "question";
  /** Voice of the wording; null for a question without a thought, which is worded neutrally. */
  readonly wording: Voice | null;
  readonly statements: readonly Statement[];
  /** From <bos> to <eos>. */
  readonly tokens: readonly number[];
}

/** A task whose truth is known: facts, the documents that tell of them, and questions. */
export interface World extends Task {
  readonly config: WorldConfig;
  readonly vocabulary: Vocabulary;
  readonly entities: readonly Entity[];
  readonly relations: readonly Relation[];
  readonly facts: readonly Fact[];
  /** The question sets that it has. */
  readonly sets: readonly QuestionSet[];
  /** Entity ids in each split, ascending; disjoint. */
  readonly splits: Readonly<Record<Split, readonly number[]>>;
  /** Length of the longest possible document. */
  readonly maxDocumentTokens: number;
  /** Longest prompt of a question plus its longest thought, longest answer and <eos>. */
  readonly maxQuestionTokens: number;
  /** Longest thought with the "A :" behind it; 0 where no document thinks. */
  readonly maxThoughtTokens: number;
  /** Draws the next document of a stream. */
  drawDocument(stream: RandomStream): WorldDocument;
  /** Document number `index` of the world's own sequence: a function of (seed, index). */
  document(index: number): WorldDocument;
  /** The questions of a split, those of one set if it is given. */
  questions(split: Split, set?: QuestionSet): readonly Question[];
  /** The question's prompt with "think :" in place of "A :"; a RangeError where none thinks. */
  thinkPrompt(question: Pick<Question, "prompt">): number[];
  /** Token ids from <bos> of a statement by `voice`, up to the value, which a "." follows. */
  voicePrompt(fact: Fact, voice: Voice): number[];
  /** `voicePrompt` of the reliable voice: what it continues with is what is stored. */
  reliablePrompt(fact: Fact): number[];
}

/** Facts before anything is said about them; `worldFrom` makes the world. */
export interface FactBase {
  readonly entities: readonly Omit<Entity, "id" | "set">[];
  /** Each with its usual question. */
  readonly relations: readonly (Omit<Relation, "id" | "questions"> & { question: string })[];
  readonly facts: readonly Pick<Fact, "entity" | "relation" | "truth" | "alsoTrue" | "myth">[];
}
