/** Rewards: a record for each answer, never a bare number; null means no verdict, not 0. */

import { aliasJudge } from "../eval/judge/alias.ts";
import { exactJudge } from "../eval/judge/exact.ts";
import type { Judge, Judgement } from "../eval/judge/judge.ts";
import { noisyJudge } from "../eval/judge/noisy.ts";
import { normalisedJudge } from "../eval/judge/normalised.ts";
import type { TaskQuestion } from "../eval/task.ts";
import { randomStream } from "../tensor/mod.ts";
import { seedsOf, type TrainConfig } from "./config.ts";

/** One answer of one rollout: `draw` tells the rollouts of a run apart. */
export type Reward = (
  question: TaskQuestion,
  answer: string,
  draw: { step: number; row: number },
) => Judgement;

/** The reward that `config` names. Held-out accuracy is always judged by `aliasJudge`. */
export function rewardOf(config: TrainConfig): Reward {
  const { falsePositive, falseNegative, randomRate } = config.rewardNoise;
  const seed = seedsOf(config).rl;
  switch (config.reward) {
    case "exact":
      return judged(exactJudge);
    case "normalised":
      return judged(normalisedJudge);
    case "alias":
      return judged(aliasJudge);
    case "noisy":
      return judged(noisyJudge(aliasJudge, { falsePositive, falseNegative, seed }));
    case "random":
      return randomReward(seed, randomRate);
  }
}

const judged =
  (judge: Judge): Reward =>
  (question, answer) =>
    judge(question, answer);

/** The control: pays a share of all rollouts, whatever they say. Any gain under it is no recall. */
function randomReward(seed: number, rate: number): Reward {
  return (_, answer, { step, row }) => {
    const paid = randomStream({ seed, purpose: "random reward", step, row }).uniform() < rate;
    return { score: Number(paid), correct: paid, predicted: answer, reason: "paid at random" };
  };
}
