#!/usr/bin/env bun
/** A run's questions, reward and settings as a folder that a larger engine runs: verl, TRL, OpenRLHF. */

import { existsSync, mkdtempSync, renameSync, rmdirSync } from "node:fs";
import { basename, dirname, extname, join, resolve } from "node:path";
import type { Model } from "../eval/accuracy.ts";
import type { FileQuestion } from "../eval/data_task.ts";
import { promptText } from "../eval/prompt.ts";
import { count } from "../eval/table.ts";
import { loadModel, openModel } from "../model/checkpoint.ts";
import { disposeParameters } from "../model/parameters.ts";
import { progressLine } from "../model/progress_line.ts";
import type { Tokenizer } from "../model/tokenizer.ts";
import { seedsOf, type TrainConfig } from "./config.ts";
import { shuffledLabels } from "./controls.ts";
import { chooseDevice } from "./device.ts";
import { accessibilityOfTraining } from "./evaluate.ts";
import { account, type Plan, settingsOf } from "./exporters/account.ts";
import { type Engine, type EngineName, engineNames, engines } from "./exporters/engines.ts";
import { imitationRow, type Row, type RowForm } from "./exporters/rows.ts";
import { heldOutRows, trainingRows } from "./exporters/sampled.ts";
import { differencesText, readmeText } from "./exporters/texts.ts";
import { fileError, makeFolder, namesIn, removeQuietly, writeAtomic, writeJson } from "./files.ts";
import { type CommandFlag, helpFlag } from "./flags.ts";
import { onInterrupt } from "./interrupt.ts";
import { JsonLines } from "./json_lines.ts";
import { openReward } from "./judge_reward.ts";
import { Progress } from "./progress.ts";
import { validationQuestions } from "./questions.ts";
import { resolveConfig, trainHelp } from "./resolve.ts";
import { openQuestions, type Questions } from "./source.ts";
import { trainingQuestions } from "./strata.ts";
import { runMain, UserError } from "./user_error.ts";

const flags: readonly CommandFlag[] = [
  { flag: "--to", placeholder: engineNames.join("|"), description: "The engine" },
  { flag: "--out", placeholder: "DIR", description: "Folder to write: new, or empty" },
  { flag: "--config", placeholder: "FILE.json", description: "Read settings from a JSON file" },
  helpFlag,
];

const usage = {
  name: "bun run rl/export.ts",
  description:
    "Writes the questions, the reward and the settings of a run of rl/train.ts (--data, --model and\n" +
    "all of its flags) as a folder that a larger engine runs, and says what is not the same there.",
};

/** The command, on its arguments. */
export async function exportRun(argv: readonly string[]): Promise<void> {
  if (argv.includes("--help") || argv.includes("-h")) {
    return console.log(trainHelp("data", usage, flags));
  }
  const resolved = resolveConfig(argv, flags);
  if (resolved.help !== null) return console.log(resolved.help);
  const { config, hash, command } = resolved;
  const engine = engineOf(command.get("--to"));
  const out = freeFolder(resolved.out);
  const { data } = config;
  if (data === undefined) {
    throw new UserError(
      "a world is not exported: its base model knows the world's few words alone and is made for " +
        "this engine; export a run on questions (--data FILE --model FOLDER)",
    );
  }
  const progress = new Progress();
  const print = (text: string) => progress.print(text);
  const { weights, ...model } = openModel(data.model);
  weights.close();
  const questions = await openQuestions(config, data, model, print);
  for (const line of questions.lines) print(line);
  const asked = await askedQuestions(config, questions);
  const plan = planOf(config, questions, { model: data.model, rows: asked.length });
  // What the engine has not is told before anything is sampled.
  settingsOf(account(engine.table, plan), engine.name);

  const staging = stagingFolder(out);
  try {
    const exported = { engine, plan, questions, asked, staging, progress };
    await writeExport(exported, hash);
    if (existsSync(out)) rmdirSync(out);
    renameSync(staging, out);
  } catch (error) {
    removeQuietly(staging);
    throw fileError(error, `cannot write ${out}`);
  }
  console.log(
    `${engine.name}: ${out} (README.md first; DIFFERENCES.md: what is not the same there)`,
  );
}

function engineOf(name: string | undefined): Engine {
  const found = engineNames.find((one) => one === name);
  if (found !== undefined) return engines[found as EngineName];
  throw new UserError(
    name === undefined
      ? `--to is missing: the engine, one of ${engineNames.join(", ")}`
      : `--to is "${name}"; expected one of ${engineNames.join(", ")}`,
  );
}

function freeFolder(out: string | null): string {
  if (out === null) throw new UserError("--out is missing: the folder to write");
  const names = namesIn(out);
  if (names.length === 0) return resolve(out);
  throw new UserError(
    `${out} has ${count(names.length)} files in it; name a new folder, or empty it`,
  );
}

/** Beside the folder itself, so that one rename puts all of it in place. */
function stagingFolder(out: string): string {
  makeFolder(dirname(out));
  try {
    return mkdtempSync(`${out}.partial-`);
  } catch (error) {
    throw fileError(error, `cannot write ${out}`);
  }
}

/** The questions that the run would train on, with the labels that it would give them. */
async function askedQuestions(
  config: TrainConfig,
  { task }: Questions,
): Promise<readonly FileQuestion[]> {
  const all = task.questions("train");
  const seed = seedsOf(config).rl;
  const counts =
    config.train.stratum === "all"
      ? []
      : await withModel(config, (base) => accessibilityOfTraining(base, task, config));
  const chosen = new Set(trainingQuestions(all, counts, config, seed));
  const asked = all.filter((question) => chosen.has(question));
  return config.train.labels === "gold" ? asked : shuffledLabels(asked, seed);
}

/** The model with its weights, for what must be sampled. */
async function withModel<T>(config: TrainConfig, work: (base: Model) => Promise<T>): Promise<T> {
  await chooseDevice(config);
  const folder = config.data!.model;
  const base = loadModel(folder, { onProgress: progressLine(`reading ${folder}`) });
  try {
    return await work(base);
  } finally {
    disposeParameters(base.parameters);
  }
}

function planOf(
  config: TrainConfig,
  { prompts, task }: Questions,
  { model, rows }: { readonly model: string; readonly rows: number },
): Plan {
  const splits = ["train", "validation", "test"] as const;
  const lengths = splits.flatMap((split) =>
    task.questions(split).map(({ prompt }) => prompt.length),
  );
  const { form } = prompts.settings;
  const example = task.questions("train")[0]!.promptText;
  return {
    ...{ config, data: config.data!, model: resolve(model), form, rows },
    opening:
      form === "chat" ? "" : openingOf(prompts.tokenizer, promptText(prompts.settings, example)),
    longestPrompt: lengths.reduce((most, length) => Math.max(most, length), 0),
  };
}

/** The text of the special token that a tokenizer puts before a text; "" where it puts none. */
function openingOf(tokenizer: Tokenizer, text: string): string {
  const first = tokenizer.encode(text)[0]!;
  return first !== tokenizer.encode(text, { bare: true })[0] && tokenizer.specialIds.has(first)
    ? (tokenizer.specialText(first) ?? "")
    : "";
}

interface Exported {
  readonly engine: Engine;
  readonly plan: Plan;
  readonly questions: Questions;
  /** What training asks. */
  readonly asked: readonly FileQuestion[];
  readonly staging: string;
  readonly progress: Progress;
}

async function writeExport(exported: Exported, hash: string): Promise<void> {
  const { engine, questions, staging, progress } = exported;
  const { config } = exported.plan;
  const { prompts } = questions;
  const folder = engine.folder === "" ? "" : `${engine.folder}/`;
  const names: string[] = [];
  const write = async (split: string, rows: Rows): Promise<number> => {
    const name = `${folder}${split}.${engine.ending}`;
    names.push(name);
    makeFolder(dirname(join(staging, name)));
    const written = await writeRows(join(staging, name), rows);
    if (written > 0) return written;
    const wrong = config.method === "dpo" ? "wrong" : "right";
    throw new UserError(`${name} would be empty: no ${wrong} answer was sampled`);
  };
  const rows = await writeSplits(exported, write);
  const plan: Plan = { ...exported.plan, rows };
  const entries = account(engine.table, plan);
  const ends = prompts.stopTokens
    .map((id) => prompts.tokenizer.specialText(id))
    .filter((text) => text !== undefined);
  const texts = {
    ...engine.files(plan, settingsOf(entries, engine.name)),
    "DIFFERENCES.md": differencesText(engine, plan, entries),
    "README.md": readmeText(engine, plan, { ends, files: names }),
  };
  for (const [name, text] of Object.entries(texts)) writeAtomic(join(staging, name), text);
  const origin = { engine: engine.name, version: engine.version, hash, files: questions.files };
  writeJson(join(staging, "settings.json"), { ...origin, config });
  progress.print(`${count(rows)} training rows`);
}

type Rows = Iterable<Row> | AsyncIterable<Row>;

/** Writes the rows of each split; how many there are to train on. */
async function writeSplits(
  { engine, plan, questions, asked, staging, progress }: Exported,
  write: (split: string, rows: Rows) => Promise<number>,
): Promise<number> {
  const { config } = plan;
  const { prompts, task } = questions;
  const form: RowForm = { prompts, opening: plan.opening, source: sourceName(plan.data.file) };
  const validation = validationQuestions(task, config) as readonly FileQuestion[];
  const test = task.questions("test");
  const gold = (question: FileQuestion): Row => imitationRow(form, question, question.gold);
  const rowOf = config.method === "sft" || config.method === "rft" ? gold : engine.row(form);
  if (config.method !== "rft" && config.method !== "dpo") {
    const rows = await write("train", lazily(asked, rowOf));
    await write("validation", lazily(validation, rowOf));
    await write("test", lazily(test, rowOf));
    return rows;
  }
  using interrupt = onInterrupt({ print: () => progress.print("stopping after this step") });
  using paid = await openReward(config, staging, (text) => progress.print(text));
  return withModel(config, async (base) => {
    const sampling = { base, task, config, form, reward: paid.reward, progress, interrupt };
    const rows = await write("train", trainingRows(sampling, asked));
    // DPO's held-out rows are pairs too; those of answers to be imitated are gold.
    const held =
      config.method === "dpo" ? heldOutRows(sampling, validation) : lazily(validation, gold);
    await write("validation", held);
    if (config.method === "rft") await write("test", lazily(test, gold));
    return rows;
  });
}

/** A data set's name: that of its file. */
function sourceName(file: string): string {
  const name = basename(file).replace(/\.gz$/, "");
  return basename(name, extname(name));
}

function* lazily<T>(items: readonly T[], make: (item: T, index: number) => Row): Iterable<Row> {
  for (const [index, item] of items.entries()) yield make(item, index);
}

async function writeRows(path: string, rows: Rows): Promise<number> {
  const file = new JsonLines(path);
  let written = 0;
  try {
    for await (const row of rows) {
      file.append(row);
      written++;
    }
    file.sync();
  } finally {
    file.close();
  }
  return written;
}

if (import.meta.main) await runMain(() => exportRun(process.argv.slice(2)));
