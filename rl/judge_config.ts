/** Settings of a language model that judges: --judge.url, --judge.model and their like. */
import { z } from "zod";
import { above0, count, when } from "./method_config.ts";

// No defaults here: a run without a judge has no such group, so that its hash is what it was before
// there were judges. What is absent is decided in judge_reward.ts.
export const judge = z
  .strictObject({
    url: z.string().min(1).optional().describe("OpenAI-compatible server of --reward llm"),
    model: z
      .string()
      .min(1)
      .optional()
      .describe("The judging model's name there; none: its only one"),
    cache: z
      .string()
      .min(1)
      .optional()
      .describe("File of verdicts, to share between runs; none: verdicts.jsonl of the run"),
    offline: z.boolean().optional().describe("Read the cache alone: what it lacks is no verdict"),
    concurrency: count("Answers judged at a time; none: 16").optional(),
    requestsPerMinute: above0("Calls begun in a minute; none: no limit").optional(),
    timeoutSeconds: above0("Longest wait for one verdict; none: 60").optional(),
    patienceSeconds: above0("How long a judge may be down; none: 600").optional(),
  })
  .optional()
  .transform((given) => (given && Object.keys(given).length > 0 ? given : undefined))
  .describe("the model that judges answers (--reward llm); its key: OPENAI_API_KEY");

export type JudgeSettings = z.output<typeof judge>;

export function judgeProblems({
  reward,
  judge: asked,
}: {
  readonly reward: string;
  readonly judge?: JudgeSettings;
}): string[] {
  const given = Object.keys(asked ?? {}).map((name) => `judge.${name}`);
  const { url, model, cache, offline } = asked ?? {};
  return when(
    [reward !== "llm" && given.length > 0, `${given} with reward ${reward}: set reward to llm`],
    [
      reward === "llm" && url === undefined && !offline,
      "reward llm needs judge.url: an OpenAI-compatible server such as http://localhost:8000/v1",
    ],
    [
      reward === "llm" && offline === true && cache === undefined,
      "judge.offline needs judge.cache",
    ],
    [
      reward === "llm" && offline === true && model === undefined,
      "judge.offline needs judge.model: verdicts are kept by the judge's name",
    ],
  );
}
