/** The tuned model of a run as a folder of its own: weights, tokenizer and adapters, no optimizer. */

import { copyFileSync, existsSync, linkSync } from "node:fs";
import { join } from "node:path";
import type { Model } from "../eval/accuracy.ts";
import { writeFolder } from "../model/checkpoint.ts";
import { mergedSource } from "../model/lora.ts";
import type { Tokenizer } from "../model/tokenizer.ts";
import { bestCheckpoint } from "./checkpoints.ts";
import type { TrainConfig } from "./config.ts";
import { fileError, makeFolder, namesIn, removeQuietly } from "./files.ts";
import type { Run } from "./run.ts";
import { disposePolicy, policyOf } from "./state.ts";

/** What going on with training needs, and a model does not. */
const OF_TRAINING = /(^|-)optimizer\.safetensors$|^(state|manifest)\.json$|^(critic|reference)\./;

/**
 * Puts the best checkpoint's model into the run's folder `model`, and returns its path; adapters are
 * merged into a copy of the base model, and stand beside it.
 */
export async function keepTuned(
  run: Run<TrainConfig>,
  base: Model,
  tokenizer: Tokenizer | undefined,
): Promise<string> {
  const folder = join(run.dir, "model");
  const best = bestCheckpoint(run.checkpoints);
  if (best === null) throw new RangeError(`${run.dir} has no checkpoint with a score`);
  try {
    removeQuietly(folder);
    makeFolder(folder);
    for (const name of namesIn(best.path).filter((name) => !OF_TRAINING.test(name))) {
      link(join(best.path, name), join(folder, name));
    }
  } catch (error) {
    throw fileError(error, `cannot write ${folder}`);
  }
  if (run.config.lora.rank === 0) return folder;
  const policy = policyOf(run.config, base, best.path);
  try {
    const source = mergedSource(policy.lora!);
    await writeFolder(folder, { config: base.config, tokenizer, source });
  } finally {
    disposePolicy(policy);
  }
  return folder;
}

/** Weights need no second copy where the file system has links. */
function link(from: string, to: string): void {
  try {
    linkSync(from, to);
  } catch {
    if (!existsSync(to)) copyFileSync(from, to);
  }
}
