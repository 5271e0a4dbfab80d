/** What a method of post-training is: one step from questions to new weights, and what it remembers. */

import type { Model } from "../../eval/accuracy.ts";
import type { Task, TaskQuestion } from "../../eval/task.ts";
import type { Optimizer } from "../../model/optimizer.ts";
import type { ParameterTree } from "../../model/parameters.ts";
import type { TrainConfig } from "../config.ts";
import type { Trainer } from "../policy_trainer.ts";
import type { BatchReward, Reward } from "../reward.ts";
import type { Rollout, RolloutSampler } from "../rollout.ts";

/** What a method carries from step to step beside the policy: a checkpoint holds all of it. */
export interface Memory {
  readonly trees: Map<string, ParameterTree>;
  readonly optimizers: Map<string, Optimizer>;
  readonly numbers: Map<string, number>;
}

export const emptyMemory = (): Memory => ({
  trees: new Map(),
  optimizers: new Map(),
  numbers: new Map(),
});

export interface StepContext {
  readonly config: TrainConfig;
  readonly task: Task;
  /** Trained in place. */
  readonly policy: Model;
  /** What answers in rollouts: the policy as it is before the step. */
  readonly sampler: RolloutSampler;
  /** What moves the policy's weights. */
  readonly trainer: Trainer;
  /** Where training started. */
  readonly base: Model;
  readonly optimizer: Optimizer;
  readonly memory: Memory;
  /** The training questions. */
  readonly questions: readonly TaskQuestion[];
  readonly reward: Reward | BatchReward;
  /** Number of the step, from 0: with the seed it decides all that is random. */
  readonly step: number;
  readonly seed: number;
  /** 0 … 1: the optimizer's rate, as a share of its peak. */
  readonly warmth: number;
}

export interface StepReport {
  /** What the policy answered; none in supervised fine-tuning. */
  readonly rollouts: readonly Rollout[];
  /** Figures of the step under TRL's names. */
  readonly metrics: Readonly<Record<string, number | null>>;
}

export interface Method {
  /** What is remembered at the beginning. */
  start(config: TrainConfig, base: Model): Memory;
  step(context: StepContext): Promise<StepReport>;
  /** The loss in its normal form: every choice that trainers make silently, spelled out. */
  mathematics(config: TrainConfig): string[];
}
