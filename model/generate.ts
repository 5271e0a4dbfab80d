/** Writes text from a checkpoint folder: bun run model/generate.ts --model DIR --prompt TEXT. */

import { Command } from "commander";
import { currentDevice, reference, useDevice } from "../tensor/mod.ts";
import { loadModel, type Model } from "./checkpoint.ts";
import { exitCodeOf, number, strict, whole } from "./command.ts";
import { endTokens } from "./config.ts";
import { UserError } from "./errors.ts";
import { disposeParameters } from "./parameters.ts";
import { progressLine } from "./progress_line.ts";
import { sample } from "./sample.ts";
import type { Tokenizer } from "./tokenizer.ts";

interface Flags {
  readonly model: string;
  readonly prompt: string;
  readonly maxTokens: number;
  readonly temperature: number;
  readonly topK: number;
  readonly topP: number;
  readonly minP: number;
  readonly seed: number;
  readonly samples: number;
  readonly device?: string;
}

const share = number((n) => n > 0 && n <= 1, "a number above 0, at most 1");

function command(): Command {
  return strict(
    new Command("generate")
      .description(
        "Writes text from a checkpoint folder: the prompt and what the model adds to it.",
      )
      .requiredOption(
        "--model <folder>",
        "config.json, model.safetensors (or shards with their index), tokenizer.json",
      )
      .option("--prompt <text>", "beginning of the text", "")
      .option("--max-tokens <n>", "most tokens to add", whole(1), 64)
      .option("--temperature <t>", "divides the logits; 0: greedy", atLeastZero, 1)
      .option("--top-k <k>", "draw from the k most probable tokens; 0: all", whole(0), 0)
      .option("--top-p <p>", "draw from the most probable tokens that hold p", share, 1)
      .option("--min-p <p>", "draw from tokens with this share of the largest", upToOne, 0)
      .option("--seed <n>", "seed of the draws", whole(0), 0)
      .option("--samples <n>", "number of texts", whole(1), 1)
      .option("--device <name>", "where to compute: reference, or this machine's default device"),
  );
}
const atLeastZero = number((n) => n >= 0 && n < Infinity, "a number of at least 0");
const upToOne = number((n) => n >= 0 && n <= 1, "a number from 0 to 1");

/** Runs the command. Returns its exit code: 0, or 2 with one line of explanation on stderr. */
export const main = (args: readonly string[]): Promise<number> =>
  exitCodeOf(async () => {
    const flags = command().parse(args, { from: "user" }).opts<Flags>();
    for (const text of await generate(flags)) console.log(text);
  });

async function generate(flags: Flags): Promise<string[]> {
  if (flags.device !== undefined) chooseDevice(flags.device);
  const model = loadModel(flags.model, { onProgress: progressLine(`reading ${flags.model}`) });
  const { config, parameters, tokenizer } = model;
  if (tokenizer === undefined) {
    throw new UserError(`${flags.model} has no tokenizer.json: text can't become tokens`);
  }
  const prompt = promptTokens(flags, model, tokenizer);
  const { tokens } = await sample(parameters, config, [prompt], {
    maxNewTokens: flags.maxTokens,
    samplesPerPrompt: flags.samples,
    temperature: flags.temperature,
    topK: flags.topK,
    topP: flags.topP,
    minP: flags.minP,
    seed: flags.seed,
    stopTokens: endTokens(config),
  });
  disposeParameters(parameters);
  return tokens.map((completion) => tokenizer.decode([...prompt, ...completion]));
}

function promptTokens({ prompt, maxTokens }: Flags, { config }: Model, tokenizer: Tokenizer) {
  const encoded = tokenizer.encode(prompt);
  const tokens = encoded.length === 0 ? [config.bos_token_id ?? []].flat() : encoded;
  if (tokens.length === 0) {
    throw new UserError("--prompt is empty, and the model has no BOS token to begin with");
  }
  const outside = tokens.find((id) => id >= config.vocab_size);
  if (outside !== undefined) {
    throw new UserError(
      `tokenizer.json gives token ${outside}, but config.json has vocab_size ${config.vocab_size}`,
    );
  }
  const most = config.max_position_embeddings;
  if (tokens.length + maxTokens - 1 > most) {
    throw new UserError(
      `the prompt has ${tokens.length} tokens; with --max-tokens ${maxTokens} that is more than ` +
        `the model's ${most} positions`,
    );
  }
  return tokens;
}

function chooseDevice(name: string): void {
  const known = [currentDevice(), reference];
  const device = known.find((candidate) => candidate.name === name);
  if (device === undefined) {
    const names = [...new Set(known.map((candidate) => candidate.name))].join(", ");
    throw new UserError(`--device ${name} is not here; available: ${names}`);
  }
  useDevice(device);
}

if (import.meta.main) process.exitCode = await main(process.argv.slice(2));
