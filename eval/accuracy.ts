/** How well a model recalls: greedy answers, counts of right samples, exact answer probabilities. */

import type { ModelConfig } from "../model/config.ts";
import type { Lora } from "../model/lora.ts";
import type { ParameterTree } from "../model/parameters.ts";
import { sequenceLogProbs } from "../model/score.ts";
import { localSampler, type Sampler } from "./engines/sampler.ts";
import type { Judge } from "./judge/judge.ts";
import type { Task, TaskQuestion } from "./task.ts";

export interface Model {
  readonly parameters: ParameterTree;
  readonly config: ModelConfig;
  /** Adapters that are trained in place of the parameters, which hold the merged weights. */
  readonly lora?: Lora | undefined;
  /** Answers where the weights are elsewhere: a server trains them, and `parameters` has none. */
  readonly sampler?: Sampler | undefined;
}

const samplerOf = (model: Model): Sampler => model.sampler ?? localSampler(model);

/** What every measurement is given. */
export interface Asked<T extends Task = Task> {
  readonly model: Model;
  readonly task: T;
  readonly questions: readonly TaskQuestion[];
  readonly judge: Judge;
  readonly maxNewTokens: number;
}

export interface GreedyAnswer {
  readonly text: string;
  readonly correct: boolean;
}

/** The model's one most likely answer to each question, decoded greedily. */
export async function greedyAnswers(asked: Asked): Promise<GreedyAnswer[]> {
  const { task, questions, judge } = asked;
  const { tokens } = await samplerOf(asked.model).sample(prompts(questions), {
    maxNewTokens: asked.maxNewTokens,
    temperature: 0,
    stopTokens: task.stopTokens,
  });
  return questions.map((question, i) => {
    const text = task.answerText(tokens[i]!);
    return { text, correct: judge(question, text).correct };
  });
}

export interface SampledOptions {
  readonly samples: number;
  readonly temperature: number;
  readonly seed: number;
  /** Tells two measurements apart: the same number gives the same samples again. */
  readonly step: number;
  readonly onProgress?: (questions: number) => void | Promise<void>;
}

/** Questions in work at a time: bounds the memory of the caches, changes no result. */
const CHUNK = 16;

export interface SampledAnswer {
  readonly text: string;
  /** False: cut off at the longest answer. */
  readonly finished: boolean;
}

/** Draws `samples` answers to each question, at the rollouts' own settings, and hands them on. */
export async function eachSampled(
  { model, task, questions, maxNewTokens }: Omit<Asked, "judge">,
  options: SampledOptions,
  take: (question: TaskQuestion, answers: readonly SampledAnswer[]) => void,
): Promise<void> {
  const { samples, temperature, seed, step } = options;
  for (let from = 0; from < questions.length; from += CHUNK) {
    const some = questions.slice(from, from + CHUNK);
    const { tokens, finished } = await samplerOf(model).sample(prompts(some), {
      ...{ maxNewTokens, samplesPerPrompt: samples, temperature },
      stopTokens: task.stopTokens,
      ...{ seed, step },
      promptIds: some.map(({ id }) => id),
      rowsPerBatch: 2048,
    });
    some.forEach((question, i) => {
      const rows = Array.from({ length: samples }, (_, s) => i * samples + s);
      take(
        question,
        rows.map((row) => ({
          text: task.answerText(tokens[row]!),
          finished: finished[row]!,
        })),
      );
    });
    await options.onProgress?.(Math.min(from + CHUNK, questions.length));
  }
}

/** How many of `samples` answers to each question are right. */
export async function countCorrect(asked: Asked, options: SampledOptions): Promise<number[]> {
  const counts: number[] = [];
  await eachSampled(asked, options, (question, answers) => {
    const verdicts = new Map<string, boolean>();
    let correct = 0;
    for (const { text } of answers) {
      const known = verdicts.get(text) ?? asked.judge(question, text).correct;
      verdicts.set(text, known);
      if (known) correct++;
    }
    counts.push(correct);
  });
  return counts;
}

/**
 * The probability that one sample is right: Σ over the accepted answers of P(answer <eos> | prompt),
 * by teacher forcing. Exact, so pass@k = 1 - (1-p)^k needs no sampling.
 */
export async function answerProbabilities(
  { model, task, questions, maxNewTokens }: Omit<Asked, "judge">,
  temperature: number,
): Promise<number[]> {
  const rows = questions.flatMap(({ prompt, answers }, question) =>
    answers
      .map((answer) => [...answer, task.stopTokens[0]!])
      .filter((completion) => completion.length <= maxNewTokens)
      .map((completion) => ({ question, prompt, completion })),
  );
  const found = await sequenceLogProbs(
    model.parameters,
    model.config,
    rows.map((row) => row.prompt),
    rows.map((row) => row.completion),
    { temperature },
  );
  const probabilities = questions.map(() => 0);
  rows.forEach(({ question }, i) => {
    probabilities[question]! += Math.exp(found[i]!.reduce((total, x) => total + x, 0));
  });
  return probabilities;
}

/**
 * Which facts the model continues rightly after a reliable source's statement: what is stored,
 * whether or not a question brings it out. undefined where the task cannot tell.
 */
export async function storedFacts({
  model,
  task: { stored },
  questions,
}: Asked): Promise<boolean[] | undefined> {
  if (stored === undefined) return undefined;
  const longest = Math.max(1, ...questions.flatMap(({ answers }) => answers.map((a) => a.length)));
  const { tokens } = await samplerOf(model).sample(
    questions.map((question) => stored.prompt(question)),
    { maxNewTokens: longest + 1, temperature: 0, stopTokens: [stored.stopToken] },
  );
  return questions.map(({ answers }, i) => {
    const said = tokens[i]!.filter((token) => token !== stored.stopToken).join();
    return answers.some((answer) => answer.join() === said);
  });
}

const prompts = (questions: readonly TaskQuestion[]): (readonly number[])[] =>
  questions.map(({ prompt }) => prompt);
