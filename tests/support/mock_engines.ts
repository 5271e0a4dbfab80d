/** Mock vLLM and SGLang that answer as documented, by our own model on the weights they were handed. */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { loadModel } from "../../model/checkpoint.ts";
import type { ModelConfig } from "../../model/config.ts";
import { disposeLora, type Lora, loadAdapters, makeLora } from "../../model/lora.ts";
import { disposeParameters, type ParameterTree } from "../../model/parameters.ts";
import { type SampleOptions, sample } from "../../model/sample.ts";
import { sequenceLogProbs } from "../../model/score.ts";
import type { Answer, Received } from "./mock_server.ts";

export interface MockModel {
  readonly parameters: ParameterTree;
  readonly config: ModelConfig;
}

export interface MockOptions {
  readonly stop: number;
  /** Log-probabilities before the temperature. */
  readonly raw?: boolean;
  /** The draws of a request's seed; default those of a stream of that seed. */
  readonly draws?: (seed: number) => Pick<SampleOptions, "seed" | "step" | "promptIds">;
}

interface Draw {
  readonly temperature: number;
  readonly seed: number;
  readonly most: number;
}

function sampled(
  { parameters, config }: MockModel,
  { stop, draws = (seed) => ({ seed }) }: MockOptions,
  prompt: number[],
  n: number,
  { temperature, seed, most }: Draw,
) {
  return sample(parameters, config, [prompt], {
    ...{ samplesPerPrompt: n, maxNewTokens: most, stopTokens: [stop], temperature },
    ...draws(seed),
  });
}

/** The likeliest token's log-probability, before or after the temperature. */
async function topOf(
  { parameters, config }: MockModel,
  prompt: number[],
  temperature: number,
  raw: boolean,
) {
  const greedy = await sample(parameters, config, [prompt], { maxNewTokens: 1, temperature: 0 });
  const [token] = greedy.tokens[0]!;
  if (raw) return greedy.logProbs[0]![0]!;
  const found = await sequenceLogProbs(parameters, config, [prompt], [[token!]], { temperature });
  return found[0]![0]!;
}

/** A vLLM server's documented answer to a completion request. */
export const vllmCompletions =
  (model: MockModel, options: MockOptions) =>
  async ({ body }: Pick<Received, "body">): Promise<Answer> => {
    const [prompt] = body.prompt;
    if (body.logprobs === 1) {
      const top = await topOf(model, prompt, body.temperature, options.raw ?? false);
      const logprobs = { token_logprobs: [top], top_logprobs: [{ x: top, y: top - 2 }] };
      return { json: { choices: [{ index: 0, text: "x", logprobs, finish_reason: "length" }] } };
    }
    const draw = { temperature: body.temperature, seed: body.seed, most: body.max_tokens };
    const { tokens, logProbs, finished } = await sampled(model, options, prompt, body.n, draw);
    const choices = tokens.map((ids, index) => ({
      ...{ index, text: "…", token_ids: ids, prompt_token_ids: prompt },
      logprobs: { token_logprobs: logProbs[index], tokens: ids.map(String) },
      finish_reason: finished[index] ? "stop" : "length",
      stop_reason: finished[index] ? options.stop : null,
    }));
    // In any order: the index says which is which.
    return { json: { id: "cmpl-1", object: "text_completion", choices: choices.reverse() } };
  };

/** An SGLang server's documented answer to a generate request. */
export const sglangGenerate =
  (model: MockModel, options: MockOptions & { readonly version?: string }) =>
  async ({ body }: Pick<Received, "body">): Promise<Answer> => {
    const { version } = options;
    const answers = await Promise.all(
      body.input_ids.map(async (prompt: number[], i: number) => {
        const { temperature, sampling_seed: seed, max_new_tokens } = body.sampling_params[i];
        if (body.top_logprobs_num === 1) {
          const top = await topOf(model, prompt, temperature, options.raw ?? false);
          const finish_reason = { type: "length", length: 1 };
          return { meta_info: { output_top_logprobs: [[[top, 5, null]]], finish_reason } };
        }
        const draw = { temperature, seed, most: max_new_tokens };
        const { tokens, logProbs, finished } = await sampled(model, options, prompt, 1, draw);
        const output_token_logprobs = tokens[0]!.map((id, t) => [logProbs[0]![t], id, null]);
        const finish_reason = finished[0]
          ? { type: "stop", matched: options.stop }
          : { type: "length", length: max_new_tokens };
        const meta_info = { output_token_logprobs, finish_reason };
        return {
          text: "…",
          meta_info: { ...meta_info, ...(version !== undefined && { weight_version: version }) },
        };
      }),
    );
    return { json: answers };
  };

/** A server that holds weights from call to call. */
export interface MockEngine extends Disposable {
  answer(request: Received): Promise<Answer>;
  /** What a new process of it has: the base model alone. */
  restart(): void;
  /** Of the weights that it was handed since then, the paths. */
  readonly handed: readonly string[];
}

const models = (longest: number, more: object[] = []): Answer => ({
  json: {
    object: "list",
    data: [{ id: "base", object: "model", parent: null, max_model_len: longest }, ...more],
  },
});
const unknown = (what: string): Answer => ({
  ...{ status: 404, json: { error: { message: `The model \`${what}\` does not exist.` } } },
});

/** vLLM with adapters loaded by name into its base model. */
export function vllmEngine(base: MockModel, options: MockOptions, longest = 64): MockEngine {
  const loaded = new Map<string, MockModel>();
  const handed: string[] = [];
  // Requests that are under way still read what is dropped: it is freed at the end.
  const held: Lora[] = [];
  return {
    handed,
    restart: () => loaded.clear(),
    [Symbol.dispose]: () => held.forEach(disposeLora),
    async answer(request) {
      const { path, body } = request;
      if (path === "/v1/models") {
        return models(
          longest,
          [...loaded.keys()].map((id) => ({ id, parent: "base" })),
        );
      }
      if (path === "/v1/load_lora_adapter") {
        const { lora_name: name, lora_path: folder } = body;
        if (loaded.has(name)) {
          const message = `The lora adapter '${name}' has already been loaded.`;
          return { status: 400, json: { error: { message } } };
        }
        const lora = adapted(base, folder);
        held.push(lora);
        loaded.set(name, { config: base.config, parameters: lora.parameters });
        handed.push(folder);
        return { text: `Success: LoRA adapter '${name}' added successfully.` };
      }
      if (path === "/v1/unload_lora_adapter") {
        if (!loaded.delete(body.lora_name)) return unknown(body.lora_name);
        return { text: "Success: LoRA adapter removed successfully." };
      }
      const model = body?.model === "base" ? base : loaded.get(body?.model);
      return model === undefined ? unknown(body?.model) : vllmCompletions(model, options)(request);
    },
  };
}

/** The base weights with a PEFT folder's adapters. */
function adapted({ parameters, config }: MockModel, folder: string): Lora {
  const json = JSON.parse(readFileSync(join(folder, "adapter_config.json"), "utf8"));
  const { r: rank, lora_alpha: alpha, target_modules: targets } = json;
  const lora = makeLora(config, parameters, { rank, alpha, targets }, 0);
  loadAdapters(join(folder, "adapter_model.safetensors"), lora);
  return lora;
}

/** SGLang, whose weights are those of the folder that it read last. */
export function sglangEngine(base: MockModel, options: MockOptions, longest = 64): MockEngine {
  const handed: string[] = [];
  let [now, version, paused] = [base, "default", false];
  const held: ParameterTree[] = [];
  return {
    handed,
    [Symbol.dispose]: () => held.forEach(disposeParameters),
    restart() {
      [now, version, paused] = [base, "default", false];
    },
    async answer(request) {
      const { path, body } = request;
      if (path === "/v1/models") return models(longest);
      if (path === "/pause_generation" || path === "/continue_generation") {
        paused = path === "/pause_generation";
        return { text: "ok" };
      }
      if (path === "/update_weights_from_disk") {
        if (!paused) return { json: { success: false, message: "generation goes on" } };
        const { config, parameters } = loadModel(body.model_path);
        held.push(parameters);
        [now, version] = [{ config, parameters }, body.weight_version];
        handed.push(body.model_path);
        return { json: { success: true, message: "Succeeded to update model weights." } };
      }
      return sglangGenerate(now, { ...options, version })(request);
    },
  };
}
