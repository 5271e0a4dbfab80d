/** Sampling text from any OpenAI-compatible server: conversations, or beginnings to be continued. */

import { excerpt } from "./http.ts";
import { mapLimited } from "./limits.ts";
import { type ChatReply, openChat } from "./openai.ts";
import { CallFailure, Retries } from "./retry.ts";
import {
  finishedBy,
  requestSeed,
  type TextOptions,
  type TextPrompt,
  type TextSample,
  type TextSampler,
} from "./sampler.ts";
import { openServer, type ServerOptions } from "./server.ts";

export interface TextServerOptions extends ServerOptions {
  readonly model: string;
  /** Whether to ask for log-probabilities; default false. */
  readonly logProbs?: boolean;
}

/** One request: up to `n` samples of a prompt. */
type Request = (
  prompt: TextPrompt,
  n: number,
  seed: number,
  options: TextOptions,
) => Promise<readonly TextSample[]>;

/** `POST /v1/chat/completions`: a string is one message of the user. */
export async function chatSampler(options: TextServerOptions): Promise<TextSampler> {
  const { model, key = process.env.OPENAI_API_KEY, timeoutSeconds = 600, logProbs } = options;
  const name = `${model} at ${options.url}`;
  const chat = await openChat({ url: options.url, model, key, timeoutSeconds });
  const retries = new Retries({
    ...{ name, patience: options.patience ?? {}, print: options.print },
    requestsPerMinute: options.requestsPerMinute,
    ...(options.clock && { clock: options.clock }),
  });
  const request: Request = (prompt, n, seed, { temperature, maxNewTokens, topP, stop }) => {
    const messages =
      typeof prompt === "string" ? [{ role: "user" as const, content: prompt }] : prompt;
    const asked = { messages, maxTokens: maxNewTokens, temperature, n, seed };
    const more = {
      ...(topP !== undefined && { topP }),
      ...(stop && { stop }),
      ...(logProbs && { logProbs }),
    };
    return retries.call((signal) => chat({ ...asked, ...more }, signal)) as Promise<ChatReply[]>;
  };
  return samplerOf(name, request, options.concurrency ?? 32);
}

/** `POST /v1/completions`: for models that continue a text; a conversation is refused. */
export function completionSampler(options: TextServerOptions): TextSampler {
  const { model, key = process.env.OPENAI_API_KEY, logProbs = false } = options;
  const server = openServer(model, { ...options, key });
  const request: Request = (prompt, n, seed, settings) => {
    if (typeof prompt !== "string") {
      throw new TypeError("completionSampler continues texts; chatSampler takes conversations");
    }
    const { temperature, maxNewTokens, topP, stop = [] } = settings;
    const body = {
      ...{ model, prompt, n, max_tokens: maxNewTokens, temperature, seed },
      ...(topP !== undefined && { top_p: topP }),
      ...(stop.length > 0 && { stop }),
      ...(logProbs && { logprobs: 0 }),
    };
    return server.post("/v1/completions", body, readCompletions);
  };
  return samplerOf(`${model} at ${server.url}`, request, server.concurrency);
}

interface Choice {
  readonly text?: unknown;
  readonly finish_reason?: unknown;
  readonly logprobs?: { readonly token_logprobs?: unknown } | null;
}

function readCompletions(answer: unknown): TextSample[] {
  const { choices } = (answer ?? {}) as { choices?: unknown };
  if (!Array.isArray(choices) || choices.length === 0) {
    throw new CallFailure(
      "nonsense",
      `an answer without choices: ${excerpt(JSON.stringify(answer))}`,
    );
  }
  return choices.map((choice: Choice | null) => {
    const { text, finish_reason, logprobs } = choice ?? {};
    if (typeof text !== "string") throw new CallFailure("nonsense", "a choice without text");
    const values = logprobs?.token_logprobs;
    const known = Array.isArray(values) && values.every((x) => typeof x === "number" && x <= 1e-6);
    return { text, finished: finishedBy(finish_reason), logProbs: known ? values : null };
  });
}

/**
 * Asks for all samples of a prompt at once; a server that gives fewer than it was asked for (some
 * know no n) is asked for the rest one by one, each with a seed of its own.
 */
function samplerOf(name: string, request: Request, concurrency: number): TextSampler {
  let single = false;
  const group = async (prompt: TextPrompt, first: number, options: TextOptions) => {
    const { samplesPerPrompt: n, seed, step = 0 } = options;
    const found: TextSample[] = [];
    while (found.length < n) {
      const wanted = single ? 1 : n - found.length;
      const from = requestSeed(seed, step, first + found.length);
      const some = await request(prompt, wanted, from, options);
      found.push(...some.slice(0, wanted));
      if (some.length < wanted) single = true;
    }
    return found;
  };
  return {
    name,
    async sampleText(prompts, options) {
      let done = 0;
      return mapLimited(prompts, concurrency, async (prompt, p) => {
        const id = options.promptIds?.[p] ?? p;
        const samples = await group(prompt, id * options.samplesPerPrompt, options);
        options.onProgress?.(++done);
        return samples;
      });
    },
  };
}
