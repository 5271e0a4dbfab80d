#!/usr/bin/env bun
/** Many runs, each in a process of its own: every combination of a grid, some seeds, one table. */

import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { baseModelHash, trainShape } from "./config.ts";
import { fieldsOf } from "./fields.ts";
import { makeFolder, writeAtomic, writeJson } from "./files.ts";
import { toFlags } from "./flags.ts";
import { axesOf, type PlannedRun, plan } from "./grid.ts";
import { resolveConfig } from "./resolve.ts";
import { sweepTable } from "./sweep_table.ts";
import { markdownTable, textTable } from "./table.ts";
import { runMain, UserError } from "./user_error.ts";

const HELP = `Usage: bun run rl/sweep.ts [config.json] --grid KEY=A,B … [flags] [-- flags of rl/train.ts]

Runs rl/train.ts for every combination of the grid and every seed. A run that has ended is not run
again, one that was stopped goes on: the same command continues a sweep.

  --grid KEY=A,B,…   A setting and its values; repeat for more settings
  --seeds N          Seeds 1 … N for each combination (default 1)
  --vary rl|all      What a seed is of: of rollouts (one world, one base model), or of everything
                     (default rl)
  --jobs N           Runs at a time (default 1)
  --out DIR          Folder of the sweep (default runs/sweep)
  --dry-run          Print the runs and stop`;

interface Options {
  readonly common: readonly string[];
  readonly runs: readonly PlannedRun[];
  readonly jobs: number;
  readonly out: string;
}

async function main(): Promise<void> {
  const argv = process.argv.slice(2);
  const at = argv.indexOf("--");
  const [own, rest] = at < 0 ? [argv, []] : [argv.slice(0, at), argv.slice(at + 1)];
  const { values, positionals } = parsed(own);
  if (values.help) return console.log(HELP);
  const [file, ...more] = positionals;
  if (more.length > 0)
    throw new UserError(`one config file, not ${positionals.length}: ${more[0]}`);
  const number = (name: "seeds" | "jobs"): number => {
    const value = Number(values[name]);
    if (Number.isInteger(value) && value >= 1) return value;
    throw new UserError(`--${name} is "${values[name]}"; expected a whole number of at least 1`);
  };
  const { vary } = values;
  if (vary !== "rl" && vary !== "all")
    throw new UserError(`--vary is "${vary}"; expected rl or all`);
  const axes = axesOf(values.grid, fieldsOf(trainShape));
  const seeds = Array.from({ length: number("seeds") }, (_, i) => i + 1);
  const runs = plan(axes, seeds, vary === "rl" ? "seeds.rl" : "seed");
  const common = [...(file === undefined ? [] : ["--config", file]), ...rest];
  const options = { common, runs, jobs: number("jobs"), out: values.out };
  const bases = runs.map((run) => baseOf(options, run)); // refuses wrong settings before any run
  if (values["dry-run"]) {
    for (const run of runs) console.log(commandOf(options, run).join(" "));
    return;
  }
  makeFolder(options.out);
  const failed = await runAll(options, bases);
  const table = sweepTable(options.out, runs);
  console.log(`\n${textTable(table)}`);
  writeAtomic(join(options.out, "sweep.md"), `${markdownTable(table)}\n`);
  if (failed.length > 0) {
    throw new UserError(
      `${failed.length} of ${runs.length} runs failed: ${failed.join("; ")}\n` +
        "their output is in log.txt of each folder; the same command tries them again",
    );
  }
}

function parsed(argv: string[]) {
  try {
    return parseArgs({
      args: argv,
      allowPositionals: true,
      options: {
        grid: { type: "string", multiple: true, default: [] },
        seeds: { type: "string", default: "1" },
        vary: { type: "string", default: "rl" },
        jobs: { type: "string", default: "1" },
        out: { type: "string", default: join("runs", "sweep") },
        "dry-run": { type: "boolean", default: false },
        help: { type: "boolean", default: false },
      },
    });
  } catch (error) {
    throw new UserError(`${(error as Error).message}\n--help lists every flag`);
  }
}

/** Key of the base model that a run needs. Throws a UserError where its settings don't hold. */
function baseOf({ common }: Options, { settings }: PlannedRun): string {
  const resolved = resolveConfig([...common, ...toFlags(trainShape, settings)]);
  if (resolved.help !== null) throw new UserError("--help stands behind --; ask rl/train.ts");
  return baseModelHash(resolved.config);
}

const script = fileURLToPath(new URL("train.ts", import.meta.url));

/** Starts the run, or goes on with it. */
function commandOf({ common, out }: Options, { settings, folder }: PlannedRun): string[] {
  const path = join(out, folder);
  const deno = process.versions.deno === undefined ? [] : ["run", "-A"];
  const begun = existsSync(join(path, "config.json"));
  const flags = begun
    ? ["--resume", path]
    : [...common, ...toFlags(trainShape, settings), "--out", path];
  return [process.execPath, ...deno, script, ...flags];
}

const isDone = (out: string, { folder }: PlannedRun): boolean =>
  existsSync(join(out, folder, "summary.json"));

/** Runs what isn't done, `jobs` at a time; returns the names of those that failed. */
async function runAll(options: Options, bases: readonly string[]): Promise<string[]> {
  const { runs, jobs, out } = options;
  const waiting = runs
    .map((run, i) => ({ run, base: bases[i]! }))
    .filter(({ run }) => !isDone(out, run));
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
      const [{ run, base }] = waiting.splice(next, 1) as [(typeof waiting)[number]];
      const first = !made.has(base);
      if (first) making.add(base);
      const started = performance.now();
      const problem = await runOne(options, run, () => {
        making.delete(base);
        made.add(base);
        changed();
      });
      if (problem === undefined) done++;
      else failed.push(`${run.folder} (${problem})`);
      const seconds = ((performance.now() - started) / 1000).toFixed(0);
      const told = problem === undefined ? "done" : `FAILED: ${problem}`;
      console.log(`[${done}/${runs.length}] ${run.folder}: ${told} (${seconds} s)`);
    }
  };
  await Promise.all(Array.from({ length: Math.min(jobs, waiting.length) }, worker));
  return failed;
}

/** Undefined, or what went wrong. `onBase` is called once the base model exists. */
async function runOne(
  options: Options,
  run: PlannedRun,
  onBase: () => void,
): Promise<string | undefined> {
  const [exe, ...args] = commandOf(options, run);
  const threads = Math.max(1, Math.floor(availableParallelism() / options.jobs));
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
  const path = join(options.out, run.folder);
  if (existsSync(path)) writeAtomic(join(path, "log.txt"), output.join(""));
  if (code === 0 && isDone(options.out, run)) {
    const { settings, seed, point } = run;
    writeJson(join(path, "sweep.json"), { settings, seed, point: point.values });
    return undefined;
  }
  const last = output.join("").trim().split("\n").at(-1) ?? "";
  return `exit ${code}: ${last.slice(0, 200)}`;
}

await runMain(main);
