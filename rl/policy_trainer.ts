/** Who moves the policy's weights: this process, or a server that does what it is told over HTTP. */

import type { Model } from "../eval/accuracy.ts";
import type { Optimizer } from "../model/optimizer.ts";
import type { ParameterTree } from "../model/parameters.ts";
import { batchLogProbs } from "../model/score.ts";
import { weightedSum } from "./aggregate.ts";
import {
  type PolicyAnswer,
  type PolicyReport,
  type PolicySettings,
  policyStep,
} from "./policy_step.ts";
import {
  type Answer,
  batchOf,
  microBatches,
  policyUpdate,
  type Update,
  weightsOf,
} from "./update.ts";

export interface PolicyOptions {
  readonly learningRate: number;
  /** Of the KL term; undefined: none. */
  readonly reference: ParameterTree | undefined;
}

/** One optimizer step each. Without answers none is taken. */
export interface Trainer {
  /** On Σ weight · the policy's loss. */
  policyStep(
    answers: readonly PolicyAnswer[],
    settings: PolicySettings,
    options: PolicyOptions,
  ): Promise<PolicyReport>;
  /** On Σ weight · -log π. */
  imitationStep(
    answers: readonly Answer[],
    options: { readonly temperature: number; readonly learningRate: number },
  ): Promise<Pick<Update, "loss" | "gradNorm">>;
}

/** Where the weights are elsewhere, a checkpoint here says where they are kept there. */
export interface HeldTrainer extends Trainer {
  /** Has the weights and the optimizer kept as those of a step, and gives what finds them again. */
  checkpointFiles(step: number): Promise<Record<string, Uint8Array>>;
}

export const localTrainer = (policy: Model, optimizer: Optimizer): Trainer => ({
  policyStep: (answers, settings, options) =>
    policyStep(policy, optimizer, answers, settings, options),
  imitationStep: (answers, { temperature, learningRate }) => {
    const { parameters, config } = policy;
    const micros = microBatches(answers, policy);
    return policyUpdate(policy, optimizer, micros, learningRate, (micro) => {
      const batch = batchOf(micro);
      const logProbs = batchLogProbs(parameters, config, batch, { temperature });
      return { loss: weightedSum(logProbs.neg(), weightsOf(micro, batch)), observed: [] };
    });
  },
});
