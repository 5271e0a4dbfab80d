/** Stochastic gradient descent with momentum. */

import { scope, type Tensor } from "../tensor/mod.ts";
import {
  ClippingOptimizer,
  copyTree,
  type OptimizerState,
  overwrite,
  zerosLike,
} from "./optimizer.ts";
import { type ParameterTree, parameter } from "./parameters.ts";

export interface SgdSettings {
  /** v := momentum·v + g, w := w - rate·v (PyTorch's form); 0: plain gradients. */
  readonly momentum: number;
  /** Decoupled, and on matrices only: w := w·(1 - rate·weightDecay) first. */
  readonly weightDecay: number;
  readonly clipNorm: number;
}

export class Sgd extends ClippingOptimizer {
  readonly settings: SgdSettings;
  readonly #velocity: ParameterTree;

  constructor(parameters: ParameterTree, settings: Partial<SgdSettings> = {}) {
    const all = { momentum: 0.9, weightDecay: 0, clipNorm: Infinity, ...settings };
    super(parameters, all.clipNorm);
    this.settings = all;
    this.#velocity = all.momentum === 0 ? new Map() : zerosLike(parameters);
  }

  protected move(
    gradients: ReadonlyMap<string, Tensor>,
    factor: Tensor,
    learningRate: number,
  ): void {
    const { momentum, weightDecay } = this.settings;
    for (const [name, weight] of this.parameters) {
      scope(() => {
        const own = parameter(gradients, name).mul(factor);
        const velocity = this.#velocity.get(name);
        const moved = velocity ? velocity.mul(momentum).add(own) : own;
        if (velocity) overwrite(velocity, moved, name);
        const kept = weight.rank >= 2 ? 1 - learningRate * weightDecay : 1;
        overwrite(weight, weight.detach().mul(kept).sub(moved.mul(learningRate)), name);
      });
    }
  }

  exportState(): OptimizerState {
    return { step: this.steps, firstMoments: this.#velocity, secondMoments: new Map() };
  }

  importState({ step, firstMoments }: OptimizerState): void {
    copyTree(this.#velocity, firstMoments);
    this.steps = step;
  }

  dispose(): void {
    for (const t of this.#velocity.values()) t.dispose();
  }
}
