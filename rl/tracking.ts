/** Where metrics go beside metrics.jsonl: TensorBoard's event file, Weights & Biases. */

import { appendFileSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import type { TrainConfig } from "./config.ts";
import { fileError, makeFolder, writeAtomic } from "./files.ts";
import type { Metrics } from "./health.ts";
import type { Run } from "./run.ts";
import { fileHeader, scalarEvent } from "./tensorboard.ts";

export interface Tracker {
  log(row: Metrics): void;
  /** Waits until all has arrived. */
  finish(): Promise<void>;
}

/** The finite numbers of a row: a tracker shows nothing else. */
function scalarsOf({ step: _, ...row }: Metrics): Record<string, number> {
  const numbers = Object.entries(row).filter(([, value]) => Number.isFinite(value));
  return Object.fromEntries(numbers) as Record<string, number>;
}

/** Steps done when the row was written: 0 for what was measured before any. */
const stepsDone = ({ step }: Metrics): number => (step as number) + 1;

export const eventFile = join("tensorboard", "events.out.tfevents.anamnesis");

/**
 * An event file that is a function of metrics.jsonl: made anew from its rows when a run begins or
 * goes on, and appended to. Its clock counts the seconds of the steps.
 */
export function tensorboard(run: Run<TrainConfig>): Tracker {
  const path = join(run.dir, eventFile);
  let time = 0;
  const event = (row: Metrics): Uint8Array => {
    time += typeof row.step_time === "number" ? row.step_time : 0;
    return scalarEvent(time, stepsDone(row), scalarsOf(row));
  };
  makeFolder(join(run.dir, "tensorboard"));
  const parts = [fileHeader(0), ...run.metrics.rows().map(event)];
  writeAtomic(path, new Uint8Array(Buffer.concat(parts)));
  return {
    log(row) {
      try {
        appendFileSync(path, event(row));
      } catch (error) {
        throw fileError(error, `cannot write ${path}`);
      }
    },
    finish: async () => {},
  };
}

/** The part of @wandb/sdk that is used here. */
interface Wandb {
  init(options: object): Promise<{
    log(data: Record<string, unknown>, step?: number): void;
    finish(): Promise<void>;
    url(): string;
  }>;
}

/**
 * Weights & Biases, where WANDB_API_KEY is set. A failure to reach it is told once and stops nothing:
 * metrics.jsonl has everything. `load` imports the SDK, which is not installed by default.
 */
export async function weightsAndBiases(
  run: Run<TrainConfig>,
  print: (text: string) => void,
  load: () => Promise<Wandb> = loadWandb,
): Promise<Tracker | undefined> {
  const off = (error: unknown): undefined => {
    const why = error instanceof Error ? error.message : String(error);
    print(`Weights & Biases is off: ${why.split("\n")[0]}; metrics.jsonl has everything`);
  };
  try {
    const id = `${basename(resolve(run.dir))}-${run.hash.slice(0, 8)}`.replace(/[^\w-]/g, "-");
    const { project } = run.config.track;
    const sdk = await load();
    const remote = await sdk.init({ project, id, config: run.config, resume: "allow" });
    print(`Weights & Biases: ${remote.url()}`);
    let broken = false;
    const attempt = (action: () => void): void => {
      if (broken) return;
      try {
        action();
      } catch (error) {
        broken = true;
        off(error);
      }
    };
    return {
      log: (row) => attempt(() => remote.log(scalarsOf(row), stepsDone(row))),
      finish: () => (broken ? Promise.resolve() : remote.finish().catch(off)),
    };
  } catch (error) {
    return off(error);
  }
}

async function loadWandb(): Promise<Wandb> {
  const name = "@wandb/sdk"; // named so that no compiler or bundler asks for it
  try {
    const loaded = (await import(name)) as { default?: Wandb } & Wandb;
    return loaded.default ?? loaded;
  } catch {
    throw new Error(`WANDB_API_KEY is set, but its SDK is not installed (npm install ${name})`);
  }
}

/** All trackers that the settings and the environment ask for, as one. */
export async function trackersOf(
  run: Run<TrainConfig>,
  print: (text: string) => void,
): Promise<Tracker> {
  const { track } = run.config;
  const key = process.env.WANDB_API_KEY ?? "";
  const all = [
    track.tensorboard ? tensorboard(run) : undefined,
    track.wandb && key !== "" ? await weightsAndBiases(run, print) : undefined,
  ].filter((tracker) => tracker !== undefined);
  return {
    log: (row) => {
      for (const tracker of all) tracker.log(row);
    },
    finish: async () => void (await Promise.all(all.map((tracker) => tracker.finish()))),
  };
}
