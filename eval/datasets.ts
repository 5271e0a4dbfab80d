/** Reads question sets, says what is in them, writes the plain form: bun run eval/datasets.ts FILE. */

import { Command, Option } from "commander";
import { exitCodeOf, number, strict, whole } from "../model/command.ts";
import { UserError } from "../model/errors.ts";
import { writeAtomic } from "../model/files.ts";
import { type Format, formatReaders, formats } from "./datasets/formats.ts";
import { stemOf } from "./datasets/open.ts";
import type { DataQuestion, QuestionFile } from "./datasets/question.ts";
import { readQuestionFile } from "./datasets/read.ts";
import { scorerOf } from "./datasets/score.ts";
import { sampleQuestions, splitNames, splitQuestions } from "./datasets/split.ts";

interface Flags {
  readonly format: Format | "auto";
  readonly limit?: number;
  readonly sample?: number;
  readonly split?: readonly number[];
  readonly seed: number;
  readonly strict: boolean;
  readonly problems: number;
  readonly out?: string;
}

function shares(text: string): readonly number[] {
  const parts = text.split("/").map(number((x) => x >= 0 && x < 1e9, "three shares, as 80/10/10"));
  if (parts.length === 3) return parts;
  return [number(() => false, "three shares, as 80/10/10")(text)];
}

function command(): Command {
  const about = formats.map((name) => `  ${name.padEnd(17)} ${formatReaders[name].about}`);
  return strict(
    new Command("datasets")
      .description(
        "Reads question sets in their official formats and says what is in them. JSON lines, JSON, " +
          "CSV, TSV (streamed) and parquet, gzipped or not: told by the contents.",
      )
      .argument("<file...>", "question sets; of several, each id gets its file's name before it")
      .addOption(
        new Option("--format <name>", "how fields are named")
          .choices(["auto", ...formats])
          .default("auto"),
      )
      .option("--limit <n>", "questions read from each file, at most", whole(1))
      .option("--sample <n>", "questions drawn from all, by seed and id", whole(1))
      .option(
        "--split <shares>",
        "train/validation/test, as 80/10/10; by entity, else text",
        shares,
      )
      .option("--seed <n>", "of sample and split", whole(0), 0)
      .option("--strict", "the first row that is no question is an error", false)
      .option("--problems <n>", "problems that are shown of each file", whole(0), 5)
      .option("--out <file>", "where the plain form goes, JSON lines; with --split three files")
      .addHelpText("after", `\nFormats:\n${about.join("\n")}`),
  );
}

/** Runs the command. Returns its exit code: 0, or 2 with an explanation on stderr. */
export const main = (args: readonly string[]): Promise<number> =>
  exitCodeOf(async () => {
    const parsed = command().parse(args, { from: "user" });
    await run(parsed.args, parsed.opts<Flags>());
  });

async function run(paths: readonly string[], flags: Flags): Promise<void> {
  const { format, limit, sample, split, seed, out } = flags;
  requireNames(paths);
  const all: DataQuestion[] = [];
  for (const path of paths) {
    const options = { format, strict: flags.strict, ...(limit === undefined ? {} : { limit }) };
    const file = await readQuestionFile(path, options);
    console.log(report(path, file, flags.problems).join("\n"));
    // Not all.push(...some): a hundred thousand arguments are too many.
    for (const question of file.questions) {
      const id = paths.length === 1 ? question.id : `${stemOf(path)}/${question.id}`;
      all.push({ ...question, id });
    }
  }
  const drawn = sample === undefined ? all : sampleQuestions(all, sample, seed);
  if (paths.length > 1 || drawn.length < all.length) {
    console.log(`together: ${count(all.length, "question")}, ${drawn.length} taken`);
  }
  if (split === undefined) return write(out, drawn);
  const [train, validation, test] = split as readonly [number, number, number];
  const splits = splitQuestions(drawn, { train, validation, test, seed });
  for (const name of splitNames) {
    console.log(`${name}: ${count(splits[name].length, "question")}`);
    write(out?.replace(/(\.jsonl)?$/, `.${name}.jsonl`), splits[name]);
  }
}

/** Ids of several files are told apart by the files' names. */
function requireNames(paths: readonly string[]): void {
  const stems = paths.map(stemOf);
  const twice = stems.find((stem, i) => stems.indexOf(stem) !== i);
  if (twice === undefined) return;
  throw new UserError(`two files are named "${twice}": the ids of their questions would be alike`);
}

function write(path: string | undefined, questions: readonly DataQuestion[]): void {
  if (path === undefined) return;
  writeAtomic(path, linesOf(questions));
  console.log(`wrote ${count(questions.length, "question")} to ${path}`);
}

function* linesOf(questions: readonly DataQuestion[]): Generator<string> {
  for (const question of questions) yield `${JSON.stringify(question)}\n`;
}

const count = (n: number, what: string): string => `${n} ${what}${n === 1 ? "" : "s"}`;

/** What is in a file, line by line. */
function report(path: string, file: QuestionFile, shown: number): string[] {
  const { questions, format, container, rows, blanks, problems, problemCount } = file;
  const answers = questions.map((question) => question.answers.length);
  const most = answers.reduce((a, b) => Math.max(a, b));
  const mean = answers.reduce((a, b) => a + b) / answers.length;
  const longest = questions.reduce((a, b) => (b.question.length > a.question.length ? b : a));
  const known = (["entity", "relation", "topic", "popularity"] as const).map((name) => {
    const found = questions.filter((question) => question[name] !== undefined).length;
    return found === 0 ? [] : [`${name} of ${found}`];
  });
  const [first] = questions;
  return [
    `${path}: ${format}, ${container}, scored by ${scorerOf(format).primary}`,
    `  ${count(rows, "row")}: ${count(questions.length, "question")}, ` +
      `${count(problemCount, "problem")}, ${blanks} blank`,
    `  answers of a question: ${mean.toFixed(2)} on average, ${most} at most`,
    `  longest question: ${longest.question.length} letters (id ${longest.id})`,
    ...(known.flat().length > 0 ? [`  with ${known.flat().join(", ")}`] : []),
    `  for example: ${JSON.stringify(first)}`,
    ...problems.slice(0, shown).map(({ line, message }) => `  line ${line} ${message}`),
    ...(problemCount > shown ? [`  and ${count(problemCount - shown, "problem")} more`] : []),
  ];
}

if (import.meta.main) process.exitCode = await main(process.argv.slice(2));
