/** A model server over HTTP: its calls share one patience, one limit of concurrency and one name. */

import { getJson, postAny, postJson, serverRoot } from "./http.ts";
import { mapLimited } from "./limits.ts";
import { type Clock, type Patience, Retries } from "./retry.ts";

export interface ServerOptions {
  /** Address, with or without /v1. */
  readonly url: string;
  /** Bearer token. */
  readonly key?: string | undefined;
  /** Requests at a time; default 32. */
  readonly concurrency?: number;
  readonly requestsPerMinute?: number | undefined;
  /** Longest wait for one answer; default 600 s. */
  readonly timeoutSeconds?: number;
  readonly patience?: Partial<Patience>;
  readonly print?: ((text: string) => void) | undefined;
  readonly clock?: Clock;
}

export interface Server {
  readonly url: string;
  readonly concurrency: number;
  readonly print: (text: string) => void;
  /** One call, tried again as long as the patience lasts; `read` throws CallFailures of its own. */
  post<T>(path: string, body: unknown, read: (answer: unknown) => T): Promise<T>;
  /** The same where the answer does not matter, only that it is a success. */
  send(path: string, body: unknown): Promise<void>;
  get<T>(path: string, read: (answer: unknown) => T): Promise<T>;
  /** `work` on each item within the limit of concurrency. */
  each<T, R>(items: readonly T[], work: (item: T, index: number) => Promise<R>): Promise<R[]>;
}

export function openServer(what: string, options: ServerOptions): Server {
  const { key, timeoutSeconds = 600, print = () => {}, concurrency = 32 } = options;
  const url = serverRoot(options.url, what);
  const retries = new Retries({
    ...{ name: `${what} at ${url}`, patience: options.patience ?? {}, print },
    requestsPerMinute: options.requestsPerMinute,
    ...(options.clock && { clock: options.clock }),
  });
  const call = <T>(
    send: (settings: { key: string | undefined; timeoutSeconds: number }) => Promise<unknown>,
    read: (answer: unknown) => T,
  ) => retries.call(async () => read(await send({ key, timeoutSeconds })));
  return {
    ...{ url, concurrency, print },
    post: (path, body, read) => call((settings) => postJson(`${url}${path}`, body, settings), read),
    send: (path, body) =>
      call(
        (settings) => postAny(`${url}${path}`, body, settings),
        () => {},
      ),
    get: (path, read) => call((settings) => getJson(`${url}${path}`, settings), read),
    each: (items, work) => mapLimited(items, concurrency, work),
  };
}
