/** Chat with an OpenAI-compatible server, through the openai package: one call, no retries. */

import type OpenAI from "openai";
import { UserError } from "../../model/errors.ts";
import { connectionText, excerpt, serverRoot } from "./http.ts";
import { CallFailure, retryAfterSeconds } from "./retry.ts";
import { finishedBy } from "./sampler.ts";

export interface Message {
  readonly role: "system" | "user" | "assistant";
  readonly content: string;
}

export interface ChatRequest {
  readonly messages: readonly Message[];
  readonly maxTokens: number;
  readonly temperature: number;
  readonly topP?: number;
  /** Replies that are wanted; a server may give fewer. */
  readonly n?: number;
  readonly seed?: number;
  readonly stop?: readonly string[];
  /** What the reply must be, as a JSON schema. */
  readonly schema?: { readonly name: string; readonly schema: Record<string, unknown> };
  /** Ask for the log-probabilities of the reply's tokens. */
  readonly logProbs?: boolean;
}

export interface ChatReply {
  readonly text: string;
  /** False: cut off at maxTokens. */
  readonly finished: boolean;
  /** log π of each token as the server says; null where it says nothing. */
  readonly logProbs: readonly number[] | null;
}

export interface ChatServer {
  /** With or without /v1. */
  readonly url: string;
  readonly model: string;
  readonly key?: string | undefined;
  readonly timeoutSeconds: number;
}

export type Chat = (
  request: ChatRequest,
  signal?: AbortSignal | undefined,
) => Promise<readonly ChatReply[]>;

/** A function that makes one call; it throws a CallFailure. A UserError where openai is missing. */
export async function openChat(server: ChatServer): Promise<Chat> {
  const { default: Client } = await loadOpenai();
  const client = new Client({
    apiKey: server.key ?? "none",
    baseURL: `${serverRoot(server.url, "the server")}/v1`,
    // Ours are shared by all calls, know Retry-After, and say what they wait for.
    maxRetries: 0,
    timeout: server.timeoutSeconds * 1000,
    dangerouslyAllowBrowser: true,
    logLevel: "off",
  });
  return (request, signal) => chat(client, server, request, signal);
}

async function loadOpenai(): Promise<typeof import("openai")> {
  try {
    return await import("openai");
  } catch (cause) {
    throw new UserError(
      "the openai package is not installed, through which judges and chat servers are asked: npm install openai",
      { cause },
    );
  }
}

async function chat(
  client: OpenAI,
  { model, timeoutSeconds }: ChatServer,
  request: ChatRequest,
  signal: AbortSignal | undefined,
): Promise<ChatReply[]> {
  // The package's own limit ends with the headers; this one ends with the body.
  const limit = AbortSignal.timeout(timeoutSeconds * 1000);
  const either = signal === undefined ? limit : AbortSignal.any([limit, signal]);
  let answer: unknown;
  try {
    answer = await client.chat.completions.create(bodyOf(model, request), { signal: either });
  } catch (error) {
    if (signal?.aborted) throw signal.reason;
    throw failureOf(error, limit.aborted, timeoutSeconds);
  }
  return repliesOf(answer);
}

function bodyOf(model: string, request: ChatRequest) {
  const { messages, maxTokens, temperature, topP, n, seed, stop, schema, logProbs } = request;
  return {
    model,
    messages: messages.map(({ role, content }) => ({ role, content })),
    max_tokens: maxTokens,
    temperature,
    ...(topP !== undefined && { top_p: topP }),
    ...(n !== undefined && n !== 1 && { n }),
    ...(seed !== undefined && { seed }),
    ...(stop !== undefined && stop.length > 0 && { stop: [...stop] }),
    ...(logProbs && { logprobs: true }),
    ...(schema && {
      response_format: {
        type: "json_schema" as const,
        json_schema: { name: schema.name, schema: schema.schema, strict: true },
      },
    }),
  };
}

/** The package's errors as ours, by their fields: classes of two copies of it would differ. */
function failureOf(error: unknown, late: boolean, timeoutSeconds: number): CallFailure {
  const { name } = (error as Error).constructor;
  if (late || name === "APIConnectionTimeoutError") {
    return new CallFailure("time-out", `no answer within ${timeoutSeconds} s`, { cause: error });
  }
  const { status, headers } = error as { status?: number; headers?: Headers };
  if (typeof status === "number") {
    const retryAfter = retryAfterSeconds(headers?.get("retry-after"));
    const message = `HTTP ${excerpt((error as Error).message)}`;
    return new CallFailure("status", message, { status, retryAfter, cause: error });
  }
  if (error instanceof SyntaxError) {
    return new CallFailure("nonsense", `an answer that is no JSON: ${excerpt(error.message)}`, {
      cause: error,
    });
  }
  return new CallFailure("connection", connectionText(error), { cause: error });
}

function repliesOf(answer: unknown): ChatReply[] {
  const choices = (answer as { choices?: unknown } | null)?.choices;
  if (!Array.isArray(choices) || choices.length === 0) {
    const text = typeof answer === "string" ? answer : JSON.stringify(answer);
    throw new CallFailure("nonsense", `an answer without choices: ${excerpt(text ?? "nothing")}`);
  }
  return choices.map((choice) => {
    const { message, finish_reason, logprobs } = (choice ?? {}) as Record<string, never>;
    const content: unknown = (message as { content?: unknown } | undefined)?.content;
    if (typeof content !== "string" && content !== null) {
      throw new CallFailure("nonsense", `a choice without content: ${excerpt(`${choice}`)}`);
    }
    const tokens: unknown = (logprobs as { content?: unknown } | null | undefined)?.content;
    const values = Array.isArray(tokens) ? tokens.map((token) => token?.logprob) : [];
    const known = values.length > 0 && values.every((x) => typeof x === "number" && x <= 1e-6);
    return {
      text: content ?? "",
      finished: finishedBy(finish_reason),
      logProbs: known ? values : null,
    };
  });
}
