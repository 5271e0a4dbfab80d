/** The participant's side of the protocol: one JSON request a line in, one JSON reply a line out. */
// {prepare: task} -> {check}; {time: ms} -> {ms}; {release: true} -> {}. First of all, unasked:
// {name, version, threads}. A task that a library cannot do is answered {cannot: reason}.

import { writeSync } from "node:fs";
import { createInterface } from "node:readline";
import type { Task } from "./tasks.ts";

/** A task that is ready to be run, again and again. */
export interface Prepared {
  /** Does the whole task once; the result is thrown away. A promise, where the library needs it. */
  readonly run: () => unknown;
  /** Numbers that participants must agree on; asked once, before `run`. */
  readonly check: () => number[] | Promise<number[]>;
  readonly release?: () => void;
}

export interface Participant {
  readonly version: string;
  readonly threads: number;
  readonly prepare: (task: Task) => Prepared | Promise<Prepared>;
}

/** Thrown by prepare(): this library has no way to do that. */
export class Cannot extends Error {}

export type Request = { prepare: Task } | { time: number } | { release: true };
export interface Hello {
  readonly version: string;
  readonly threads: number;
}
export interface Reply {
  readonly check?: readonly number[];
  /** Median milliseconds of one call. */
  readonly ms?: number;
  readonly cannot?: string;
}

// Libraries print to stdout too: replies begin with a mark that no library prints.
export const MARK = "@";
const reply = (value: Hello | Reply): void => {
  let rest: Uint8Array = Buffer.from(`${MARK}${JSON.stringify(value)}\n`);
  while (rest.length > 0) rest = rest.subarray(writeSync(1, rest));
};

const median = (samples: readonly number[]): number =>
  samples.toSorted((x, y) => x - y)[samples.length >> 1]!;

/** Calls shorter than this are timed in groups. */
const SHORTEST = 0.5;

/** Milliseconds of one call: the median of what fits into `budget` ms; at least one call. */
export async function timed(run: () => unknown, budget: number): Promise<number> {
  const average = async (calls: number): Promise<number> => {
    const start = performance.now();
    for (let call = 0; call < calls; call++) {
      const result = run();
      if (result instanceof Promise) await result;
    }
    return (performance.now() - start) / calls;
  };
  // The first calls find caches and predictors as others left them: they only set the group's size.
  const first: number[] = [];
  do first.push(await average(1));
  while (first.length < 3 && first.reduce((sum, ms) => sum + ms) < budget / 10);
  const shortest = Math.min(...first);
  if (shortest > budget) return shortest;
  const group = Math.max(1, Math.ceil(SHORTEST / Math.max(shortest, 1e-4)));
  const samples: number[] = [];
  const end = performance.now() + budget;
  do samples.push(await average(group));
  while (performance.now() < end);
  return median(samples);
}

/** Serves requests until the input ends. */
export async function serve(start: () => Promise<Participant>): Promise<void> {
  let prepared: Prepared | undefined;
  try {
    const { prepare, ...hello } = await start();
    reply(hello);
    for await (const text of createInterface({ input: process.stdin })) {
      const request = JSON.parse(text) as Request;
      try {
        if ("prepare" in request) {
          prepared = await prepare(request.prepare);
          reply({ check: await prepared.check() });
        } else if ("time" in request) {
          reply({ ms: await timed(prepared!.run, request.time) });
        } else {
          prepared?.release?.();
          prepared = undefined;
          reply({});
        }
      } catch (error) {
        prepared = undefined;
        reply({
          cannot: String((error as Error).message)
            .split("\n")[0]!
            .slice(0, 160),
        });
      }
    }
  } catch (error) {
    reply({
      cannot: String((error as Error).message)
        .split("\n")[0]!
        .slice(0, 160),
    });
  }
  process.exit(0);
}
