/** How well does a model, in a folder or behind an endpoint, recall the answers of a question file? */

import { basename, join } from "node:path";
import { Command, Option } from "commander";
import { exitCodeOf, number, strict, whole } from "../model/command.ts";
import { UserError } from "../model/errors.ts";
import { writeAtomic } from "../model/files.ts";
import { filesOfModel, hashOfFiles } from "../model/hash_files.ts";
import { randomStream } from "../tensor/mod.ts";
import { entityGroups } from "./data_task.ts";
import { type Format, formats } from "./datasets/formats.ts";
import type { DataQuestion } from "./datasets/question.ts";
import { problemText, readQuestionFile } from "./datasets/read.ts";
import { servedModel } from "./engines/served_model.ts";
import { chatSampler, completionSampler } from "./engines/text_sampler.ts";
import { type AsyncJudge, ruleAsync, serverJudge } from "./judge/llm.ts";
import { ruleNames, rules } from "./judge/rules.ts";
import { type PromptForm, promptForms, requirePromptSettings } from "./prompt.ts";
import { type JudgedAnswers, judgeAnswers } from "./recall/judged.ts";
import { recallReport } from "./recall/report.ts";
import {
  localResponder,
  type Numbered,
  type Plan,
  type RecallPrompts,
  type Responder,
  servedResponder,
  thinkingFirst,
} from "./recall/respond.ts";
import { type AnswerStore, openStore, type Settings } from "./recall/store.ts";
import { summariseRecall } from "./recall/summary.ts";

interface Flags {
  readonly model?: string;
  readonly endpoint?: string;
  readonly endpointModel?: string;
  readonly data: string;
  readonly format: Format | "auto";
  readonly limit?: number;
  readonly samples: number;
  readonly temperature: number;
  readonly maxNewTokens: number;
  readonly judge: string;
  readonly judgeModel?: string;
  readonly prompt: PromptForm | "auto";
  readonly promptText?: string;
  readonly system?: string;
  readonly think?: boolean;
  readonly thinkText?: string;
  readonly thinkTokens: number;
  readonly seed: number;
  readonly concurrency: number;
  readonly out?: string;
}

const atLeastZero = number((n) => n >= 0 && n < Infinity, "a number of at least 0");

function command(): Command {
  const choice = (flags: string, description: string, of: readonly string[]) =>
    new Option(flags, description).choices(["auto", ...of]).default("auto");
  return strict(
    new Command("recall")
      .description(
        "Asks a model the questions of a file: its greedy answer, n samples, and if wanted an answer\n" +
          "after thinking. Reports accuracy, pass@k, majority votes, and how accessible answers are.\n" +
          "Stopped and started again, it asks nothing twice; another --judge asks nothing anew.",
      )
      .option("--model <folder>", "a model's folder: config.json, weights, tokenizer.json")
      .option("--endpoint <url>", "or an OpenAI-compatible server (key: OPENAI_API_KEY)")
      .option("--endpoint-model <name>", "the model's name there; its only one by default")
      .requiredOption("--data <file>", "questions: an official format, or one JSON object a line")
      .addOption(choice("--format <name>", "whose field names the file has", formats))
      .option("--limit <n>", "most questions, drawn at random", whole(1))
      .option("--samples <n>", "sampled answers to a question", whole(0), 16)
      .option("--temperature <t>", "of the samples; divides the logits", atLeastZero, 1)
      .option("--max-new-tokens <n>", "longest answer", whole(1), 32)
      .option("--judge <name>", `${ruleNames.join(", ")}, or the URL of a judge's server`, "alias")
      .option("--judge-model <name>", "the judging model's name there; its only one by default")
      .addOption(choice("--prompt <form>", "chat turns, Q: … A:, or the bare text", promptForms))
      .option("--prompt-text <text>", "your own words around {question}")
      .option("--system <text>", "system message of chat prompts")
      .option("--think", 'ask once more, to think first; the answer follows the last "Answer:"')
      .option("--think-text <text>", "your own words around {question} to think by")
      .option("--think-tokens <n>", "longest thought with its answer", whole(1), 512)
      .option("--seed <n>", "seed of the draws", whole(0), 1)
      .option("--concurrency <n>", "questions asked of a server at a time", whole(1), 16)
      .option("--out <folder>", "where answers and report go (recall/<model>-<data>)"),
  );
}

/** Runs the command. Returns its exit code: 0, or 2 with one line of explanation on stderr. */
export const main = (args: readonly string[]): Promise<number> =>
  exitCodeOf(async () => recall(command().parse(args, { from: "user" }).opts<Flags>()));

async function recall(given: Flags): Promise<void> {
  requireFlags(given);
  const flags = await withModelName(given);
  const { samples, temperature, maxNewTokens, seed } = flags;
  const thinkTokens = flags.think ? flags.thinkTokens : 0;
  const plan: Plan = { samples, temperature, maxNewTokens, thinkTokens, seed };
  using responder = await open(flags);
  const asked = await questionsOf(flags, responder, plan);
  const folder = flags.out ?? join("recall", nameOf(flags));
  using store = openStore(folder, await settingsOf(flags, responder, plan));
  await answerAll(asked, responder, plan, store);
  const groups = entityGroups(asked.map(({ data }) => data));
  const answered = asked.map(({ data }) => {
    return { data, entity: groups.get(data)!, answers: store.known.get(data.id)! };
  });
  const { judgeName, all } = await judged(flags, folder, (judge) =>
    judgeAnswers(answered, responder.prompts, judge),
  );
  const votes = flags.judge !== "contains";
  const summary = summariseRecall(all, { samples, seed, votes });
  const header = [
    `model        ${responder.name}`,
    `questions    ${flags.data}: ${asked.length}, ${summary.entities} entities`,
    `prompts      ${responder.prompts.form}; at most ${maxNewTokens} tokens; samples at temperature ${temperature}, seed ${seed}`,
    `judge        ${judgeName}`,
  ];
  const { text, markdown } = recallReport(summary, all, header);
  const write = (name: string, content: string) => writeAtomic(join(folder, name), [content]);
  write("questions.jsonl", all.map((own) => `${JSON.stringify(rowOf(own))}\n`).join(""));
  write("summary.json", `${JSON.stringify({ judge: flags.judge, ...summary }, null, 2)}\n`);
  write("report.md", markdown);
  console.log(`${header.join("\n")}\n\n${text}\n\nfolder: ${folder} (report.md first)`);
}

function requireFlags(flags: Flags): void {
  const { model, endpoint, judge } = flags;
  const isRule = (ruleNames as readonly string[]).includes(judge);
  const isUrl = /^https?:\/\//.test(judge);
  const problem =
    (model === undefined) === (endpoint === undefined)
      ? "give one of --model FOLDER and --endpoint URL"
      : !isRule && !isUrl
        ? `--judge ${judge} is none of ${ruleNames.join(", ")}, and no URL`
        : flags.think && flags.prompt === "raw" && flags.thinkText === undefined
          ? "--think with --prompt raw needs --think-text: the bare text asks for no thought"
          : undefined;
  if (problem !== undefined) throw new UserError(problem);
}

/** Asks the server for the name of its only model where none is given. */
async function withModelName(flags: Flags): Promise<Flags> {
  const { endpoint: url, endpointModel } = flags;
  if (url === undefined || endpointModel !== undefined) return flags;
  const key = process.env.OPENAI_API_KEY;
  const server = { url, key, print: (line: string) => console.error(line) };
  const found = await servedModel("the endpoint", "--endpoint-model", server);
  return { ...flags, endpointModel: found };
}

/** The model that answers. A server that continues texts is asked with --prompt qa or raw. */
async function open(flags: Flags): Promise<Responder> {
  const { promptText: text = null, thinkText = null, system = null, prompt } = flags;
  const settings = { text, thinkText, system };
  if (flags.model !== undefined) return localResponder(flags.model, { ...settings, form: prompt });
  const prompts: RecallPrompts = { ...settings, form: prompt === "auto" ? "chat" : prompt };
  requirePromptSettings(prompts);
  requirePromptSettings(thinkingFirst(prompts));
  const { endpoint: url = "", endpointModel: model = "", concurrency } = flags;
  const server = { url, model, concurrency, print: (line: string) => console.error(line) };
  const sampler = prompts.form === "chat" ? await chatSampler(server) : completionSampler(server);
  return servedResponder(sampler, prompts, concurrency);
}

/** The questions that are asked, with their places in the file; tells what is left out. */
async function questionsOf(flags: Flags, responder: Responder, plan: Plan): Promise<Numbered[]> {
  const { data: path, format, limit, seed } = flags;
  const file = await readQuestionFile(path, { format });
  const problems = problemText(path, file);
  if (problems !== undefined) console.error(problems);
  const all = file.questions.map((data: DataQuestion, place): Numbered => ({ place, data }));
  const kept = new Set(
    randomStream({ seed, purpose: "recall questions" })
      .shuffle(all)
      .slice(0, limit ?? all.length),
  );
  const some = all.filter((question) => kept.has(question));
  const fit = some.filter(({ data }) => responder.fits(data.question, plan));
  const long = some.length - fit.length;
  if (fit.length === 0) {
    throw new UserError("no prompt leaves room for its answer in the model's positions");
  }
  if (long > 0) console.error(`${long} questions left out: too long for the model's positions`);
  return fit;
}

const nameOf = ({ model, endpointModel, data }: Flags): string =>
  `${basename(model ?? endpointModel!)}-${basename(data).replace(/\..*$/, "")}`;

/** What decides an answer: the model, the questions, the prompts and how it is sampled. */
async function settingsOf(flags: Flags, { prompts }: Responder, plan: Plan): Promise<Settings> {
  const { model, endpoint, endpointModel, data } = flags;
  const weights = model === undefined ? [] : filesOfModel(model);
  return {
    ...(model !== undefined && { model: basename(model), weights: await hashOfFiles(weights) }),
    ...(endpoint !== undefined && { endpoint, model: endpointModel }),
    ...{ data: basename(data), questions: await hashOfFiles([data]), prompts, ...plan },
  };
}

async function answerAll(
  asked: readonly Numbered[],
  responder: Responder,
  plan: Plan,
  store: AnswerStore,
): Promise<void> {
  const open = asked.filter(({ data }) => !store.known.has(data.id));
  let done = asked.length - open.length;
  if (done > 0) console.error(`${done} of ${asked.length} questions were answered before`);
  let told = performance.now();
  await responder.answer(open, plan, ({ data }, answers) => {
    store.add(data.id, answers);
    done++;
    if (performance.now() - told < 5000 && done < asked.length) return;
    told = performance.now();
    console.error(`${done}/${asked.length} questions`);
  });
}

/** Runs `body` with the judge that is asked for; a server's verdicts are kept beside the answers. */
async function judged(
  { judge, judgeModel }: Flags,
  folder: string,
  body: (judge: AsyncJudge) => Promise<JudgedAnswers[]>,
): Promise<{ judgeName: string; all: JudgedAnswers[] }> {
  const rule = ruleNames.find((name) => name === judge);
  if (rule !== undefined) return { judgeName: rule, all: await body(ruleAsync(rules[rule])) };
  const print = (line: string) => console.error(line);
  const cache = join(folder, "verdicts.jsonl");
  const server = await serverJudge({ url: judge, model: judgeModel, cache, print });
  try {
    return { judgeName: `${judge} (${server.model})`, all: await body(server.judge) };
  } finally {
    server.close();
  }
}

const rowOf = ({ data, ballots: _, greedy, thought, samples, ...counts }: JudgedAnswers) => ({
  ...data,
  ...counts,
  greedy,
  ...(thought && { thought }),
  samples: samples.map(({ text, correct }) => ({ text, correct })),
});

if (import.meta.main) process.exitCode = await main(process.argv.slice(2));
