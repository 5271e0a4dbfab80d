/** Runs of rl/train.ts in processes of their own, some at a time; what is done is not done again. */

import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { duration } from "../eval/table.ts";
import { writeAtomic } from "./files.ts";

/** One run to be had. */
export interface PoolRun {
  /** What the pool's lines call it. */
  readonly name: string;
  /** Its run folder. */
  readonly path: string;
  /** Flags of a new run, without --out. */
  readonly flags: readonly string[];
  /** Key of its base model: runs that need the same one wait until the first has made it. */
  readonly base: string;
}

export interface PoolOptions {
  /** Runs at a time. */
  readonly jobs: number;
  /** Called when a run has ended well. */
  readonly onDone?: (run: PoolRun) => void;
}

export const isDone = ({ path }: PoolRun): boolean => existsSync(join(path, "summary.json"));

const script = fileURLToPath(new URL("train.ts", import.meta.url));

/** Starts the run, or goes on with it. */
export function commandOf({ path, flags }: PoolRun): string[] {
  const deno = process.versions.deno === undefined ? [] : ["run", "-A"];
  const begun = existsSync(join(path, "config.json"));
  const rest = begun ? ["--resume", path] : [...flags, "--out", path];
  return [process.execPath, ...deno, script, ...rest];
}

/** Runs what isn't done, and says so line by line; returns what went wrong, by the runs' names. */
export async function runAll(runs: readonly PoolRun[], options: PoolOptions): Promise<string[]> {
  const waiting = runs.filter((run) => !isDone(run));
  const failed: string[] = [];
  /** Base models that a run is making: others that need one wait, rather than make it too. */
  const making = new Set<string>();
  const made = new Set<string>();
  let done = runs.length - waiting.length;
  let changed = () => {};
  const worker = async (): Promise<void> => {
    while (waiting.length > 0) {
      const next = waiting.findIndex(({ base }) => !making.has(base));
      if (next < 0) {
        await new Promise<void>((resolve) => {
          const before = changed;
          changed = () => {
            before();
            resolve();
          };
        });
        continue;
      }
      const [run] = waiting.splice(next, 1) as [PoolRun];
      if (!made.has(run.base)) making.add(run.base);
      const started = performance.now();
      // Where all others wait for this one's base model, it has the machine to itself.
      const alone = waiting.every(({ base }) => making.has(base));
      const cores = availableParallelism();
      const threads = alone ? cores : Math.max(1, Math.floor(cores / options.jobs));
      const problem = await runOne(run, threads, () => {
        making.delete(run.base);
        made.add(run.base);
        changed();
      });
      if (problem === undefined) {
        done++;
        options.onDone?.(run);
      } else failed.push(`${run.name} (${problem})`);
      const told = problem === undefined ? "done" : `FAILED: ${problem}`;
      const time = duration((performance.now() - started) / 1000);
      console.log(`[${done}/${runs.length}] ${run.name}: ${told} (${time})`);
    }
  };
  await Promise.all(Array.from({ length: Math.min(options.jobs, waiting.length) }, worker));
  return failed;
}

/** Undefined, or what went wrong. `onBase` is called once the base model exists. */
async function runOne(
  run: PoolRun,
  threads: number,
  onBase: () => void,
): Promise<string | undefined> {
  const [exe, ...args] = commandOf(run);
  const env = { ANAMNESIS_THREADS: String(threads), ...process.env };
  const child = spawn(exe!, args, { env, stdio: ["ignore", "pipe", "pipe"] });
  const output: string[] = [];
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8");
    stream.on("data", (text: string) => {
      output.push(text);
      if (text.includes("measure before") || text.includes("pre-trained before")) onBase();
    });
  }
  const code = await new Promise<number | null>((resolve) => {
    child.on("close", resolve);
    child.on("error", (error) => {
      output.push(String(error));
      resolve(-1);
    });
  });
  onBase();
  if (existsSync(run.path)) writeAtomic(join(run.path, "log.txt"), output.join(""));
  if (code === 0 && isDone(run)) return undefined;
  const last = output.join("").trim().split("\n").at(-1) ?? "";
  return `exit ${code}: ${last.slice(0, 200)}`;
}
