/** The reward of a run, opened: a rule, or a language model behind a server with its cache of verdicts. */

import { join } from "node:path";
import { type ServerJudgeOptions, serverJudge } from "../eval/judge/llm.ts";
import type { TaskQuestion } from "../eval/task.ts";
import type { TrainConfig } from "./config.ts";
import { type BatchReward, type Reward, rewardOf } from "./reward.ts";

export interface OpenReward extends Disposable {
  readonly reward: Reward | BatchReward;
}

/**
 * What pays for a run's rollouts. A judge's verdicts are kept in the run's folder, or where
 * judge.cache says; one that is down is waited for (judge.patienceSeconds), then a UserError ends the
 * run, which goes on with --resume from its last checkpoint and asks for no verdict twice.
 */
export async function openReward(
  config: TrainConfig,
  folder: string,
  print: (text: string) => void,
): Promise<OpenReward> {
  if (config.reward !== "llm") return { reward: rewardOf(config), [Symbol.dispose]() {} };
  const judge = await serverJudge({ ...judgeOptions(config, folder), print });
  if (config.judge?.model === undefined) print(`judge: ${judge.model}`);
  const payAll: BatchReward["payAll"] = (answers) =>
    judge.judge(
      answers.map(({ question, answer }) => ({
        question: questionText(question),
        gold: question.gold,
        accepted: question.accepted,
        answer,
      })),
    );
  return { reward: { payAll }, [Symbol.dispose]: judge.close };
}

/** The judge that the settings name. */
export function judgeOptions(
  { judge = {} }: Pick<TrainConfig, "judge">,
  folder: string,
): ServerJudgeOptions {
  const { url = "", model, cache, offline, patienceSeconds, ...rest } = judge;
  const limits = Object.fromEntries(
    Object.entries(rest).filter(([, value]) => value !== undefined),
  );
  return {
    ...{ url, model, ...limits, cache: cache ?? join(folder, "verdicts.jsonl") },
    ...(offline !== undefined && { offline }),
    ...(patienceSeconds !== undefined && { patience: { seconds: patienceSeconds } }),
  };
}

/** A question as a reader sees it: without the frame that a world's prompt puts around it. */
export const questionText = ({ promptText }: Pick<TaskQuestion, "promptText">): string =>
  promptText.replace(/^Q : | A :$/g, "");
