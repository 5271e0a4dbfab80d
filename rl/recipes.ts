/** Published algorithms as settings: each lists the fields that its paper decides, and where. */
import type { PartialConfig } from "./presets.ts";

export const recipeNames = [
  "grpo-deepseekmath",
  "dr-grpo",
  "dapo",
  "gspo",
  "cispo",
  "sapo",
  "rloo",
  "reinforce",
  "ppo-2017",
  "ppo-ziegler",
  "raft",
  "dpo-2023",
  "ipo-2023",
] as const;
export type RecipeName = (typeof recipeNames)[number];

/** Rates, batch sizes and lengths stay those of the preset: papers' are for models of another size. */
export const recipes: Readonly<Record<RecipeName, PartialConfig>> = {
  // https://arxiv.org/abs/2402.03300 §4.1 and eq. 4: k3 against the starting model in the loss.
  "grpo-deepseekmath": {
    method: "grpo",
    grpo: {
      ...{ advantage: "std", aggregation: "sequenceMean", clipLow: 0.2, clipHigh: 0.2 },
      ...{ klCoefficient: 0.04, klEstimator: "k3", klPlacement: "loss" },
    },
  },
  // https://arxiv.org/abs/2503.20783: neither the std nor the length divides.
  "dr-grpo": {
    method: "grpo",
    grpo: { advantage: "centred", aggregation: "fixedLength", klCoefficient: 0 },
  },
  // https://arxiv.org/abs/2503.14476: a higher upper bound, token means, groups with variance only.
  dapo: {
    method: "grpo",
    grpo: {
      ...{ advantage: "std", aggregation: "tokenMean", clipLow: 0.2, clipHigh: 0.28 },
      ...{ resampleRounds: 4, klCoefficient: 0 },
    },
  },
  // https://arxiv.org/abs/2507.18071 §5.1: the ratio of a sequence, bounds of another size.
  gspo: {
    method: "grpo",
    grpo: {
      ...{ advantage: "std", aggregation: "sequenceMean", ratioLevel: "sequence" },
      ...{ clipLow: 3e-4, clipHigh: 4e-4, klCoefficient: 0 },
    },
  },
  // https://arxiv.org/abs/2506.13585 §3.1; the cap is TRL's.
  cispo: {
    method: "grpo",
    grpo: { advantage: "std", aggregation: "tokenMean", surrogate: "cispo", ratioCap: 5 },
  },
  // https://arxiv.org/abs/2511.20347: temperatures 1 and 1.05.
  sapo: {
    method: "grpo",
    grpo: {
      ...{ advantage: "std", aggregation: "sequenceMean", surrogate: "soft" },
      ...{ softPositive: 1, softNegative: 1.05 },
    },
  },
  // https://arxiv.org/abs/2402.14740: KL in the reward.
  rloo: {
    method: "grpo",
    grpo: {
      ...{ advantage: "leaveOneOut", aggregation: "sequenceMean" },
      ...{ klCoefficient: 0.05, klEstimator: "k1", klPlacement: "reward" },
    },
  },
  // Williams 1992, without a baseline.
  reinforce: { method: "grpo", grpo: { advantage: "reward", aggregation: "sequenceMean" } },
  // https://arxiv.org/abs/1707.06347 §6: γ .99, λ .95, clip .2, three epochs, plain squared error.
  "ppo-2017": {
    method: "ppo",
    train: { epochs: 3 },
    ppo: {
      ...{ gamma: 0.99, lambda: 0.95, whiten: false, clipLow: 0.2, clipHigh: 0.2 },
      ...{ valueRange: null, klCoefficient: 0 },
    },
  },
  // https://arxiv.org/abs/1909.08593 §2.2: four epochs, adaptive KL with a target of 6 nats.
  "ppo-ziegler": {
    method: "ppo",
    train: { epochs: 4 },
    ppo: {
      ...{ gamma: 1, lambda: 0.95, whiten: true, valueRange: 0.2 },
      ...{ klCoefficient: 0.15, klTarget: 6, klHorizon: 10_000 },
    },
  },
  // https://arxiv.org/abs/2304.06767: right answers, each once.
  raft: { method: "rft", rft: { distinct: true } },
  // https://arxiv.org/abs/2305.18290 appendix B: β .1.
  "dpo-2023": { method: "dpo", dpo: { form: "sigmoid", beta: 0.1, labelSmoothing: 0 } },
  // https://arxiv.org/abs/2310.12036 eq. 17: sums over tokens.
  "ipo-2023": { method: "dpo", dpo: { form: "ipo", beta: 0.1 } },
};
