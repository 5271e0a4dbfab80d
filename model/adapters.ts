/** What low-rank adapters add to a linear layer, where the parameter tree has some for it. */

import type { Tensor } from "../tensor/mod.ts";
import { type ParameterTree, parameter } from "./parameters.ts";
import { stored } from "./stored.ts";

/** In a tree with adapters: alpha/rank, a number. */
export const ADAPTER_SCALE = "lora_scale";

/** "….q_proj" -> "….q_proj.lora_A.weight" [rank in], or lora_B [out rank]. */
export const adapterName = (module: string, part: "A" | "B"): string =>
  `${module}.lora_${part}.weight`;

/** y + (alpha/rank)·x·Aᵀ·Bᵀ, or y where the module has no adapter; x [n in], y [n out]. */
export function plusAdapter(
  y: Tensor,
  x: Tensor,
  module: string,
  parameters: ParameterTree,
): Tensor {
  const A = parameters.get(adapterName(module, "A"));
  if (A === undefined) return y;
  const B = parameter(parameters, adapterName(module, "B"));
  const inner = x.matmul(stored(A).transpose()).mul(parameter(parameters, ADAPTER_SCALE));
  return y.add(stored(inner).matmul(stored(B).transpose()));
}
