/** Takes out of a question set what another shares: bun run eval/dedup.ts --train A --test B. */

import { Command, Option } from "commander";
import { exitCodeOf, number, strict, whole } from "../model/command.ts";
import { writeAtomic } from "../model/files.ts";
import { type DedupResult, deduplicate } from "./dedup/deduplicate.ts";
import { type Embedder, joinedEmbedder, lexicalEmbedder } from "./dedup/embed.ts";
import { type Level, levels, type QaRecord, ruleJudge } from "./dedup/pair_judge.ts";
import { readQuestions } from "./dedup/records.ts";
import { readWordVectors, sifEmbedder } from "./dedup/word_vectors.ts";

interface Flags {
  readonly train: string;
  readonly test: string;
  readonly remove: "test" | "train";
  readonly level: Level;
  readonly threshold: number;
  readonly neighbours: number;
  readonly vectors?: string;
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
          "similar pairs are found, then judged by rules. A line is one JSON object with text (or " +
          "question), answers (or answer), and entity (or subj) and id where known; .gz is read too.",
      )
      .requiredOption("--train <file>", "questions to train on, JSON lines")
      .requiredOption("--test <file>", "questions to test on, JSON lines")
      .addOption(choice("--remove <set>", "which set to take from", ["test", "train"], "test"))
      .addOption(choice("--level <level>", "what may not be shared", levels, "fact"))
      .option("--threshold <cosine>", "least similarity of a pair to be judged", cosine, 0.35)
      .option("--neighbours <n>", "pairs judged for each question, at most", whole(1), 50)
      .option("--vectors <folder>", "vectors.safetensors and words.txt, to compare meanings too")
      .option("--out <file>", "where the kept lines go, as they were")
      .option("--proof <file>", "where every removed pair goes, with the reason"),
  );
}

/** Runs the command. Returns its exit code: 0, or 2 with an explanation on stderr. */
export const main = (args: readonly string[]): Promise<number> =>
  exitCodeOf(async () => {
    const flags = command().parse(args, { from: "user" }).opts<Flags>();
    console.log(await run(flags));
  });

async function run({ train, test, remove, level, out, proof, ...flags }: Flags): Promise<string> {
  const sets = { train: readQuestions(train), test: readQuestions(test) };
  const records = sets[remove];
  const against = sets[remove === "test" ? "train" : "test"];
  const all = [...sets.train, ...sets.test];
  const { threshold, neighbours, vectors } = flags;
  const result = await deduplicate(records, against, {
    ...{ level, threshold, neighbours },
    embedder: embedderOf(all, vectors),
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
  return report(result, remove, neighbours);
}

function embedderOf(records: readonly QaRecord[], vectors: string | undefined): Embedder {
  const corpus = records.map(({ text }) => text);
  const lexical = lexicalEmbedder(corpus);
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
