/** Sampling from a vLLM server by token ids, with its two traps about defaults taken care of. */

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

export interface VllmOptions extends ServerOptions {
  /** Name of the served model, or of a LoRA adapter. */
  readonly model: string;
}

const REMEDY = "start vLLM with --logprobs-mode processed_logprobs";

/**
 * `POST /v1/completions` with prompts as token ids; one request a prompt, for the samples of a
 * request share its seed. Not run against a vLLM server here: tested on its documented answers.
 *
 * The traps: every filter and penalty stands in the request, so that the model's generation config
 * (vLLM's default) fills none in, and its stop tokens and lengths are refused where they show; and
 * before the first sample at a temperature other than 1 the server is asked whether its
 * log-probabilities are taken after the temperature (they are not by default).
 */
export function vllmSampler(options: VllmOptions): Sampler {
  const server = openServer("vLLM", options);
  const { model } = options;
  return tokenSampler(server, {
    ...{ name: "vLLM", what: `vLLM ${model}`, remedy: REMEDY },
    top: (prompt, temperature) => topLogProb(server, model, prompt, temperature),
    completions: (prompt, p, settings) => completions(server, model, prompt, p, settings),
  });
}

/** A completion request; LostWeights where the server doesn't know the model. */
function complete<T>(server: Server, body: { model: string }, read: (answer: unknown) => T) {
  return server.post("/v1/completions", body, read).catch((error: Error) => {
    const { cause } = error;
    if (!(cause instanceof CallFailure) || cause.status !== 404) throw error;
    throw new LostWeights(`vLLM at ${server.url} has no model "${body.model}": ${cause.message}`);
  });
}

/** Everything that a generation config could fill in otherwise. */
function samplingFields({ temperature = 1, topK = 0, topP = 1, minP = 0 }: SampleOptions) {
  return {
    ...{ temperature, top_p: topP, top_k: topK === 0 ? -1 : topK, min_p: minP },
    ...{ repetition_penalty: 1, presence_penalty: 0, frequency_penalty: 0, min_tokens: 0 },
    ignore_eos: false,
  };
}

function completions(
  server: Server,
  model: string,
  prompt: readonly number[],
  p: number,
  options: SampleOptions,
): Promise<Completion[]> {
  const { samplesPerPrompt: n = 1, maxNewTokens, stopTokens = [], seed = 0, step = 0 } = options;
  const body = {
    ...{ model, prompt: [prompt], n, max_tokens: maxNewTokens, stop_token_ids: stopTokens },
    ...samplingFields(options),
    seed: requestSeed(seed, step, (options.promptIds?.[p] ?? p) * n),
    ...{ logprobs: 0, return_token_ids: true, skip_special_tokens: false },
  };
  return complete(server, body, (answer) => {
    const choices = choicesOf(answer);
    if (choices.length !== n) {
      throw new CallFailure("nonsense", `${choices.length} completions where ${n} were asked for`);
    }
    return choices.map((choice) => readChoice(choice, prompt, options));
  });
}

interface Choice {
  readonly index?: unknown;
  readonly token_ids?: unknown;
  readonly prompt_token_ids?: unknown;
  readonly logprobs?: { readonly token_logprobs?: unknown; readonly top_logprobs?: unknown } | null;
  readonly finish_reason?: unknown;
}

/** The choices in the order of their index. */
function choicesOf(answer: unknown): Choice[] {
  const { choices } = (answer ?? {}) as { choices?: unknown };
  if (!Array.isArray(choices)) {
    throw new CallFailure(
      "nonsense",
      `an answer without choices: ${excerpt(JSON.stringify(answer))}`,
    );
  }
  const own = choices.map((choice) => (choice ?? {}) as Choice);
  return own.sort((a, b) => Number(a.index ?? 0) - Number(b.index ?? 0));
}

function readChoice(choice: Choice, prompt: readonly number[], options: SampleOptions): Completion {
  const { token_ids, prompt_token_ids, logprobs, finish_reason } = choice;
  if (token_ids === undefined || token_ids === null) {
    throw new CallFailure(
      "nonsense",
      "a completion without token_ids: this server does not know return_token_ids; a newer vLLM does",
    );
  }
  if (Array.isArray(prompt_token_ids) && `${prompt_token_ids}` !== `${prompt}`) {
    throw new CallFailure("nonsense", "a completion of another prompt than the one that was sent");
  }
  const raw = { tokens: token_ids, logProbs: logprobs?.token_logprobs, reason: finish_reason };
  return checkedCompletion(raw, options);
}

/** Log-probability of the likeliest token after `prompt`. */
function topLogProb(server: Server, model: string, prompt: readonly number[], temperature: number) {
  const body = {
    ...{ model, prompt: [prompt], n: 1, max_tokens: 1, seed: 0, logprobs: 1 },
    ...samplingFields({ maxNewTokens: 1, temperature }),
  };
  return complete(server, body, (answer) => {
    const tops = choicesOf(answer)[0]?.logprobs?.top_logprobs;
    const first: unknown = Array.isArray(tops) ? tops[0] : undefined;
    // A null is no 0, which would be a certain token.
    const values = Object.values((first ?? {}) as Record<string, unknown>);
    const top = Math.max(...values.filter((x) => typeof x === "number"));
    if (!Number.isFinite(top)) throw new CallFailure("nonsense", "an answer without top_logprobs");
    return top;
  });
}
