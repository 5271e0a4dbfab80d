/** Muon: momentum whose matrix is made orthogonal; AdamW for all that is no matrix of a block. */

import { noGrad, scope, type Tensor } from "../tensor/mod.ts";
import {
  AdamW,
  type AdamWSettings,
  ClippingOptimizer,
  copyTree,
  type OptimizerState,
  overwrite,
  zerosLike,
} from "./optimizer.ts";
import { type ParameterTree, parameter } from "./parameters.ts";

export interface MuonSettings extends AdamWSettings {
  readonly momentum: number;
}

/** Five steps of this quintic bring singular values near 1 (https://kellerjordan.github.io/posts/muon). */
const [A, B, C] = [3.4445, -4.775, 2.0315];
const STEPS = 5;

/**
 * U·Vᵀ of x = U·S·Vᵀ, roughly: its singular values end between 0.7 and 1.2. x [m n] -> [m n]; a
 * matrix of zeros stays one.
 */
export function orthogonalised(x: Tensor): Tensor {
  return noGrad(() =>
    scope(() => {
      const [m, n] = x.shape as [number, number];
      const wide = m > n ? x.transpose() : x;
      let y = wide.div(wide.square().sum().sqrt().add(1e-7));
      for (let step = 0; step < STEPS; step++) {
        const square = y.matmul(y.transpose());
        const cubic = square.mul(B).add(square.matmul(square).mul(C));
        y = y.mul(A).add(cubic.matmul(y));
      }
      return m > n ? y.transpose().contiguous() : y;
    }),
  );
}

/**
 * Muon with Nesterov momentum. An update has the size of AdamW's (0.2·√max(m, n) times an orthogonal
 * matrix, https://arxiv.org/abs/2502.16982 eq. 4), so that one rate suits both.
 */
export class Muon extends ClippingOptimizer {
  readonly settings: MuonSettings;
  readonly #matrices: ParameterTree;
  readonly #velocity: ParameterTree;
  readonly #rest: AdamW;

  constructor(
    parameters: ParameterTree,
    settings: Pick<MuonSettings, "momentum"> & Partial<MuonSettings>,
  ) {
    const { clipNorm = Infinity } = settings;
    super(parameters, clipNorm);
    const isOwn = (name: string, { rank }: Tensor) => rank === 2 && name.includes(".layers.");
    this.#matrices = new Map([...parameters].filter(([name, t]) => isOwn(name, t)));
    const rest = new Map([...parameters].filter(([name, t]) => !isOwn(name, t)));
    // The gradient is clipped here, over all parameters at once.
    this.#rest = new AdamW(rest, { ...settings, clipNorm: Infinity });
    this.#velocity = zerosLike(this.#matrices);
    this.settings = { ...this.#rest.settings, ...settings, clipNorm };
  }

  protected move(
    gradients: ReadonlyMap<string, Tensor>,
    factor: Tensor,
    learningRate: number,
  ): void {
    const { momentum, weightDecay } = this.settings;
    const own = (name: string) => parameter(gradients, name).mul(factor);
    for (const [name, weight] of this.#matrices) {
      scope(() => {
        const gradient = own(name);
        const velocity = this.#velocity.get(name)!;
        overwrite(velocity, velocity.mul(momentum).add(gradient), name);
        const direction = orthogonalised(velocity.mul(momentum).add(gradient));
        const size = 0.2 * Math.sqrt(Math.max(...weight.shape));
        const kept = weight.detach().mul(1 - learningRate * weightDecay);
        overwrite(weight, kept.sub(direction.mul(learningRate * size)), name);
      });
    }
    // Without clipping of its own, AdamW has no use for the norm.
    const rest = new Map([...this.#rest.parameters.keys()].map((name) => [name, own(name)]));
    this.#rest.apply(rest, factor, learningRate);
  }

  exportState(): OptimizerState {
    const { firstMoments, secondMoments } = this.#rest.exportState();
    return {
      step: this.steps,
      firstMoments: new Map([...this.#velocity, ...firstMoments]),
      secondMoments,
    };
  }

  importState({ step, firstMoments, secondMoments }: OptimizerState): void {
    copyTree(this.#velocity, firstMoments);
    this.#rest.importState({ step, firstMoments, secondMoments });
    this.steps = step;
  }

  dispose(): void {
    for (const t of this.#velocity.values()) t.dispose();
    this.#rest.dispose();
  }
}
