/** What an optimizer is, and AdamW; clipping by the global norm; nothing is read back in a step. */

import {
  adamWAll,
  keep,
  noGrad,
  globalNorm as normOf,
  scalar,
  scope,
  type Tensor,
  zeros,
} from "../tensor/mod.ts";
import { type ParameterTree, parameter } from "./parameters.ts";

export interface AdamWSettings {
  /** Decay of the first and second moment. */
  readonly betas: readonly [number, number];
  readonly eps: number;
  /** Decoupled, and on matrices only: norms are not pulled to 0. */
  readonly weightDecay: number;
  /** Gradients are scaled down to this global norm; Infinity: never. */
  readonly clipNorm: number;
}

const defaults: AdamWSettings = {
  betas: [0.9, 0.999],
  eps: 1e-8,
  weightDecay: 0.01,
  clipNorm: Infinity,
};

/** What a checkpoint keeps of an optimizer. */
export interface OptimizerState {
  /** Updates done. */
  readonly step: number;
  /** Of those parameters that have one. */
  readonly firstMoments: ParameterTree;
  readonly secondMoments: ParameterTree;
}

/** Changes a parameter tree in place by its gradients. */
export interface Optimizer extends Disposable {
  readonly parameters: ParameterTree;
  /** Updates done so far. */
  readonly step: number;
  /** One update. Returns the norm of the gradients before clipping: one number, still a tensor. */
  update(gradients: ReadonlyMap<string, Tensor>, learningRate: number): Tensor;
  /** One update with gradients whose norm is known: whoever looks at it first can refuse the step. */
  apply(gradients: ReadonlyMap<string, Tensor>, norm: Tensor, learningRate: number): void;
  /** The step count and views of the moments; read them before the next update. */
  exportState(): OptimizerState;
  /** Continues from a state: copies its moments. Throws where a moment is missing or misshapen. */
  importState(state: OptimizerState): void;
  dispose(): void;
}

/** √(Σ g²) over all gradients: one number, summed in an order that no thread count changes. */
export const globalNorm = (gradients: Iterable<Tensor>): Tensor =>
  noGrad(() => normOf([...gradients]));

/** min(1, clipNorm / (norm + 1e-6)), PyTorch's clipping factor, as a tensor. */
export function clipFactor(norm: Tensor, clipNorm: number): Tensor {
  if (clipNorm === Infinity) return scalar(1, "f32", norm.device);
  return noGrad(() =>
    scope(() => scalar(clipNorm, "f32", norm.device).div(norm.add(1e-6)).minimum(1)),
  );
}

/** What all optimizers share: steps are counted and gradients scaled before weights are moved. */
export abstract class ClippingOptimizer implements Optimizer {
  readonly parameters: ParameterTree;
  /** Gradients are scaled down to this global norm. */
  readonly #clipNorm: number;
  protected steps = 0;

  constructor(parameters: ParameterTree, clipNorm: number) {
    this.parameters = parameters;
    this.#clipNorm = clipNorm;
  }

  get step(): number {
    return this.steps;
  }

  update(gradients: ReadonlyMap<string, Tensor>, learningRate: number): Tensor {
    const norm = globalNorm(gradients.values());
    this.apply(gradients, norm, learningRate);
    return norm;
  }

  apply(gradients: ReadonlyMap<string, Tensor>, norm: Tensor, learningRate: number): void {
    this.steps++;
    noGrad(() => scope(() => this.move(gradients, clipFactor(norm, this.#clipNorm), learningRate)));
  }

  /** Changes the parameters by gradients that are still to be multiplied by `factor`. */
  protected abstract move(
    gradients: ReadonlyMap<string, Tensor>,
    factor: Tensor,
    learningRate: number,
  ): void;

  abstract exportState(): OptimizerState;
  abstract importState(state: OptimizerState): void;
  abstract dispose(): void;
  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** AdamW (https://arxiv.org/abs/1711.05101): its update changes the parameters in place. */
export class AdamW extends ClippingOptimizer {
  readonly settings: AdamWSettings;
  readonly #firstMoments: ParameterTree;
  readonly #secondMoments: ParameterTree;

  constructor(parameters: ParameterTree, settings: Partial<AdamWSettings> = {}) {
    super(parameters, settings.clipNorm ?? defaults.clipNorm);
    this.settings = { ...defaults, ...settings };
    this.#firstMoments = zerosLike(parameters);
    this.#secondMoments = zerosLike(parameters);
  }

  protected move(
    gradients: ReadonlyMap<string, Tensor>,
    factor: Tensor,
    learningRate: number,
  ): void {
    const { betas, eps, weightDecay } = this.settings;
    const rates = { learningRate, beta1: betas[0], beta2: betas[1], eps, step: this.steps };
    const state = [...this.parameters].flatMap(([name, weight]) => {
      const moments = [this.#firstMoments.get(name)!, this.#secondMoments.get(name)!];
      return [weight, parameter(gradients, name), ...moments];
    });
    const matrices = [...this.parameters.values()].map(({ rank }) => rank >= 2);
    adamWAll([factor, ...state], {
      ...rates,
      weightDecay: matrices.map((matrix) => (matrix ? weightDecay : 0)),
    });
  }

  exportState(): OptimizerState {
    return {
      step: this.steps,
      firstMoments: this.#firstMoments,
      secondMoments: this.#secondMoments,
    };
  }

  importState({ step, firstMoments, secondMoments }: OptimizerState): void {
    copyTree(this.#firstMoments, firstMoments);
    copyTree(this.#secondMoments, secondMoments);
    this.steps = step;
  }

  dispose(): void {
    for (const t of [...this.#firstMoments.values(), ...this.#secondMoments.values()]) t.dispose();
  }
}

/** Copies the values of `from` into the tensors of `to`; throws where one is missing or misshapen. */
export function copyTree(to: ParameterTree, from: ParameterTree): void {
  for (const [name, t] of to) overwrite(t, parameter(from, name), name);
}

export function zerosLike(tree: ParameterTree): ParameterTree {
  // An optimizer outlives the scope that it is made in.
  return new Map(
    [...tree].map(([name, { shape, device }]) => [name, keep(zeros(shape, { device }))]),
  );
}

/**
 * Copies values into memory that others hold; writeRows is the op that writes in place. Throws where
 * the shapes differ, and where `target` isn't packed: the values would go into a copy of it.
 */
export function overwrite(target: Tensor, source: Tensor, name: string): void {
  if (`${target.shape}` !== `${source.shape}`) {
    throw new Error(`${name} is [${source.shape}], expected [${target.shape}]`);
  }
  noGrad(() => {
    scope(() => {
      const shape = [1, 1, 1, target.size];
      const first = zeros([1, 1], { dtype: "i32", device: target.device });
      const flat = target.reshape(shape);
      if (flat.storage !== target.storage) {
        throw new Error(`${name} is a view that isn't packed: use contiguous() of it`);
      }
      flat.writeRows(source.reshape(shape), first);
    });
  });
}
