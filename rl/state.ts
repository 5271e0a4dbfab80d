/** What a run carries from step to step, and how a checkpoint holds it: weights, moments, counters. */

import { join } from "node:path";
import type { Model } from "../eval/accuracy.ts";
import type { Task } from "../eval/task.ts";
import {
  loadModel,
  loadOptimizer,
  loadTree,
  modelFiles,
  optimizerFile,
  treeFile,
} from "../model/checkpoint.ts";
import { adapterFiles, loadAdapters, makeLora, mergeInto } from "../model/lora.ts";
import type { Optimizer } from "../model/optimizer.ts";
import { cloneParameters, disposeParameters, type ParameterTree } from "../model/parameters.ts";
import { latestCheckpoint, readCheckpoint } from "./checkpoints.ts";
import { seedsOf, type TrainConfig } from "./config.ts";
import type { Memory } from "./methods/method.ts";
import { methodOf } from "./methods/mod.ts";
import { optimizerOf } from "./optimizers.ts";
import type { Run } from "./run.ts";
import { UserError } from "./user_error.ts";

export interface TrainState {
  /** Steps done. */
  step: number;
  readonly optimizer: Optimizer;
  /** What the method carries beside the policy. */
  readonly memory: Memory;
  /** Best validation score so far, and validations since. */
  bestScore: number;
  sinceBest: number;
  /** Question id -> step at which a rollout first answered it rightly. */
  readonly firstSolved: Map<number, number>;
}

const STATE = "state.json";
const OPTIMIZER = "optimizer.safetensors";
const treeName = (name: string): string => `${name}.safetensors`;
const optimizerName = (name: string): string => `${name}-optimizer.safetensors`;

/** All random numbers are functions of (seed, step), so that no generator has to be saved. */
export async function checkpointFiles(
  model: Model,
  task: Task,
  state: TrainState,
): Promise<Record<string, Uint8Array>> {
  const { step, bestScore, sinceBest, firstSolved, memory } = state;
  const counters = {
    numbers: [...memory.numbers],
    step,
    bestScore: Number.isFinite(bestScore) ? bestScore : null,
    sinceBest,
    firstSolved: [...firstSolved],
  };
  const more: Record<string, Uint8Array> = {};
  for (const [name, tree] of memory.trees) more[treeName(name)] = await treeFile(tree);
  for (const [name, own] of memory.optimizers) more[optimizerName(name)] = await optimizerFile(own);
  return {
    ...(await modelFiles({ ...model, tokenizer: task.tokenizer })),
    ...more,
    ...(model.lora && (await adapterFiles(model.lora))),
    [OPTIMIZER]: await optimizerFile(state.optimizer),
    [STATE]: new TextEncoder().encode(JSON.stringify(counters)),
  };
}

function freshState(config: TrainConfig, base: Model, policy: Model): TrainState {
  return {
    step: 0,
    optimizer: optimizerOf(config, policy.lora?.adapters ?? policy.parameters),
    memory: methodOf(config).start(config, base),
    bestScore: Number.NEGATIVE_INFINITY,
    sinceBest: 0,
    firstSolved: new Map(),
  };
}

/** The policy with its adapters, if it has any: these are new, and change nothing yet. */
function policyOf(config: TrainConfig, base: Model, parameters: ParameterTree): Model {
  const { rank, alpha, targets } = config.lora;
  if (rank === 0) return { config: base.config, parameters };
  const seed = seedsOf(config).rl;
  const lora = makeLora(base.config, base.parameters, { rank, alpha, targets }, seed);
  return { config: base.config, parameters, lora };
}

/** A copy of the base model, and the state before the first step. */
export function startState(config: TrainConfig, base: Model): { policy: Model; state: TrainState } {
  const policy = policyOf(config, base, cloneParameters(base.parameters));
  return { policy, state: freshState(config, base, policy) };
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
  const policy = policyOf(run.config, base, parameters);
  const state = freshState(run.config, base, policy);
  if (info === null) return { policy, state };
  const counters = readCheckpoint(info.path).contents[STATE];
  if (counters === undefined) {
    throw new UserError(`${info.path} has no ${STATE}: it can't be resumed`);
  }
  loadOptimizer(join(info.path, OPTIMIZER), state.optimizer);
  const { memory } = state;
  if (policy.lora) {
    loadAdapters(join(info.path, "adapter_model.safetensors"), policy.lora);
    mergeInto(policy.parameters, policy.lora);
  }
  for (const [name, tree] of memory.trees) loadTree(join(info.path, treeName(name)), tree);
  for (const [name, own] of memory.optimizers) {
    loadOptimizer(join(info.path, optimizerName(name)), own);
  }
  const { step, bestScore, sinceBest, firstSolved, numbers } = JSON.parse(
    new TextDecoder().decode(counters),
  );
  for (const [name, value] of numbers) memory.numbers.set(name, value);
  return {
    policy,
    state: {
      ...{ step, sinceBest, optimizer: state.optimizer, memory },
      bestScore: bestScore ?? Number.NEGATIVE_INFINITY,
      firstSolved: new Map(firstSolved),
    },
  };
}

/** Frees the optimizer and all that the method carries; the policy stays. */
export function disposeState({ optimizer, memory }: TrainState): void {
  for (const tree of memory.trees.values()) disposeParameters(tree);
  for (const own of memory.optimizers.values()) own.dispose();
  optimizer.dispose();
}
