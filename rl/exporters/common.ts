/** Settings that fare alike in every engine: they shape the exported rows, or only our own machinery. */

import { heldOutRule } from "../data_config.ts";
import {
  differs,
  type Key,
  type Rule,
  refused,
  same,
  type Table,
  unless,
  unused,
} from "./account.ts";

const rows: Rule = () => same({}, "in the exported rows");
const arithmetic: Rule = () =>
  unused("of our own devices; the engine has number formats of its own");
const start: Rule = () => unused("a starting point; what it stands for is mapped");
const noise: Rule = () => unused("of --reward noisy and random, which are not exported");
const served: Rule = ({ config }) =>
  config.reward === "llm" && config.method !== "sft"
    ? same({}, "a flag of the reward server (README.md)")
    : unused("of --reward llm");
const measured: Rule = () =>
  unused("measured by rl/train.ts; of the tuned model by eval/recall.ts");
const sampling: Rule = () => unused("of an engine that samples for rl/train.ts");
const training: Rule = () => unused("of a server that trains for rl/train.ts");
const worldSets: Rule = () => unused("a question file has no such sets");

const commonRules = {
  preset: start,
  recipe: start,
  "seeds.world": () => same({}, "the splits are drawn with it, here"),
  "seeds.pretrain": () => unused("of a world's base model"),
  "seeds.rl": () => same({}, "see seed"),
  device: arithmetic,
  matmulPrecision: arithmetic,
  storage: arithmetic,
  wide: arithmetic,
  deterministic: arithmetic,
  reward: ({ config: { reward, method } }) =>
    method === "sft"
      ? unused("gold answers are not paid")
      : reward === "noisy" || reward === "random"
        ? refused("it is drawn by step and row, which engines do not send; use a rule or llm")
        : same({}, `rl/reward_server.ts --reward ${reward}`),
  "data.file": rows,
  "data.format": rows,
  "data.testFile": rows,
  "data.limit": rows,
  "data.testShare": rows,
  "data.validationShare": rows,
  "data.testQuestions": rows,
  "data.promptText": rows,
  "data.system": rows,
  "data.judge": ({ config }) =>
    unless(
      config.method !== "sft" && heldOutRule(config) !== config.reward,
      `held-out answers are judged by ${heldOutRule(config)} here; the engine validates by its ` +
        `reward, ${config.reward}`,
    ),
  "train.stratum": rows,
  "train.questions": rows,
  "train.questionSet": worldSets,
  "train.labels": rows,
  "rewardNoise.falsePositive": noise,
  "rewardNoise.falseNegative": noise,
  "rewardNoise.randomRate": noise,
  "judge.url": served,
  "judge.model": served,
  "judge.cache": served,
  "judge.offline": served,
  "judge.concurrency": served,
  "judge.requestsPerMinute": served,
  "judge.timeoutSeconds": served,
  "judge.patienceSeconds": served,
  "sampler.engine": ({ config: { sampler, method, grpo } }) =>
    sampler?.engine === undefined || method !== "ppo"
      ? unused("the engine samples by itself; answers of exported rows are sampled in this process")
      : differs(
          `ppo's terms are weighed by grpo.importance ${grpo.importance} here, by nothing there`,
        ),
  "sampler.url": sampling,
  "sampler.model": sampling,
  "sampler.pathOnServer": sampling,
  "sampler.concurrency": sampling,
  "sampler.timeoutSeconds": sampling,
  "sampler.patienceSeconds": sampling,
  "trainer.url": training,
  "trainer.model": training,
  "trainer.concurrency": training,
  "trainer.timeoutSeconds": training,
  "trainer.patienceSeconds": training,
  "evaluate.accessibilitySamples": ({ config: { train } }) =>
    train.stratum === "all"
      ? unused("measured by rl/train.ts; of the tuned model by eval/recall.ts")
      : same({}, "the stratum was measured with them, here"),
  "evaluate.passAtKSamples": measured,
  "evaluate.passAtK": measured,
  "evaluate.curves": measured,
  "evaluate.questionSet": worldSets,
  "evaluate.validationQuestions": rows,
  "evaluate.patience": ({ config: { evaluate } }) =>
    unless(evaluate.patience > 0, "the engine goes on to the last step"),
} as const satisfies Partial<Record<Key, Rule>>;

/** Typed by its keys alone, so that an engine's table is complete with those that are missing here. */
export const common: Pick<Table, keyof typeof commonRules> = commonRules;

const ofAnother: Rule = () => unused("of a method that is not exported");

/** Settings of methods that an engine's `method` rule refuses. */
export const notExported = {
  "sft.aggregation": ofAnother,
  "rft.aggregation": ofAnother,
  "rft.distinct": ofAnother,
  "rft.perQuestion": ofAnother,
  "dpo.form": ofAnother,
  "dpo.beta": ofAnother,
  "dpo.labelSmoothing": ofAnother,
  "dpo.pairsPerQuestion": ofAnother,
  "dpo.sampleFrom": ofAnother,
} as const satisfies Partial<Record<Key, Rule>>;

/** A rate's schedule that begins with a warm-up: how the first step differs. */
export const WARMUP =
  "the rate of step s of the warm-up is s/warmup of the peak there, (s+1)/warmup here";

/** LoRA's alpha where an engine takes integers. */
export const integerAlpha = (key: string): Rule =>
  function alpha({ config: { lora } }) {
    if (lora.rank === 0) return unused("no adapters");
    if (Number.isInteger(lora.alpha)) return same({ [key]: lora.alpha });
    return refused(`the engine takes integers; use ${Math.max(1, Math.round(lora.alpha))}`);
  };

export const adamwOnly: Rule = ({ config: { optimizer } }) =>
  optimizer.name === "adamw"
    ? same()
    : refused("only AdamW is exported; use --optimizer.name adamw");

export const ofMuon: Rule = () => unused("of muon and sgd");

/** std's correction and the number added to it, which engines fix. */
export function stdRules(epsilon: number): Pick<Table, "grpo.stdDdof" | "grpo.stdEpsilon"> {
  const scaled = (form: string) => form === "std" || form === "batchStd";
  return {
    "grpo.stdDdof": ({ config: { grpo, train } }) => {
      if (!scaled(grpo.advantage)) return unused("no std divides");
      const n =
        grpo.advantage === "std" ? train.groupSize : train.groupSize * train.questionsPerStep;
      const factor = Math.sqrt((n - 1) / n).toFixed(3);
      return unless(
        grpo.stdDdof !== 1,
        `the std divides by n - 1 there: advantages are ${factor} of those here (up to epsilon)`,
      );
    },
    "grpo.stdEpsilon": ({ config: { grpo } }) =>
      scaled(grpo.advantage)
        ? unless(grpo.stdEpsilon !== epsilon, `${epsilon} is added to the std there`)
        : unused("no std divides"),
  };
}
