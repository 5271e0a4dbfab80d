#!/usr/bin/env bun
/** Runs side by side: a table with intervals, every run against the first, a plot over the steps. */

import { existsSync, readFileSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { bootstrapGain, mcnemar } from "../eval/statistics.ts";
import { duration, percent, points, pValue, type Table, textTable } from "../eval/table.ts";
import { type Curve, curveChart } from "./compare_chart.ts";
import { writeAtomic } from "./files.ts";
import { differences, differenceText } from "./hash.ts";
import { JsonLines, type Row } from "./json_lines.ts";
import type { summarise } from "./report.ts";
import { readRunConfig } from "./run.ts";
import { runMain, UserError } from "./user_error.ts";

const HELP = `Usage: bun run rl/compare.ts RUN RUN … [--plot FILE.svg] [--metric NAME]

Prints what each run measured on the held-out questions, and each run against the first one on the
questions that both were asked; draws a metric over the steps.

  --plot FILE.svg  Where the picture goes (default compare.svg)
  --metric NAME    What it shows (default validation/accuracy)`;

interface Finished {
  readonly name: string;
  readonly dir: string;
  readonly config: Record<string, unknown>;
  readonly summary: ReturnType<typeof summarise>;
  /** Rows of the held-out questions. */
  readonly ledger: readonly Row[];
  readonly metrics: readonly Row[];
}

function read(dir: string, name: string): Finished {
  const { config } = readRunConfig(dir);
  const path = join(dir, "summary.json");
  if (!existsSync(path)) {
    throw new UserError(`${dir} has not ended: go on with it by --resume ${dir}`);
  }
  const rows = (log: string) => new JsonLines(join(dir, log)).rows();
  return {
    ...{ name, dir, config, metrics: rows("metrics.jsonl") },
    summary: JSON.parse(readFileSync(path, "utf8")),
    ledger: rows("ledger.jsonl").filter(({ split }) => split === "test"),
  };
}

/** Last parts of the paths, as many as it takes to tell them apart. */
function namesOf(dirs: readonly string[]): string[] {
  const short = dirs.map((dir) => basename(resolve(dir)));
  return short.map((name, i) =>
    short.indexOf(name) === short.lastIndexOf(name) ? name : dirs[i]!,
  );
}

const right = { align: "right" } as const;

function outcomes(runs: readonly Finished[]): Table {
  return {
    title: "Held-out questions, greedy (95 % intervals; of the change: bootstrap by entity)",
    columns: [
      { title: "" },
      { title: "method" },
      ...["n", "before", "after", "change", "repaired / broken", "last step", "time"].map(
        (title) => {
          return { title, ...right };
        },
      ),
    ],
    rows: runs.map(({ name, summary }) => {
      const { n, intervals, gain, fixed, broken, lastStep } = summary.heldout;
      const change = points(gain.estimate).replace(" points", "");
      const [low, high] = [gain.low, gain.high].map((x) => points(x).replace(" points", ""));
      return [
        ...[name, `${summary.method}, ${summary.reward}`, `${n}`],
        ...[percent(intervals.before), percent(intervals.after), `${change} [${low}, ${high}]`],
        ...[`${fixed} / ${broken}`, percent(lastStep), duration(summary.seconds)],
      ];
    }),
  };
}

/** After training: each run's answers against the first run's, question by question. */
function contrasts([first, ...others]: readonly Finished[]): Table {
  return {
    title: `After training, against ${first!.name}, on questions that both were asked`,
    columns: [
      { title: "" },
      ...["questions", "difference", "right here only / there only", "McNemar"].map((title) => {
        return { title, ...right };
      }),
    ],
    rows: others.map(({ name, ledger }) => {
      const known = new Map(first!.ledger.map((row) => [`${row.id} ${row.question}`, row]));
      const pairs = ledger.flatMap((row) => {
        const other = known.get(`${row.id} ${row.question}`);
        return other === undefined ? [] : [{ here: row, there: other }];
      });
      if (pairs.length === 0) return [name, "0", "other questions: another world", "", ""];
      const { fixed, broken, p } = mcnemar(
        pairs.map(({ there }) => there.correctAfter === true),
        pairs.map(({ here }) => here.correctAfter === true),
      );
      const { estimate, low, high } = bootstrapGain(
        pairs.map(({ here, there }) => ({
          entity: here.entity as number,
          before: Number(there.correctAfter === true),
          after: Number(here.correctAfter === true),
        })),
        { seed: 1 },
      );
      const [d, l, h] = [estimate, low, high].map((x) => points(x).replace(" points", ""));
      return [name, `${pairs.length}`, `${d} [${l}, ${h}]`, `${fixed} / ${broken}`, pValue(p)];
    }),
  };
}

/** The settings that differ, beside folders' names and seeds. */
function settings([first, ...others]: readonly Finished[]): string[] {
  return others.map(({ name, config }) => {
    const all = differences(first!.config, config).map(differenceText);
    return `${name}: ${all.length === 0 ? "the same settings" : all.join("; ")}`;
  });
}

function curveOf({ name, metrics }: Finished, metric: string): Curve {
  const places = metrics.filter((row) => typeof row[metric] === "number");
  return {
    name,
    points: places.map((row) => [(row.step as number) + 1, row[metric] as number] as const),
  };
}

async function main(): Promise<void> {
  const { values, positionals } = parsed();
  if (values.help) return console.log(HELP);
  if (positionals.length < 2)
    throw new UserError("name at least two run folders; --help says more");
  const names = namesOf(positionals);
  const runs = positionals.map((dir, i) => read(dir, names[i]!));
  console.log(textTable(outcomes(runs)));
  console.log(`\n${textTable(contrasts(runs))}`);
  console.log(`\nSettings, against ${runs[0]!.name}\n\n${settings(runs).join("\n")}`);
  const curves = runs.map((run) => curveOf(run, values.metric));
  const empty = curves.filter(({ points }) => points.length === 0).map(({ name }) => name);
  if (empty.length === curves.length) {
    const known = [...new Set(runs.flatMap(({ metrics }) => metrics.flatMap(Object.keys)))];
    throw new UserError(`no run has the metric ${values.metric}; there are ${known.join(", ")}`);
  }
  if (empty.length > 0) console.log(`\nwithout ${values.metric}: ${empty.join(", ")}`);
  writeAtomic(values.plot, await curveChart(curves, values.metric));
  console.log(`\npicture: ${values.plot}`);
}

function parsed() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        plot: { type: "string", default: "compare.svg" },
        metric: { type: "string", default: "validation/accuracy" },
        help: { type: "boolean", default: false },
      },
    });
  } catch (error) {
    throw new UserError(`${(error as Error).message}\n--help lists every flag`);
  }
}

await runMain(main);
