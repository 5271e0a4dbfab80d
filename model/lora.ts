/** Low-rank adapters: W + (alpha/rank)·B·A with W fixed; trained, merged, and saved as PEFT has them. */

import { noGrad, randomStream, scope, type Tensor, tensor, zeros } from "../tensor/mod.ts";
import { loadTree, treeFile } from "./checkpoint.ts";
import type { ModelConfig } from "./config.ts";
import { UserError } from "./errors.ts";
import { jsonBytes } from "./files.ts";
import { overwrite } from "./optimizer.ts";
import { type ParameterTree, parameter, parameterShapes } from "./parameters.ts";

export interface LoraSettings {
  readonly rank: number;
  /** B·A is multiplied by alpha/rank. */
  readonly alpha: number;
  /** Last parts of the modules' names: "q_proj", "down_proj", … */
  readonly targets: readonly string[];
}

/** Adapters on a base whose weights stay as they are (https://arxiv.org/abs/2106.09685). */
export interface Lora {
  readonly settings: LoraSettings;
  readonly base: ParameterTree;
  /** "model.layers.0.self_attn.q_proj.lora_A.weight" [rank in] and lora_B [out rank]. */
  readonly adapters: ParameterTree;
}

export const loraTargets = [
  ...["q_proj", "k_proj", "v_proj", "o_proj"],
  ...["gate_proj", "up_proj", "down_proj"],
] as const;

const adapterName = (weight: string, part: "A" | "B"): string =>
  weight.replace(/\.weight$/, `.lora_${part}.weight`);

/** Names of the weights that get an adapter. Throws a UserError where a target names none. */
export function adaptedNames(config: ModelConfig, targets: readonly string[]): string[] {
  const names = [...parameterShapes(config).keys()];
  const own = (target: string) => names.filter((name) => name.endsWith(`.${target}.weight`));
  const unknown = targets.filter((target) => own(target).length === 0);
  if (unknown.length > 0) {
    throw new UserError(`lora: no module is named ${unknown.join(", ")}; there are ${loraTargets}`);
  }
  return names.filter((name) => targets.some((target) => own(target).includes(name)));
}

/** New adapters: A uniform in ±1/√in (PEFT's Kaiming), B zero, so that nothing changes at first. */
export function makeLora(
  config: ModelConfig,
  base: ParameterTree,
  settings: LoraSettings,
  seed: number,
): Lora {
  const adapters = new Map<string, Tensor>();
  for (const name of adaptedNames(config, settings.targets)) {
    const { shape, device } = parameter(base, name);
    const [out, into] = shape as [number, number];
    const stream = randomStream({ seed, purpose: `adapter ${name}` });
    const bound = 1 / Math.sqrt(into);
    const values = Float32Array.from({ length: settings.rank * into }, () => {
      return (2 * stream.uniform() - 1) * bound;
    });
    adapters.set(adapterName(name, "A"), tensor(values, [settings.rank, into], { device }));
    adapters.set(adapterName(name, "B"), zeros([out, settings.rank], { device }));
  }
  return { settings, base, adapters };
}

/** W + (alpha/rank)·B·A of an adapted weight. */
function adapted({ settings, base, adapters }: Lora, name: string): Tensor {
  const [A, B] = [adapters.get(adapterName(name, "A"))!, adapters.get(adapterName(name, "B"))!];
  const scale = settings.alpha / settings.rank;
  return scope(() => parameter(base, name).add(B.matmul(A).mul(scale)));
}

/**
 * The tree that a loss reads: adapted weights are part of its graph, so that gradients reach the
 * adapters. Call it inside of a scope.
 */
export function adaptedParameters(lora: Lora): ParameterTree {
  const has = (name: string) => lora.adapters.has(adapterName(name, "A"));
  return new Map([...lora.base].map(([name, t]) => [name, has(name) ? adapted(lora, name) : t]));
}

/** Writes the adapted weights over those of `merged`: what sampling and checkpoints read. */
export function mergeInto(merged: ParameterTree, lora: Lora): void {
  noGrad(() => {
    for (const [name, t] of merged) {
      if (!lora.adapters.has(adapterName(name, "A"))) continue;
      scope(() => overwrite(t, adapted(lora, name), name));
    }
  });
}

const PEFT = "base_model.model.";

/** adapter_model.safetensors and adapter_config.json, as PEFT reads them. */
export async function adapterFiles({
  settings,
  adapters,
}: Lora): Promise<Record<string, Uint8Array>> {
  return {
    "adapter_config.json": jsonBytes({
      ...{ peft_type: "LORA", task_type: "CAUSAL_LM", base_model_name_or_path: null },
      ...{ r: settings.rank, lora_alpha: settings.alpha, target_modules: settings.targets },
      ...{ lora_dropout: 0, bias: "none", fan_in_fan_out: false, use_rslora: false },
      inference_mode: true,
    }),
    "adapter_model.safetensors": await treeFile(adapters, PEFT),
  };
}

/** Writes stored adapters over those of `lora`; a UserError names what doesn't fit. */
export const loadAdapters = (path: string, { adapters }: Lora): void =>
  loadTree(path, adapters, PEFT);
