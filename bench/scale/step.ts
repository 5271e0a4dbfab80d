/** A run's stages as rl/train.ts takes them, on any device: what is held, and the most at once. */

import { greedyAnswers, type Model } from "../../eval/accuracy.ts";
import { localSampler } from "../../eval/engines/sampler.ts";
import { verdict } from "../../eval/judge/judge.ts";
import type { Task, TaskQuestion } from "../../eval/task.ts";
import type { ModelConfig } from "../../model/config.ts";
import { ADAPTED, ALL_TRAINED, decodingRows, trainingRows } from "../../model/memory.ts";
import { cloneParameters, type ParameterTree, requireGradients } from "../../model/parameters.ts";
import { sequenceLogProbs } from "../../model/score.ts";
import { hidden } from "../../model/transformer.ts";
import type { TrainConfig } from "../../rl/config.ts";
import type { JsonObject } from "../../rl/fields.ts";
import { methodOf } from "../../rl/methods/mod.ts";
import { localTrainer } from "../../rl/policy_trainer.ts";
import { resolveSettings } from "../../rl/resolve.ts";
import { disposePolicy, disposeState, startState } from "../../rl/state.ts";
import { type Device, scope, tensor } from "../../tensor/mod.ts";

/** Tokens of a prompt and of the longest answer: a chat template around a question, a short answer. */
export const PROMPT = 64;
export const ANSWER = 32;
const LENGTH = PROMPT + ANSWER;

/** The ways to use a model that docs/SCALE.md compares, as settings of rl/train.ts. */
export const variants: readonly { readonly name: string; readonly settings: JsonObject }[] = [
  { name: "SFT", settings: { method: "sft", lora: { rank: 0 } } },
  { name: "SFT, LoRA", settings: { method: "sft" } },
  { name: "RFT", settings: { method: "rft", lora: { rank: 0 } } },
  { name: "DPO with reference", settings: { method: "dpo", lora: { rank: 0 } } },
  { name: "DPO, LoRA", settings: { method: "dpo" } },
  { name: "GRPO", settings: { method: "grpo", lora: { rank: 0 } } },
  { name: "GRPO, LoRA", settings: { method: "grpo" } },
  { name: "PPO with critic", settings: { method: "ppo", lora: { rank: 0 } } },
];
export const LORA = "GRPO, LoRA";

/** The settings of preset data, the one for real models, with those of a variant. */
export const settingsOf = (settings: JsonObject): TrainConfig =>
  resolveSettings({ preset: "data", data: { file: "FILE", model: "FOLDER" }, ...settings });

/** Questions whose prompts are all different, and whose gold answers are as long as an answer may be. */
function taskOf({ vocab_size }: ModelConfig, count: number): Task {
  const word = (i: number) => i % vocab_size;
  const questions = Array.from({ length: count }, (_, id): TaskQuestion => {
    const tokens = Array.from({ length: PROMPT }, (_, i) => word(id + 7 * i * i));
    const gold = Array.from({ length: ANSWER - 1 }, (_, i) => word(3 * id + 5 * i));
    return {
      ...{ id, entity: id, relation: 0, relationName: "paper", split: "train" },
      ...{ prompt: tokens, promptText: `${id}`, gold: "gold", accepted: ["gold"], answers: [gold] },
    };
  });
  return {
    get tokenizer(): never {
      throw new Error("these questions have no text");
    },
    stopTokens: [vocab_size - 1],
    questions: () => questions,
    answerText: (tokens) => tokens.join(" "),
  };
}

export interface Workload {
  readonly config: TrainConfig;
  readonly task: Task;
  /** Answers that a step samples and learns from; in SFT, gold answers. */
  readonly answers: number;
}

/** A step that fills the parts in which answers are sampled and trained, of at most `most` answers. */
export function workload(model: ModelConfig, settings: JsonObject, most = Infinity): Workload {
  const config = settingsOf(settings);
  const { groupSize } = config.train;
  const copies = config.lora.rank === 0 ? ALL_TRAINED : ADAPTED;
  const training = trainingRows(model, LENGTH, 256, copies);
  const sft = config.method === "sft";
  // More than are trained at a time, so that gradients of two parts are added.
  const rows = Math.max(training + 1, sft ? 0 : decodingRows(model, LENGTH, 1024));
  const questionsPerStep = Math.ceil(Math.min(rows, most) / (sft ? 1 : groupSize));
  const train = { ...config.train, questionsPerStep, maxNewTokens: ANSWER };
  return {
    config: { ...config, train },
    task: taskOf(model, questionsPerStep),
    answers: questionsPerStep * (sft ? 1 : groupSize),
  };
}

/** Parts of a run: the state is made, answers are sampled, learned from, and at the end measured. */
export type Stage = "hold" | "sample" | "learn" | "end";

/**
 * The base model `parameters` and the rest of a run beside it: the state before the first step, one
 * step (sampled, then learned from), and what measures the chosen weights at the end.
 */
export async function runStages(
  model: ModelConfig,
  parameters: ParameterTree,
  { config, task }: Workload,
  stage: (name: Stage) => void,
): Promise<void> {
  const base: Model = { config: model, parameters };
  const { policy, state } = startState(config, base);
  stage("hold");
  const questions = task.questions("train");
  // Half of each group is right: every answer then has an advantage, and DPO its pairs.
  const payAll = async (answers: readonly { readonly answer: string }[]) => {
    stage("learn");
    return answers.map(({ answer }, i) => verdict(i % 2 === 0, answer, "by its place"));
  };
  const { optimizer, memory } = state;
  stage(config.method === "sft" ? "learn" : "sample");
  await methodOf(config).step({
    ...{ config, task, policy, base, optimizer, memory, questions, reward: { payAll } },
    ...{ sampler: localSampler(policy), trainer: localTrainer(policy, optimizer) },
    ...{ step: 0, seed: 1, warmth: 1 },
  });
  disposeState(state);
  // The chosen checkpoint is opened and measured while base and policy are there; adapters, of
  // which there would be two, are too small to count.
  const chosen: Model = policy.lora
    ? policy
    : { ...policy, parameters: cloneParameters(parameters) };
  stage("end");
  const judge = () => verdict(false, "", "not judged");
  const { maxNewTokens } = config.train;
  await greedyAnswers({ model: chosen, task, questions, judge, maxNewTokens });
  if (chosen !== policy) disposePolicy(chosen);
  disposePolicy(policy);
}

/** Rows that sampling holds at a time, and one call on as many distinct prompts. */
export async function sampleOnce(model: ModelConfig, parameters: ParameterTree): Promise<number> {
  const rows = decodingRows(model, LENGTH, 256);
  const task = taskOf(model, rows);
  const judge = () => verdict(false, "", "not judged");
  const asked = { model: { config: model, parameters }, task, questions: task.questions("train") };
  await greedyAnswers({ ...asked, judge, maxNewTokens: ANSWER });
  return rows;
}

/** Log-probabilities of given answers. */
export async function scoreOnce(model: ModelConfig, parameters: ParameterTree): Promise<number> {
  const rows = 256;
  const questions = taskOf(model, rows).questions("train");
  const prompts = questions.map(({ prompt }) => prompt);
  await sequenceLogProbs(
    parameters,
    model,
    prompts,
    questions.map(({ answers }) => answers[0]!),
  );
  return rows;
}

/** Bytes that backward will find kept of each token, in all layers. */
export function keptPerToken(
  device: Device,
  model: ModelConfig,
  parameters: ParameterTree,
): number {
  requireGradients(parameters);
  const [few, many] = [1, 3].map((rows) =>
    scope(() => {
      const tokens = tensor(new Int32Array(rows * LENGTH), [rows, LENGTH], { device });
      const before = device.liveBytes;
      hidden(parameters, model, tokens);
      return [device.liveBytes - before, tokens.size] as const;
    }),
  ) as unknown as [readonly [number, number], readonly [number, number]];
  return (many[0] - few[0]) / (many[1] - few[1]);
}
