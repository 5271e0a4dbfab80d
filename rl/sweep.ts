#!/usr/bin/env bun
/** Many runs, each in a process of its own: every combination of a grid, some seeds, one table. */

import { existsSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { markdownTable, textTable } from "../eval/table.ts";
import { baseModelHash, trainShape } from "./config.ts";
import { fieldsOf } from "./fields.ts";
import { makeFolder, writeAtomic, writeJson } from "./files.ts";
import { toFlags } from "./flags.ts";
import { axesOf, type PlannedRun, plan } from "./grid.ts";
import { resolveConfig } from "./resolve.ts";
import { requireSettings } from "./run.ts";
import { commandOf, type PoolRun, runAll } from "./run_pool.ts";
import { sweepTable } from "./sweep_table.ts";
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
  const pool = poolRuns(options);
  if (values["dry-run"]) {
    for (const run of pool) console.log(commandOf(run).join(" "));
    return;
  }
  makeFolder(options.out);
  const failed = await runAll(pool, {
    jobs: options.jobs,
    onDone: ({ path }) => {
      const { settings, seed, point } = runs[pool.findIndex((run) => run.path === path)]!;
      writeJson(join(path, "sweep.json"), { settings, seed, point: point.values });
    },
  });
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

/**
 * The runs as the pool takes them. Throws a UserError where settings don't hold, or where a run of
 * other settings has one's folder, before any run.
 */
function poolRuns({ common, runs, out }: Options): PoolRun[] {
  return runs.map(({ folder, settings }) => {
    const flags = [...common, ...toFlags(trainShape, settings)];
    const resolved = resolveConfig(flags);
    if (resolved.help !== null) throw new UserError("--help stands behind --; ask rl/train.ts");
    const path = join(out, folder);
    // The folder's name holds grid point and seed alone: what is there may be another sweep's.
    if (existsSync(join(path, "config.json"))) {
      requireSettings(path, resolved.config, "choose another folder for this sweep with --out");
    }
    return { name: folder, path, flags, base: baseModelHash(resolved.config) };
  });
}

await runMain(main);
