/** What samples answers: a model in this process, or an engine over HTTP; token ids or text. */

import type { ModelConfig } from "../../model/config.ts";
import { UserError } from "../../model/errors.ts";
import type { ParameterTree } from "../../model/parameters.ts";
import { type SampleOptions, type Samples, sample } from "../../model/sample.ts";
import { randomStream } from "../../tensor/mod.ts";
import type { Message } from "./openai.ts";
import { CallFailure } from "./retry.ts";

/**
 * Token ids in, token ids out, never text between: a text that is tokenised again need not give the
 * same tokens. What it gives is what model/sample.ts gives: the stop token stays in, the
 * log-probabilities are those of softmax(logits / temperature) without filters.
 */
export interface Sampler {
  /** For headers and messages. */
  readonly name: string;
  readonly sample: (
    prompts: readonly (readonly number[])[],
    options: SampleOptions,
  ) => Promise<Samples>;
}

/**
 * The server has other weights than those that it was handed, or none of that name: it was started
 * anew, or somebody else handed it theirs. Handing over again helps, trying again does not.
 */
export class LostWeights extends UserError {}

interface LocalModel {
  readonly parameters: ParameterTree;
  readonly config: ModelConfig;
}

/** The model in this process, with the weights that it has when it is asked. */
export const localSampler = ({ parameters, config }: LocalModel): Sampler => ({
  name: "this process",
  sample: (prompts, options) => sample(parameters, config, prompts, options),
});

/** A prompt in words: a conversation, or a beginning that is to be continued. */
export type TextPrompt = string | readonly Message[];

export interface TextOptions {
  readonly samplesPerPrompt: number;
  readonly temperature: number;
  readonly maxNewTokens: number;
  readonly topP?: number;
  readonly stop?: readonly string[];
  readonly seed: number;
  /** Tells two measurements apart. */
  readonly step?: number;
  /** Tells prompts apart in their seeds; default the index. */
  readonly promptIds?: readonly number[];
  readonly onProgress?: (prompts: number) => void;
}

export interface TextSample {
  readonly text: string;
  /** False: cut off at maxNewTokens. */
  readonly finished: boolean;
  /** log π of its tokens, where the server says it. */
  readonly logProbs: readonly number[] | null;
}

/** Words in and words out, for measuring a model that is served without its token ids. */
export interface TextSampler {
  readonly name: string;
  /** `samplesPerPrompt` samples of each prompt, in the prompts' order. */
  readonly sampleText: (
    prompts: readonly TextPrompt[],
    options: TextOptions,
  ) => Promise<TextSample[][]>;
}

/**
 * Seed of sample `row` of a request: engines whose samples of one request share a seed, or of two
 * requests, draw the same answers twice.
 */
export function requestSeed(seed: number, step: number, row: number): number {
  return randomStream({ seed, purpose: "engine", step, row }).int(2 ** 31);
}

/**
 * Whether a text ended by itself, by the reason that its server gives. A CallFailure where it was
 * given up half-way (vLLM and SGLang while they are shut down, routers whose own server fails): such
 * a fragment is no answer, and is asked for again.
 */
export function finishedBy(reason: unknown): boolean {
  if (reason === "abort" || reason === "error") {
    throw new CallFailure("nonsense", `an answer that ended because of "${reason}"`);
  }
  return reason !== "length";
}

/** One completion as an engine reports it, before it is believed. */
export interface RawCompletion {
  readonly tokens: unknown;
  readonly logProbs: unknown;
  /** "stop", "length", or anything else that the engine says. */
  readonly reason: unknown;
}

export interface Completion {
  readonly tokens: number[];
  readonly logProbs: number[];
  readonly finished: boolean;
}

/**
 * A completion that holds what a trainer relies on: as many log-probabilities as tokens, finite and
 * not above 0; ended by the first token of `stopTokens`, which stays in, or at `maxNewTokens`. A
 * CallFailure of nonsense says what it is instead, and of what server setting it may come.
 */
export function checkedCompletion(
  { tokens, logProbs, reason }: RawCompletion,
  { maxNewTokens, stopTokens = [] }: Pick<SampleOptions, "maxNewTokens" | "stopTokens">,
): Completion {
  const wrong = (text: string): never => {
    throw new CallFailure("nonsense", text);
  };
  const isId = (x: unknown) => Number.isInteger(x) && (x as number) >= 0;
  if (!Array.isArray(tokens) || tokens.length === 0 || !tokens.every(isId)) {
    return wrong("a completion without token ids");
  }
  if (!Array.isArray(logProbs) || logProbs.length !== tokens.length) {
    const have = Array.isArray(logProbs) ? `${logProbs.length}` : "no";
    return wrong(`${have} log-probabilities for ${tokens.length} tokens`);
  }
  // vLLM writes -9999 for minus infinity, which no sampled token has.
  const bad = logProbs.find((x) => typeof x !== "number" || !(x > -9999 && x < 1e-3));
  if (bad !== undefined) return wrong(`a log-probability of ${JSON.stringify(bad)}`);
  const last = tokens.at(-1) as number;
  if (tokens.length > maxNewTokens) {
    return wrong(`${tokens.length} tokens where ${maxNewTokens} were asked for at most`);
  }
  const early = tokens.findIndex((token) => stopTokens.includes(token));
  if (early !== -1 && early < tokens.length - 1) {
    return wrong(
      `a completion that goes on behind the stop token ${tokens[early]}: ${tokens.length - 1 - early} ` +
        "tokens more; the server does not read the stop tokens that it is sent",
    );
  }
  const finished = early !== -1;
  if (finished || (reason === "length" && tokens.length === maxNewTokens)) {
    return { tokens, logProbs: logProbs.map((x) => Math.min(x, 0)), finished };
  }
  if (reason === "length") {
    return wrong(
      `a completion cut off at ${tokens.length} of ${maxNewTokens} tokens: the server's longest ` +
        "context or its generation config (max_new_tokens) is shorter; raise the one, switch off the other",
    );
  }
  if (reason === "stop") {
    return wrong(
      `a completion that ended with token ${last}, which is none of the stop tokens ${stopTokens}: ` +
        "the server's generation config has others, or it keeps the stop token back",
    );
  }
  return wrong(`a completion that ended because of ${JSON.stringify(reason)}`);
}
