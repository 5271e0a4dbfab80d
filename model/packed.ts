/** Weights as decoding reads them: those of one input side by side, copied once for many passes. */

import { concat, keep, noGrad, scope, type Tensor } from "../tensor/mod.ts";
import { stored } from "./stored.ts";

/**
 * Copies of weights by name, made when they are first asked for. A copy doesn't see its weights
 * change: keep it for one call of sample(), no longer, and free it with disposePacked.
 */
export type PackedWeights = Map<string, Tensor>;

/**
 * [W₁ᵀ W₂ᵀ …] for weights [out in], as [in Σout]: rows that a product streams through, in f16 where
 * the device stores that. Biases [out] become [Σout].
 */
export function pack(store: PackedWeights, name: string, weights: readonly Tensor[]): Tensor {
  const known = store.get(name);
  if (known !== undefined) return known;
  const columns = (): Tensor => {
    if (weights[0]!.rank === 1) return concat(weights, -1);
    const turned = weights.map((weight) => weight.transpose());
    return stored(concat(turned, -1));
  };
  const made = keep(noGrad(() => scope(columns)));
  store.set(name, made);
  return made;
}

export function disposePacked(store: PackedWeights): void {
  for (const weight of store.values()) weight.dispose();
  store.clear();
}
