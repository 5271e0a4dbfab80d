/** The participant's side of the protocol: one JSON request a line in, one JSON reply a line out. */
// {prepare: task} -> {check}; {time: ms} -> {samples}; {release: true} -> {}. First of all, unasked:
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
  readonly samples?: readonly number[];
  readonly cannot?: string;
}

// Libraries print to stdout too: replies begin with a mark that no library prints.
export const MARK = "@";
const reply = (value: Hello | Reply): void => {
  writeSync(1, `${MARK}${JSON.stringify(value)}\n`);
};

/** Calls shorter than this are timed in groups. */
const SHORTEST = 0.5;

/** Milliseconds of one call, measured several times within `budget` ms; at least one sample. */
export async function timed(run: () => unknown, budget: number): Promise<number[]> {
  let group = 1;
  const once = async (): Promise<number> => {
    const start = performance.now();
    for (let turn = 0; turn < group; turn++) {
      const result = run();
      if (result instanceof Promise) await result;
    }
    return (performance.now() - start) / group;
  };
  // The first call finds caches and predictors as others left them, and is timed only if it is slow.
  const first = await once();
  if (first > budget) return [first];
  group = Math.max(1, Math.ceil(SHORTEST / Math.max(first, 1e-4)));
  const samples: number[] = [];
  const end = performance.now() + budget;
  do samples.push(await once());
  while (performance.now() < end);
  return samples;
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
          reply({ samples: await timed(prepared!.run, request.time) });
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
