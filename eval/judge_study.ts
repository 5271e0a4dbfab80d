#!/usr/bin/env bun
/** How far judges agree with people, with intervals: bun run eval/judge_study.ts --data FILE. */

import { Command } from "commander";
import { exitCodeOf, strict, whole } from "../model/command.ts";
import { UserError } from "../model/errors.ts";
import { randomStream } from "../tensor/mod.ts";
import { aliasJudge } from "./judge/alias.ts";
import { exactJudge } from "./judge/exact.ts";
import { type HumanVerdict, readHumanVerdicts } from "./judge/human.ts";
import { overlapJudge, wordF1Judge } from "./judge/lexical.ts";
import { type AsyncJudge, ruleAsync, serverJudge } from "./judge/llm.ts";
import { normalisedJudge } from "./judge/normalised.ts";
import { judgeReliability, type Rate, type StageReliability } from "./judge/reliability.ts";

interface Flags {
  readonly data: string;
  readonly answers?: number;
  readonly examples: number;
  readonly url?: string;
  readonly model?: string;
  readonly cache?: string;
  readonly offline?: true;
  readonly concurrency: number;
}

function command(): Command {
  return strict(
    new Command("judge_study")
      .description(
        "Compares judges with people on answers that people have judged (EfficientQA's test file): " +
          "agreement, errors of either kind and Cohen's kappa, each with its 95 % interval. Answers " +
          "that people called possibly correct are in no rate; how often each judge pays for them is " +
          "told beside.",
      )
      .requiredOption("--data <file>", "NQ-open.efficientqa.test.1.1.jsonl, gzipped or not")
      .option("--answers <n>", "judge this many, drawn at random; all by default", whole(1))
      .option("--examples <n>", "disagreements to show for each judge", whole(0), 0)
      .option("--url <address>", "OpenAI-compatible server of a language model to judge too")
      .option("--model <name>", "its name there; its only one by default")
      .option("--cache <file>", "where its verdicts are kept, so that none is asked for twice")
      .option("--offline", "read the cache alone")
      .option("--concurrency <n>", "answers judged at a time", whole(1), 16),
  );
}

/** Runs the command. Returns its exit code: 0, or 2 with an explanation on stderr. */
export const main = (args: readonly string[]): Promise<number> =>
  exitCodeOf(async () => {
    const flags = command().parse(args, { from: "user" }).opts<Flags>();
    console.log(await study(flags));
  });

const UNMATCHED = [
  "No answer here matches an accepted text: people were shown only those that the matching had left",
  "over. The agreement of the first rules is then the share of wrong answers, and says nothing of",
  "answers that do match; compare judges on what those rules miss.",
];

const matched = (items: readonly HumanVerdict[]): boolean =>
  items.some(({ answer, ...rest }) => aliasJudge({ id: 0, ...rest }, answer).correct);

interface Named {
  readonly name: string;
  readonly judge: AsyncJudge;
}

async function study(flags: Flags): Promise<string> {
  const all = await readHumanVerdicts(flags.data);
  const some = flags.answers === undefined ? all : drawn(all, flags.answers);
  const rules: Named[] = [
    { name: "exact: the gold text", judge: ruleAsync(exactJudge) },
    { name: "normalised: the gold text", judge: ruleAsync(normalisedJudge) },
    { name: "alias: any accepted text", judge: ruleAsync(aliasJudge) },
    { name: "word F1 of at least 2/3", judge: ruleAsync(wordF1Judge(2 / 3)) },
    { name: "contains: one holds the other", judge: ruleAsync(overlapJudge) },
  ];
  const model = await modelJudge(flags);
  const judged = await Promise.all(
    [...rules, ...(model ? [model] : [])].map((one) => assess(one, some)),
  );
  model?.close();
  const counts = (["right", "possible", "wrong"] as const).map(
    (opinion) => some.filter((one) => one.opinion === opinion).length,
  );
  return [
    `${some.length} answers that people judged: ${counts[0]} right, ${counts[1]} possible, ${counts[2]} wrong`,
    "",
    ...table(judged),
    ...(matched(some) ? [] : ["", ...UNMATCHED]),
    ...judged.flatMap((one) => examples(one, flags.examples)),
  ].join("\n");
}

const drawn = (all: readonly HumanVerdict[], n: number): HumanVerdict[] =>
  randomStream({ seed: 1, purpose: "judge study" }).shuffle(all).slice(0, n);

async function modelJudge({ url, model, cache, offline, concurrency }: Flags) {
  if (url === undefined && !offline) return undefined;
  if (model === undefined && offline) {
    throw new UserError("--offline needs --model: verdicts are kept by the judge's name");
  }
  if (offline && cache === undefined) throw new UserError("--offline needs --cache");
  const made = await serverJudge({
    ...{ url: url ?? "", model, cache, concurrency, offline: offline ?? false },
    print: (text) => console.error(text),
  });
  return { name: made.model, judge: made.judge, close: made.close };
}

interface Assessed {
  readonly name: string;
  readonly reliability: StageReliability;
  readonly possiblePaid: { readonly paid: number; readonly of: number };
  readonly falsePositives: readonly HumanVerdict[];
  readonly misses: readonly HumanVerdict[];
}

async function assess({ name, judge }: Named, items: readonly HumanVerdict[]): Promise<Assessed> {
  const verdicts = (await judge(items)).map(({ score, correct }) =>
    score === null ? null : correct,
  );
  const decided = items.flatMap((item, i) =>
    item.opinion === "possible" ? [] : [{ item, verdict: verdicts[i]! }],
  );
  const outputs = decided.map(({ item, verdict }) => {
    return { stage: "before" as const, truth: item.opinion === "right", verdict };
  });
  const possible = verdicts.filter((_, i) => items[i]!.opinion === "possible");
  const where = (opinion: string, verdict: boolean) =>
    decided
      .filter((one) => one.item.opinion === opinion && one.verdict === verdict)
      .map(({ item }) => item);
  return {
    name,
    reliability: judgeReliability(outputs).overall,
    possiblePaid: { paid: possible.filter((one) => one === true).length, of: possible.length },
    falsePositives: where("wrong", true),
    misses: where("right", false),
  };
}

const rate = ({ rate: share, low, high, successes, trials }: Rate): string =>
  share === null
    ? "n/a"
    : `${(100 * share).toFixed(1)} % [${(100 * low).toFixed(1)}, ${(100 * high).toFixed(1)}] ` +
      `(${successes}/${trials})`;

function table(judged: readonly Assessed[]): string[] {
  const rows = judged.map(({ name, reliability: r, possiblePaid: { paid, of } }) => {
    const { kappa, low, high } = r.kappa;
    return [
      name,
      rate(r.agreement),
      kappa === null ? "n/a" : `${kappa.toFixed(3)} [${low.toFixed(3)}, ${high.toFixed(3)}]`,
      rate(r.falsePositives),
      rate(r.falseNegatives),
      `${paid}/${of}`,
      `${r.unjudged}`,
    ];
  });
  const titles = ["judge", "agreement", "kappa", "wrong called right", "right called wrong"];
  const all = [[...titles, "possible paid", "no verdict"], ...rows];
  const widths = all[0]!.map((_, c) => Math.max(...all.map((cells) => cells[c]!.length)));
  return all.map((cells) =>
    cells
      .map((cell, c) => cell.padEnd(widths[c]!))
      .join("  ")
      .trimEnd(),
  );
}

function examples({ name, falsePositives, misses }: Assessed, most: number): string[] {
  if (most === 0) return [];
  const line = ({ question, answer, accepted }: HumanVerdict) =>
    `  ${question} | ${answer} | accepted: ${accepted.join("; ")}`;
  return [
    ...["", `${name}: wrong called right`, ...falsePositives.slice(0, most).map(line)],
    ...["", `${name}: right called wrong`, ...misses.slice(0, most).map(line)],
  ];
}

if (import.meta.main) process.exitCode = await main(process.argv.slice(2));
