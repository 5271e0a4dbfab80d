/** JSON over HTTP: one call with a time limit, whose every failure is a CallFailure in plain words. */

import { UserError } from "../../model/errors.ts";
import { CallFailure, retryAfterSeconds } from "./retry.ts";

export interface CallOptions {
  /** Bearer token. */
  readonly key?: string | undefined;
  /** Further headers, such as a key that is no bearer token. */
  readonly headers?: Readonly<Record<string, string>>;
  readonly timeoutSeconds: number;
  readonly signal?: AbortSignal | undefined;
  /** Longest answer that is read, in bytes. */
  readonly mostBytes?: number;
}

const MOST_BYTES = 256 * 2 ** 20;

/** Posts `body` as JSON and gives the answer's JSON value. Throws a CallFailure. */
export const postJson = (url: string, body: unknown, options: CallOptions): Promise<unknown> =>
  callJson(url, { method: "POST", body: JSON.stringify(body) }, options);

export const getJson = (url: string, options: CallOptions): Promise<unknown> =>
  callJson(url, { method: "GET" }, options);

/** Posts `body` as JSON to what answers in words: any success will do. Throws a CallFailure. */
export async function postAny(url: string, body: unknown, options: CallOptions): Promise<void> {
  await successText(url, { method: "POST", body: JSON.stringify(body) }, options);
}

async function callJson(url: string, init: RequestInit, options: CallOptions): Promise<unknown> {
  const text = await successText(url, init, options);
  try {
    return JSON.parse(text);
  } catch (cause) {
    const what = text === "" ? "an empty answer" : `an answer that is no JSON: ${excerpt(text)}`;
    throw new CallFailure("nonsense", what, { cause });
  }
}

async function successText(url: string, init: RequestInit, options: CallOptions): Promise<string> {
  const { status, text, retryAfter } = await callText(url, init, options);
  if (status >= 200 && status <= 299) return text;
  const message = `HTTP ${status}${text === "" ? "" : `: ${excerpt(text)}`}`;
  throw new CallFailure("status", message, { status, retryAfter });
}

async function callText(url: string, init: RequestInit, options: CallOptions) {
  const { key, timeoutSeconds, signal, mostBytes = MOST_BYTES } = options;
  const headers = {
    accept: "application/json",
    ...(init.body !== undefined && { "content-type": "application/json" }),
    ...(key !== undefined && { authorization: `Bearer ${key}` }),
    ...options.headers,
  };
  const limit = new AbortController();
  const timer = setTimeout(() => limit.abort(), timeoutSeconds * 1000);
  const either = signal === undefined ? limit.signal : AbortSignal.any([limit.signal, signal]);
  try {
    const response = await fetch(url, { ...init, headers, signal: either, redirect: "manual" });
    const text = await bodyText(response, mostBytes);
    const retryAfter = retryAfterSeconds(response.headers.get("retry-after"));
    return { status: response.status, text, retryAfter };
  } catch (error) {
    if (signal?.aborted) throw signal.reason;
    if (error instanceof CallFailure) throw error;
    if (limit.signal.aborted) {
      throw new CallFailure("time-out", `no answer within ${timeoutSeconds} s`, { cause: error });
    }
    const text = connectionText(error);
    throw new CallFailure("connection", text, { cause: error, unsent: NEVER_SENT.has(text) });
  } finally {
    clearTimeout(timer);
  }
}

/** The body as text; a CallFailure where it is longer than `most` bytes. */
async function bodyText(response: Response, most: number): Promise<string> {
  if (response.body === null) return "";
  const decoder = new TextDecoder();
  let [text, length] = ["", 0];
  const reader = response.body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return text + decoder.decode();
    length += value.length;
    if (length > most) {
      await reader.cancel();
      throw new CallFailure("nonsense", `an answer of more than ${most} bytes`);
    }
    text += decoder.decode(value, { stream: true });
  }
}

const REFUSED = "connection refused: nothing listens there";
const NO_HOST = "there is no host of that name";
/** Failures before anything was sent. */
const NEVER_SENT: ReadonlySet<string> = new Set([REFUSED, NO_HOST]);

/** Why a connection failed: runtimes hide it at different depths. */
export function connectionText(error: unknown): string {
  const codes: Record<string, string> = {
    ...{ ECONNREFUSED: REFUSED, ConnectionRefused: REFUSED, ENOTFOUND: NO_HOST },
    ECONNRESET: "the connection was cut off",
    UND_ERR_SOCKET: "the connection was cut off",
  };
  for (let at: unknown = error, depth = 0; at instanceof Error && depth < 5; depth++) {
    const { code } = at as NodeJS.ErrnoException;
    if (code !== undefined && codes[code] !== undefined) return codes[code];
    const refused = /connection refused|os error 111|ECONNREFUSED/i.test(at.message);
    if (refused) return REFUSED;
    at = at.cause;
  }
  return `the connection failed: ${excerpt(error instanceof Error ? error.message : String(error))}`;
}

/** The beginning of a text on one line. */
export function excerpt(text: string, length = 200): string {
  const line = text.replace(/\s+/g, " ").trim();
  return line.length <= length ? line : `${line.slice(0, length)}…`;
}

/**
 * "http://host:8000" of what a user gives as a server's address, with or without /v1 behind it.
 * Throws a UserError where it is none.
 */
export function serverRoot(url: string, setting: string): string {
  let parsed: URL;
  try {
    parsed = new URL(url);
  } catch (cause) {
    throw new UserError(`${setting} "${url}" is no address; expected http://host:port/v1`, {
      cause,
    });
  }
  if (parsed.protocol !== "http:" && parsed.protocol !== "https:") {
    throw new UserError(`${setting} "${url}": expected http:// or https://`);
  }
  if (parsed.username !== "" || parsed.password !== "") {
    throw new UserError(`${setting}: no password in the address; give the key in the environment`);
  }
  return `${parsed.origin}${parsed.pathname.replace(/\/+$/, "").replace(/\/v1$/, "")}`;
}
