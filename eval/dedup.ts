/** Takes out of a question set what another shares: bun run eval/dedup.ts --train A --test B. */

import { Command, Option } from "commander";
import { exitCodeOf, number, strict, whole } from "../model/command.ts";
import { UserError } from "../model/errors.ts";
import { writeAtomic } from "../model/files.ts";
import { type Format, formats } from "./datasets/formats.ts";
import { questionRows } from "./datasets/read.ts";
import { type DedupResult, deduplicate } from "./dedup/deduplicate.ts";
import { type Embedder, joinedEmbedder, lexicalEmbedder } from "./dedup/embed.ts";
import { type Level, levels, type QaRecord, recordOf, ruleJudge } from "./dedup/pair_judge.ts";
import { sentenceEmbedder } from "./dedup/sentences.ts";
import { readWordVectors, sifEmbedder } from "./dedup/word_vectors.ts";

interface Flags {
  readonly train: string;
  readonly test: string;
  readonly remove: "test" | "train";
  readonly level: Level;
  readonly format: Format | "auto";
  readonly strict: boolean;
  readonly threshold: number;
  readonly neighbours: number;
  readonly vectors?: string;
  readonly encoder?: string;
  readonly out?: string;
  readonly proof?: string;
}

const cosine = number((x) => x >= -1 && x <= 1, "a cosine from -1 to 1");

function command(): Command {
  const choice = (flags: string, description: string, of: readonly string[], fallback: string) =>
    new Option(flags, description).choices(of).default(fallback);
  return strict(
    new Command("dedup")
      .description(
        "Removes the questions of one set that share a question, a fact or an entity with another: " +
          "similar pairs are found, then judged by rules. Files are of any format that " +
          "eval/datasets.ts reads (its --help lists them), gzipped or not.",
      )
      .requiredOption("--train <file>", "questions to train on")
      .requiredOption("--test <file>", "questions to test on")
      .addOption(choice("--remove <set>", "which set to take from", ["test", "train"], "test"))
      .addOption(choice("--level <level>", "what may not be shared", levels, "fact"))
      .addOption(choice("--format <name>", "how fields are named", ["auto", ...formats], "auto"))
      .option("--strict", "a row that is no question is an error", false)
      .option("--threshold <cosine>", "least similarity of a pair to be judged", cosine, 0.35)
      .option("--neighbours <n>", "pairs judged for each question, at most", whole(1), 50)
      .option("--vectors <folder>", "vectors.safetensors and words.txt, to compare meanings too")
      .option(
        "--encoder <name>",
        "a sentence encoder in place of these (@huggingface/transformers)",
      )
      .option("--out <file>", "where the kept questions go: JSON lines as they were, else plain")
      .option("--proof <file>", "where every removed pair goes, with the reason"),
  );
}

/** Runs the command. Returns its exit code: 0, or 2 with an explanation on stderr. */
export const main = (args: readonly string[]): Promise<number> =>
  exitCodeOf(async () => {
    const flags = command().parse(args, { from: "user" }).opts<Flags>();
    console.log(await run(flags));
  });

/** A record with its line of the file, to be written as it was; of other files the plain form. */
interface QaLine extends QaRecord {
  readonly line: string;
}

interface QaSet {
  readonly records: readonly QaLine[];
  /** What is to be said about rows that are no questions. */
  readonly problems: readonly string[];
}

/** Problems of a file that are shown. */
const SHOWN = 3;

async function readSet(path: string, { format, strict }: Flags): Promise<QaSet> {
  const records: QaLine[] = [];
  const problems: string[] = [];
  for await (const { row, question, problem } of questionRows(path, { format })) {
    if (problem !== undefined) {
      problems.push(`line ${row.line} ${problem}`);
      if (strict) throw new UserError(`${path} ${problems[0]}`);
    } else if (question !== undefined) {
      records.push({ ...recordOf(question), line: row.text ?? JSON.stringify(question) });
    }
  }
  if (records.length === 0) {
    throw new UserError([`${path} holds no questions`, ...problems.slice(0, 1)].join("; "));
  }
  if (problems.length === 0) return { records, problems };
  const heading = `${path}: left out, because no questions: ${problems.length} of its rows`;
  return { records, problems: [heading, ...problems.slice(0, SHOWN).map((some) => `  ${some}`)] };
}

async function run(flags: Flags): Promise<string> {
  const { remove, level, out, proof } = flags;
  const sets = { train: await readSet(flags.train, flags), test: await readSet(flags.test, flags) };
  const { records } = sets[remove];
  const against = sets[remove === "test" ? "train" : "test"].records;
  const all = [...sets.train.records, ...sets.test.records];
  const { threshold, neighbours } = flags;
  const result = await deduplicate(records, against, {
    ...{ level, threshold, neighbours },
    embedder: await embedderOf(all, flags),
    judge: ruleJudge(all),
  });
  if (out !== undefined) {
    const kept = new Set(result.kept);
    const lines = records.filter(({ id }) => kept.has(id)).map(({ line }) => `${line}\n`);
    writeAtomic(out, [lines.join("")]);
  }
  if (proof !== undefined) {
    const lines = result.removed.map((pair) => `${JSON.stringify(pair)}\n`);
    writeAtomic(proof, [lines.join("")]);
  }
  const problems = [...sets.train.problems, ...sets.test.problems];
  return [...problems, report(result, remove, neighbours)].join("\n");
}

async function embedderOf(
  records: readonly QaRecord[],
  { vectors, encoder }: Pick<Flags, "vectors" | "encoder">,
): Promise<Embedder> {
  const corpus = records.map(({ text }) => text);
  const lexical = lexicalEmbedder(corpus);
  if (encoder !== undefined) return joinedEmbedder([lexical, await sentenceEmbedder(encoder)]);
  if (vectors === undefined) return lexical;
  return joinedEmbedder([lexical, sifEmbedder(readWordVectors(vectors), corpus)]);
}

function report({ counts, removed }: DedupResult, set: string, neighbours: number): string {
  const byLevel = levels
    .map((level) => `${level} ${removed.filter((pair) => pair.level === level).length}`)
    .join(", ");
  const lines = [
    `${set}: ${counts.questions} questions against ${counts.against}`,
    `${counts.candidates} pairs judged, ${counts.verified} share something`,
    `${removed.length} pairs removed ${counts.removedQuestions} questions (pairs: ${byLevel})`,
    `${counts.kept} kept`,
  ];
  if (counts.crowded > 0) {
    lines.push(
      `${counts.crowded} questions have more than ${neighbours} neighbours above the threshold; ` +
        "the nearest were judged (--neighbours)",
    );
  }
  return lines.join("\n");
}

if (import.meta.main) process.exitCode = await main(process.argv.slice(2));
