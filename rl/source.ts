/** What a run asks and whom: a world and the model that read it, or a question file and a real model. */

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Model } from "../eval/accuracy.ts";
import { type DataTask, dataTask } from "../eval/data_task.ts";
import type { QuestionFile } from "../eval/datasets/question.ts";
import { problemText, readQuestionFile } from "../eval/datasets/read.ts";
import { type PromptTokens, promptFormOf, promptTokens } from "../eval/prompt_tokens.ts";
import { count } from "../eval/table.ts";
import type { Task } from "../eval/task.ts";
import { buildWorld } from "../eval/worlds/presets.ts";
import { describeModel, loadModel } from "../model/checkpoint.ts";
import type { ModelConfig } from "../model/config.ts";
import { filesOfModel, hashOfFiles } from "../model/hash_files.ts";
import { progressLine } from "../model/progress_line.ts";
import type { Tokenizer } from "../model/tokenizer.ts";
import { baseModel } from "./base.ts";
import { seedsOf, type TrainConfig, worldOf } from "./config.ts";
import type { DataSettings } from "./data_config.ts";
import { writeJson } from "./files.ts";
import { worldText } from "./header.ts";
import type { Interrupt } from "./interrupt.ts";
import type { Progress } from "./progress.ts";
import { questionsOf } from "./questions.ts";
import { UserError } from "./user_error.ts";

export interface Source {
  readonly task: Task;
  /** The model before training, without weights where a server trains; the caller frees it. */
  readonly base: Model;
  /** Where both come from, for the header of a run. */
  readonly lines: readonly string[];
  /** SHA-256 of the question files and of the model's folder: a resumed run must find the same. */
  readonly files?: Readonly<Record<string, string>>;
}

export async function openSource(
  config: TrainConfig,
  progress: Progress,
  interrupt: Interrupt,
): Promise<Source> {
  if (config.data !== undefined) return openData(config, config.data, progress);
  // A world of facts. Its training, validation and held-out questions share no entity.
  const world = buildWorld(worldOf(config));
  for (const split of ["train", "validation", "test"] as const) questionsOf(world, config, split);
  // A base model that has read about all of them.
  const base = await baseModel(world, config, progress, interrupt);
  const lines = worldText(world).map((line, i) => `${i === 0 ? "world        " : INDENT}${line}`);
  return { task: world, base, lines };
}

const INDENT = "             ";

async function openData(config: TrainConfig, data: DataSettings, progress: Progress) {
  // The model first: where its folder is wrong, no file has been read for nothing.
  const { tokenizer, ...model } = config.trainer
    ? { ...describeModel(data.model), parameters: new Map() }
    : loadModel(data.model, { onProgress: progressLine(`reading ${data.model}`) });
  const print = (text: string) => progress.print(text);
  const questions = await openQuestions(config, data, { ...model, tokenizer }, print);
  const files = { ...questions.files, [data.model]: await hashOfFiles(filesOfModel(data.model)) };
  return { ...questions, files, base: model };
}

export interface Questions extends Omit<Source, "base"> {
  readonly task: DataTask;
  readonly prompts: PromptTokens;
  readonly files: Readonly<Record<string, string>>;
}

/** The questions of a run on a file, for which a model's weights are not needed. */
export async function openQuestions(
  config: TrainConfig,
  data: DataSettings,
  model: { readonly config: ModelConfig; readonly tokenizer?: Tokenizer | undefined },
  print: (text: string) => void,
): Promise<Questions> {
  const { file, testFile, model: folder, testShare, validationShare, testQuestions } = data;
  const { tokenizer } = model;
  const prompts = promptTokens(promptSettings(data, folder, tokenizer), model.config, tokenizer!);
  const questions = await readQuestions(file, data, print);
  const test = testFile === null ? undefined : await readQuestions(testFile, data, print);
  const task = dataTask(questions.questions, {
    ...{ config: model.config, prompts, maxNewTokens: config.train.maxNewTokens },
    ...{ seed: seedsOf(config).world, testShare, validationShare, testQuestions },
    test: test?.questions,
  });
  for (const reason of task.leftOut) print(`left out: ${reason}`);
  const sizes = (["train", "validation", "test"] as const)
    .map((split) => `${split} ${count(task.questions(split).length)}`)
    .join(", ");
  const [example] = task.questions("train");
  const shown = JSON.stringify(tokenizer!.decode(example!.prompt));
  const lines = [
    `questions    ${[file, testFile].filter(Boolean).join(" and ")} (${questions.format}, ${questions.container}): ${sizes}; ${apartText(task)}`,
    `prompts      ${prompts.settings.form}, for example ${shown}`,
    `from         ${folder}`,
  ];
  const paths = [file, ...(testFile === null ? [] : [testFile])];
  const files = Object.fromEntries(
    await Promise.all(paths.map(async (path) => [path, await hashOfFiles([path])] as const)),
  );
  return { task, prompts, lines, files };
}

/** What keeps the splits apart: entities, or texts where questions name none. */
const apartText = ({ unnamed = 0 }: Task): string =>
  unnamed === 0
    ? "no entity in two of them"
    : `no text in two of them (${unnamed} questions name no entity)`;

function promptSettings(data: DataSettings, folder: string, tokenizer: Tokenizer | undefined) {
  if (tokenizer === undefined) {
    throw new UserError(`${folder} has no tokenizer.json: questions can't become tokens`);
  }
  const { prompt, promptText: text, system, think } = data;
  return { form: promptFormOf(prompt, tokenizer), text, system, think };
}

/** Reads a file and tells what of it could not be read. */
async function readQuestions(
  path: string,
  { format, limit }: DataSettings,
  print: (text: string) => void,
): Promise<QuestionFile> {
  const read = await readQuestionFile(path, { format, ...(limit !== null && { limit }) });
  const problems = problemText(path, read);
  if (problems !== undefined) print(problems);
  return read;
}

/** Refuses to go on with other question files, or another model, than the run in `dir` began with. */
export function requireSameFiles(dir: string, resumed: boolean, { files }: Source): void {
  if (files === undefined) return;
  const path = join(dir, "data.json");
  const before: Record<string, string> = resumed && existsSync(path) ? readFiles(path) : {};
  // A run that is older than a file's place in this list can't tell, and goes on.
  const changed = Object.keys(files).filter(
    (name) => (before[name] ?? files[name]) !== files[name],
  );
  if (changed.length > 0) {
    throw new UserError(`${changed.join(", ")} changed since ${dir} began; start another run`);
  }
  writeJson(path, files);
}

const readFiles = (path: string): Record<string, string> => JSON.parse(readFileSync(path, "utf8"));
