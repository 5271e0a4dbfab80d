/**
 * Direct preference optimisation: the gold answer against sampled wrong ones.
 *
 * https://arxiv.org/abs/2305.18290, with the base model as a frozen reference. The wrong answers
 * come from the newest policy, or from the base model.
 */

import { localSampler } from "../../eval/engines/sampler.ts";
import { batchLogProbs, sequenceLogProbs } from "../../model/score.ts";
import { tensor } from "../../tensor/mod.ts";
import { preferenceLoss } from "../preference.ts";
import { questionsOfStep, type Rollout, rollOut } from "../rollout.ts";
import { batchOf, microBatches, miniBatches, policyUpdate } from "../update.ts";
import { samplingText } from "./mathematics.ts";
import { emptyMemory, type Method, type StepContext } from "./method.ts";
import { goldTokens } from "./supervised.ts";

export interface Pair {
  readonly prompt: readonly number[];
  readonly chosen: readonly number[];
  readonly rejected: readonly number[];
}

/** A pair with log chosen - log rejected under the reference. */
interface ReferredPair extends Pair {
  readonly reference: number;
}

export const dpo: Method = {
  start: emptyMemory,

  async step(context) {
    const { config, base, task, questions, reward, seed, step } = context;
    const { train, dpo } = config;
    // 1. Ask for answers, and pair what is wrong with what is right.
    const order = { seed, step, count: train.questionsPerStep };
    const asked = questionsOfStep(questions, order);
    const sampler = dpo.sampleFrom === "policy" ? context.sampler : localSampler(base);
    const draw = { ...train, seed, step };
    const rollouts = await rollOut(sampler, task, asked, reward, draw);
    const pairs = pairsOf(rollouts, train.groupSize, dpo.pairsPerQuestion, task.stopTokens[0]!);
    // 2. What the reference says of both.
    const referred = await refer(context, pairs);
    // 3. Learn.
    const updates: PairReport[] = [];
    for (let epoch = 0; epoch < train.epochs; epoch++) {
      for (const part of miniBatches(referred, train.miniBatches)) {
        updates.push(await pairStep(context, part));
      }
    }
    return {
      rollouts,
      metrics: { ...metricsOf(updates, config.dpo.beta), num_pairs: pairs.length },
    };
  },

  mathematics(config) {
    const { dpo } = config;
    const forms = {
      sigmoid:
        dpo.labelSmoothing === 0
          ? "-log σ(βΔ)"
          : `-${1 - dpo.labelSmoothing}·log σ(βΔ) - ${dpo.labelSmoothing}·log σ(-βΔ)`,
      hinge: "max(0, 1 - βΔ)",
      ipo: "(Δ - 1/2β)², sums over tokens",
      ipoMean: "(Δ - 1/2β)², means over tokens",
    };
    return [
      `pair loss    ${forms[dpo.form]}, β ${dpo.beta}, Δ = log π/base of gold - log π/base of wrong`,
      `pairs        gold against up to ${dpo.pairsPerQuestion} distinct wrong answers of the ` +
        `${dpo.sampleFrom} a question; the mean over pairs`,
      ...samplingText(config),
    ];
  },
};

/** Gold against the first `most` distinct answers that the reward calls wrong, for each group. */
export function pairsOf(
  rollouts: readonly Rollout[],
  groupSize: number,
  most: number,
  stop: number,
): Pair[] {
  return Array.from({ length: rollouts.length / groupSize }, (_, g) => {
    const group = rollouts.slice(g * groupSize, (g + 1) * groupSize);
    const { question } = group[0]!;
    const chosen = goldTokens(question, stop);
    const gold = chosen.join();
    const wrong = new Map<string, Pair>();
    for (const { tokens, judgement } of group) {
      const key = tokens.join();
      // An empty answer can't be scored; the gold answer itself teaches nothing.
      if (judgement.score === null || judgement.score > 0.5) continue;
      if (tokens.length === 0 || key === gold || wrong.has(key)) continue;
      wrong.set(key, { prompt: question.prompt, chosen, rejected: tokens });
    }
    return [...wrong.values()].slice(0, most);
  }).flat();
}

const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);

/** log of chosen - log of rejected under the reference: sums over tokens, or means. */
async function refer(
  { base, config }: StepContext,
  pairs: readonly Pair[],
): Promise<ReferredPair[]> {
  const { temperature } = config.train;
  const prompts = pairs.map(({ prompt }) => prompt);
  const scoresOf = async (side: "chosen" | "rejected") => {
    const answers = pairs.map((pair) => pair[side]);
    const found = await sequenceLogProbs(base.parameters, base.config, prompts, answers, {
      temperature,
    });
    return found.map((line) => sum(line) / divisor(config.dpo.form, line.length));
  };
  const [chosen, rejected] = [await scoresOf("chosen"), await scoresOf("rejected")];
  return pairs.map((pair, i) => ({ ...pair, reference: chosen[i]! - rejected[i]! }));
}

const divisor = (form: string, length: number): number => (form === "ipoMean" ? length : 1);

export interface PairReport {
  readonly loss: number;
  readonly gradNorm: number;
  /** Of each pair: log π of both answers and of the reference's difference. */
  readonly margins: readonly number[];
  readonly chosen: readonly number[];
  readonly rejected: readonly number[];
}

async function pairStep(
  { config, policy, optimizer, warmth }: StepContext,
  pairs: readonly ReferredPair[],
): Promise<PairReport> {
  const { dpo, train } = config;
  const { temperature } = train;
  // A pair goes through the model with both of its sides, each behind the prompt.
  const rows = pairs.map((pair) => {
    return { ...pair, tokens: [...pair.chosen, ...pair.prompt, ...pair.rejected] };
  });
  const micros = microBatches(rows, policy, 128);
  const rate = warmth * config.optimizer.learningRate;
  const update = await policyUpdate(policy, optimizer, micros, rate, (micro) => {
    // Both sides of all pairs are rows of one batch: first those chosen, then those rejected.
    const rows = (["chosen", "rejected"] as const).flatMap((side) =>
      micro.map((pair) => ({ prompt: pair.prompt, tokens: pair[side] })),
    );
    const batch = batchOf(rows);
    const logProbs = batchLogProbs(policy.parameters, policy.config, batch, { temperature });
    const divisors = rows.map(({ tokens }) => divisor(dpo.form, tokens.length));
    const sums = logProbs.sum(-1).div(tensor(divisors));
    const n = micro.length;
    const [chosen, rejected] = [sums.slice([[0, n]]), sums.slice([[n, 2 * n]])];
    const delta = chosen.sub(rejected).sub(tensor(micro.map(({ reference }) => reference)));
    const loss = preferenceLoss(delta, dpo).sum().div(pairs.length);
    return { loss, observed: [delta, chosen, rejected] };
  });
  const column = (k: number) => update.observed.flatMap((part) => Array.from(part[k]!));
  const [margins, chosen, rejected] = [column(0), column(1), column(2)];
  return { loss: update.loss, gradNorm: update.gradNorm, margins, chosen, rejected };
}

/** TRL's names; means over the pairs of the step's updates. */
export function metricsOf(
  updates: readonly PairReport[],
  beta: number,
): Record<string, number | null> {
  const mean = (values: readonly number[]): number | null =>
    values.length === 0 ? null : sum(values) / values.length;
  const margins = updates.flatMap((update) => update.margins);
  return {
    loss: mean(updates.map(({ loss }) => loss)) ?? 0,
    grad_norm: mean(updates.map(({ gradNorm }) => gradNorm)) ?? 0,
    "rewards/accuracies": mean(margins.map((margin) => Number(margin > 0))),
    "rewards/margins": mean(margins.map((margin) => beta * margin)),
    "logps/chosen": mean(updates.flatMap(({ chosen }) => chosen)),
    "logps/rejected": mean(updates.flatMap(({ rejected }) => rejected)),
  };
}
