/** Muon and SGD: orthogonal updates, PyTorch's momentum, equal sizes, state that comes back. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import * as fc from "fast-check";
import { Muon, orthogonalised } from "../model/muon.ts";
import { type Optimizer, overwrite } from "../model/optimizer.ts";
import { Sgd } from "../model/sgd.ts";
import { randomStream, reference, scope, type Tensor, tensor } from "../tensor/mod.ts";

const on = { device: reference };

function normal(m: number, n: number, seed: number): Tensor {
  const stream = randomStream({ seed, purpose: "optimizers" });
  const values = Float64Array.from({ length: m * n }, () => stream.normal());
  return tensor(values, [m, n], on);
}

/** Eigenvalues of a symmetric matrix by Jacobi's rotations. */
function eigenvalues(matrix: number[][]): number[] {
  const a = matrix.map((row) => [...row]);
  const n = a.length;
  for (let sweep = 0; sweep < 60; sweep++) {
    for (let p = 0; p < n; p++) {
      for (let q = p + 1; q < n; q++) {
        if (Math.abs(a[p]![q]!) < 1e-14) continue;
        const angle = 0.5 * Math.atan2(2 * a[p]![q]!, a[p]![p]! - a[q]![q]!);
        const [c, s] = [Math.cos(angle), Math.sin(angle)];
        for (const row of a)
          [row[p], row[q]] = [c * row[p]! + s * row[q]!, c * row[q]! - s * row[p]!];
        const [x, y] = [a[p]!, a[q]!];
        a[p] = x.map((v, i) => c * v + s * y[i]!);
        a[q] = y.map((v, i) => c * v - s * x[i]!);
      }
    }
  }
  return a.map((row, i) => row[i]!);
}

describe("Muon", () => {
  test("makes singular values come near 1, whatever the shape", () => {
    const sides = fc.integer({ min: 1, max: 12 });
    fc.assert(
      fc.property(sides, sides, fc.nat(1000), (m, n, seed) => {
        scope(() => {
          const y = orthogonalised(normal(m, n, seed));
          assert.deepEqual(y.shape, [m, n]);
          const gram = m <= n ? y.matmul(y.transpose()) : y.transpose().matmul(y);
          const values = eigenvalues(gram.toArray() as number[][]).map((x) =>
            Math.sqrt(Math.max(0, x)),
          );
          // Very small singular values need more than five steps: all are at most 1.3, most near 1.
          assert.ok(
            values.every((x) => x < 1.3),
            `${values}`,
          );
          assert.ok(Math.max(...values) > 0.6, `${values}`);
        });
      }),
      { numRuns: 60 },
    );
  });

  test("of an orthogonal matrix keeps its directions; of zeros gives zeros", () => {
    scope(() => {
      const turn = [
        [0.6, -0.8],
        [0.8, 0.6],
      ];
      const y = orthogonalised(tensor(turn, undefined, on)).toArray() as number[][];
      const scale = y[0]![0]! / 0.6;
      turn.flat().forEach((x, i) => {
        assert.ok(Math.abs(y.flat()[i]! - scale * x) < 1e-9);
      });
      assert.ok(scale > 0.6 && scale < 1.3);
      assert.deepEqual(orthogonalised(tensor([[0, 0]], undefined, on)).toArray(), [[0, 0]]);
    });
  });

  test("moves matrices of blocks by 0.2·√max(m, n) times that, and the rest as AdamW does", () => {
    const matrix = "model.layers.0.mlp.up_proj.weight";
    const weights = new Map([
      [matrix, normal(4, 6, 1)],
      ["model.embed_tokens.weight", normal(3, 2, 2)],
      ["model.norm.weight", tensor([1, 1], [2], on)],
    ]);
    const before = new Map([...weights].map(([name, t]) => [name, Array.from(t.dataSync())]));
    const gradients = new Map([...weights].map(([name, t]) => [name, t.mul(3)]));
    using optimizer = new Muon(weights, { momentum: 0.9, betas: [0, 0], eps: 1e-12 });
    optimizer.update(gradients, 0.01);
    const direction = scope(() => orthogonalised(gradients.get(matrix)!.mul(1.9))).dataSync();
    weights
      .get(matrix)!
      .dataSync()
      .forEach((x, i) => {
        const kept = before.get(matrix)![i]! * (1 - 0.01 * 0.01);
        const expected = kept - 0.01 * 0.2 * Math.sqrt(6) * direction[i]!;
        assert.ok(Math.abs(x - expected) < 1e-9);
      });
    // With β = 0 Adam's step is the sign of the gradient.
    for (const name of ["model.embed_tokens.weight", "model.norm.weight"]) {
      weights
        .get(name)!
        .dataSync()
        .forEach((x, i) => {
          const start = before.get(name)![i]!;
          const decay = name.includes("embed") ? 1 - 0.01 * 0.01 : 1;
          assert.ok(Math.abs(x - (start * decay - 0.01 * Math.sign(start))) < 1e-6, name);
        });
    }
  });
});

test("SGD has PyTorch's momentum, clips the norm, decays matrices only", () => {
  const weights = new Map([
    ["w", tensor([[1, -2]], undefined, on)],
    ["b", tensor([3], [1], on)],
  ]);
  using optimizer = new Sgd(weights, { momentum: 0.5, weightDecay: 0.1, clipNorm: 1 });
  const gradients = new Map([
    ["w", tensor([[3, 0]], undefined, on)],
    ["b", tensor([4], [1], on)],
  ]);
  assert.ok(Math.abs(optimizer.update(gradients, 0.1).item() - 5) < 1e-9);
  const near = (name: string, expected: number[]) =>
    weights
      .get(name)!
      .dataSync()
      .forEach((x, i) => {
        assert.ok(Math.abs(x - expected[i]!) < 1e-6, `${name}: ${x}, expected ${expected[i]}`);
      });
  near("w", [0.99 * 1 - 0.06, 0.99 * -2]); // g = 3/5, v = 0.6
  near("b", [3 - 0.08]);
  optimizer.update(gradients, 0.1);
  near("w", [0.99 * 0.93 - 0.09, 0.99 * -1.98]); // v = 0.3 + 0.6
  near("b", [2.92 - 0.12]);
});

test("values are written into packed memory, and a view that isn't packed is refused", () => {
  scope(() => {
    const [t, source] = [normal(2, 3, 1), normal(3, 2, 2)];
    overwrite(t.reshape([3, 2]), source, "w");
    assert.deepEqual(t.dataSync(), source.dataSync());
    const refused = /w is a view that isn't packed: use contiguous\(\) of it/;
    assert.throws(() => overwrite(t.transpose(), source, "w"), refused);
    const optimizer = new Sgd(new Map([["w", t.transpose()]]), { momentum: 0 });
    assert.throws(() => optimizer.update(new Map([["w", source]]), 0.1), refused);
  });
});

test("a state that was exported and imported goes on the same way", () => {
  const makers: ((tree: Map<string, Tensor>) => Optimizer)[] = [
    (tree) => new Sgd(tree, { momentum: 0.9 }),
    (tree) => new Muon(tree, { momentum: 0.9 }),
  ];
  for (const make of makers) {
    const tree = () =>
      new Map([
        ["model.layers.0.x.weight", normal(3, 4, 1)],
        ["model.norm.weight", tensor([1, 2, 3], [3], on)],
      ]);
    const gradient = (seed: number) =>
      new Map([
        ["model.layers.0.x.weight", normal(3, 4, seed)],
        ["model.norm.weight", tensor([seed, -1, 2], [3], on)],
      ]);
    const whole = tree();
    using straight = make(whole);
    for (const seed of [5, 6]) straight.update(gradient(seed), 0.1);
    const parted = tree();
    using first = make(parted);
    first.update(gradient(5), 0.1);
    using second = make(parted);
    second.importState(first.exportState());
    second.update(gradient(6), 0.1);
    assert.equal(second.step, 2);
    for (const [name, t] of whole)
      assert.deepEqual(parted.get(name)!.dataSync(), t.dataSync(), name);
  }
});
