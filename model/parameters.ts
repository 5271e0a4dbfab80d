/** The parameter tree: a map from Hugging Face's tensor names to tensors; shapes, start values. */

import {
  type Device,
  gradients,
  noGrad,
  randomStream,
  type Shape,
  type Tensor,
  tensor,
} from "../tensor/mod.ts";
import type { ModelConfig } from "./config.ts";
import { factsOf } from "./families.ts";

/** "model.layers.0.self_attn.q_proj.weight" -> tensor. Matrices are [out in]. */
export type ParameterTree = ReadonlyMap<string, Tensor>;

/** Name of the matrix that turns hidden states into logits; the embedding itself where tied. */
export const headName = ({ tie_word_embeddings }: ModelConfig): string =>
  tie_word_embeddings ? "model.embed_tokens.weight" : "lm_head.weight";

/** Every parameter of a model and its shape, in the order of a forward pass. */
export function parameterShapes(config: ModelConfig): Map<string, Shape> {
  const { vocab_size: vocabulary, hidden_size: hidden, num_hidden_layers: layers } = config;
  const shapes = new Map<string, Shape>([["model.embed_tokens.weight", [vocabulary, hidden]]]);
  for (let layer = 0; layer < layers; layer++) {
    for (const [name, shape] of blockShapes(config, layer)) {
      shapes.set(`model.layers.${layer}.${name}`, shape);
    }
  }
  shapes.set("model.norm.weight", [hidden]);
  shapes.set(headName(config), [vocabulary, hidden]);
  return shapes;
}

type NamedShape = readonly [name: string, shape: Shape];

const linearShapes = (name: string, out: number, into: number, bias = false): NamedShape[] => [
  [`${name}.weight`, [out, into]],
  ...(bias ? [[`${name}.bias`, [out]] as const] : []),
];

function blockShapes(config: ModelConfig, layer: number): NamedShape[] {
  const { hidden_size: hidden, head_dim } = config;
  const queries = config.num_attention_heads * head_dim;
  const keys = config.num_key_value_heads * head_dim;
  const { qkvBias, outputBias, qkNorm, normPlacement } = factsOf(config);
  const norm = (name: string, width: number): NamedShape => [`${name}.weight`, [width]];
  const ofHeads = (width: number) => (qkNorm === "head" ? head_dim : width);
  const before = normPlacement === "before";
  return [
    ...(before ? [norm("input_layernorm", hidden)] : []),
    ...linearShapes("self_attn.q_proj", queries, hidden, qkvBias),
    ...linearShapes("self_attn.k_proj", keys, hidden, qkvBias),
    ...linearShapes("self_attn.v_proj", keys, hidden, qkvBias),
    ...(qkNorm === null
      ? []
      : [norm("self_attn.q_norm", ofHeads(queries)), norm("self_attn.k_norm", ofHeads(keys))]),
    ...linearShapes("self_attn.o_proj", hidden, queries, outputBias),
    norm("post_attention_layernorm", hidden),
    ...feedForwardShapes(config, layer),
    ...(before ? [] : [norm("post_feedforward_layernorm", hidden)]),
  ];
}

function feedForwardShapes(config: ModelConfig, layer: number): NamedShape[] {
  const { hidden_size: hidden, intermediate_size: inner } = config;
  const { experts, feedForwardBias } = factsOf(config);
  const perceptron = (name: string, width: number): NamedShape[] => [
    ...linearShapes(`${name}.gate_proj`, width, hidden, feedForwardBias),
    ...linearShapes(`${name}.up_proj`, width, hidden, feedForwardBias),
    ...linearShapes(`${name}.down_proj`, hidden, width, feedForwardBias),
  ];
  if (!experts?.inLayer(layer)) return perceptron("mlp", inner);
  const names = Array.from({ length: experts.count }, (_, e) => `mlp.experts.${e}`);
  return [
    ...linearShapes("mlp.gate", experts.count, hidden),
    ...names.flatMap((name) => perceptron(name, experts.width)),
  ];
}

/**
 * Start values: matrices from normal(0, initializer_range), those that write to the residual
 * stream divided by √(2·layers) (GPT-2's rule, so that its variance doesn't grow with depth),
 * norms 1, biases 0. A function of (seed, name, shape) alone: a tensor is the same in every larger model.
 */
export function initialParameters(
  config: ModelConfig,
  options: { seed: number; device?: Device },
): Map<string, Tensor> {
  const { seed, ...where } = options;
  const tree = new Map<string, Tensor>();
  for (const [name, shape] of parameterShapes(config)) {
    const values = new Float32Array(shape.reduce((product, n) => product * n, 1));
    if (shape.length === 1) values.fill(name.endsWith(".bias") ? 0 : 1);
    else {
      const stream = randomStream({ seed, purpose: `initialise ${name}` });
      const residual = /\.(o_proj|down_proj)\.weight$/.test(name);
      const shrink = residual ? Math.sqrt(2 * config.num_hidden_layers) : 1;
      const deviation = config.initializer_range / shrink;
      for (let i = 0; i < values.length; i++) values[i] = deviation * stream.normal();
    }
    tree.set(name, tensor(values, shape, where));
  }
  return tree;
}

/** The parameter `name`; throws where the tree has none. */
export function parameter(tree: ParameterTree, name: string): Tensor {
  const found = tree.get(name);
  if (found === undefined) throw new Error(`the parameter tree has no ${name}`);
  return found;
}

type Sizes = ReadonlyMap<string, { readonly size: number }>;

/** What a model's tree would hold, wherever its weights are. */
export const parameterSizes = (config: ModelConfig): Sizes =>
  new Map(
    [...parameterShapes(config)].map(([name, shape]) => {
      return [name, { size: shape.reduce((a, b) => a * b, 1) }];
    }),
  );

/** How many numbers the tree holds; a tied head counts once. */
export const parameterCount = (tree: Sizes): number =>
  [...tree.values()].reduce((total, t) => total + t.size, 0);

/** Those that one token meets: of a mixture, only the experts that it goes to. */
export function activeParameterCount(tree: Sizes, config: ModelConfig): number {
  const { experts } = factsOf(config);
  if (experts === null) return parameterCount(tree);
  const inExperts = [...tree].filter(([name]) => name.includes(".mlp.experts."));
  const { count, perToken } = experts;
  return parameterCount(tree) - (parameterCount(new Map(inExperts)) * (count - perToken)) / count;
}

/** A copy of all values: what a reference policy is made of. */
export function cloneParameters(tree: ParameterTree): Map<string, Tensor> {
  return noGrad(() => new Map([...tree].map(([name, t]) => [name, t.contiguous()])));
}

/** Frees every tensor of the tree. */
export function disposeParameters(tree: ParameterTree): void {
  for (const t of tree.values()) t.dispose();
}

/** Marks every parameter as a leaf whose gradient can be asked for. Returns the tree. */
export function requireGradients<T extends ParameterTree>(tree: T): T {
  for (const t of tree.values()) t.requireGrad();
  return tree;
}

/**
 * d loss / d each parameter (zeros where the loss doesn't depend on it); the graph is freed. With
 * `total`, the sums with those of an earlier micro-batch, whose tensors are disposed.
 */
export function gradientsOf(
  loss: Tensor,
  tree: ParameterTree,
  total?: ReadonlyMap<string, Tensor>,
): Map<string, Tensor> {
  const found = gradients(loss, [...tree.values()]);
  const names = [...tree.keys()];
  if (total === undefined) return new Map(names.map((name, i) => [name, found[i]!]));
  // Freed one by one, so that there are never three of all gradients.
  const summed = (name: string, i: number) => {
    const [before, more] = [parameter(total, name), found[i]!];
    const sum = before.add(more);
    for (const t of [before, more]) t.dispose();
    return [name, sum] as const;
  };
  return noGrad(() => new Map(names.map(summed)));
}
