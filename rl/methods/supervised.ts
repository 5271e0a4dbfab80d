/** Fine-tuning on given answers: on gold ones (SFT), or on the policy's own right ones (RFT). */

import type { TaskQuestion } from "../../eval/task.ts";
import type { Aggregation } from "../aggregate.ts";
import { questionsOfStep, type Rollout, rollOut } from "../rollout.ts";
import { type Answer, miniBatches, weighed } from "../update.ts";
import { known } from "./grpo.ts";
import { aggregationText, samplingText } from "./mathematics.ts";
import { emptyMemory, type Method, type StepContext } from "./method.ts";

/** An answer to be made likelier. */
interface Given {
  readonly question: TaskQuestion;
  readonly tokens: readonly number[];
}

/** The gold answer's tokens, with the stop token that ends an answer. */
export function goldTokens({ gold, accepted, answers, id }: TaskQuestion, stop: number): number[] {
  const found = answers[accepted.indexOf(gold)];
  if (found === undefined)
    throw new RangeError(`question ${id}: "${gold}" is not an accepted answer`);
  return [...found, stop];
}

/** Supervised fine-tuning: -log π(gold answer | question). */
export const sft: Method = {
  start: emptyMemory,
  async step(context) {
    const { config, task, questions, seed, step } = context;
    const order = { seed, step, count: config.train.questionsPerStep };
    const given = questionsOfStep(questions, order).map((question) => {
      return { question, tokens: goldTokens(question, task.stopTokens[0]!) };
    });
    return { rollouts: [], metrics: await imitate(context, given, config.sft.aggregation) };
  },
  mathematics: (config) => [
    "token loss   -log π of the gold answer's tokens, <eos> among them",
    `aggregation  ${aggregationText(config.sft.aggregation, config.train)}`,
    ...samplingText(config),
  ],
};

/**
 * Rejection fine-tuning, online: each step samples from the newest policy, keeps what the reward
 * calls right, and fine-tunes on it (RAFT, https://arxiv.org/abs/2304.06767; ReST,
 * https://arxiv.org/abs/2308.08998).
 */
export const rft: Method = {
  start: emptyMemory,
  async step(context) {
    const { config, sampler, task, questions, reward, seed, step } = context;
    const order = { seed, step, count: config.train.questionsPerStep };
    const draw = { ...config.train, seed, step };
    const rollouts = await rollOut(sampler, task, questionsOfStep(questions, order), reward, draw);
    const kept = rightAnswers(rollouts, config.train.groupSize, config.rft);
    const metrics = await imitate(context, kept, config.rft.aggregation);
    return { rollouts, metrics: { ...metrics, kept_ratio: kept.length / rollouts.length } };
  },
  mathematics: (config) => {
    const { distinct, perQuestion, aggregation } = config.rft;
    const chosen =
      (distinct ? "distinct right answers" : "right answers, as often as they came") +
      (perQuestion === null ? "" : `, at most ${perQuestion} a question`);
    return [
      `token loss   -log π of sampled ${chosen}`,
      `aggregation  ${aggregationText(aggregation, config.train)}; what isn't kept doesn't count`,
      ...samplingText(config),
    ];
  },
};

/** What rejection sampling keeps of each group: an answer is right where its score is above 1/2. */
export function rightAnswers(
  rollouts: readonly Rollout[],
  groupSize: number,
  { distinct, perQuestion }: { distinct: boolean; perQuestion: number | null },
): Rollout[] {
  return Array.from({ length: rollouts.length / groupSize }, (_, g) => {
    const seen = new Set<string>();
    const right = rollouts.slice(g * groupSize, (g + 1) * groupSize).filter((rollout) => {
      if (!((rollout.judgement.score ?? 0) > 0.5)) return false;
      const key = rollout.tokens.join();
      if (distinct && seen.has(key)) return false;
      seen.add(key);
      return true;
    });
    return right.slice(0, perQuestion ?? undefined);
  }).flat();
}

/** Steps on the mean -log π of the answers; with none of them nothing moves. */
async function imitate(
  { config, trainer, warmth }: StepContext,
  given: readonly Given[],
  aggregation: Aggregation,
): Promise<Record<string, number | null>> {
  const { train } = config;
  const { temperature } = train;
  const learningRate = warmth * config.optimizer.learningRate;
  const steps = miniBatches(given, train.miniBatches).map((part) =>
    weighed(
      part,
      aggregation,
      train.maxNewTokens,
      ({ question, tokens }) => `${question.id} ${tokens.join()}`,
      ({ question, tokens }, _, count, weight): Answer => {
        return { prompt: question.prompt, tokens, count, weight };
      },
    ),
  );
  const [losses, norms]: [number[], number[]] = [[], []];
  for (let epoch = 0; epoch < train.epochs; epoch++) {
    for (const answers of steps) {
      const options = { temperature, learningRate };
      const { loss, gradNorm } = await trainer.imitationStep(answers, options);
      losses.push(loss);
      norms.push(gradNorm);
    }
  }
  const mean = (values: readonly number[]) =>
    values.reduce((a, b) => a + b, 0) / Math.max(1, values.length);
  const tokens = given.reduce((total, answer) => total + answer.tokens.length, 0);
  return { loss: mean(losses), grad_norm: known(mean(norms)), num_tokens: tokens };
}
