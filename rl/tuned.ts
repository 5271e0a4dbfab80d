/** The tuned model of a run as a folder of its own: weights, tokenizer and adapters, no optimizer. */

import { copyFileSync, existsSync, linkSync } from "node:fs";
import { join } from "node:path";
import { bestCheckpoint } from "./checkpoints.ts";
import { fileError, makeFolder, namesIn, removeQuietly } from "./files.ts";
import type { Run } from "./run.ts";

/** What going on with training needs, and a model does not. */
const OF_TRAINING = /(^|-)optimizer\.safetensors$|^(state|manifest)\.json$|^(critic|reference)\./;

/** Puts the best checkpoint's model into the run's folder `model`, and returns its path. */
export function keepTuned(run: Run): string {
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
