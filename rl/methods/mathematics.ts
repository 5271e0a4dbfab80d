/** Lines of a run's header that several methods share. */

import type { Aggregation } from "../aggregate.ts";
import type { TrainConfig } from "../config.ts";
import { optimizerText } from "../optimizers.ts";

export function aggregationText(
  aggregation: Aggregation,
  { maxNewTokens }: TrainConfig["train"],
): string {
  const means = {
    tokenMean: "Σ over all tokens / number of tokens of the optimizer step",
    sequenceMean: "mean over answers of each answer's token mean",
    fixedLength: `Σ over all tokens / (answers · ${maxNewTokens})`,
  };
  return means[aggregation];
}

export function klText(grpo: TrainConfig["grpo"]): string {
  const { klCoefficient, klEstimator, klPlacement, reference, referenceDecay } = grpo;
  if (klCoefficient === 0 || klEstimator === null) return "none";
  const other = reference === "base" ? "base" : "average";
  const gradients = {
    k1: "no gradient in expectation",
    k2: `gradient of KL(π ‖ ${other})`,
    k3: `gradient of KL(${other} ‖ π)`,
    ratioK3: `gradient of KL(π ‖ ${other})`,
  };
  const effect = klPlacement === "reward" ? "taken off the reward" : gradients[klEstimator];
  const moving = reference === "ema" ? `; the average keeps ${referenceDecay} a step` : "";
  return `${klCoefficient} · ${klEstimator} in the ${klPlacement} (${effect})${moving}`;
}

/** How answers are sampled, and how weights move. */
export function samplingText(config: TrainConfig): string[] {
  const { train, optimizer, method, lora } = config;
  const { learningRate, schedule, finalFraction, warmup } = optimizer;
  const then =
    schedule === "constant" ? "constant" : `${schedule} to ${finalFraction * learningRate}`;
  const { engine, url } = config.sampler ?? {};
  const { trainer } = config;
  const handed = engine === "vllm" ? "the adapters" : "all weights";
  const old = method === "grpo" || method === "ppo" ? "log π_old is computed here; " : "";
  return [
    ...(method === "sft"
      ? train.temperature === 1
        ? []
        : [`temperature  logits are divided by ${train.temperature} in the loss`]
      : [
          `sampling     temperature ${train.temperature}, no filter; logits are divided by it in the loss too`,
        ]),
    ...(engine === undefined
      ? []
      : [
          `sampler      ${engine} at ${url}, handed ${handed} before each step; ${old}measured here`,
        ]),
    ...(trainer === undefined
      ? []
      : [
          `trainer      ${trainer.model} at ${trainer.url}; log π_old is what its sampler says; weights are summed there as given here`,
        ]),
    `optimizer    ${optimizerText(config)}`,
    ...(lora.rank === 0
      ? []
      : [
          trainer
            ? `adapters     rank ${lora.rank}; where, and how scaled, is the server's`
            : `adapters     rank ${lora.rank} on ${lora.targets.join(", ")}, W + ${lora.alpha / lora.rank}·B·A`,
        ]),
    `rate         ${learningRate} after ${warmup} steps, then ${then}`,
  ];
}
