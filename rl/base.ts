/** The base model: pre-trained on the world's documents, and kept by the hash of all that made it. */

import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Model } from "../eval/accuracy.ts";
import { packDocuments } from "../eval/worlds/pack.ts";
import type { World } from "../eval/worlds/world.ts";
import { type Batch, completionBatch } from "../model/batch.ts";
import { loadModel, saveModel } from "../model/checkpoint.ts";
import { type ModelConfig, parseConfig } from "../model/config.ts";
import { disposeParameters, initialParameters } from "../model/parameters.ts";
import { type PretrainOptions, pretrain } from "../model/pretrain.ts";
import { warmupConstant, warmupCosine } from "../model/schedule.ts";
import { baseModelHash, seedsOf, type TrainConfig } from "./config.ts";
import type { Interrupt } from "./interrupt.ts";
import { goldTokens } from "./methods/supervised.ts";
import { modelKeys, POSITIONS } from "./model_config.ts";
import type { Progress } from "./progress.ts";
import { questionsOfStep } from "./rollout.ts";
import { UserError } from "./user_error.ts";

export function modelConfigOf({ model }: TrainConfig, world: World): ModelConfig {
  return parseConfig({
    ...modelKeys(model),
    vocab_size: world.vocabulary.size,
    max_position_embeddings: POSITIONS,
    bos_token_id: world.vocabulary.bos,
    eos_token_id: world.vocabulary.eos,
    pad_token_id: world.vocabulary.pad,
  });
}

/** Batch `step` of the world's documents; where a document ends, nothing is to be predicted. */
export function documentBatch(world: World, config: TrainConfig, step: number): Batch {
  const { batch, length } = config.pretrain;
  const packed = packDocuments(world, { batch, length, step, seed: seedsOf(config).pretrain });
  const targets = packed.targets.map((target, i) => (packed.weights[i] === 0 ? -1 : target));
  return { shape: [batch, length], tokens: packed.inputs, targets };
}

/** Where base models are kept between runs; remove the folder to pre-train anew. */
const CACHE = join(".cache", "base");

/**
 * The base model of `config`, pre-trained and, if asked for, warmed up: from the cache where it has
 * been made before. Warm-ups of one pre-trained model share it.
 */
export async function baseModel(
  world: World,
  config: TrainConfig,
  progress: Progress,
  interrupt: Interrupt,
): Promise<Model> {
  const { warmStart } = config;
  if (isKept(config)) progress.print(`base model: ${folderOf(config)} (pre-trained before)`);
  if (warmStart.steps === 0) {
    return kept(config, world, () => pretrainBase(world, config, progress, interrupt));
  }
  return kept(config, world, async () => {
    const cold = { ...config, warmStart: { ...warmStart, steps: 0 } };
    const model = await kept(cold, world, () => pretrainBase(world, cold, progress, interrupt));
    await fit(model, progress, interrupt, warmUpStage(world, config));
    return model;
  });
}

const folderOf = (config: TrainConfig): string => join(CACHE, baseModelHash(config).slice(0, 16));
const isKept = (config: TrainConfig): boolean =>
  existsSync(join(folderOf(config), "model.safetensors"));

/** The model in the cache; made and put there first if need be. */
async function kept(config: TrainConfig, world: World, make: () => Promise<Model>): Promise<Model> {
  const folder = folderOf(config);
  if (!isKept(config)) {
    const model = await make();
    await saveModel(folder, { ...model, tokenizer: world.tokenizer });
    disposeParameters(model.parameters);
  }
  return loadModel(folder); // the same to the last byte as what later runs will read
}

async function pretrainBase(
  world: World,
  config: TrainConfig,
  progress: Progress,
  interrupt: Interrupt,
): Promise<Model> {
  const shape = modelConfigOf(config, world);
  const { steps, batch, length, learningRate, warmup, finalFraction } = config.pretrain;
  const { weightDecay, betas, clipNorm } = config.pretrain;
  const parameters = initialParameters(shape, { seed: seedsOf(config).pretrain });
  const model = { parameters, config: shape };
  const floor = learningRate * finalFraction;
  await fit(model, progress, interrupt, {
    ...{ name: "pretrain", steps, unit: { unit: "tok", perStep: batch * length } },
    batches: (step) => documentBatch(world, config, step),
    schedule: warmupCosine({ peak: learningRate, warmup, steps, floor }),
    optimizer: { weightDecay, betas: [betas[0], betas[1]], clipNorm },
  });
  return model;
}

interface FitStage extends Pick<PretrainOptions, "batches" | "steps" | "schedule" | "optimizer"> {
  readonly name: string;
  readonly unit: { readonly unit: string; readonly perStep: number };
}

/** Trains a model in place, under a progress bar; refuses to go on where it was interrupted. */
async function fit(
  { parameters, config }: Model,
  progress: Progress,
  interrupt: Interrupt,
  { name, unit, ...options }: FitStage,
): Promise<void> {
  const { steps } = options;
  using stage = progress.stage(name, steps, unit);
  const stop = new AbortController();
  const { step } = await pretrain({
    ...{ parameters, config, signal: stop.signal, ...options },
    onStep: ({ step, loss, routerAuxLoss, busiestExpert }) => {
      const loads = busiestExpert !== undefined && {
        router_aux_loss: routerAuxLoss!.toFixed(3),
        busiest: `${(100 * busiestExpert).toFixed(0)} %`,
      };
      stage.update(step + 1, { loss: loss.toFixed(3), ...loads });
      if (interrupt.requested) stop.abort();
    },
  });
  if (step < steps) {
    throw new UserError(`stopped in ${name}, at step ${step} of ${steps}: nothing was saved`);
  }
  stage.finish();
}

/** Questions of the QA entities with their gold answers: what question documents would teach. */
function warmUpStage(world: World, config: TrainConfig): FitStage {
  const { steps, questionsPerStep: count, learningRate: peak } = config.warmStart;
  const { eos } = world.vocabulary;
  const questions = world.questions("qa");
  const seed = seedsOf(config).pretrain;
  return {
    ...{ name: "warm-up", steps, unit: { unit: "questions", perStep: count } },
    batches: (step) => {
      const asked = questionsOfStep(questions, { seed, step, count });
      const prompts = asked.map(({ prompt }) => prompt);
      return completionBatch(
        prompts,
        asked.map((question) => goldTokens(question, eos)),
      );
    },
    schedule: warmupConstant({ peak, warmup: Math.min(10, steps) }),
    optimizer: { weightDecay: 0, clipNorm: 1 },
  };
}
