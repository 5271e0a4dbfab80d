/** Converts a model between a folder of safetensors and a GGUF file. */

import { existsSync } from "node:fs";
import { basename, resolve } from "node:path";
import { Command, Option } from "commander";
import { openModel, writeFolder } from "./checkpoint.ts";
import { exitCodeOf, number, strict } from "./command.ts";
import type { ModelConfig } from "./config.ts";
import { type WeightType, weightTypes } from "./dtypes.ts";
import { UserError } from "./errors.ts";
import { openGgufModel } from "./gguf_read.ts";
import { writeGguf } from "./gguf_write.ts";
import { parameterShapes } from "./parameters.ts";
import { progressLine } from "./progress_line.ts";
import type { TensorSource } from "./store.ts";
import type { Tokenizer } from "./tokenizer.ts";
import type { Weights } from "./weights.ts";

export interface ConvertFlags {
  readonly to: string;
  readonly dtype?: WeightType;
  readonly tokenizer: "keep" | "none";
  readonly maxShardGb: number;
}

const positive = number((n) => n > 0 && n < Infinity, "a number above 0");

function command(): Command {
  return strict(
    new Command("convert")
      .description(
        "Converts a model: a folder of config.json and safetensors, or a GGUF file (F32, F16, BF16,\n" +
          "Q8_0), becomes the other, or the same in another number format.",
      )
      .argument("<from>", "a model folder, or a file that ends with .gguf")
      .requiredOption("--to <path>", "the folder, or the file if it ends with .gguf")
      .addOption(
        new Option(
          "--dtype <type>",
          "how matrices are stored; default: as they are in <from>",
        ).choices([...weightTypes]),
      )
      .addOption(
        new Option("--tokenizer <what>", "none: a GGUF file without a tokenizer, for token ids")
          .choices(["keep", "none"])
          .default("keep"),
      )
      .option("--max-shard-gb <n>", "largest file of safetensors, in 10⁹ bytes", positive, 5),
  );
}

/** Runs the command. Returns its exit code: 0, or 2 with one line of explanation on stderr. */
export const main = (args: readonly string[]): Promise<number> =>
  exitCodeOf(async () => {
    const parsed = command().parse(args, { from: "user" });
    console.log(await convert(parsed.args[0]!, parsed.opts<ConvertFlags>()));
  });

interface Opened {
  readonly config: ModelConfig;
  readonly weights: Weights;
  readonly tokenizer?: Tokenizer | undefined;
  /** What is lost on the way, if anything. */
  readonly notes: readonly string[];
}

const isGguf = (path: string): boolean => path.toLowerCase().endsWith(".gguf");

/** Converts; the lines that a user reads. Throws a UserError on what can't be read or expressed. */
export async function convert(from: string, flags: ConvertFlags): Promise<string> {
  const { to } = flags;
  if (resolve(from) === resolve(to)) throw new UserError(`${from} can't be converted into itself`);
  const { config, weights, tokenizer, notes } = open(from);
  try {
    const source = sourceOfWeights(weights, config);
    const dtype = flags.dtype ?? storedAs(weights);
    const onProgress = progressLine(`writing ${to}`);
    if (isGguf(to)) {
      const kept = flags.tokenizer === "keep" ? tokenizer : undefined;
      const name = basename(resolve(from));
      await writeGguf(to, { config, source, tokenizer: kept }, { dtype, name, onProgress });
    } else {
      const maxShardBytes = flags.maxShardGb * 1e9;
      await writeFolder(to, { config, source, tokenizer }, { dtype, maxShardBytes, onProgress });
    }
    return [`${to}: ${config.model_type} in ${dtype}`, ...notes].join("\n");
  } finally {
    weights.close();
  }
}

function open(from: string): Opened {
  if (!existsSync(from)) throw new UserError(`there is no model folder or file ${from}`);
  if (!isGguf(from)) return { ...openModel(from), notes: [] };
  const { config, weights, file } = openGgufModel(from);
  const kind = file.metadata.get("tokenizer.ggml.model") ?? "no_vocab";
  const notes =
    kind === "no_vocab"
      ? []
      : [`its tokenizer (${String(kind)}) is not converted: add tokenizer.json`];
  return { config, weights, tokenizer: undefined, notes };
}

function sourceOfWeights(weights: Weights, config: ModelConfig): TensorSource {
  return {
    shapes: parameterShapes(config),
    values: (name) => {
      const values = weights.read(name);
      return values instanceof Float32Array ? values : Float32Array.from(values);
    },
  };
}

/** The format of the first matrix; F64 and Q8_0 become f32. */
function storedAs({ entries }: Weights): WeightType {
  const matrix = [...entries.values()].find(({ shape }) => shape.length > 1);
  return weightTypes.find((type) => type.toUpperCase() === matrix?.dtype) ?? "f32";
}

if (import.meta.main) process.exitCode = await main(process.argv.slice(2));
