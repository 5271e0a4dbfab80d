/** Mixture of experts: where a router sends each token, the weighted sum, and the balance of loads. */

import { concat, ones, scope, type Tensor, tensor } from "../tensor/mod.ts";
import type { ExpertFacts } from "./families.ts";

/** What a router decides about n tokens; a Routing owns its tensors. */
export interface Routing {
  /** softmax of the router's scores, [n experts]. */
  readonly probabilities: Tensor;
  /** i32 [n k]: the experts of each token, the most probable first. */
  readonly chosen: Tensor;
  /** What the results of a token's experts are multiplied by, [n k]. */
  readonly weights: Tensor;
}

/** Router's scores [n experts] -> the k most probable experts of each token, and their weights. */
export function route(
  scores: Tensor,
  { perToken, renormalise }: Pick<ExpertFacts, "perToken" | "renormalise">,
): Routing {
  const probabilities = scores.softmax();
  const [best, chosen] = probabilities.topK(perToken);
  const weights = renormalise ? best.div(best.sum({ axes: -1, keepDims: true })) : best;
  return { probabilities, chosen, weights };
}

/** An expert: rows [m d] and its number -> [m d]. */
type Expert = (rows: Tensor, e: number) => Tensor;

/**
 * Σ weight · expert(x) over each token's experts, x [n d] -> [n d]; gradients reach the router
 * through the weights. Where the choice can be read at once, an expert sees its own tokens alone.
 */
export const mixture = (x: Tensor, routing: Routing, expert: Expert): Tensor =>
  x.device.readsSync ? gatheredMixture(x, routing, expert) : denseMixture(x, routing, expert);

/** Tokens in the order of their experts: a token's sum does not depend on the other tokens. */
export function gatheredMixture(x: Tensor, routing: Routing, expert: Expert): Tensor {
  const { probabilities, chosen, weights } = routing;
  const [n, k] = chosen.shape as [number, number];
  if (n === 0) return x;
  const slots: number[][] = Array.from({ length: probabilities.shape[1]! }, () => []);
  chosen.dataSync().forEach((e, slot) => {
    slots[e]!.push(slot);
  });
  const order = Int32Array.from(slots.flat());
  const ids = (values: Int32Array): Tensor => tensor(values, [n * k], { device: x.device });
  const tokens = ids(order.map((slot) => Math.floor(slot / k)));
  const sorted = x.embedding(tokens);
  let end = 0;
  const results = slots.flatMap(({ length }, e) => {
    const from = end;
    end += length;
    return length === 0 ? [] : [expert(sorted.slice([[from, end]]), e)];
  });
  const shares = weights.reshape([n * k, 1]).embedding(ids(order));
  return concat(results, 0).mul(shares).scatterRows(tokens, n);
}

/** Every expert sees every token, and those that did not choose it weigh 0. */
export function denseMixture(x: Tensor, routing: Routing, expert: Expert): Tensor {
  const { probabilities, chosen, weights } = routing;
  const count = probabilities.shape[1]!;
  const shares = weights.scatterAlong(chosen, count); // [n experts]
  const part = (e: number): Tensor => expert(x, e).mul(shares.slice([null, [e, e + 1]]));
  let total = part(0);
  for (let e = 1; e < count; e++) total = total.add(part(e));
  return total;
}

export interface Balance {
  /** E·Σ f·P; k where every probability is 1/E, at most E. */
  readonly loss: Tensor;
  /** Largest share of the tokens that one expert of one layer gets: k/E where all get alike. */
  readonly busiest: Tensor;
}

/**
 * E·Σₑ fₑ·Pₑ over the tokens of all layers: fₑ is the share that chose expert e (their sum is k), Pₑ
 * its mean probability; the gradient goes through P alone. https://arxiv.org/abs/2101.03961 eq. 4-6,
 * over all layers at once as Hugging Face has it. `counted` f32 [n]: 1 where a token counts, else 0.
 */
export function balance(layers: readonly Routing[], counted: Tensor): Balance {
  return scope(() => {
    const { device, size: n } = counted;
    const mask = counted.reshape([1, n]);
    const [, experts] = layers[0]!.probabilities.shape as [number, number];
    const loads = layers.map(({ chosen }) =>
      mask.matmul(ones(chosen.shape, { device }).scatterAlong(chosen, experts)),
    );
    const masses = layers.map(({ probabilities }) => mask.matmul(probabilities));
    const total = (parts: readonly Tensor[]): Tensor => parts.reduce((a, b) => a.add(b));
    const tokens = counted.sum();
    const all = tokens.mul(layers.length).square();
    const loss = total(loads).mul(total(masses)).sum().mul(experts).div(all);
    return { loss, busiest: concat(loads, 0).max().div(tokens) };
  });
}

/** Frees what a pass has put into its `routing`. */
export function disposeRouting(layers: readonly Routing[]): void {
  for (const routing of layers) for (const t of Object.values(routing)) t.dispose();
}
