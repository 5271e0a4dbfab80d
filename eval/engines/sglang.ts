/** Sampling from an SGLang server by token ids, with its defaults taken care of. */

import type { SampleOptions } from "../../model/sample.ts";
import { excerpt } from "./http.ts";
import { CallFailure } from "./retry.ts";
import {
  type Completion,
  checkedCompletion,
  LostWeights,
  requestSeed,
  type Sampler,
} from "./sampler.ts";
import { openServer, type Server, type ServerOptions } from "./server.ts";
import { tokenSampler } from "./token_sampler.ts";

export interface SglangOptions extends ServerOptions {
  /**
   * The version that updateFromDisk gave the weights: a server that says it has another throws
   * LostWeights. One that says nothing is believed.
   */
  readonly version?: string;
}

const REMEDY = "unset SGLANG_RETURN_ORIGINAL_LOGPROB in the server's environment";

/**
 * `POST /generate` with input_ids: a prompt is repeated for each of its samples, each with a seed of
 * its own (which counts where the server runs with --enable-deterministic-inference). All filters
 * and penalties stand in the request, for the model's generation config fills in what is missing.
 * Not run against an SGLang server here: tested on its documented answers.
 */
export function sglangSampler(options: SglangOptions): Sampler {
  const server = openServer("SGLang", options);
  const { version } = options;
  return tokenSampler(server, {
    ...{ name: "SGLang", remedy: REMEDY },
    top: (prompt, temperature) => topLogProb(server, prompt, temperature),
    completions: (prompt, p, settings) => completions(server, version, prompt, p, settings),
  });
}

function samplingFields(options: SampleOptions) {
  const { temperature = 1, topK = 0, topP = 1, minP = 0, stopTokens = [] } = options;
  return {
    ...{ temperature, top_p: topP, top_k: topK === 0 ? -1 : topK, min_p: minP },
    ...{ repetition_penalty: 1, presence_penalty: 0, frequency_penalty: 0, min_new_tokens: 0 },
    ...{ max_new_tokens: options.maxNewTokens, stop_token_ids: stopTokens },
    ...{ ignore_eos: false, skip_special_tokens: false },
  };
}

function completions(
  server: Server,
  version: string | undefined,
  prompt: readonly number[],
  p: number,
  options: SampleOptions,
): Promise<Completion[]> {
  const { samplesPerPrompt: n = 1, seed = 0, step = 0 } = options;
  const first = (options.promptIds?.[p] ?? p) * n;
  const rows = Array.from({ length: n }, (_, s) => first + s);
  const body = {
    input_ids: rows.map(() => prompt),
    sampling_params: rows.map((row) => {
      return { ...samplingFields(options), sampling_seed: requestSeed(seed, step, row) };
    }),
    ...{ return_logprob: true, logprob_start_len: -1 },
  };
  return server.post("/generate", body, (answer) => {
    const found = answersOf(answer);
    for (const { weight_version: has = version } of found) {
      if (has === version || version === undefined) continue;
      throw new LostWeights(`SGLang at ${server.url} has weights "${has}", not "${version}"`);
    }
    if (found.length !== n) {
      throw new CallFailure("nonsense", `${found.length} completions where ${n} were asked for`);
    }
    return found.map((one) => checkedCompletion(rawOf(one), options));
  });
}

interface Meta {
  readonly weight_version?: unknown;
  readonly output_token_logprobs?: unknown;
  readonly output_top_logprobs?: unknown;
  readonly finish_reason?: { readonly type?: unknown } | null;
}

function answersOf(answer: unknown): Meta[] {
  const all = Array.isArray(answer) ? answer : [answer];
  return all.map((one) => {
    const meta: unknown = (one as { meta_info?: unknown } | null)?.meta_info;
    if (typeof meta === "object" && meta !== null) return meta as Meta;
    throw new CallFailure(
      "nonsense",
      `an answer without meta_info: ${excerpt(JSON.stringify(one))}`,
    );
  });
}

/** output_token_logprobs is a list of [log-probability, token id, text or null]. */
function rawOf({ output_token_logprobs: pairs, finish_reason }: Meta) {
  if (!Array.isArray(pairs)) {
    throw new CallFailure("nonsense", "an answer without output_token_logprobs");
  }
  return {
    tokens: pairs.map((pair: unknown) => (Array.isArray(pair) ? pair[1] : undefined)),
    logProbs: pairs.map((pair: unknown) => (Array.isArray(pair) ? pair[0] : undefined)),
    reason: finish_reason?.type,
  };
}

/** Log-probability of the likeliest token after `prompt`. */
function topLogProb(server: Server, prompt: readonly number[], temperature: number) {
  const body = {
    input_ids: [prompt],
    sampling_params: [samplingFields({ maxNewTokens: 1, temperature })],
    ...{ return_logprob: true, logprob_start_len: -1, top_logprobs_num: 1 },
  };
  return server.post("/generate", body, (answer) => {
    const tops: unknown = answersOf(answer)[0]!.output_top_logprobs;
    const value: unknown = Array.isArray(tops) ? tops[0]?.[0]?.[0] : undefined;
    if (typeof value === "number" && Number.isFinite(value)) return value;
    throw new CallFailure("nonsense", "an answer without output_top_logprobs");
  });
}
