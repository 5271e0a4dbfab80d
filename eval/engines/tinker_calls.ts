/** Operations of a Tinker-compatible server: sent once, whatever is lost, and waited for. */

import type { z } from "zod";
import { UserError } from "../../model/errors.ts";
import { excerpt, getJson, postAny, postJson, serverRoot } from "./http.ts";
import { CallFailure, type Clock, type Patience, Retries, realClock } from "./retry.ts";
import { failed, pending, read, submitted } from "./tinker_protocol.ts";

export interface CallsOptions {
  /** Address, with or without /api/v1. */
  readonly url: string;
  readonly key?: string | undefined;
  /** Longest wait for an operation to be done, in a queue or at work; default an hour. */
  readonly timeoutSeconds?: number;
  readonly patience?: Partial<Patience>;
  readonly print?: ((text: string) => void) | undefined;
  readonly clock?: Clock;
}

/** The server did not do it: it says why, or no longer knows of it. */
export class OperationFailed extends UserError {}

/** HTTP 409: what was asked for is there already. */
export class Taken extends UserError {}

export interface Operation<T> {
  readonly body: object;
  readonly result: z.ZodType<T>;
  /** Whether a second one like it would do no harm, or be known as the first. */
  readonly repeatable: boolean;
  /** Throws a CallFailure where a result of the right form is not what was asked for. */
  readonly check?: (result: T) => void;
}

export interface Calls {
  /** "Tinker server at http://host:8000", in messages. */
  readonly name: string;
  readonly url: string;
  readonly print: (text: string) => void;
  readonly clock: Clock;
  get<T>(path: string, take: (answer: unknown) => T): Promise<T>;
  /** A call that is answered at once and may be made twice. */
  post<T>(path: string, body: object, answer: z.ZodType<T>): Promise<T>;
  /** A call that is tried once; what comes of it doesn't matter. */
  tell(path: string, body: object): Promise<void>;
  /** Lets the runtime send a request again by itself, over connections that stay open. */
  allowRepeats(): void;
  /** Hands an operation over; gives the name under which its result will be. */
  submit(path: string, operation: Pick<Operation<unknown>, "body" | "repeatable">): Promise<string>;
  /** Hands an operation over, and waits for its result. */
  run<T>(path: string, operation: Operation<T>): Promise<T>;
}

const HOUR = 3600;
/** Longest wait for the answer to one call: servers hold a question for a result for up to a minute. */
const CALL_SECONDS = 90;
/** Milliseconds between two questions for a result that a server answers at once. */
const [FIRST_WAIT, LONGEST_WAIT] = [50, 2000];
const PENDING = Symbol("pending");

export function openCalls(options: CallsOptions): Calls {
  const { key, timeoutSeconds = HOUR, print = () => {}, clock = realClock } = options;
  const url = serverRoot(options.url.replace(/\/api\/v1\/?$/, ""), "the Tinker server");
  const name = `Tinker server at ${url}`;
  const retries = new Retries({ name, patience: options.patience ?? {}, print, clock });
  const headers: Record<string, string> = {
    // Deno sends a request again by itself where a connection that it used before is cut off.
    connection: "close",
    // Their own service's header; the usual one comes with the key.
    ...(key !== undefined && { "x-api-key": key }),
  };
  const settings = { key, headers, timeoutSeconds: Math.min(CALL_SECONDS, timeoutSeconds / 4) };
  const address = (path: string) => `${url}/api/v1/${path}`;

  const submit: Calls["submit"] = (path, { body, repeatable }) =>
    retries.call(async () => {
      try {
        const answer = await postJson(address(path), body, settings);
        return read(submitted, path, answer).request_id;
      } catch (error) {
        if (!(error instanceof CallFailure)) throw error;
        if (error.status === 409) throw new Taken(`${name}: ${path}: ${error.message}`);
        if (repeatable || !error.mayBeDone) throw error;
        throw new UserError(
          `${name}: the answer to ${path} was lost (${error.message}), and this server doesn't know ` +
            "a request that it had before: sent again it might be done twice",
          { cause: error },
        );
      }
    });

  /** What the server says of an operation: its result, or that it is not done. */
  async function ask<T>(path: string, id: string, { result, check }: Operation<T>) {
    let answer: unknown;
    try {
      answer = await postJson(address("retrieve_future"), { request_id: id }, settings);
    } catch (error) {
      if (!(error instanceof CallFailure)) throw error;
      // Held for longer than we wait for one call.
      if (error.kind === "time-out" || error.status === 408) return PENDING;
      if ([400, 404, 410, 422].includes(error.status ?? 0)) {
        throw new OperationFailed(`${name}: ${path} failed: ${error.message}`, { cause: error });
      }
      throw error;
    }
    const later = pending.safeParse(answer);
    if (later.success) {
      const { queue_state: state } = later.data;
      if (state && state !== "active") tellOnce(`${name}: ${path} waits: ${state}`);
      return PENDING;
    }
    const refusal = failed.safeParse(answer);
    if (refusal.success) {
      throw new OperationFailed(`${name}: ${path} failed: ${excerpt(refusal.data.error, 500)}`);
    }
    const found = read(result, path, answer);
    check?.(found);
    return found;
  }

  const told = new Set<string>();
  const tellOnce = (text: string): void => {
    if (!told.has(text)) print(text);
    told.add(text);
  };

  async function run<T>(path: string, operation: Operation<T>): Promise<T> {
    const id = await submit(path, operation);
    const begun = clock.now();
    for (let wait = FIRST_WAIT; ; ) {
      const asked = clock.now();
      const answer = await retries.call(() => ask(path, id, operation));
      if (answer !== PENDING) return answer as T;
      if (clock.now() - begun > timeoutSeconds * 1000) {
        throw new UserError(`${name}: ${path} is not done after ${timeoutSeconds} s`);
      }
      // One that was held by the server is asked for again at once.
      if (clock.now() - asked > 1000) continue;
      await clock.sleep(wait);
      wait = Math.min(2 * wait, LONGEST_WAIT);
    }
  }

  return {
    ...{ name, url, print, clock, submit, run },
    allowRepeats: () => {
      delete headers.connection;
    },
    get: (path, take) => retries.call(async () => take(await getJson(address(path), settings))),
    post: (path, body, answer) =>
      retries.call(async () => read(answer, path, await postJson(address(path), body, settings))),
    tell: (path, body) => postAny(address(path), body, settings).catch(() => {}),
  };
}
