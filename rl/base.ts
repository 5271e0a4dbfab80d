/** The base model: pre-trained on the world's documents, and kept by the hash of all that made it. */

import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Model } from "../eval/accuracy.ts";
import { packDocuments } from "../eval/worlds/pack.ts";
import { BOS, EOS, PAD } from "../eval/worlds/vocabulary.ts";
import type { World } from "../eval/worlds/world.ts";
import type { Batch } from "../model/batch.ts";
import { loadModel, saveModel } from "../model/checkpoint.ts";
import { type ModelConfig, parseConfig } from "../model/config.ts";
import { disposeParameters, initialParameters } from "../model/parameters.ts";
import { pretrain } from "../model/pretrain.ts";
import { warmupCosine } from "../model/schedule.ts";
import { type Tokenizer, wordTokenizer } from "../model/tokenizer.ts";
import { baseModelHash, seedsOf, type TrainConfig } from "./config.ts";
import type { Interrupt } from "./interrupt.ts";
import type { Progress } from "./progress.ts";
import { UserError } from "./user_error.ts";

/** Longest sequence that a model is made for: documents are far shorter. */
const POSITIONS = 256;

export const tokenizerOf = (world: World): Tokenizer =>
  wordTokenizer(world.vocabulary.words, { special: [PAD, BOS, EOS] });

export function modelConfigOf({ model }: TrainConfig, world: World): ModelConfig {
  return parseConfig({
    model_type: "llama",
    vocab_size: world.vocabulary.size,
    hidden_size: model.hiddenSize,
    intermediate_size: model.intermediateSize,
    num_hidden_layers: model.layers,
    num_attention_heads: model.heads,
    num_key_value_heads: model.keyValueHeads,
    rms_norm_eps: model.normEpsilon,
    rope_theta: model.ropeTheta,
    max_position_embeddings: POSITIONS,
    tie_word_embeddings: model.tieWordEmbeddings,
    initializer_range: model.initialStd,
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

/** The pre-trained model of `config`: from the cache where it has been made before. */
export async function baseModel(
  world: World,
  config: TrainConfig,
  progress: Progress,
  interrupt: Interrupt,
): Promise<Model> {
  const folder = join(CACHE, baseModelHash(config).slice(0, 16));
  if (existsSync(join(folder, "model.safetensors"))) {
    progress.print(`base model: ${folder} (pre-trained before)`);
    return loadModel(folder);
  }
  const model = await pretrainBase(world, config, progress, interrupt);
  await saveModel(folder, { ...model, tokenizer: tokenizerOf(world) });
  disposeParameters(model.parameters);
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
  using stage = progress.stage("pretrain", steps, { unit: "tok", perStep: batch * length });
  const stop = new AbortController();
  const { step } = await pretrain({
    parameters,
    config: shape,
    batches: (step) => documentBatch(world, config, step),
    steps,
    schedule: warmupCosine({
      peak: learningRate,
      warmup,
      steps,
      floor: learningRate * finalFraction,
    }),
    optimizer: { weightDecay, betas: [betas[0], betas[1]], clipNorm },
    signal: stop.signal,
    onStep: ({ step, loss }) => {
      stage.update(step + 1, { loss: loss.toFixed(3) });
      if (interrupt.requested) stop.abort();
    },
  });
  if (step < steps) {
    throw new UserError(`stopped in pre-training, at step ${step} of ${steps}: nothing was saved`);
  }
  stage.finish();
  return { parameters, config: shape };
}
