/** Rollouts: which questions a step asks, what the policy answers, and what that is paid. */

import type { Model } from "../eval/accuracy.ts";
import type { Sampler } from "../eval/engines/sampler.ts";
import type { Judgement } from "../eval/judge/judge.ts";
import type { Task, TaskQuestion } from "../eval/task.ts";
import { sequenceLogProbs } from "../model/score.ts";
import { randomStream } from "../tensor/mod.ts";
import { type BatchReward, pay, type Reward } from "./reward.ts";

export interface Rollout {
  readonly question: TaskQuestion;
  /** Token ids of the answer; the <eos> that ended it is part of it, and of the loss. */
  readonly tokens: readonly number[];
  /** log π(token) when it was sampled, as the trainer computes it. */
  readonly logProbs: readonly number[];
  /** The same as the engine that sampled it says; undefined: the trainer itself did. */
  readonly engineLogProbs?: readonly number[];
  /** False: cut off at the longest answer. */
  readonly finished: boolean;
  readonly text: string;
  readonly judgement: Judgement;
}

/**
 * The questions of a step: the training set in an order that is shuffled anew for each pass over
 * it. A function of (seed, step) alone, or of how many were asked before where steps ask different
 * numbers (`from`), so that a resumed run asks what the first would have asked.
 */
export function questionsOfStep(
  questions: readonly TaskQuestion[],
  options: { seed: number; step: number; count: number; from?: number },
): TaskQuestion[] {
  const { seed, step, count, from = step * count } = options;
  const orders = new Map<number, readonly TaskQuestion[]>();
  const orderOf = (pass: number): readonly TaskQuestion[] => {
    const known = orders.get(pass);
    if (known !== undefined) return known;
    const order = randomStream({ seed, purpose: "question order", step: pass }).shuffle(questions);
    orders.set(pass, order);
    return order;
  };
  return Array.from({ length: count }, (_, i) => {
    const at = from + i;
    return orderOf(Math.floor(at / questions.length))[at % questions.length]!;
  });
}

/**
 * A number or a list of them for each rollout, computed once for equal answers to one question:
 * what a model says of them is the same.
 */
export async function ofDistinct<R>(
  rollouts: readonly Rollout[],
  compute: (distinct: readonly Rollout[]) => Promise<readonly R[]>,
): Promise<R[]> {
  const places = new Map<string, number>();
  const distinct: Rollout[] = [];
  const place = rollouts.map((rollout) => {
    const key = `${rollout.question.id} ${rollout.tokens.join()}`;
    const known = places.get(key);
    if (known !== undefined) return known;
    places.set(key, distinct.length);
    return distinct.push(rollout) - 1;
  });
  const found = await compute(distinct);
  return place.map((i) => found[i]!);
}

/** log π of each token of each rollout, by teacher forcing. */
export const ownLogProbs = (
  { parameters, config }: Model,
  rollouts: readonly Rollout[],
  temperature: number,
): Promise<number[][]> =>
  ofDistinct(rollouts, (own) => {
    const prompts = own.map(({ question }) => question.prompt);
    const tokens = own.map((rollout) => rollout.tokens);
    return sequenceLogProbs(parameters, config, prompts, tokens, { temperature });
  });

/** Who answers. Of an engine, `trainer` is the model here whose weights it has. */
export interface RolloutSampler extends Sampler {
  readonly trainer?: Model;
}

export interface RolloutOptions {
  readonly groupSize: number;
  readonly temperature: number;
  readonly maxNewTokens: number;
  readonly seed: number;
  readonly step: number;
}

/** `groupSize` sampled answers to each question, one group behind the other, with their rewards. */
export async function rollOut(
  sampler: RolloutSampler,
  task: Task,
  questions: readonly TaskQuestion[],
  reward: Reward | BatchReward,
  options: RolloutOptions,
): Promise<Rollout[]> {
  const { groupSize, temperature, maxNewTokens, seed, step } = options;
  const samples = await sampler.sample(
    questions.map(({ prompt }) => prompt),
    {
      samplesPerPrompt: groupSize,
      temperature,
      maxNewTokens,
      stopTokens: task.stopTokens,
      seed,
      step,
      rowsPerBatch: 1024,
    },
  );
  const given = samples.tokens.map((tokens, row) => {
    return { question: questions[Math.floor(row / groupSize)]!, answer: task.answerText(tokens) };
  });
  const judgements = await pay(reward, given, step);
  const rollouts = given.map(({ question, answer: text }, row): Rollout => {
    const [tokens, logProbs] = [samples.tokens[row]!, samples.logProbs[row]!];
    const [finished, judgement] = [samples.finished[row]!, judgements[row]!];
    return { question, tokens, logProbs, finished, text, judgement };
  });
  if (sampler.trainer === undefined) return rollouts;
  const own = await ownLogProbs(sampler.trainer, rollouts, temperature);
  return rollouts.map((rollout, row) => {
    return { ...rollout, logProbs: own[row]!, engineLogProbs: rollout.logProbs };
  });
}
