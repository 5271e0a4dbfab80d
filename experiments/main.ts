/** Runs experiments from the command line: their training runs first, then the report. */

import { join } from "node:path";
import { parseArgs } from "node:util";
import { buildWorld } from "../eval/worlds/presets.ts";
import { worldOf } from "../rl/config.ts";
import { makeFolder, writeAtomic, writeJson } from "../rl/files.ts";
import { worldText } from "../rl/header.ts";
import type { PartialConfig } from "../rl/presets.ts";
import { isDone, runAll } from "../rl/run_pool.ts";
import { duration } from "../rl/table.ts";
import { UserError } from "../rl/user_error.ts";
import { type Experiment, readPaper } from "./claim.ts";
import { openLab } from "./lab.ts";
import { draw } from "./report/figures.ts";
import { html } from "./report/html.ts";
import { markdown } from "./report/markdown.ts";
import { linesOf, type Report, type Study } from "./report/model.ts";
import { poolRun, resolved, runHash } from "./runs.ts";
import { full, quick, type Scale } from "./scale.ts";

const HELP = `Usage: bun run experiments/reproduce.ts [--quick] [--only c10,c13] [--out DIR] [--jobs N]

Runs the experiments' training runs, measures, and writes report.html, report.md and report.json. What
has been computed is not computed again: the same command goes on where it was stopped.

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
}

/** The command behind reproduce.ts, and behind each experiment's own script. */
export async function reproduce(
  experiments: readonly Experiment[],
  argv: string[],
  scales: Readonly<Record<Scale["name"], Scale>> = { quick, full },
): Promise<void> {
  const { values } = parsed(argv);
  if (values.help) return console.log(HELP);
  const options = optionsOf(experiments, values, scales);
  if (values.list) return list(options);
  const started = performance.now();
  const { scale, chosen, out } = options;
  makeFolder(out);
  if (!values.report) await runEverything(options);
  const lab = openLab(out, scale);
  const studies: Study[] = [];
  for (const experiment of chosen) {
    const missing = values.report ? settingsOf([experiment], scale).filter(isMissing(out)) : [];
    if (missing.length > 0) {
      console.log(`${experiment.id}: left out, ${missing.length} of its runs have not ended`);
      continue;
    }
    console.log(`${experiment.id}: ${experiment.question}`);
    studies.push(await studyOf(experiment, lab));
  }
  const path = await writeReport(options, studies, argv);
  for (const { id, claim, verdict, ours } of linesOf(studies)) {
    console.log(`\n${id} ${verdict.toUpperCase()}: ${claim}\n   ${ours.join("\n   ")}`);
  }
  console.log(`\n${path} (${duration((performance.now() - started) / 1000)})`);
}

async function studyOf(experiment: Experiment, lab: ReturnType<typeof openLab>): Promise<Study> {
  const { id, title, question, claims, runs } = experiment;
  const finding = await experiment.analyse(lab);
  const hashes = runs(lab.scale).map((settings) => runHash(resolved(settings).config));
  return { id, title, question, claims, finding, runs: [...new Set(hashes)] };
}

/** Each setting once, those of the first experiments first. */
function settingsOf(experiments: readonly Experiment[], scale: Scale): PartialConfig[] {
  const all = new Map<string, PartialConfig>();
  for (const settings of experiments.flatMap(({ runs }) => runs(scale))) {
    const hash = runHash(resolved(settings).config);
    if (!all.has(hash)) all.set(hash, settings);
  }
  return [...all.values()];
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

async function writeReport(
  { scale, chosen, out }: Options,
  studies: readonly Study[],
  argv: readonly string[],
): Promise<string> {
  const { title, source, note } = readPaper();
  const worlds = new Map<string, string>();
  for (const settings of settingsOf(chosen, scale)) {
    const { config } = resolved(settings);
    const { layers, hiddenSize } = config.model;
    const key = JSON.stringify({ ...worldOf(config), seed: 0, layers, hiddenSize });
    if (worlds.has(key)) continue;
    const model = `model: ${layers} layers of width ${hiddenSize}, ${config.pretrain.steps} steps`;
    const lines = worldText(buildWorld(worldOf(config)));
    worlds.set(key, [`${config.preset}: ${lines[0]}`, ...lines.slice(1), model].join("\n"));
  }
  const report: Report = {
    ...{ scale: scale.name, paper: { title, source, note }, studies },
    command: ["bun run experiments/reproduce.ts", ...argv].join(" "),
    lines: linesOf(studies),
    worlds: [...worlds.values()],
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

function list({ chosen, scale }: Options): void {
  for (const { id, title, question, claims, runs } of chosen) {
    console.log(
      `${id}  ${title} (${claims.join(", ")}; ${runs(scale).length} runs)\n   ${question}`,
    );
  }
  console.log(`${settingsOf(chosen, scale).length} runs in all at the ${scale.name} scale`);
}

function optionsOf(
  experiments: readonly Experiment[],
  values: ReturnType<typeof parsed>["values"],
  scales: Readonly<Record<Scale["name"], Scale>>,
): Options {
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
