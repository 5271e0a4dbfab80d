/** What a run carries from step to step, and how a checkpoint holds it: weights, moments, counters. */

import { join } from "node:path";
import type { Model } from "../eval/accuracy.ts";
import type { World } from "../eval/worlds/world.ts";
import { loadModel, loadOptimizer, modelFiles, optimizerFile } from "../model/checkpoint.ts";
import { AdamW } from "../model/optimizer.ts";
import { cloneParameters } from "../model/parameters.ts";
import { tokenizerOf } from "./base.ts";
import { latestCheckpoint, readCheckpoint } from "./checkpoints.ts";
import type { TrainConfig } from "./config.ts";
import type { Run } from "./run.ts";
import { UserError } from "./user_error.ts";

export interface TrainState {
  /** Steps done. */
  step: number;
  readonly optimizer: AdamW;
  /** Best validation score so far, and validations since. */
  bestScore: number;
  sinceBest: number;
  /** Question id -> step at which a rollout first answered it rightly. */
  readonly firstSolved: Map<number, number>;
}

const STATE = "state.json";
const OPTIMIZER = "optimizer.safetensors";

/** All random numbers are functions of (seed, step), so that no generator has to be saved. */
export async function checkpointFiles(
  model: Model,
  world: World,
  state: TrainState,
): Promise<Record<string, Uint8Array>> {
  const { step, bestScore, sinceBest, firstSolved } = state;
  const counters = {
    step,
    bestScore: Number.isFinite(bestScore) ? bestScore : null,
    sinceBest,
    firstSolved: [...firstSolved],
  };
  return {
    ...(await modelFiles({ ...model, tokenizer: tokenizerOf(world) })),
    [OPTIMIZER]: await optimizerFile(state.optimizer),
    [STATE]: new TextEncoder().encode(JSON.stringify(counters)),
  };
}

/**
 * The policy and the state to start from: a copy of the base model, or what the run's latest
 * checkpoint holds; rows logged after it are dropped.
 */
export function restore(
  run: Run<TrainConfig>,
  resumed: boolean,
  base: Model,
): { policy: Model; state: TrainState } {
  const info = resumed ? latestCheckpoint(run.checkpoints) : null;
  if (resumed) run.rewind(info);
  const parameters =
    info === null ? cloneParameters(base.parameters) : loadModel(info.path).parameters;
  const policy = { config: base.config, parameters };
  const { weightDecay, betas, clipNorm } = run.config.grpo;
  const settings = { weightDecay, betas: [betas[0], betas[1]] as const, clipNorm };
  const state: TrainState = {
    step: 0,
    optimizer: new AdamW(policy.parameters, settings),
    bestScore: Number.NEGATIVE_INFINITY,
    sinceBest: 0,
    firstSolved: new Map(),
  };
  if (info === null) return { policy, state };
  const counters = readCheckpoint(info.path).contents[STATE];
  if (counters === undefined) {
    throw new UserError(`${info.path} has no ${STATE}: it can't be resumed`);
  }
  loadOptimizer(join(info.path, OPTIMIZER), state.optimizer);
  const { step, bestScore, sinceBest, firstSolved } = JSON.parse(
    new TextDecoder().decode(counters),
  );
  return {
    policy,
    state: {
      ...{ step, sinceBest, optimizer: state.optimizer },
      bestScore: bestScore ?? Number.NEGATIVE_INFINITY,
      firstSolved: new Map(firstSolved),
    },
  };
}
