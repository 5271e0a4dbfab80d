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
import { adapterFiles, disposeLora, loadAdapters, makeLora } from "../model/lora.ts";
import type { Optimizer } from "../model/optimizer.ts";
import { cloneParameters, disposeParameters } from "../model/parameters.ts";
import { latestCheckpoint, readCheckpoint } from "./checkpoints.ts";
import { seedsOf, type TrainConfig } from "./config.ts";
import type { Memory } from "./methods/method.ts";
import { methodOf } from "./methods/mod.ts";
import { optimizerOf } from "./optimizers.ts";
import type { HeldTrainer } from "./policy_trainer.ts";
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

/**
 * All random numbers are functions of (seed, step), so that no generator has to be saved. Of a policy
 * with adapters these are all: the base stays where it is.
 */
export async function checkpointFiles(
  model: Model,
  task: Task,
  state: TrainState,
  /** Name of the base model, for the adapters' file. */
  base: string | null,
  /** Has the weights where this process doesn't. */
  held?: HeldTrainer,
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
    ...(held
      ? await held.checkpointFiles(step)
      : {
          ...(model.lora
            ? await adapterFiles(model.lora, base)
            : await modelFiles({ ...model, tokenizer: task.tokenizer })),
          [OPTIMIZER]: await optimizerFile(state.optimizer),
        }),
    ...more,
    [STATE]: new TextEncoder().encode(JSON.stringify(counters)),
  };
}

/** The state before the first step. */
export function freshState(config: TrainConfig, base: Model, policy: Model): TrainState {
  return {
    step: 0,
    optimizer: optimizerOf(config, policy.lora?.adapters ?? policy.parameters),
    memory: methodOf(config).start(config, base),
    bestScore: Number.NEGATIVE_INFINITY,
    sinceBest: 0,
    firstSolved: new Map(),
  };
}

/** A copy of the base model, or the base model with new adapters: they change nothing yet. */
function freshPolicy(config: TrainConfig, base: Model): Model {
  const { rank, alpha, targets } = config.lora;
  if (rank === 0) return { config: base.config, parameters: cloneParameters(base.parameters) };
  const seed = seedsOf(config).rl;
  const lora = makeLora(base.config, base.parameters, { rank, alpha, targets }, seed);
  return { config: base.config, parameters: lora.parameters, lora };
}

/** The policy that a checkpoint holds; with adapters, those on the base model. */
export function policyOf(config: TrainConfig, base: Model, checkpoint: string): Model {
  if (config.lora.rank === 0) {
    return { config: base.config, parameters: loadModel(checkpoint).parameters };
  }
  const policy = freshPolicy(config, base);
  loadAdapters(join(checkpoint, "adapter_model.safetensors"), policy.lora!);
  return policy;
}

/** Frees what a policy has of its own: not the base that adapters stand on. */
export function disposePolicy({ parameters, lora }: Model): void {
  if (lora === undefined) disposeParameters(parameters);
  else disposeLora(lora);
}

/** The policy before the first step, and its state. */
export function startState(config: TrainConfig, base: Model): { policy: Model; state: TrainState } {
  const policy = freshPolicy(config, base);
  return { policy, state: freshState(config, base, policy) };
}

/**
 * The policy and the state to start from: those before the first step, or what the run's latest
 * checkpoint holds; rows logged after it are dropped.
 */
export function restore(
  run: Run<TrainConfig>,
  resumed: boolean,
  base: Model,
): { policy: Model; state: TrainState } {
  const info = resumed ? latestCheckpoint(run.checkpoints) : null;
  if (resumed) run.rewind(info);
  if (info === null) return startState(run.config, base);
  const policy = policyOf(run.config, base, info.path);
  const state = freshState(run.config, base, policy);
  loadOptimizer(join(info.path, OPTIMIZER), state.optimizer);
  const { memory } = state;
  for (const [name, tree] of memory.trees) loadTree(join(info.path, treeName(name)), tree);
  for (const [name, own] of memory.optimizers) {
    loadOptimizer(join(info.path, optimizerName(name)), own);
  }
  return { policy, state: countedState(info.path, state) };
}

/** The state with the counters that a checkpoint holds. */
export function countedState(checkpoint: string, { optimizer, memory }: TrainState): TrainState {
  const { step, bestScore, sinceBest, firstSolved, numbers } = checkpointJson(checkpoint, STATE);
  for (const [name, value] of numbers) memory.numbers.set(name, value);
  return {
    ...{ step, sinceBest, optimizer, memory },
    bestScore: bestScore ?? Number.NEGATIVE_INFINITY,
    firstSolved: new Map(firstSolved),
  };
}

// biome-ignore lint/suspicious/noExplicitAny: a file that we wrote, with its checksum
export function checkpointJson(checkpoint: string, name: string): any {
  const file = readCheckpoint(checkpoint).contents[name];
  if (file !== undefined) return JSON.parse(new TextDecoder().decode(file));
  throw new UserError(`${checkpoint} has no ${name}: it can't be resumed`);
}

/** Frees the optimizer and all that the method carries; the policy stays. */
export function disposeState({ optimizer, memory }: TrainState): void {
  for (const tree of memory.trees.values()) disposeParameters(tree);
  for (const own of memory.optimizers.values()) own.dispose();
  optimizer.dispose();
}
