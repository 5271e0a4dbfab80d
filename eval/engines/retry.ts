/** Calls to a server that may fail: which failures can pass, how long to wait, when to give up. */

import { UserError } from "../../model/errors.ts";

/**
 * What went wrong with one call. status: an HTTP status that is no success. connection: refused,
 * reset, cut off in the middle of the body. time-out: no answer in time. nonsense: an answer that
 * is not what the interface promises.
 */
export type FailureKind = "status" | "connection" | "time-out" | "nonsense";

interface FailureDetails {
  readonly status?: number;
  readonly retryAfter?: number | undefined;
  readonly cause?: unknown;
  /** Nothing was sent: the connection was not made. */
  readonly unsent?: boolean;
}

export class CallFailure extends Error {
  override readonly name = "CallFailure";
  readonly kind: FailureKind;
  readonly status: number | undefined;
  /** What the server asks to wait, in seconds. */
  readonly retryAfter: number | undefined;
  readonly #unsent: boolean;

  constructor(kind: FailureKind, message: string, options: FailureDetails = {}) {
    super(message, { cause: options.cause });
    this.kind = kind;
    this.status = options.status;
    this.retryAfter = options.retryAfter;
    this.#unsent = options.unsent ?? false;
  }

  /** Whether the server may have done what it was asked to, and only its answer was lost. */
  get mayBeDone(): boolean {
    if (this.kind !== "status") return !this.#unsent;
    // A request that was refused, or put off, was not begun.
    return (this.status ?? 0) >= 500 && ![501, 503].includes(this.status!);
  }

  /** Whether the same call may succeed later. */
  get mayPass(): boolean {
    if (this.kind !== "status") return true;
    const status = this.status ?? 0;
    return [408, 409, 425, 429].includes(status) || (status >= 500 && status !== 501);
  }
}

/** Time and chance, to be replaced in tests. */
export interface Clock {
  /** Milliseconds that only grow. */
  readonly now: () => number;
  readonly sleep: (milliseconds: number, signal?: AbortSignal) => Promise<void>;
  /** In [0, 1). Decides waits alone, never a result. */
  readonly chance: () => number;
}

export const realClock: Clock = {
  now: () => performance.now(),
  sleep: (milliseconds, signal) =>
    new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const stop = () => {
        clearTimeout(timer);
        reject(signal!.reason);
      };
      const timer = setTimeout(() => {
        signal?.removeEventListener("abort", stop);
        resolve();
      }, milliseconds);
      signal?.addEventListener("abort", stop, { once: true });
    }),
  chance: () => Math.random(),
};

export interface Patience {
  /** How long a server may be down before a call is given up, in seconds. */
  readonly seconds: number;
  /** The first wait; each further one is twice as long, up to `longest`, times 0.5 to 1. */
  readonly first: number;
  readonly longest: number;
  /** Answers that are nonsense, before the call is given up. */
  readonly nonsense: number;
}

export const usualPatience: Patience = { seconds: 600, first: 0.5, longest: 30, nonsense: 3 };

export interface RetryOptions {
  /** "the judge at http://host:8000/v1": the subject of messages. */
  readonly name: string;
  readonly patience?: Partial<Patience>;
  /** What is not lost when a call is given up, for its message. */
  readonly kept?: string | undefined;
  readonly print?: ((text: string) => void) | undefined;
  readonly clock?: Clock;
  readonly signal?: AbortSignal | undefined;
  /** Calls begun in a minute, further tries among them; default as many as there are. */
  readonly requestsPerMinute?: number | undefined;
}

type Attempt<T> = (signal: AbortSignal | undefined) => Promise<T>;

/**
 * Calls that share one server, and so one outage: it is told once when it begins, not once for each
 * call that waits, and once when it is over.
 */
export class Retries {
  readonly #options: RetryOptions;
  readonly #patience: Patience;
  readonly #clock: Clock;
  readonly #gate: ReturnType<typeof ratePerMinute>;
  #waiting = 0;
  #told = false;
  /** Calls that were made again, of all that succeeded in the end or did not. */
  retried = 0;

  constructor(options: RetryOptions) {
    this.#options = options;
    this.#patience = { ...usualPatience, ...options.patience };
    this.#clock = options.clock ?? realClock;
    this.#gate = ratePerMinute(options.requestsPerMinute, this.#clock);
  }

  /**
   * The result of `attempt`, which throws a CallFailure. Those that may pass are waited out:
   * exponentially longer with jitter, or as long as Retry-After says. Throws a UserError with the
   * last failure where it can't pass, or the patience is used up.
   */
  async call<T>(attempt: Attempt<T>): Promise<T> {
    const call = { waits: false };
    let answered = false;
    try {
      const result = await this.#tried(attempt, call);
      answered = true;
      return result;
    } finally {
      if (call.waits) this.#ended(answered);
    }
  }

  async #tried<T>(attempt: Attempt<T>, call: { waits: boolean }): Promise<T> {
    const { signal } = this.#options;
    const started = this.#clock.now();
    let nonsense = 0;
    for (let tries = 0; ; tries++) {
      signal?.throwIfAborted();
      try {
        await this.#gate(signal);
        return await attempt(signal);
      } catch (error) {
        signal?.throwIfAborted();
        if (!(error instanceof CallFailure)) throw error;
        if (error.kind === "nonsense") nonsense++;
        const gone = (this.#clock.now() - started) / 1000;
        const wait = this.#wait(tries, error);
        const over = gone + wait > this.#patience.seconds;
        if (!error.mayPass || over || nonsense >= this.#patience.nonsense) {
          throw this.#given(error, tries + 1, gone, over ? wait : undefined);
        }
        this.retried++;
        this.#tell(error);
        this.#waiting += call.waits ? 0 : 1;
        call.waits = true;
        await this.#clock.sleep(wait * 1000, signal);
      }
    }
  }

  /** Seconds until the next try. */
  #wait(tries: number, { retryAfter }: CallFailure): number {
    const { first, longest } = this.#patience;
    const backoff = Math.min(longest, first * 2 ** tries) * (0.5 + 0.5 * this.#clock.chance());
    return Math.max(backoff, retryAfter ?? 0);
  }

  #tell({ message }: CallFailure): void {
    if (this.#told) return;
    this.#told = true;
    const { name, print } = this.#options;
    print?.(`${name}: ${message}; trying again for up to ${this.#patience.seconds} s`);
  }

  /** Of a call that waited, with an answer or given up. Without it the next outage goes untold. */
  #ended(answered: boolean): void {
    this.#waiting--;
    if (this.#waiting > 0) return;
    if (this.#told && answered) this.#options.print?.(`${this.#options.name} answers again`);
    this.#told = false;
  }

  #given(failure: CallFailure, tries: number, gone: number, wait: number | undefined): UserError {
    const times = tries === 1 ? "" : ` (${tries} tries in ${Math.round(gone)} s)`;
    const asked =
      wait !== undefined && (failure.retryAfter ?? 0) >= wait
        ? `; it asks to wait ${Math.round(wait)} s, longer than the patience of ${this.#patience.seconds} s`
        : "";
    const { name, kept } = this.#options;
    const rest = kept === undefined ? "" : `; ${kept}`;
    return new UserError(`${name}: ${failure.message}${times}${asked}${rest}`, { cause: failure });
  }
}

/**
 * A gate that lets `perMinute` calls through in a minute, evenly: each waits for its turn. No limit
 * where it is undefined.
 */
function ratePerMinute(
  perMinute: number | undefined,
  clock: Clock,
): (signal?: AbortSignal) => Promise<void> {
  if (perMinute === undefined) return async () => {};
  if (!(perMinute > 0)) throw new RangeError(`${perMinute} requests per minute: expected above 0`);
  let free = Number.NEGATIVE_INFINITY;
  return async (signal) => {
    const now = clock.now();
    const turn = Math.max(now, free);
    free = turn + 60_000 / perMinute;
    if (turn > now) await clock.sleep(turn - now, signal);
  };
}

/** Seconds that a Retry-After header asks for: a number, or a date; undefined where it is neither. */
export function retryAfterSeconds(
  header: string | null | undefined,
  now = Date.now(),
): number | undefined {
  const text = header?.trim() ?? "";
  if (text === "") return undefined;
  if (/^\d+(\.\d+)?$/.test(text)) return Number(text);
  const date = Date.parse(text);
  return Number.isNaN(date) ? undefined : Math.max(0, (date - now) / 1000);
}
