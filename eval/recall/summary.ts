/** The figures of a measurement: greedy, thinking, votes, pass@k, and how accessible answers are. */

import { accessibilityBins } from "../accessibility.ts";
import { passAtK } from "../pass_at_k.ts";
import { bootstrapByEntity, type Interval, type McNemar, mcnemar, wilson } from "../statistics.ts";
import type { Proportion } from "../table.ts";
import { voteCurve } from "../vote.ts";
import type { JudgedAnswers, Verdict } from "./judged.ts";

/** A share of n questions; `n` leaves out those without a verdict. */
export interface Share extends Proportion {
  readonly n: number;
}

export interface BinRow {
  /** Right samples: "0", "3-4", "≥65". */
  readonly bin: string;
  readonly n: number;
  readonly share: number;
  /** Of these, answered rightly by greedy decoding; null where there are none. */
  readonly greedy: number | null;
  readonly interval: Interval;
}

export interface RecallSummary {
  readonly questions: number;
  readonly entities: number;
  readonly samples: number;
  readonly greedy: Share;
  readonly thought: (Share & { readonly against: McNemar }) | null;
  readonly passAtK: Readonly<Record<string, Share>>;
  readonly vote: Readonly<Record<string, Share>>;
  /** Questions by their right samples, over those of which every sample has a verdict. */
  readonly bins: readonly BinRow[];
  /** Share of the samples that were cut off at the longest answer; null without samples. */
  readonly cut: number | null;
  /** Answers on which the judge gave no verdict: in no figure. */
  readonly unjudged: number;
  readonly groups: readonly { readonly name: string; readonly greedy: Share }[];
}

export interface SummaryOptions {
  readonly samples: number;
  readonly seed: number;
  /** Whether answers can be told apart and counted; not where they are whole continuations. */
  readonly votes: boolean;
}

const RESAMPLES = 2000;

export function summariseRecall(
  all: readonly JudgedAnswers[],
  { samples, seed, votes }: SummaryOptions,
): RecallSummary {
  const powers = [...powersUpTo(samples)];
  const budgets = votes ? powers : [];
  const sampled = all.filter(({ judged }) => judged > 0);
  const passes = powers.map((k) => {
    const own = sampled.filter(({ judged }) => judged >= k);
    const values = own.map(({ judged, right }) => passAtK(judged, right, k));
    return [String(k), meanShare(own, values, seed)] as const;
  });
  const voted = budgets.map((budget) => {
    const own = sampled.filter(({ judged }) => judged >= budget);
    const values = own.map(({ ballots }) => voteCurve([ballots], { budgets: [budget], seed }));
    return [
      String(budget),
      meanShare(
        own,
        values.map(([point]) => point!.value),
        seed,
      ),
    ] as const;
  });
  const verdicts = all.flatMap((own) => [own.greedy, ...thoughtOf(own), ...own.samples]);
  const drawn = samples * all.length;
  return {
    ...{ questions: all.length, samples },
    entities: new Set(all.map(({ entity }) => entity)).size,
    greedy: shareOf(all.map(({ greedy }) => greedy)),
    thought: thinking(all),
    passAtK: Object.fromEntries(passes.filter(hasAny)),
    vote: Object.fromEntries(voted.filter(hasAny)),
    bins:
      samples === 0
        ? []
        : binsOf(
            all.filter(({ judged }) => judged === samples),
            samples,
          ),
    cut: drawn === 0 ? null : all.reduce((total, { cut }) => total + cut, 0) / drawn,
    unjudged: verdicts.filter(({ correct }) => correct === null).length,
    groups: groupsOf(all),
  };
}

const hasAny = ([, { n }]: readonly [string, Share]): boolean => n > 0;

function* powersUpTo(most: number) {
  for (let k = 1; k <= most; k *= 2) yield k;
}

const thoughtOf = ({ thought }: JudgedAnswers): Verdict[] => (thought ? [thought] : []);

/** With Wilson's interval. */
function shareOf(verdicts: readonly Verdict[]): Share {
  const known = verdicts.filter(({ correct }) => correct !== null);
  const right = known.filter(({ correct }) => correct).length;
  const n = known.length;
  return { value: n === 0 ? Number.NaN : right / n, ...wilson(right, n), n };
}

/** A mean over questions, its interval by resampling entities. */
function meanShare(own: readonly JudgedAnswers[], values: readonly number[], seed: number): Share {
  if (own.length === 0) return { value: Number.NaN, low: 0, high: 1, n: 0 };
  const rows = own.map(({ entity }, i) => ({ entity, values: [values[i]!, 1] }));
  const mean = (sums: Float64Array) => sums[0]! / sums[1]!;
  const { estimate, low, high } = bootstrapByEntity(rows, mean, { seed, resamples: RESAMPLES });
  return { value: estimate, low, high, n: own.length };
}

/** Greedy answers after thinking, against those without, on the questions that have both. */
function thinking(all: readonly JudgedAnswers[]): RecallSummary["thought"] {
  const both = all.flatMap(({ greedy, thought }) =>
    greedy.correct === null || thought === undefined || thought.correct === null
      ? []
      : [{ before: greedy.correct, after: thought.correct, thought }],
  );
  if (both.length === 0) return null;
  const against = mcnemar(
    both.map(({ before }) => before),
    both.map(({ after }) => after),
  );
  return { ...shareOf(both.map(({ thought }) => thought)), against };
}

function binsOf(all: readonly JudgedAnswers[], samples: number): BinRow[] {
  return accessibilityBins(samples).map(({ label, low, high }) => {
    const own = all.filter(({ right }) => right >= low && right <= high);
    const greedy = shareOf(own.map((question) => question.greedy));
    const { n } = greedy;
    return {
      ...{ bin: label, n: own.length, share: all.length === 0 ? 0 : own.length / all.length },
      ...{
        greedy: n === 0 ? null : greedy.value,
        interval: { low: greedy.low, high: greedy.high },
      },
    };
  });
}

/** Greedy accuracy by relation, and by quarters of popularity, where the set has them. */
function groupsOf(all: readonly JudgedAnswers[]): RecallSummary["groups"] {
  const relations = Map.groupBy(all, ({ data }) => data.relation ?? "");
  const byRelation = relations.size < 2 ? [] : [...relations].toSorted(byCount);
  return [...byRelation, ...quarters(all)].map(([name, own]) => {
    return { name: name || "(none)", greedy: shareOf(own.map(({ greedy }) => greedy)) };
  });
}

type Group = readonly [name: string, own: readonly JudgedAnswers[]];
const byCount = (a: Group, b: Group): number => b[1].length - a[1].length;

function quarters(all: readonly JudgedAnswers[]): Group[] {
  const known = all.filter(({ data }) => data.popularity !== undefined);
  if (known.length < 8) return [];
  const order = known.toSorted((a, b) => a.data.popularity! - b.data.popularity!);
  return [0, 1, 2, 3].map((q): Group => {
    const own = order.slice(
      Math.round((q * order.length) / 4),
      Math.round(((q + 1) * order.length) / 4),
    );
    const [low, high] = [own[0]!.data.popularity!, own.at(-1)!.data.popularity!];
    return [`popularity ${low} to ${high}`, own];
  });
}
