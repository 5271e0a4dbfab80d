/** From what was said to what is right: answers are read, judged once each, and counted. */

import type { DataQuestion } from "../datasets/question.ts";
import type { AsyncJudge } from "../judge/llm.ts";
import { readAnswer } from "../prompt.ts";
import { type Ballot, ballotKey } from "../vote.ts";
import { type Answers, type RecallPrompts, type Said, thinkingFirst } from "./respond.ts";

/** An answer with its verdict; null where the judge gave none. */
export interface Verdict {
  readonly text: string;
  readonly correct: boolean | null;
}

/** A question as it was answered. */
export interface JudgedAnswers {
  readonly data: DataQuestion;
  /** Questions of one entity are resampled together. */
  readonly entity: number;
  readonly greedy: Verdict;
  readonly thought: Verdict | undefined;
  /** Samples with a verdict, and how many of them are right. */
  readonly judged: number;
  readonly right: number;
  /** The samples in their order, as votes; those without a verdict are left out. */
  readonly ballots: readonly Ballot[];
  readonly samples: readonly Verdict[];
  /** Samples that were cut off at the longest answer. */
  readonly cut: number;
}

export interface Answered {
  readonly data: DataQuestion;
  readonly entity: number;
  readonly answers: Answers;
}

/** Judges everything in one batch, equal answers to a question once. */
export async function judgeAnswers(
  all: readonly Answered[],
  prompts: RecallPrompts,
  judge: AsyncJudge,
): Promise<JudgedAnswers[]> {
  const thinking = thinkingFirst(prompts);
  const read = (said: Said, think: boolean) => readAnswer(think ? thinking : prompts, said.text);
  const texts = all.map(({ answers: { greedy, samples, thought } }) => ({
    greedy: read(greedy, false),
    thought: thought && read(thought, true),
    samples: samples.map((said) => read(said, false)),
  }));
  const items = all.flatMap(({ data }, i) => {
    const { greedy, thought, samples } = texts[i]!;
    const distinct = new Set([greedy, ...(thought === undefined ? [] : [thought]), ...samples]);
    return [...distinct].map((answer) => ({ i, data, answer }));
  });
  const verdicts = await judge(
    items.map(({ data: { question, answers }, answer }) => {
      return { question, gold: answers[0]!, accepted: answers, answer };
    }),
  );
  const found = all.map(() => new Map<string, boolean | null>());
  items.forEach(({ i, answer }, k) => {
    const { score, correct } = verdicts[k]!;
    found[i]!.set(answer, score === null ? null : correct);
  });
  return all.map(({ data, entity, answers }, i): JudgedAnswers => {
    const of = (text: string): Verdict => ({ text, correct: found[i]!.get(text) ?? null });
    const { greedy, thought, samples } = texts[i]!;
    const own = samples.map(of);
    const ballots = own.flatMap(({ text, correct }, s): Ballot[] => {
      const { finished } = answers.samples[s]!;
      return correct === null ? [] : [{ key: ballotKey({ text, finished }), correct }];
    });
    return {
      ...{ data, entity, greedy: of(greedy), ballots, samples: own },
      thought: thought === undefined ? undefined : of(thought),
      judged: ballots.length,
      right: ballots.filter(({ correct }) => correct).length,
      cut: answers.samples.filter(({ finished }) => !finished).length,
    };
  });
}
