/** Runs experiments from the command line: their training runs first, then the report. */

import { join } from "node:path";
import { parseArgs } from "node:util";
import { duration } from "../eval/table.ts";
import { makeFolder, writeAtomic, writeJson } from "../rl/files.ts";
import type { PartialConfig } from "../rl/presets.ts";
import { isDone, runAll } from "../rl/run_pool.ts";
import { UserError } from "../rl/user_error.ts";
import { type Experiment, readPaper } from "./claim.ts";
import { openLab } from "./lab.ts";
import { earlierReport, keptStudies, writeRuns } from "./record.ts";
import { draw } from "./report/figures.ts";
import { html } from "./report/html.ts";
import { markdown } from "./report/markdown.ts";
import { linesOf, type Report, type Study } from "./report/model.ts";
import { poolRun } from "./runs.ts";
import { full, quick, type Scale } from "./scale.ts";
import { settingsOf, studyOf } from "./study.ts";

const HELP = `Usage: bun run experiments/reproduce.ts [--quick] [--only c10,c13] [--out DIR] [--jobs N]

Runs the experiments' training runs, measures, and writes report.html, report.md, report.json, and
runs.jsonl with the settings of each run. What has been computed is not computed again: the same
command goes on where it was stopped, and a report keeps what another --only has found.

  --quick        One world, one seed, small models: about a quarter of an hour on two cores
  --only A,B     Only these experiments, by the beginning of their names
  --out DIR      Where runs, pieces and the report go (default runs/reproduce-quick or -full)
  --jobs N       Training runs at a time (default 2)
  --wide         256-bit vectors in the runs, where the engine has them (see rl/train.ts)
  --list         The experiments, their questions and how many runs they need
  --report       Make the report from what is there, without running anything`;

interface Options {
  readonly scale: Scale;
  readonly chosen: readonly Experiment[];
  readonly out: string;
  readonly jobs: number;
  readonly wide: boolean;
  readonly argv: readonly string[];
}

/** The command behind reproduce.ts, and behind each experiment's own script. */
export async function reproduce(
  experiments: readonly Experiment[],
  argv: string[],
  scales: Readonly<Record<Scale["name"], Scale>> = { quick, full },
): Promise<void> {
  const { values } = parsed(argv);
  if (values.help) return console.log(HELP);
  const options = { ...optionsOf(experiments, values, scales), argv };
  if (values.list) return list(options);
  const started = performance.now();
  const { scale, chosen, out } = options;
  makeFolder(out);
  if (!values.report) await runEverything(options);
  const lab = openLab(out, scale);
  const earlier = earlierReport(out, scale);
  const studies = keptStudies(earlier, experiments, scale);
  const read: PartialConfig[] = [];
  for (const experiment of chosen) {
    const settings = settingsOf([experiment], scale);
    const missing = values.report ? settings.filter(isMissing(out)) : [];
    if (missing.length > 0) {
      const why = studies.has(experiment.id) ? "as it was found before" : "left out";
      console.log(`${experiment.id}: ${why}, ${missing.length} of its runs are not here`);
      continue;
    }
    console.log(`${experiment.id}: ${experiment.question}`);
    studies.set(experiment.id, await studyOf(experiment, lab));
    read.push(...settings);
  }
  // One experiment's own script knows no others: their order stays what it was.
  const known = experiments.flatMap(({ id }) => studies.get(id) ?? []);
  const told = known.length === studies.size ? known : [...studies.values()];
  const path = await writeReport(experiments, told, earlier, options);
  writeRuns(out, lab, read, told);
  for (const { id, claim, verdict, ours } of linesOf(told)) {
    console.log(`\n${id} ${verdict.toUpperCase()}: ${claim}\n   ${ours.join("\n   ")}`);
  }
  console.log(`\n${path} (${duration((performance.now() - started) / 1000)})`);
}

const isMissing = (out: string) => (settings: PartialConfig) => !isDone(poolRun(out, settings, []));

async function runEverything({ chosen, scale, out, jobs, wide }: Options): Promise<void> {
  const runs = settingsOf(chosen, scale).map((one) => poolRun(out, one, wide ? ["--wide"] : []));
  const waiting = runs.filter((run) => !isDone(run)).length;
  console.log(`${scale.name}: ${runs.length} training runs, ${waiting} of them still to do`);
  const failed = await runAll(runs, { jobs });
  if (failed.length > 0) {
    throw new UserError(
      `${failed.length} runs failed: ${failed.join("; ")}\n` +
        "their output is in log.txt of each folder; the same command tries them again",
    );
  }
}

/** The report of all studies there are, whether they were made now or kept. */
async function writeReport(
  experiments: readonly Experiment[],
  studies: readonly Study[],
  earlier: Report | null,
  { scale, out, argv }: Options,
): Promise<string> {
  const { title, source, note } = readPaper();
  const isTold = ({ id }: { id: string }) => studies.some((study) => study.id === id);
  const missing = new Map(
    [...(earlier?.missing ?? []), ...experiments]
      .filter((one) => !isTold(one))
      .map(({ id, title, claims }) => [id, { id, title, claims }]),
  );
  const report: Report = {
    ...{ scale: scale.name, paper: { title, source, note }, studies },
    command: commandOf(argv),
    lines: linesOf(studies),
    missing: [...missing.values()],
  };
  writeJson(join(out, "report.json"), report);
  writeAtomic(join(out, "report.md"), markdown(report));
  for (const figure of studies.flatMap(({ finding }) => finding.figures)) {
    writeAtomic(join(out, `${figure.name}.svg`), await draw(figure));
  }
  const path = join(out, "report.html");
  writeAtomic(path, await html(report));
  return path;
}

/** The command that makes the whole report, whichever part of it was asked for. */
function commandOf(argv: readonly string[]): string {
  const parts = argv.filter((arg, i) => {
    return !/^--(only|report$)/.test(arg) && argv[i - 1] !== "--only";
  });
  const { bun, deno } = process.versions;
  const runtime = bun ? "bun run" : deno ? "deno run -A" : "node";
  return [`${runtime} experiments/reproduce.ts`, ...parts].join(" ");
}

function list({ chosen, scale }: Options): void {
  for (const experiment of chosen) {
    const { id, title, question, claims } = experiment;
    const runs = settingsOf([experiment], scale).length;
    console.log(`${id}  ${title} (${claims.join(", ")}; ${runs} runs)\n   ${question}`);
  }
  console.log(`${settingsOf(chosen, scale).length} runs in all at the ${scale.name} scale`);
}

function optionsOf(
  experiments: readonly Experiment[],
  values: ReturnType<typeof parsed>["values"],
  scales: Readonly<Record<Scale["name"], Scale>>,
): Omit<Options, "argv"> {
  const names = (values.only ?? "").split(",").filter(Boolean);
  for (const name of names) {
    if (experiments.some(({ id }) => id.startsWith(name))) continue;
    const known = experiments.map(({ id }) => id).join(", ");
    throw new UserError(`--only ${name}: no experiment begins so; there are ${known}`);
  }
  const scale = values.quick ? scales.quick : scales.full;
  const jobs = Number(values.jobs);
  if (!Number.isInteger(jobs) || jobs < 1) {
    throw new UserError(`--jobs is "${values.jobs}"; expected a whole number of at least 1`);
  }
  return {
    ...{ scale, jobs, wide: values.wide },
    chosen: experiments.filter(
      ({ id }) => names.length === 0 || names.some((name) => id.startsWith(name)),
    ),
    out: values.out ?? join("runs", `reproduce-${scale.name}`),
  };
}

function parsed(args: string[]) {
  const no = { type: "boolean", default: false } as const;
  try {
    return parseArgs({
      args,
      options: {
        ...{ quick: no, wide: no, list: no, report: no, help: no },
        only: { type: "string" },
        out: { type: "string" },
        jobs: { type: "string", default: "2" },
      },
    });
  } catch (error) {
    throw new UserError(`${(error as Error).message}\n--help lists every flag`);
  }
}
