/** Question: does GRPO on adapters raise a checkable reward of a real model? Answer: LOG.md. */
// The model is stories260K; the reward is 1 where the continuation of a prompt holds a given word.
// Held-out prompts are of names and of openings that training never sees.

import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Command } from "commander";
import { loadModel } from "../model/checkpoint.ts";
import { exitCodeOf, strict, whole } from "../model/command.ts";
import { UserError } from "../model/errors.ts";
import { disposeParameters } from "../model/parameters.ts";
import { sample } from "../model/sample.ts";

interface Flags {
  readonly model: string;
  readonly word: string;
  readonly steps: number;
  readonly seed: number;
  readonly out: string;
}

/** Names and openings: those to train on, and those that are held out. */
const train = {
  names:
    "Lily Tim Tom Mia Ben Sue Max Anna Sam Lucy Jack Amy Bob Sara Leo Emma Dan Kate Joe Mary".split(
      " ",
    ),
  openings: [
    "Once upon a time, there was a little child named {n}. One day,",
    "One day, {n} went to the park and saw",
    "{n} had a big red ball.",
    "Every day, {n} liked to play with",
  ],
};
const heldOut = {
  names: "Fred Jane Nick Rose Bill Ella Pete Jill Mark Zoe Billy Molly John Daisy".split(" "),
  openings: [
    "{n} was walking in the garden. Suddenly,",
    "It was a sunny day and {n} wanted to",
    "{n} and a friend found a small box.",
    "At night, {n} looked at the sky and",
  ],
};

const linesOf = ({ names, openings }: typeof train, word: string): string =>
  names
    .flatMap((entity) =>
      openings.map((opening) => {
        const question = opening.replaceAll("{n}", entity);
        return `${JSON.stringify({ question, answers: [word], entity })}\n`;
      }),
    )
    .join("");

async function run({ model, word, steps, seed, out }: Flags): Promise<void> {
  if (!existsSync(join(model, "config.json"))) {
    throw new UserError(`${model} is no model folder; --model says where stories260K is`);
  }
  if (existsSync(out)) throw new UserError(`${out} is there already; choose another --out`);
  mkdirSync(out, { recursive: true });
  const [data, test] = ["train.jsonl", "held_out.jsonl"].map((name) => join(out, name));
  writeFileSync(data!, linesOf(train, word));
  writeFileSync(test!, linesOf(heldOut, word));
  const settings = [
    ...["--model", model, "--data", data!, "--data.test-file", test!, "--data.prompt", "raw"],
    ...["--reward", "contains", "--lora", "8", "--optimizer.learning-rate", "1e-3"],
    ...[
      "--train.steps",
      `${steps}`,
      "--train.questions-per-step",
      "16",
      "--train.group-size",
      "16",
    ],
    ...["--train.max-new-tokens", "24", "--optimizer.warmup", "2", "--seed", `${seed}`],
    ...["--evaluate.pass-at-k", "1,4,16,32", "--out", join(out, "run")],
  ];
  const script = fileURLToPath(new URL("../rl/train.ts", import.meta.url));
  const deno = process.versions.deno ? ["run", "-A"] : [];
  const { status } = spawnSync(process.execPath, [...deno, script, ...settings], {
    stdio: "inherit",
  });
  if (status !== 0) throw new UserError(`training ended with exit code ${status}`);
  const tuned = join(out, "run", "model");
  if (!existsSync(tuned)) return;
  const prompt = heldOut.openings[0]!.replaceAll("{n}", "Fred");
  console.log(`\nbefore: ${await story(model, prompt)}\nafter:  ${await story(tuned, prompt)}`);
}

/** The greedy continuation by a model that is opened from its folder. */
async function story(folder: string, prompt: string): Promise<string> {
  const { config, parameters, tokenizer } = loadModel(folder);
  const ids = tokenizer!.encode(prompt);
  const { tokens } = await sample(parameters, config, [ids], { maxNewTokens: 40, temperature: 0 });
  disposeParameters(parameters);
  return tokenizer!.decode([...ids, ...tokens[0]!]);
}

const command = (): Command =>
  strict(
    new Command("stories_word")
      .description("Trains stories260K to use a word, and tests it on other names and openings.")
      .option("--model <folder>", "stories260K", "../shared/models/stories260K")
      .option("--word <word>", "what a continuation must hold", "happy")
      .option("--steps <n>", "steps of training", whole(1), 20)
      .option("--seed <n>", "seed of split, adapters and rollouts", whole(0), 1)
      .option("--out <folder>", "where prompts, run and tuned model go", "runs/stories-word"),
  );

if (import.meta.main) {
  process.exitCode = await exitCodeOf(() =>
    run(command().parse(process.argv.slice(2), { from: "user" }).opts<Flags>()),
  );
}
