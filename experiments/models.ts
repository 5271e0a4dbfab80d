/** The models behind a finished run: the base model, and the weights that validation chose. */

import type { Asked, Model } from "../eval/accuracy.ts";
import { buildWorld } from "../eval/worlds/presets.ts";
import type { World } from "../eval/worlds/world.ts";
import { loadModel } from "../model/checkpoint.ts";
import { disposeParameters } from "../model/parameters.ts";
import { baseModel } from "../rl/base.ts";
import { bestCheckpoint } from "../rl/checkpoints.ts";
import { worldOf } from "../rl/config.ts";
import { asking } from "../rl/evaluate.ts";
import { onInterrupt } from "../rl/interrupt.ts";
import { Progress } from "../rl/progress.ts";
import { questionsOf } from "../rl/questions.ts";
import { UserError } from "../rl/user_error.ts";
import type { LabRun } from "./runs.ts";

/** Runs `body` on the base model and the held-out questions of a run, as the run itself asks them. */
export async function withBase<T>(
  { config }: LabRun,
  body: (asked: Asked<World>, world: World) => Promise<T>,
): Promise<T> {
  const world = buildWorld(worldOf(config));
  const progress = new Progress();
  using interrupt = onInterrupt({ print: (text) => progress.print(text) });
  const model = await baseModel(world, config, progress, interrupt);
  return withModel(model, () =>
    body(asking(model, world, questionsOf(world, config, "test"), config), world),
  );
}

/** The same for the weights that validation chose; the base model where it kept that. */
export async function withChosen<T>(
  run: LabRun,
  body: (asked: Asked<World>, world: World) => Promise<T>,
): Promise<T> {
  const { config, summary, path } = run;
  if (summary.chosenStep === 0) return withBase(run, body);
  const checkpoint = bestCheckpoint(`${path}/checkpoints`);
  if (checkpoint === null) throw new UserError(`${path} has no checkpoint with a score`);
  const world = buildWorld(worldOf(config));
  const model = loadModel(checkpoint.path);
  return withModel(model, () =>
    body(asking(model, world, questionsOf(world, config, "test"), config), world),
  );
}

async function withModel<T>(model: Model, body: () => Promise<T>): Promise<T> {
  try {
    return await body();
  } finally {
    disposeParameters(model.parameters);
  }
}
