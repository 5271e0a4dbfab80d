/** Rewards: a record for each answer, never a bare number; null means no verdict, not 0. */

import type { Judge, Judgement } from "../eval/judge/judge.ts";
import { noisyJudge } from "../eval/judge/noisy.ts";
import { rules } from "../eval/judge/rules.ts";
import type { TaskQuestion } from "../eval/task.ts";
import { randomStream } from "../tensor/mod.ts";
import { seedsOf, type TrainConfig } from "./config.ts";
import { heldOutRule } from "./data_config.ts";
import { UserError } from "./user_error.ts";

/** One answer of one rollout: `draw` tells the rollouts of a run apart. */
export type Reward = (
  question: TaskQuestion,
  answer: string,
  draw: { step: number; row: number },
) => Judgement;

/** An answer to be paid together with others. */
export interface Given {
  readonly question: TaskQuestion;
  readonly answer: string;
}

/** A reward whose verdicts take a server's time: it pays all answers of a step at once. */
export interface BatchReward {
  readonly payAll: (answers: readonly Given[]) => Promise<readonly Judgement[]>;
}

/** What each of the answers is paid, in their order. */
export async function pay(
  reward: Reward | BatchReward,
  answers: readonly Given[],
  step: number,
): Promise<readonly Judgement[]> {
  if (typeof reward !== "function") return reward.payAll(answers);
  return answers.map(({ question, answer }, row) => reward(question, answer, { step, row }));
}

/**
 * The rule that `config` names (`openReward` has the judges too). Held-out accuracy is judged by
 * `heldOutRule`'s, whatever it is.
 */
export function rewardOf(config: TrainConfig): Reward {
  const { falsePositive, falseNegative, randomRate } = config.rewardNoise;
  const seed = seedsOf(config).rl;
  switch (config.reward) {
    case "noisy":
      return judged(noisyJudge(rules[heldOutRule(config)], { falsePositive, falseNegative, seed }));
    case "random":
      return randomReward(seed, randomRate);
    case "llm":
      throw new UserError("reward llm is no rule: it asks a server, which openReward opens");
    default:
      return judged(rules[config.reward]);
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
