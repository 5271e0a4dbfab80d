/** Who answers when recall is measured: a model in this process, or one behind a server. */

import { loadModel } from "../../model/checkpoint.ts";
import { UserError } from "../../model/errors.ts";
import { disposeParameters } from "../../model/parameters.ts";
import { progressLine } from "../../model/progress_line.ts";
import { sample } from "../../model/sample.ts";
import type { DataQuestion } from "../datasets/question.ts";
import { mapLimited } from "../engines/limits.ts";
import type { TextSampler } from "../engines/sampler.ts";
import {
  type PromptForm,
  type PromptSettings,
  promptMessages,
  promptText,
  stopText,
} from "../prompt.ts";
import { type PromptTokens, promptFormOf, promptTokens } from "../prompt_tokens.ts";

/** What a model said, before anything is read out of it. */
export interface Said {
  readonly text: string;
  /** False: cut off at the longest answer. */
  readonly finished: boolean;
}

/** All that one question is asked for. */
export interface Answers {
  readonly greedy: Said;
  readonly samples: readonly Said[];
  /** Greedy, after it was asked to think first; undefined where it was not. */
  readonly thought?: Said | undefined;
}

/** A question and its place in the file, by which its random draws are told apart. */
export interface Numbered {
  readonly place: number;
  readonly data: DataQuestion;
}

/** Prompts of both kinds: plain, and those that ask to think first (null: the form's own words). */
export interface RecallPrompts extends PromptSettings {
  readonly thinkText?: string | null;
}

/** The same prompts, asking to think first. */
export const thinkingFirst = ({ thinkText, ...prompts }: RecallPrompts): PromptSettings => ({
  ...prompts,
  text: thinkText ?? null,
  think: true,
});

export interface Plan {
  readonly samples: number;
  readonly temperature: number;
  readonly maxNewTokens: number;
  /** Longest thought with its answer, in tokens; 0: no thinking. */
  readonly thinkTokens: number;
  readonly seed: number;
}

export interface Responder extends Disposable {
  readonly name: string;
  readonly prompts: RecallPrompts;
  /** Whether a question's prompt leaves room for its answer. */
  fits(question: string, plan: Plan): boolean;
  /** Answers to all questions; each is handed on as soon as it is whole. */
  answer(
    questions: readonly Numbered[],
    plan: Plan,
    take: (question: Numbered, answers: Answers) => void,
  ): Promise<void>;
}

/** Questions that go through a model at a time. */
const CHUNK = 16;
// Steps of the random streams, as in a training run's measurements.
const SAMPLES = 1_000_000;

/** A model's folder. A UserError where it has no tokenizer, or names no stop token. */
export function localResponder(
  folder: string,
  settings: Omit<RecallPrompts, "form"> & { readonly form: PromptForm | "auto" },
): Responder {
  const { config, parameters, tokenizer } = loadModel(folder, {
    onProgress: progressLine(`reading ${folder}`),
  });
  if (tokenizer === undefined) {
    throw new UserError(`${folder} has no tokenizer.json: questions can't become tokens`);
  }
  const prompts = { ...settings, form: promptFormOf(settings.form, tokenizer) };
  const plain = promptTokens(prompts, config, tokenizer);
  const thinking = promptTokens(thinkingFirst(prompts), config, tokenizer);
  const most = config.max_position_embeddings;
  const said = async (
    own: PromptTokens,
    asked: readonly Numbered[],
    { temperature, samples, maxNewTokens, seed }: Omit<Plan, "thinkTokens">,
  ): Promise<Said[][]> => {
    const found = await sample(
      parameters,
      config,
      asked.map(({ data }) => own.prompt(data.question)),
      {
        ...{ maxNewTokens, temperature, samplesPerPrompt: samples, seed, step: SAMPLES },
        ...{ stopTokens: own.stopTokens, promptIds: asked.map(({ place }) => place) },
        rowsPerBatch: 2048,
      },
    );
    return asked.map((_, i) =>
      Array.from({ length: samples }, (_, s) => {
        const row = i * samples + s;
        return { text: own.words(found.tokens[row]!), finished: found.finished[row]! };
      }),
    );
  };
  return {
    name: folder,
    prompts,
    fits: (question, { maxNewTokens, thinkTokens }) =>
      plain.prompt(question).length + maxNewTokens - 1 <= most &&
      (thinkTokens === 0 || thinking.prompt(question).length + thinkTokens - 1 <= most),
    async answer(questions, plan, take) {
      const once = { ...plan, samples: 1, temperature: 0 };
      for (let from = 0; from < questions.length; from += CHUNK) {
        const some = questions.slice(from, from + CHUNK);
        const greedy = await said(plain, some, once);
        const samples = plan.samples === 0 ? [] : await said(plain, some, plan);
        const longer = { ...once, maxNewTokens: plan.thinkTokens };
        const thought = plan.thinkTokens === 0 ? [] : await said(thinking, some, longer);
        some.forEach((question, i) => {
          const own = { greedy: greedy[i]![0]!, samples: samples[i] ?? [] };
          take(question, { ...own, thought: thought[i]?.[0] });
        });
      }
    },
    [Symbol.dispose]: () => disposeParameters(parameters),
  };
}

/** A model behind a server: conversations in the form chat, else beginnings to be continued. */
export function servedResponder(
  sampler: TextSampler,
  prompts: RecallPrompts,
  concurrency: number,
): Responder {
  const ask = async (
    { place, data }: Numbered,
    think: boolean,
    options: { samples: number; temperature: number; maxNewTokens: number; seed: number },
  ): Promise<Said[]> => {
    const settings = think ? thinkingFirst(prompts) : prompts;
    const prompt =
      prompts.form === "chat"
        ? promptMessages(settings, data.question)
        : promptText(settings, data.question);
    const stop = stopText(settings);
    const { samples, temperature, maxNewTokens, seed } = options;
    const [found] = await sampler.sampleText([prompt], {
      ...{ samplesPerPrompt: samples, temperature, maxNewTokens, seed, step: SAMPLES },
      ...{ promptIds: [place], ...(stop !== null && { stop: [stop] }) },
    });
    return found!.map(({ text, finished }) => ({ text, finished }));
  };
  return {
    name: sampler.name,
    prompts,
    fits: () => true,
    async answer(questions, plan, take) {
      const once = { ...plan, samples: 1, temperature: 0 };
      await mapLimited(questions, concurrency, async (question) => {
        const [greedy] = await ask(question, false, once);
        const samples = plan.samples === 0 ? [] : await ask(question, false, plan);
        const longer = { ...once, maxNewTokens: plan.thinkTokens };
        const thought = plan.thinkTokens === 0 ? [] : await ask(question, true, longer);
        take(question, { greedy: greedy!, samples, thought: thought[0] });
      });
    },
    [Symbol.dispose]() {},
  };
}
