/** Who samples a run's rollouts: this process, or an engine that is handed the weights of each step. */

import { randomUUID } from "node:crypto";
import { renameSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Model } from "../eval/accuracy.ts";
import { LostWeights, localSampler, type Sampler } from "../eval/engines/sampler.ts";
import { servedBase } from "../eval/engines/served_model.ts";
import type { ServerOptions } from "../eval/engines/server.ts";
import { sglangSampler } from "../eval/engines/sglang.ts";
import { vllmSampler } from "../eval/engines/vllm.ts";
import { loadLora, unloadLora, updateFromDisk } from "../eval/engines/weights.ts";
import type { Task } from "../eval/task.ts";
import { saveModel, writeFolder } from "../model/checkpoint.ts";
import { syncFolder, temporaryPath, writeDurably } from "../model/files.ts";
import { adapterFiles, mergedSource } from "../model/lora.ts";
import type { TrainConfig } from "./config.ts";
import { fileError, makeFolder, removeQuietly } from "./files.ts";
import type { RolloutSampler } from "./rollout.ts";
import type { SamplerSettings } from "./sampler_config.ts";
import { UserError } from "./user_error.ts";

export interface StepSampler extends AsyncDisposable {
  readonly sampler: RolloutSampler;
  /** Before the first rollout of a step: from here on the sampler has the policy's weights. */
  prepare(step: number): Promise<void>;
}

/** How one kind of engine takes new weights. */
interface Engine {
  /** In messages, and for the header. */
  readonly name: string;
  /** Writes what it reads into a new folder. */
  write(folder: string, policy: Model, task: Task): Promise<void>;
  /** Has it read them, and gives what samples from them. */
  load(weights: Weights, options: ServerOptions): Promise<Sampler>;
  unload(weights: Weights, options: ServerOptions): Promise<void>;
}

/** One hand-over. */
interface Weights {
  /** A name that no other weights had, those of earlier processes among them. */
  readonly name: string;
  readonly folder: string;
  readonly pathOnServer: string;
}

const vllm: Engine = {
  name: "vLLM",
  async write(folder, { lora }) {
    if (lora === undefined) throw new UserError("vLLM is handed adapters: set lora.rank");
    for (const [name, bytes] of Object.entries(await adapterFiles(lora))) {
      writeDurably(join(folder, name), [bytes]);
    }
  },
  async load({ name, folder, pathOnServer }, options) {
    await loadLora(folder, name, { ...options, pathOnServer });
    return vllmSampler({ ...options, model: name });
  },
  unload: ({ name }, options) => unloadLora(name, options),
};

const sglang: Engine = {
  name: "SGLang",
  write: (folder, { config, parameters, lora }, { tokenizer }) =>
    lora
      ? writeFolder(folder, { config, tokenizer, source: mergedSource(lora) })
      : saveModel(folder, { config, parameters, tokenizer }),
  async load({ name, folder, pathOnServer }, options) {
    await updateFromDisk(folder, name, { ...options, pathOnServer });
    return sglangSampler({ ...options, version: name });
  },
  // The next weights take the place of these.
  async unload() {},
};

const engines = { vllm, sglang };

function serverOptions(
  { url = "", concurrency, timeoutSeconds, patienceSeconds }: NonNullable<SamplerSettings>,
  print: (text: string) => void,
): ServerOptions {
  return {
    ...{ url, print, key: process.env.SAMPLER_API_KEY },
    ...(concurrency !== undefined && { concurrency }),
    ...(timeoutSeconds !== undefined && { timeoutSeconds }),
    ...(patienceSeconds !== undefined && { patience: { seconds: patienceSeconds } }),
  };
}

/**
 * Throws a UserError where the engine that the settings name serves no model of that name, or one
 * whose context is too short for the training questions. Nothing is asked where they name none.
 */
export async function requireEngine(
  { sampler: settings, train }: TrainConfig,
  task: Task,
  print: (text: string) => void,
): Promise<void> {
  if (settings?.engine === undefined) return;
  const { name } = engines[settings.engine];
  const options = serverOptions(settings, print);
  const { name: model, longest } = await servedBase(name, options, settings.model);
  const lengths = task.questions("train").map(({ prompt }) => prompt.length);
  const needed = lengths.reduce((a, b) => Math.max(a, b), 0) + train.maxNewTokens;
  if (longest === undefined || longest >= needed) return;
  const flag = settings.engine === "vllm" ? "--max-model-len" : "--context-length";
  throw new UserError(
    `${name} at ${settings.url} serves ${model} with a context of ${longest} tokens, and the longest ` +
      `prompt takes ${needed} with its answer: start it with ${flag} ${needed}, or lower ` +
      "train.maxNewTokens",
  );
}

/** Times that one call hands lost weights over again. */
const MOST_LOSSES = 3;

export interface SamplerParts {
  readonly config: TrainConfig;
  /** Of the run: weights go through its folder `sampler`. */
  readonly dir: string;
  readonly task: Task;
  readonly policy: Model;
  readonly print: (text: string) => void;
}

/**
 * The sampler that the settings name. An engine that is down is waited for
 * (sampler.patienceSeconds), then a UserError ends the run, which goes on with --resume from its last
 * checkpoint; one that was started anew is handed the weights again.
 */
export function openSampler({ config, dir, task, policy, print }: SamplerParts): StepSampler {
  const settings = config.sampler;
  if (settings?.engine === undefined) {
    const sampler = policy.sampler ?? localSampler(policy);
    return { sampler, prepare: async () => {}, async [Symbol.asyncDispose]() {} };
  }
  const engine = engines[settings.engine];
  const options = serverOptions(settings, print);
  const root = resolve(dir, "sampler");
  const rootThere = settings.pathOnServer?.replace(/\/+$/, "") ?? root;
  // What a process that was killed has left there.
  removeQuietly(root);
  const id = randomUUID().slice(0, 8);
  let now: { readonly weights: Weights; sampler: Sampler } | undefined;
  const sample: Sampler["sample"] = async (prompts, asked) => {
    if (now === undefined) throw new RangeError(`${engine.name} was handed no weights yet`);
    for (let losses = 0; ; losses++) {
      try {
        const found = await now.sampler.sample(prompts, asked);
        requireVocabulary(found.tokens, policy, engine.name);
        return found;
      } catch (error) {
        if (!(error instanceof LostWeights) || losses === MOST_LOSSES) throw error;
        print(`${error.message}; they are handed over again`);
        now.sampler = await engine.load(now.weights, options);
      }
    }
  };
  return {
    sampler: { name: `${engine.name} at ${settings.url}`, trainer: policy, sample },
    async prepare(step) {
      const part = `step-${step}`;
      const [folder, pathOnServer] = [join(root, part), `${rootThere}/${part}`];
      const weights = { name: `policy-${id}-${part}`, folder, pathOnServer };
      await makeWhole(folder, (temporary) => engine.write(temporary, policy, task));
      const before = now;
      now = { weights, sampler: await engine.load(weights, options) };
      if (before === undefined) return;
      await engine.unload(before.weights, options);
      removeQuietly(before.weights.folder);
    },
    async [Symbol.asyncDispose]() {
      // Where the engine ended the run, that is to be told, not that it does not answer now either.
      const brief = { ...options, timeoutSeconds: 5, patience: { seconds: 0 } };
      if (now !== undefined) await engine.unload(now.weights, brief).catch(() => {});
      removeQuietly(root);
    },
  };
}

/** Makes a folder that is whole or absent, whenever the process is killed. */
async function makeWhole(folder: string, write: (temporary: string) => Promise<void>) {
  const temporary = temporaryPath(folder);
  try {
    makeFolder(temporary);
    await write(temporary);
    syncFolder(temporary);
    renameSync(temporary, folder);
  } catch (error) {
    removeQuietly(temporary);
    throw fileError(error, `cannot write ${folder}`);
  }
}

/** Ids that our model doesn't have come of another model, or another tokenizer's. */
export function requireVocabulary(
  tokens: readonly number[][],
  { config }: Pick<Model, "config">,
  engine: string,
): void {
  const unknown = tokens.flat().find((id) => id >= config.vocab_size);
  if (unknown === undefined) return;
  throw new UserError(
    `${engine} sampled token ${unknown}, and this model has ${config.vocab_size}: it serves another ` +
      "model than data.model",
  );
}
