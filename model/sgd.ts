/** Stochastic gradient descent with momentum. */

import { noGrad, scope, type Tensor } from "../tensor/mod.ts";
import {
  clipFactor,
  copyTree,
  globalNorm,
  type Optimizer,
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

export class Sgd implements Optimizer {
  readonly parameters: ParameterTree;
  readonly settings: SgdSettings;
  #step = 0;
  readonly #velocity: ParameterTree;

  constructor(parameters: ParameterTree, settings: Partial<SgdSettings> = {}) {
    this.parameters = parameters;
    this.settings = { momentum: 0.9, weightDecay: 0, clipNorm: Infinity, ...settings };
    this.#velocity = this.settings.momentum === 0 ? new Map() : zerosLike(parameters);
  }

  get step(): number {
    return this.#step;
  }

  update(gradients: ReadonlyMap<string, Tensor>, learningRate: number): Tensor {
    const norm = globalNorm(gradients.values());
    this.apply(gradients, norm, learningRate);
    return norm;
  }

  apply(gradients: ReadonlyMap<string, Tensor>, norm: Tensor, learningRate: number): void {
    const { momentum, weightDecay, clipNorm } = this.settings;
    this.#step++;
    noGrad(() =>
      scope(() => {
        const factor = clipFactor(norm, clipNorm);
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
      }),
    );
  }

  exportState(): OptimizerState {
    return { step: this.#step, firstMoments: this.#velocity, secondMoments: new Map() };
  }

  importState({ step, firstMoments }: OptimizerState): void {
    copyTree(this.#velocity, firstMoments);
    this.#step = step;
  }

  dispose(): void {
    for (const t of this.#velocity.values()) t.dispose();
  }
  [Symbol.dispose](): void {
    this.dispose();
  }
}
