/**
 * Proximal policy optimisation with a value model.
 *
 * https://arxiv.org/abs/1707.06347 on answers, as in https://arxiv.org/abs/1909.08593. The value
 * model is a copy of the base model with a scalar in place of its head (0 at the start), and has an
 * optimizer of its own; the value of a token is what the answer is expected to be paid, judged
 * before the token is known.
 */

import type { ModelConfig } from "../../model/config.ts";
import { AdamW } from "../../model/optimizer.ts";
import { cloneParameters, type ParameterTree, parameter } from "../../model/parameters.ts";
import { hidden } from "../../model/transformer.ts";
import { noGrad, scope, type Tensor, tensor, zeros } from "../../tensor/mod.ts";
import { weightedSum } from "../aggregate.ts";
import type { TrainConfig } from "../config.ts";
import { adaptedKlCoefficient, gae, tokenRewards, whiten } from "../gae.ts";
import { correctionOf, importanceText } from "../importance.ts";
import { valueLoss } from "../loss.ts";
import { type PolicyAnswer, type PolicyReport, policyStep } from "../policy_step.ts";
import { ofDistinct, ownLogProbs, questionsOfStep, type Rollout, rollOut } from "../rollout.ts";
import {
  type Answer,
  batchOf,
  microBatches,
  miniBatches,
  optimizerStep,
  placed,
  tokensOf,
  weighed,
  weightsOf,
} from "../update.ts";
import { metricsOf } from "./grpo.ts";
import { aggregationText, samplingText } from "./mathematics.ts";
import { emptyMemory, type Method, type StepContext } from "./method.ts";

const CRITIC = "critic";
const KL = "klCoefficient";
const HEAD = "value_head.weight";
const BIAS = "value_head.bias";

export const ppo: Method = {
  start({ ppo, optimizer }, { parameters, config }) {
    const memory = emptyMemory();
    const critic = cloneParameters(parameters);
    critic.set(HEAD, zeros([1, config.hidden_size]));
    critic.set(BIAS, zeros([1]));
    memory.trees.set(CRITIC, critic);
    const { betas, clipNorm } = optimizer;
    const settings = { betas: [betas[0], betas[1]] as const, clipNorm, weightDecay: 0 };
    memory.optimizers.set(CRITIC, new AdamW(critic, settings));
    memory.numbers.set(KL, ppo.klCoefficient);
    return memory;
  },

  async step(context) {
    const { config, policy, sampler, task, questions, reward, seed, step } = context;
    const { optimizer, warmth } = context;
    const { train, ppo } = config;
    // 1. Ask.
    const order = { seed, step, count: train.questionsPerStep };
    const draw = { ...train, seed, step };
    const rollouts = await rollOut(sampler, task, questionsOfStep(questions, order), reward, draw);
    // 2. Judge each token: what is paid from here on, beside what was expected.
    const { samples, kl } = await estimates(context, rollouts);
    // 3. Learn, both policy and value.
    const settings = { ...PLAIN, ...ppo, klCoefficient: 0, temperature: train.temperature };
    const reports: PolicyReport[] = [];
    const values: ValueReport[] = [];
    const steps = miniBatches(samples, train.miniBatches).map((part) => distinct(part, config));
    for (let epoch = 0; epoch < train.epochs; epoch++) {
      for (const answers of steps) {
        const learningRate = warmth * config.optimizer.learningRate;
        const options = { learningRate, reference: undefined };
        reports.push(await policyStep(policy, optimizer, answers, settings, options));
        values.push(await valueStep(context, answers));
      }
    }
    adapt(context, kl, samples.length);
    const { memory } = context;
    return {
      rollouts,
      metrics: {
        ...metricsOf(reports),
        ...explained(samples),
        "loss/value_avg": mean(values.map(({ loss }) => loss)),
        "value/grad_norm": mean(values.map(({ gradNorm }) => gradNorm)),
        "objective/kl": kl,
        "objective/kl_coefficient": memory.numbers.get(KL)!,
      },
    };
  },

  mathematics(config) {
    const { ppo, train } = config;
    const updates = train.epochs * train.miniBatches;
    const range = ppo.valueRange === null ? "" : `, V clipped to V_old ± ${ppo.valueRange}`;
    const target = ppo.klTarget === null ? "" : `, adapted to a KL of ${ppo.klTarget} an answer`;
    return [
      `advantage    Σ (${ppo.gamma}·${ppo.lambda})^k δ, δ = r + ${ppo.gamma}·V' - V` +
        (ppo.whiten ? "; over all tokens to mean 0, variance 1 (n - 1)" : ""),
      `reward       the verdict at the last token` +
        (ppo.klCoefficient > 0 ? `, -${ppo.klCoefficient}·log(π_old/base) at each${target}` : ""),
      `token loss   -min(ρA, clip(ρ, ${1 - ppo.clipLow}, ${1 + ppo.clipHigh})·A), ρ = π/π_old` +
        `${config.sampler?.engine === undefined ? "" : importanceText(config.grpo)}; ` +
        `${updates} update${updates === 1 ? "" : "s"} a step`,
      `value loss   ½(V - A - V_old)²${range}; AdamW ${ppo.valueLearningRate}, a model of its own`,
      `aggregation  ${aggregationText(ppo.aggregation, train)}`,
      ...(ppo.entropyCoefficient > 0 ? [`entropy      ${ppo.entropyCoefficient} · H added`] : []),
      ...samplingText(config),
    ];
  },
};

/** The clip alone: no other form of the ratio, no KL in the loss. */
const PLAIN = {
  ratioLevel: "token",
  surrogate: "clip",
  ratioCap: null,
  dualClip: null,
  softPositive: 1,
  softNegative: 1,
  klEstimator: null,
} as const;

/** A rollout whose tokens have been judged. */
interface Sample {
  readonly rollout: Rollout;
  readonly tokens: readonly number[];
  readonly values: readonly number[];
  readonly returns: readonly number[];
  readonly advantages: readonly number[];
  readonly importance: readonly number[] | undefined;
}

interface ValuedAnswer extends PolicyAnswer {
  readonly values: readonly number[];
  readonly returns: readonly number[];
}

/** Advantages and returns of all rollouts that have a verdict, and their mean KL an answer. */
async function estimates(
  { config, policy, base, memory }: StepContext,
  rollouts: readonly Rollout[],
): Promise<{ samples: Sample[]; kl: number | null }> {
  const { ppo, train } = config;
  const scored = rollouts.filter(({ judgement }) => judgement.score !== null);
  const coefficient = memory.numbers.get(KL)!;
  const references =
    coefficient === 0 ? undefined : await ownLogProbs(base, scored, train.temperature);
  const critic = memory.trees.get(CRITIC)!;
  const values = await ofDistinct(scored, (own) => valuesOf(critic, policy.config, own));
  const found = scored.map(({ logProbs, judgement }, i) => {
    const paid = tokenRewards(judgement.score!, logProbs, references?.[i], coefficient);
    return gae(paid, values[i]!, ppo);
  });
  const raw = found.map(({ advantages }) => advantages);
  const advantages = ppo.whiten ? whiten(raw) : raw;
  // One engine that samples and trains has nothing to correct.
  const byEngine = config.sampler?.engine !== undefined;
  const correction = byEngine ? await correctionOf(policy, scored, config) : undefined;
  const samples = scored.map((rollout, i) => ({
    ...{ rollout, tokens: rollout.tokens, values: values[i]! },
    ...{ returns: found[i]!.returns, advantages: advantages[i]! },
    importance: correction?.weights[i],
  }));
  const kl =
    references && mean(scored.map(({ logProbs }, i) => sum(logProbs) - sum(references[i]!)));
  return { samples, kl: kl ?? null };
}

/** Equal answers with equal pay have equal values and advantages: they are computed once. */
const distinct = (samples: readonly Sample[], { ppo, train }: TrainConfig): ValuedAnswer[] =>
  weighed(
    samples,
    ppo.aggregation,
    train.maxNewTokens,
    ({ rollout: { question, judgement }, tokens, importance }) =>
      `${question.id} ${judgement.score} ${tokens.join()} ${importance?.join()}`,
    ({ rollout, tokens, ...judged }, _, count, weight) => ({
      ...{ prompt: rollout.question.prompt, tokens, count, weight, ...judged },
      old: rollout.logProbs,
    }),
  );

/** V of each position: hidden states of the value model, times its head. [b t] */
function criticValues(
  critic: ParameterTree,
  config: ModelConfig,
  batch: ReturnType<typeof batchOf>,
) {
  return scope((): Tensor => {
    const states = hidden(critic, config, tensor(batch.tokens, batch.shape));
    const rows = states.reshape([batch.targets.length, config.hidden_size]);
    const values = rows.matmul(parameter(critic, HEAD).transpose()).add(parameter(critic, BIAS));
    return values.reshape([...batch.shape]);
  });
}

/** Values before each token of each answer. */
async function valuesOf(
  critic: ParameterTree,
  config: ModelConfig,
  rollouts: readonly Rollout[],
): Promise<number[][]> {
  const all = rollouts.map(({ question, tokens }): Answer => {
    return { prompt: question.prompt, tokens, count: 1, weight: 0 };
  });
  const found: number[][] = [];
  for (const micro of microBatches(all, { config })) {
    const values = noGrad(() => criticValues(critic, config, batchOf(micro)));
    const flat = await values.data();
    values.dispose();
    found.push(...micro.map((_, i) => tokensOf(flat, micro, i)));
  }
  return found;
}

interface ValueReport {
  readonly loss: number;
  readonly gradNorm: number;
}

async function valueStep(
  { config, policy, memory, warmth }: StepContext,
  answers: readonly ValuedAnswer[],
): Promise<ValueReport> {
  const critic = memory.trees.get(CRITIC)!;
  const { valueRange: range, valueLearningRate } = config.ppo;
  const trained = { parameters: critic, optimizer: memory.optimizers.get(CRITIC)! };
  const rate = warmth * valueLearningRate;
  const { loss, gradNorm } = await optimizerStep(
    trained,
    microBatches(answers, { config: policy.config }),
    rate,
    (micro) => {
      const batch = batchOf(micro);
      const old = placed(micro, batch, ({ values }) => values);
      const returns = placed(micro, batch, (answer) => answer.returns);
      const losses = valueLoss(criticValues(critic, policy.config, batch), old, returns, { range });
      return { loss: weightedSum(losses, weightsOf(micro, batch)), observed: [] };
    },
  );
  return { loss, gradNorm };
}

function adapt({ config, memory }: StepContext, kl: number | null, answers: number): void {
  const { klTarget: target, klHorizon: horizon } = config.ppo;
  if (target === null || kl === null) return;
  const now = memory.numbers.get(KL)!;
  memory.numbers.set(KL, adaptedKlCoefficient(now, kl, { target, horizon }, answers));
}

/** Share of the variance of returns that the values explain; null where there is none. */
function explained(samples: readonly Sample[]): Record<string, number | null> {
  const returns = samples.flatMap((sample) => sample.returns);
  const errors = samples.flatMap(({ returns, values }) => returns.map((r, t) => r - values[t]!));
  const spread = variance(returns);
  return {
    "val/explained_variance": spread > 1e-12 ? 1 - variance(errors) / spread : null,
    "val/mean": mean(samples.flatMap(({ values }) => values)),
  };
}

const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);
const mean = (values: readonly number[]): number => sum(values) / Math.max(1, values.length);
const variance = (values: readonly number[]): number => {
  const centre = mean(values);
  return mean(values.map((x) => (x - centre) ** 2));
};
