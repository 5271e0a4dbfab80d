/** Removes questions that two sets share: candidates by similarity, then a judge of each pair. */
import { type Interval, wilson } from "../statistics.ts";
import type { Embedder } from "./embed.ts";
import { type Level, levels, type PairJudge, type QaRecord } from "./pair_judge.ts";
import { similarPairs } from "./similar.ts";
import { plainText } from "./words.ts";

export interface DedupOptions {
  readonly embedder: Embedder;
  readonly judge: PairJudge;
  /** What may not be shared; a closer sharing may not either. */
  readonly level: Level;
  /** Least cosine of a candidate. Default 0.35. */
  readonly threshold?: number;
  /** Nearest questions looked at for each question. Default 50. */
  readonly neighbours?: number;
  /** Pairs that the judge gets at a time. Default 1024. */
  readonly batch?: number;
}

/** Why a question was removed: one question of the other set. */
export interface RemovedPair {
  readonly removed: string;
  readonly because: string;
  readonly level: Level;
  readonly similarity: number;
  readonly reason: string;
  readonly removedText: string;
  readonly becauseText: string;
}

export interface DedupResult {
  /** Ids of the questions that share nothing with the other set, in order. */
  readonly kept: readonly string[];
  /** All pairs of a removed question with a question of the other set. */
  readonly removed: readonly RemovedPair[];
  readonly counts: {
    readonly questions: number;
    readonly against: number;
    /** Pairs that were judged. */
    readonly candidates: number;
    /** Of these, found the same at any level. */
    readonly verified: number;
    readonly removedQuestions: number;
    readonly kept: number;
    /** Questions with more neighbours above the threshold than were looked at. */
    readonly crowded: number;
  };
}

/**
 * The questions of `records` that share no question, fact or entity (`level`) with `against`.
 * Candidates are pairs above the threshold among the nearest of either, and, whatever their
 * similarity, equal texts, equal entities, and mentions of an entity in texts that name none. Which pairs are found doesn't depend on which set is
 * named first. Throws where the judge gives another number of verdicts than it got pairs.
 */
export async function deduplicate(
  records: readonly QaRecord[],
  against: readonly QaRecord[],
  { embedder, judge, level, threshold = 0.35, neighbours = 50, batch = 1024 }: DedupOptions,
): Promise<DedupResult> {
  const always = equalKeys(records, against);
  const textOf = ({ text }: QaRecord) => text;
  const options = { threshold, neighbours, always };
  const found = await similarPairs(records.map(textOf), against.map(textOf), embedder, options);
  const removed: RemovedPair[] = [];
  let verified = 0;
  for (let from = 0; from < found.candidates.length; from += batch) {
    const pairs = found.candidates.slice(from, from + batch).map(({ a, b, similarity }) => {
      return { a: records[a]!, b: against[b]!, similarity };
    });
    const verdicts = await judge(pairs);
    if (verdicts.length !== pairs.length) {
      throw new Error(`dedup: the judge gave ${verdicts.length} verdicts on ${pairs.length} pairs`);
    }
    for (const [i, verdict] of verdicts.entries()) {
      if (verdict.level === null) continue;
      verified++;
      if (levels.indexOf(verdict.level) > levels.indexOf(level)) continue;
      const { a, b, similarity } = pairs[i]!;
      removed.push({
        removed: a.id,
        because: b.id,
        level: verdict.level,
        similarity,
        reason: verdict.reason,
        removedText: a.text,
        becauseText: b.text,
      });
    }
  }
  const gone = new Set(removed.map((pair) => pair.removed));
  const kept = records.map(({ id }) => id).filter((id) => !gone.has(id));
  const counts = {
    questions: records.length,
    against: against.length,
    candidates: found.candidates.length,
    verified,
    removedQuestions: records.length - kept.length,
    kept: kept.length,
    crowded: found.crowded,
  };
  return { kept, removed, counts };
}

/** Longest name of an entity, in words, that is looked for in texts. */
const LONGEST_NAME = 8;

/** For each record, the places in `against` of equal texts, equal entities, and their mentions. */
function equalKeys(records: readonly QaRecord[], against: readonly QaRecord[]) {
  const nameOf = ({ entity }: QaRecord) => plainText(entity ?? "");
  const [here, there] = [records, against].map((some) => new Set(some.map(nameOf))) as [
    Set<string>,
    Set<string>,
  ];
  const places = new Map<string, number[]>();
  const add = (key: string, place: number) => {
    const known = places.get(key);
    if (known === undefined) places.set(key, [place]);
    else known.push(place);
  };
  for (const [j, record] of against.entries()) {
    const name = nameOf(record);
    add(`text ${plainText(record.text)}`, j);
    if (name !== "") add(`about ${name}`, j);
    else for (const mention of mentionsOf(record, here)) add(`mentions ${mention}`, j);
  }
  return (i: number): number[] => {
    const record = records[i]!;
    const name = nameOf(record);
    const keys = [`text ${plainText(record.text)}`];
    if (name !== "") keys.push(`about ${name}`, `mentions ${name}`);
    else keys.push(...mentionsOf(record, there).map((mention) => `about ${mention}`));
    return keys.flatMap((key) => places.get(key) ?? []);
  };
}

/** Which of the names stand in the text, as whole words. */
function mentionsOf({ text }: QaRecord, names: ReadonlySet<string>): string[] {
  const words = plainText(text).split(" ");
  const found = words.flatMap((_, from) =>
    Array.from({ length: LONGEST_NAME }, (_, n) => words.slice(from, from + n + 1).join(" ")),
  );
  return [...new Set(found)].filter((phrase) => names.has(phrase));
}

export interface Share extends Interval {
  readonly successes: number;
  readonly trials: number;
  /** Null where there were no trials. */
  readonly rate: number | null;
}

/**
 * Precision (of the removed, the share that had to go) and recall (of those that had to go, the
 * share removed), with Wilson intervals. `shared`: ids whose true fact stands in the other set.
 */
export function precisionRecall(
  removed: ReadonlySet<string>,
  shared: ReadonlySet<string>,
): { readonly precision: Share; readonly recall: Share } {
  const right = [...removed].filter((id) => shared.has(id)).length;
  return { precision: shareOf(right, removed.size), recall: shareOf(right, shared.size) };
}

function shareOf(successes: number, trials: number): Share {
  const rate = trials === 0 ? null : successes / trials;
  return { successes, trials, rate, ...wilson(successes, trials) };
}
