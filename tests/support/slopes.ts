/** Gradients of a loss in a model's parameters against central differences, on the f64 device. */

import assert from "node:assert/strict";
import { gradientsOf, requireGradients } from "../../model/parameters.ts";
import { noGrad, scope, type Tensor, tensor } from "../../tensor/mod.ts";

type Tree = Map<string, Tensor>;

/** Looks at the first, middle and last entry of every parameter; `loss` is a scalar. */
export function checkSlopes(parameters: Tree, loss: (tree: Tree) => Tensor): void {
  requireGradients(parameters);
  const gradients = gradientsOf(loss(parameters), parameters);
  for (const [name, t] of parameters) {
    const values = Float64Array.from(t.dataSync());
    const at = (i: number, step: number) => {
      const moved = Float64Array.from(values);
      moved[i]! += step;
      const tree = new Map(parameters).set(name, tensor(moved, t.shape));
      return noGrad(() => scope(() => loss(tree).item()));
    };
    const step = 1e-5;
    for (const i of [0, Math.floor(t.size / 2), t.size - 1]) {
      const slope = (at(i, step) - at(i, -step)) / (2 * step);
      const got = gradients.get(name)!.dataSync()[i]!;
      assert.ok(
        Math.abs(got - slope) <= 1e-8 + 1e-6 * Math.abs(slope),
        `${name}[${i}] ${got} ${slope}`,
      );
    }
  }
}
