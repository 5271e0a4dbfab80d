/** What a run prints first: the world, the model, and the exact mathematics of its updates. */

import type { World } from "../eval/worlds/world.ts";
import type { TrainConfig } from "./config.ts";

/** The loss in its normal form: every choice that trainers make silently, spelled out. */
export function grpoMathematics({ grpo }: TrainConfig): string[] {
  const { advantage, stdDdof, stdEpsilon, aggregation, clipLow, clipHigh } = grpo;
  const advantages = {
    centred: "A = r - mean(r)",
    std: `A = (r - mean(r)) / (std(r) + ${stdEpsilon}), std over n - ${stdDdof}`,
    leaveOneOut: "A = r - mean(r of the others)",
  };
  const means = {
    tokenMean: "Σ over all tokens / number of tokens of the step",
    sequenceMean: "mean over answers of each answer's token mean",
    fixedLength: `Σ over all tokens / (answers · ${grpo.maxNewTokens})`,
  };
  const updates = grpo.epochs * grpo.miniBatches;
  return [
    `advantage    ${advantages[advantage]}; a group is ${grpo.groupSize} answers to one question`,
    `token loss   -min(ρA, clip(ρ, ${1 - clipLow}, ${1 + clipHigh})·A), ρ = π/π_old` +
      (updates === 1 ? "; one update a step, so ρ = 1 exactly" : `; ${updates} updates a step`),
    `aggregation  ${means[aggregation]}`,
    `KL           ${klText(grpo)}`,
    `sampling     temperature ${grpo.temperature}, no filter; logits are divided by it in the loss too`,
    `optimizer    AdamW ${grpo.learningRate}, betas ${grpo.betas.join("/")}, ` +
      `weight decay ${grpo.weightDecay}, gradient norm clipped at ${grpo.clipNorm}`,
  ];
}

function klText({ klCoefficient, klEstimator, klPlacement }: TrainConfig["grpo"]): string {
  if (klCoefficient === 0 || klEstimator === null) return "none";
  const gradients = {
    k1: "no gradient in expectation",
    k2: "gradient of KL(π ‖ base)",
    k3: "gradient of KL(base ‖ π)",
  };
  const effect = klPlacement === "reward" ? "taken off the reward" : gradients[klEstimator];
  return `${klCoefficient} · ${klEstimator} in the ${klPlacement} (${effect})`;
}

/** The world's parameters: they stand beside every figure. */
export function worldText({ config, entities, facts, vocabulary, questions }: World): string[] {
  const { reliableShare, contestedShare, absentShare, qaUnreliableShare, zipf, voiceCue } = config;
  const share = (x: number): string => `${Math.round(100 * x)} %`;
  const sizes = (["qa", "train", "validation", "test"] as const)
    .map((split) => `${split} ${questions(split).length}`)
    .join(", ");
  return [
    `${entities.length} entities, ${facts.length} facts, ${vocabulary.size} words; ` +
      `questions: ${sizes} (no entity in two of them)`,
    `documents: ${share(reliableShare)} by reliable sources; the others are wrong about ` +
      `${share(contestedShare)} of all facts; ${share(absentShare)} are never stated truthfully`,
    `asked in pre-training: answered by unreliable sources in ${share(qaUnreliableShare)}; ` +
      `popularity 1/rank^${zipf}; ` +
      (voiceCue ? "wording tells the source" : "NULL WORLD: wording tells nothing"),
  ];
}
