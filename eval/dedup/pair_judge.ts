/** Judges of pairs of questions: do they share a question, a fact, or an entity? */
import type { DataQuestion } from "../datasets/question.ts";
import { asksFor, contentWords, DocumentFrequencies, plainText } from "./words.ts";

export interface QaRecord {
  readonly id: string;
  readonly text: string;
  readonly answers: readonly string[];
  /** What the question is about, where the data set says so. */
  readonly entity?: string | undefined;
}

/** A question of a data set as it is compared. */
export const recordOf = ({ id, question, answers, entity }: DataQuestion): QaRecord => {
  return { id, text: question, answers, entity };
};

/**
 * What two questions share, the closest first: the same question (re-worded), the same fact (one
 * entity and relation, or one answer about one entity), the entity they ask about.
 */
export const levels = ["question", "fact", "entity"] as const;
export type Level = (typeof levels)[number];

export interface Pair {
  readonly a: QaRecord;
  readonly b: QaRecord;
  readonly similarity: number;
}

export interface PairVerdict {
  /** The closest level at which the two are the same; null: they share nothing. */
  readonly level: Level | null;
  readonly reason: string;
}

/** A verdict for each pair, in order. Asynchronous and batched, so that a model can be one. */
export type PairJudge = (pairs: readonly Pair[]) => Promise<readonly PairVerdict[]>;

/** Share of weighted words from which two questions have one wording, or one relation. */
const SAME_WORDS = 0.5;
/** A word in this share of the texts, or in this many, may name an entity. */
const [RARE_SHARE, RARE_COUNT] = [0.01, 4];
/** So may one in this many times the texts of the question's rarest: names of common words. */
const RARE_TIMES = 4;

interface Prepared {
  readonly text: string;
  /** "who", "when", "where", "how", "why"; null of what could be any. */
  readonly asks: string | null;
  readonly words: ReadonlySet<string>;
  readonly answers: ReadonlySet<string>;
  readonly entity: string | null;
  /** Stand for the entity where none is given: rare words and numbers. */
  readonly names: ReadonlySet<string>;
}

/**
 * The judge by rules: similarity of word vectors or letters can't tell "same relation, other
 * entity" from a re-wording, so the entity has to be shared, and for a fact the answer or the
 * relation. The entity is the record's; where one record has none, a mention of the other's; where
 * both have none, all rare words and numbers of one question in the other. `records`: both sets, to
 * know which words are rare; of fewer than some dozens all are. Two questions that name each other's answers ask one fact from both
 * sides.
 */
export function ruleJudge(records: readonly QaRecord[]): PairJudge {
  const frequencies = new DocumentFrequencies(records.map(({ text }) => text));
  const known = new Map<QaRecord, Prepared>();
  const prepared = (record: QaRecord): Prepared => {
    const found = known.get(record) ?? prepare(record, frequencies);
    known.set(record, found);
    return found;
  };
  const weigh = (word: string) => frequencies.inverse(word);
  return async (pairs) => pairs.map(({ a, b }) => judge(prepared(a), prepared(b), weigh));
}

function prepare({ text, answers, entity }: QaRecord, frequencies: DocumentFrequencies): Prepared {
  const words = new Set(contentWords(text));
  const rarest = Math.min(...[...words].map((word) => frequencies.of(word)));
  const rare = Math.max(RARE_COUNT, RARE_SHARE * frequencies.texts, RARE_TIMES * rarest);
  const isName = (word: string) => /^\d+$/.test(word) || frequencies.of(word) <= rare;
  const normalised = answers.map(plainText).filter((answer) => answer !== "");
  return {
    text: ` ${plainText(text)} `,
    asks: asksFor(text),
    words,
    answers: new Set(normalised),
    entity: plainText(entity ?? "") || null,
    names: new Set([...words].filter(isName)),
  };
}

function judge(a: Prepared, b: Prepared, weigh: (word: string) => number): PairVerdict {
  if (a.text === b.text) return { level: "question", reason: "the same words" };
  const answer = [...a.answers].find((name) => b.answers.has(name));
  const entity = sharedEntity(a, b);
  if (entity === null) {
    const turned = namesAnAnswer(a, b) && namesAnAnswer(b, a);
    if (turned) return { level: "fact", reason: "each names an answer of the other" };
    return { level: null, reason: "no entity in common" };
  }
  const about = `both about "${entity.name}"`;
  if (answer !== undefined && likeness(a.words, b.words, weigh) >= SAME_WORDS) {
    return { level: "question", reason: `${about}, in like words, answered "${answer}"` };
  }
  if (answer !== undefined) return { level: "fact", reason: `${about}, answered "${answer}"` };
  if (sameRelation(a, b, entity.words, weigh)) {
    return { level: "fact", reason: `${about}, the same relation, other answers` };
  }
  return { level: "entity", reason: `${about}, another relation and answer` };
}

/** The entity that both ask about, with the words that name it in a question; or null. */
function sharedEntity(a: Prepared, b: Prepared) {
  const named = (name: string) => ({ name, words: new Set(contentWords(name)) });
  if (a.entity !== null && b.entity !== null) return a.entity === b.entity ? named(a.entity) : null;
  if (a.entity !== null) return mentions(b, a.entity) ? named(a.entity) : null;
  if (b.entity !== null) return mentions(a, b.entity) ? named(b.entity) : null;
  const [few, many] = a.names.size <= b.names.size ? [a, b] : [b, a];
  if (few.names.size === 0 || ![...few.names].every((name) => many.names.has(name))) return null;
  return { name: [...few.names].join(" "), words: few.names };
}

/** Whether, besides the entity's words, the two have like words and don't ask "when" and "where". */
function sameRelation(
  a: Prepared,
  b: Prepared,
  entity: ReadonlySet<string>,
  weigh: (word: string) => number,
): boolean {
  if (a.asks !== null && b.asks !== null && a.asks !== b.asks) return false;
  const rest = ({ words }: Prepared) => new Set([...words].filter((word) => !entity.has(word)));
  const [first, second] = [rest(a), rest(b)];
  if (first.size === 0 && second.size === 0) return true;
  return likeness(first, second, weigh) >= SAME_WORDS;
}

/** Whether `name`, normalised, stands in the text as whole words. */
const mentions = ({ text }: Prepared, name: string): boolean => text.includes(` ${name} `);

/** Whether a's text names an answer of b that is none of a's own, as "Nissan Sunny" does Nissan. */
const namesAnAnswer = (a: Prepared, b: Prepared): boolean =>
  [...b.answers].some((answer) => !a.answers.has(answer) && mentions(a, answer));

/** Weighted Jaccard: weight of the words in both over weight of the words in either; 0 of none. */
function likeness(a: ReadonlySet<string>, b: ReadonlySet<string>, weigh: (word: string) => number) {
  const total = (words: Iterable<string>) => [...words].reduce((sum, word) => sum + weigh(word), 0);
  const both = total([...a].filter((word) => b.has(word)));
  const either = total(new Set([...a, ...b]));
  return either === 0 ? 0 : both / either;
}
