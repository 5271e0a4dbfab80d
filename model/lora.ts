/** Low-rank adapters: W + (alpha/rank)·B·A with W fixed; trained, merged, and saved as PEFT has them. */

import { noGrad, randomStream, scope, type Tensor, tensor, zeros } from "../tensor/mod.ts";
import { ADAPTER_SCALE, adapterName } from "./adapters.ts";
import { loadTree, treeFile } from "./checkpoint.ts";
import type { ModelConfig } from "./config.ts";
import { UserError } from "./errors.ts";
import { jsonBytes } from "./files.ts";
import { disposeParameters, type ParameterTree, parameter, parameterShapes } from "./parameters.ts";
import { sourceOfTree, type TensorSource } from "./store.ts";

export interface LoraSettings {
  readonly rank: number;
  /** B·A is multiplied by alpha/rank. */
  readonly alpha: number;
  /** Last parts of the modules' names: "q_proj", "down_proj", … */
  readonly targets: readonly string[];
}

/**
 * Adapters on a base whose weights stay as they are (https://arxiv.org/abs/2106.09685). There is no
 * copy of the weights: passes read the base's, and add what the adapters do to each layer's input.
 */
export interface Lora {
  readonly settings: LoraSettings;
  readonly base: ParameterTree;
  /** "model.layers.0.self_attn.q_proj.lora_A.weight" [rank in] and lora_B [out rank]. */
  readonly adapters: ParameterTree;
  /** What a forward pass reads: the base's weights and the adapters. */
  readonly parameters: ParameterTree;
}

export const loraTargets = [
  ...["q_proj", "k_proj", "v_proj", "o_proj"],
  ...["gate_proj", "up_proj", "down_proj"],
] as const;

const moduleOf = (weight: string): string => weight.replace(/\.weight$/, "");

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
    const module = moduleOf(name);
    adapters.set(adapterName(module, "A"), tensor(values, [settings.rank, into], { device }));
    adapters.set(adapterName(module, "B"), zeros([out, settings.rank], { device }));
  }
  return withAdapters(base, settings, adapters);
}

/** Adapters that there are on a base; `disposeLora` frees them. */
export function withAdapters(
  base: ParameterTree,
  settings: LoraSettings,
  adapters: ParameterTree,
): Lora {
  const { device } = adapters.values().next().value!;
  const scale = tensor(settings.alpha / settings.rank, [], { device });
  const parameters = new Map([...base, ...adapters, [ADAPTER_SCALE, scale] as const]);
  return { settings, base, adapters, parameters };
}

/** Frees the adapters; the base stays. */
export function disposeLora({ adapters, parameters }: Lora): void {
  disposeParameters(adapters);
  parameters.get(ADAPTER_SCALE)!.dispose();
}

/** W + (alpha/rank)·B·A, or W where it has no adapter: a new tensor, which the caller frees. */
export function mergedWeight({ settings, base, adapters }: Lora, name: string): Tensor {
  const W = parameter(base, name);
  const [A, B] = (["A", "B"] as const).map((part) =>
    adapters.get(adapterName(moduleOf(name), part)),
  );
  if (A === undefined || B === undefined) return W.contiguous();
  return scope(() => W.add(B.matmul(A).mul(settings.alpha / settings.rank)));
}

/** The merged weights for a file, one at a time, so that there are never all of them beside the base. */
export function mergedSource(lora: Lora): TensorSource {
  const own = sourceOfTree(lora.base);
  const values = async (name: string): Promise<Float32Array> => {
    if (!lora.adapters.has(adapterName(moduleOf(name), "A"))) return own.values(name);
    const merged = noGrad(() => mergedWeight(lora, name));
    try {
      return Float32Array.from(await merged.data());
    } finally {
      merged.dispose();
    }
  };
  return { ...own, values };
}

const PEFT = "base_model.model.";

/** adapter_model.safetensors and adapter_config.json, as PEFT reads them; `base` is the base's name. */
export async function adapterFiles(
  { settings, adapters }: Lora,
  base: string | null = null,
): Promise<Record<string, Uint8Array>> {
  return {
    "adapter_config.json": jsonBytes({
      ...{ peft_type: "LORA", task_type: "CAUSAL_LM", base_model_name_or_path: base },
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
