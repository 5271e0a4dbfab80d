/** Training on a Tinker-compatible server: our losses, weights and states, in its words. */

import { randomUUID } from "node:crypto";
import type { Model } from "../eval/accuracy.ts";
import { mismatch } from "../eval/engines/mismatch.ts";
import type { Sampler } from "../eval/engines/sampler.ts";
import { openTinker, type Tinker } from "../eval/engines/tinker.ts";
import { OperationFailed } from "../eval/engines/tinker_calls.ts";
import { datumOf, type Loss } from "../eval/engines/tinker_protocol.ts";
import { latestCheckpoint } from "./checkpoints.ts";
import { seedsOf, type TrainConfig } from "./config.ts";
import { type PolicyAnswer, type PolicySettings, ratioFigures } from "./policy_step.ts";
import type { HeldTrainer } from "./policy_trainer.ts";
import { requireVocabulary } from "./remote_sampler.ts";
import type { Run } from "./run.ts";
import type { WeightsOfRun } from "./select.ts";
import { checkpointJson, countedState, freshState, type TrainState } from "./state.ts";

const FILE = "trainer.json";
const EPSILON = 1e-8; // as our AdamW's
/** A clip that no ratio reaches is none: then the loss is the server's without a clip. */
const NO_CLIP = 1e6;

/** What a checkpoint here says of the server. */
interface Kept {
  readonly server: string;
  readonly model: string;
  readonly modelId: string;
  /** Address of the step's weights and optimizer there, and of those before training. */
  readonly state: string;
  readonly initial: string;
}

/** The server that the settings name, with a new model on it; undefined: none is named. */
export async function openServer(
  { trainer, lora, ...config }: TrainConfig,
  print: (text: string) => void,
): Promise<Tinker | undefined> {
  if (trainer?.url === undefined || trainer.model === undefined) return undefined;
  const { url, model, concurrency, timeoutSeconds, patienceSeconds } = trainer;
  return openTinker({
    ...{ url, model, print, rank: lora.rank, key: process.env.TINKER_API_KEY },
    seed: seedsOf({ trainer, lora, ...config }).rl,
    ...(concurrency !== undefined && { concurrency }),
    ...(timeoutSeconds !== undefined && { timeoutSeconds }),
    ...(patienceSeconds !== undefined && { patience: { seconds: patienceSeconds } }),
  });
}

export interface Held {
  /** Answers with the weights that the server has when it is asked. */
  readonly policy: Model;
  readonly state: TrainState;
  readonly trainer: HeldTrainer;
  readonly weights: WeightsOfRun;
}

/** A run on a server: at its beginning, or where its latest checkpoint says. */
export async function heldRun(
  server: Tinker,
  run: Run<TrainConfig>,
  resumed: boolean,
  { config: shape }: Pick<Model, "config">,
): Promise<Held> {
  const { config } = run;
  // Names on the server are taken once: another process of this run has others.
  const tag = `anamnesis-${randomUUID().slice(0, 8)}`;
  let [now, samplers] = [undefined as Sampler | undefined, 0];
  const moved = (): void => {
    now = undefined;
  };
  const sampler: Sampler = {
    name: server.name,
    async sample(prompts, options) {
      now ??= await server.sampler(`${tag}-sampler-${samplers++}`);
      const found = await now.sample(prompts, options);
      requireVocabulary(found.tokens, { config: shape }, server.name);
      return found;
    },
  };
  const policy: Model = { config: shape, parameters: new Map(), sampler };
  const info = resumed ? latestCheckpoint(run.checkpoints) : null;
  if (resumed) run.rewind(info);
  const fresh = freshState(config, policy, policy);
  let initial: string | undefined;
  const load = async (checkpoint: string): Promise<Kept> => {
    const kept = checkpointJson(checkpoint, FILE) as Kept;
    await server.loadState(kept.state);
    moved();
    return kept;
  };
  if (info !== null) {
    const { modelId } = checkpointJson(info.path, FILE) as Kept;
    if (modelId === server.modelId) await dropGradients(server, config);
    initial = (await load(info.path)).initial;
  }
  const trainer: HeldTrainer = {
    ...stepsOn(server, config, moved),
    async checkpointFiles(step) {
      const state = await server.saveState(`${tag}-step-${step}`);
      initial ??= state;
      const { name, modelId } = server;
      const kept: Kept = { server: name, model: config.trainer!.model!, modelId, state, initial };
      return { [FILE]: new TextEncoder().encode(`${JSON.stringify(kept, null, 2)}\n`) };
    },
  };
  const weights: WeightsOfRun = {
    async base() {
      if (initial !== undefined) await server.loadState(initial);
      moved();
      return policy;
    },
    async at(checkpoint) {
      await load(checkpoint);
      return policy;
    },
  };
  return { policy, state: info ? countedState(info.path, fresh) : fresh, trainer, weights };
}

/** Where the server keeps the weights of a checkpoint. */
export const addressOf = (checkpoint: string): string =>
  (checkpointJson(checkpoint, FILE) as Kept).state;

/**
 * A server with one model for all still has the gradients of a step that was broken off. A step at
 * rate 0 takes them away; the moments that it changes are loaded next.
 */
async function dropGradients(server: Tinker, config: TrainConfig): Promise<void> {
  try {
    await server.optimStep(adamOf(config, 0));
  } catch (error) {
    // It may say that there is nothing to step on.
    if (!(error instanceof OperationFailed)) throw error;
  }
}

const adamOf = ({ optimizer }: TrainConfig, learning_rate: number) => ({
  ...{ learning_rate, beta1: optimizer.betas[0], beta2: optimizer.betas[1], eps: EPSILON },
  ...{ weight_decay: optimizer.weightDecay, grad_clip_norm: optimizer.clipNorm },
});

/** Steps in the server's words. It sums over tokens: what a token weighs goes into its inputs. */
function stepsOn(
  server: Tinker,
  config: TrainConfig,
  moved: () => void,
): Pick<HeldTrainer, "policyStep" | "imitationStep"> {
  const step = async (learningRate: number): Promise<number> => {
    moved();
    return gradNormOf(await server.optimStep(adamOf(config, learningRate)));
  };
  return {
    async policyStep(answers, settings, { learningRate }) {
      const unknown = { kl: null, entropy: null };
      if (answers.length === 0) {
        return { loss: 0, gradNorm: 0, ...ratioFigures([], [], settings), ...unknown };
      }
      const data = answers.map(({ prompt, tokens, old, weight, advantages }) =>
        datumOf(prompt, tokens, { logprobs: old, advantages: advantages.map((a) => weight * a) }),
      );
      const found = await server.forwardBackward(data, lossOf(settings));
      const now = answers.map(({ prompt }, i) => found[i]!.slice(prompt.length - 1));
      const logRatios = answers.map(({ old }, i) => now[i]!.map((x, t) => x - old[t]!));
      return {
        loss: answers.reduce((sum, own, i) => sum + lossHere(own, now[i]!, settings), 0),
        gradNorm: await step(learningRate),
        ...ratioFigures(answers, logRatios, settings),
        ...unknown,
        mismatch: mismatch(
          now,
          answers.map(({ old }) => old),
        ),
      };
    },
    async imitationStep(answers, { learningRate }) {
      if (answers.length === 0) return { loss: 0, gradNorm: 0 };
      const data = answers.map(({ prompt, tokens, weight }) =>
        datumOf(prompt, tokens, { weights: tokens.map(() => weight) }),
      );
      const found = await server.forwardBackward(data, { loss_fn: "cross_entropy" });
      const losses = answers.map(({ prompt, weight }, i) =>
        found[i]!.slice(prompt.length - 1).reduce((sum, x) => sum - weight * x, 0),
      );
      return { loss: losses.reduce((a, b) => a + b, 0), gradNorm: await step(learningRate) };
    },
  };
}

/** Our policy losses under the protocol's names. */
function lossOf({ surrogate, clipLow, clipHigh, ratioCap }: PolicySettings): Loss {
  const between = (low: number, high: number) => ({
    loss_fn_config: { clip_low_threshold: low, clip_high_threshold: high },
  });
  if (surrogate === "cispo") return { loss_fn: "cispo", ...between(0, ratioCap!) };
  if (clipLow >= 1 && clipHigh >= NO_CLIP) return { loss_fn: "importance_sampling" };
  return { loss_fn: "ppo", ...between(1 - clipLow, 1 + clipHigh) };
}

/** An answer's part of the loss, from what the server says its log-probabilities were. */
function lossHere(
  { old, weight, advantages }: PolicyAnswer,
  logProbs: readonly number[],
  { surrogate, clipLow, clipHigh, ratioCap }: PolicySettings,
): number {
  return logProbs.reduce((sum, logProb, t) => {
    const [ratio, a] = [Math.exp(logProb - old[t]!), weight * advantages[t]!];
    if (surrogate === "cispo") return sum - Math.min(ratio, ratioCap!) * a * logProb;
    const clipped = Math.min(Math.max(ratio, 1 - clipLow), 1 + clipHigh);
    return sum - Math.min(ratio * a, clipped * a);
  }, 0);
}

/** Servers put the norm of the gradient under names of their own, or nowhere. */
function gradNormOf(metrics: Readonly<Record<string, number | null>>): number {
  const found = Object.entries(metrics).find(([name]) => /(^|[/.])grad_norm(:|$)/.test(name));
  return found?.[1] ?? Number.NaN;
}
