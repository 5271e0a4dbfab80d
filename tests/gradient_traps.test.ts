/** Gradients that other libraries get wrong or make NaN: one test for each trap. */

import assert from "node:assert/strict";
import fc from "fast-check";
import { concat, grad, gradients, reference, scope, type Tensor, tensor } from "../tensor/mod.ts";
import { agree, near } from "./support/laws.ts";
import { RUNS, SEED } from "./support/samples.ts";
import { onDevices } from "./tiny_model.ts";

/** df/dx at `x` for a scalar f. */
const slope = (f: (x: Tensor) => Tensor, x: Tensor): Tensor => grad(f)(x)[0]!;
const at = (x: Tensor, i: number): Tensor => x.slice([[i, i + 1]]).sum();
const flat = (t: Tensor): number[] => [...t.dataSync()];

onDevices("the gradient of one element of square(x) is zero elsewhere", () => {
  const x = tensor([1, 2, 3]);
  assert.deepEqual(flat(slope((t) => at(t.square(), 0), x)), [2, 0, 0]);
  assert.deepEqual(flat(slope((t) => at(t.square(), 2), x)), [0, 0, 6]);
});

onDevices("the gradient of logSoftmax(x)[0] is onehot(0) - softmax(x)", (device) => {
  const x = tensor([0.5, -1, 2]);
  const p = flat(x.softmax());
  const tolerance = device === reference ? 1e-12 : 1e-6;
  const expected = [1 - p[0]!, -p[1]!, -p[2]!];
  near(flat(slope((t) => at(t.logSoftmax(), 0), x)), expected, tolerance);
});

const FAR = [88, 89, 100, 1e3];

for (const [name, right, left] of [
  ["sigmoid", 0, 0],
  ["silu", 1, 0],
  ["softplus", 1, 0],
  ["gelu", 1, 0],
  ["tanh", 0, 0],
] as const) {
  onDevices(`${name} has finite values and slopes at ±88 to ±1000, to second order`, () => {
    const x = tensor([...FAR, ...FAR.map((v) => -v)]);
    const first = (t: Tensor): Tensor => slope((u) => u[name]().sum(), t);
    assert.ok(flat(x[name]()).every(Number.isFinite));
    near(flat(first(x)), [...FAR.map(() => right), ...FAR.map(() => left)], 1e-30);
    near(flat(slope((t) => first(t).sum(), x)), new Array(8).fill(0), 1e-30);
  });
}

onDevices("x² and x³ have slope 0 at 0, and x² the second derivative 2", () => {
  const zero = tensor([0, 0]);
  for (const f of [
    (x: Tensor) => x.square().sum(),
    (x: Tensor) => x.mul(x).sum(),
    (x: Tensor) => x.mul(x).mul(x).sum(),
  ]) {
    assert.deepEqual(flat(slope(f, zero)).map(Math.abs), [0, 0]);
  }
  const twice = (f: (x: Tensor) => Tensor) => flat(slope((x) => slope(f, x).sum(), zero));
  assert.deepEqual(
    twice((x) => x.square().sum()),
    [2, 2],
  );
  assert.deepEqual(
    twice((x) => x.mul(x).sum()),
    [2, 2],
  );
});

onDevices("a product with a zero factor has the product of the others as its slope", () => {
  const product = (x: Tensor) => at(x, 0).mul(at(x, 1)).mul(at(x, 2));
  assert.deepEqual(flat(slope(product, tensor([2, 0, 3]))), [0, 6, 0]);
  assert.deepEqual(flat(slope(product, tensor([0, 0, 3]))), [0, 0, 0]);
  // d²(xyz)/dy d(x, y, z) at [0, 0, 3] is [z, 0, x].
  const second = slope((x) => at(slope(product, x), 1), tensor([0, 0, 3]));
  assert.deepEqual(flat(second), [3, 0, 0]);
});

onDevices("grouped heads: key-value gradients are summed over their own query heads", (device) => {
  const ramp = (shape: number[], step: number) => {
    const size = shape.reduce((a, b) => a * b);
    return tensor(
      Float64Array.from({ length: size }, (_, i) => Math.fround(Math.sin(step * i + 1))),
      shape,
    );
  };
  const [q, k, v] = [ramp([1, 4, 5, 3], 0.7), ramp([1, 2, 5, 3], 1.1), ramp([1, 2, 5, 3], 1.9)];
  const weights = ramp([1, 4, 5, 3], 0.3);
  const places = tensor([[0, 1, 2, 3, 4]], [1, 5], { dtype: "i32" });
  const loss = (key: Tensor, value: Tensor) =>
    q.attention(key, value, places, { scale: 0.6 }).mul(weights).sum();
  const grouped = grad(loss)(k, v);
  // Query heads 0 and 1 belong to key-value head 0, 2 and 3 to head 1: not 0 and 2.
  const repeat = (t: Tensor) =>
    t.reshape([1, 2, 1, 5, 3]).expand([1, 2, 2, 5, 3]).reshape([1, 4, 5, 3]);
  const repeated = grad(loss)(repeat(k), repeat(v));
  grouped.forEach((g, i) => {
    agree(g, repeated[i]!.reshape([1, 2, 2, 5, 3]).sum(2), device === reference ? 1 : 4);
  });
});

onDevices("a number that is not equal to itself is NaN, and compares as false", () => {
  const x = tensor([NaN, 1, Infinity, -Infinity, 0]);
  const unequal = x.equal(x).logicalNot();
  assert.deepEqual(flat(unequal), [1, 0, 0, 0, 0]);
  for (const name of ["less", "lessEqual", "greater", "greaterEqual", "equal"] as const) {
    assert.equal(flat(x[name](1))[0], 0, name);
    assert.equal(flat(x[name](x))[0], 0, name);
  }
  assert.deepEqual(flat(unequal.where(0, x)), [0, 1, Infinity, -Infinity, 0]);
  assert.deepEqual(flat(slope((t) => unequal.where(0, t).sum(), x)), [0, 1, 1, 1, 1]);
});

onDevices("a NaN among the elements is their largest and their smallest, and has no sign", () => {
  for (const n of [1, 3, 4, 17, 70]) {
    for (const place of new Set([0, n >> 1, n - 1])) {
      const row = Array.from({ length: n }, (_, i) => (i === place ? NaN : i % 7));
      const x = tensor([row, row.map((_, i) => i % 7)]);
      for (const name of ["max", "min"] as const) {
        const clean = name === "max" ? Math.min(n - 1, 6) : 0;
        assert.deepEqual(flat(x[name](-1)), [NaN, clean], `${name} of ${n}, NaN at ${place}`);
        assert.deepEqual(flat(x.transpose()[name](0)), [NaN, clean]);
        assert.deepEqual(flat(x.transpose().contiguous()[name](0)), [NaN, clean]);
        assert.ok(Number.isNaN(x[name]().item()));
      }
    }
  }
  assert.deepEqual(flat(tensor([NaN, 3, -2, 0]).sign()), [NaN, 1, -1, 0]);
});

onDevices("argmax and topK take NaN for the largest number, and the first of equal ones", () => {
  const numbers = fc.constantFrom(NaN, -Infinity, Infinity, -1, 0, 1, 2);
  const row = fc.array(numbers, { minLength: 1, maxLength: 40 });
  fc.assert(
    fc.property(row, fc.nat(40), (values, most) => {
      const k = Math.min(most, values.length);
      const key = (x: number) => (Number.isNaN(x) ? [1, 0] : [0, x]) as [number, number];
      const order = [...values.keys()].sort((i, j) => {
        const [a, b] = [key(values[i]!), key(values[j]!)];
        return b[0] - a[0] || Number(b[1] > a[1]) - Number(a[1] > b[1]) || i - j;
      });
      scope(() => {
        const x = tensor(values);
        const [best, places] = x.topK(k);
        assert.deepEqual(flat(places), order.slice(0, k));
        assert.deepEqual(
          flat(best),
          order.slice(0, k).map((i) => values[i]!),
        );
        assert.equal(x.argmax().item(), order[0]);
      });
    }),
    { seed: SEED, numRuns: RUNS },
  );
});

onDevices("what `where` does not choose has gradient 0, also where it is infinite", () => {
  const x = tensor([0, 4]);
  const safe = (t: Tensor) => {
    const positive = t.greater(0);
    return positive.where(positive.where(t, 1).sqrt(), 0).sum();
  };
  assert.deepEqual(flat(slope(safe, x)), [0, 0.25]);
  const masked = (t: Tensor) => t.greater(0).where(t, -Infinity).softmax();
  assert.deepEqual(flat(slope((t) => at(masked(t), 1), x)), [0, 0]);
});

onDevices("a row of nothing but -∞ gives zeros and finite gradients", () => {
  const none = tensor([[-Infinity, -Infinity]]);
  assert.deepEqual(flat(none.softmax()), [0, 0]);
  const g = slope((t) => t.add(none).softmax().sum(), tensor([[1, 2]]));
  assert.deepEqual(flat(g), [0, 0]);
});

onDevices("a quotient's slopes are finite where the divisor's square is not, or is 0", (device) => {
  const tolerance = device === reference ? 1e-12 : 1e-5;
  for (const b of [1e-30, -1e-25, 1e25, -1e30]) {
    const [da, db] = grad((x, y) => x.div(y).mul(b).sum())(tensor([b]), tensor([b]));
    near([...flat(da!), ...flat(db!)], [1, -1], tolerance);
  }
});

onDevices("an embedding row that is read three times gets three gradients", () => {
  const table = tensor([
    [1, 2],
    [3, 4],
    [5, 6],
  ]);
  const ids = tensor([2, 0, 2, 2], [4], { dtype: "i32" });
  const weights = tensor([
    [1, 10],
    [2, 20],
    [3, 30],
    [4, 40],
  ]);
  const g = slope((t) => t.embedding(ids).mul(weights).sum(), table);
  assert.deepEqual(flat(g), [2, 20, 0, 0, 8, 80]);
});

onDevices("a tied value used twice gets both gradients", () => {
  const x = tensor([3]);
  assert.deepEqual(flat(slope((t) => t.mul(t).add(t).sum(), x)), [7]);
  const both = slope((t) => concat([t, t.mul(2), t], 0).sum(), x);
  assert.deepEqual(flat(both), [4]);
});

onDevices("equal largest elements share the gradient, of max as of maximum", () => {
  const x = tensor([1, 5, 5, 2]);
  assert.deepEqual(flat(slope((t) => t.max(), x)), [0, 0.5, 0.5, 0]);
  const [a, b] = grad((p, q) => p.maximum(q).sum())(tensor([1, 2]), tensor([1, 3]));
  assert.deepEqual(
    [flat(a!), flat(b!)],
    [
      [0.5, 0],
      [0.5, 1],
    ],
  );
});

onDevices("the gradient of a matrix product builds no array of m·k·n elements", (device) => {
  const [m, k, n] = [12, 20, 16];
  const fill = (shape: [number, number]) => tensor(new Float32Array(shape[0] * shape[1]), shape);
  const [a, b] = [fill([m, k]).requireGrad(), fill([k, n]).requireGrad()];
  let largest = 0;
  const { allocate } = device;
  device.allocate = (elements, dtype) => {
    largest = Math.max(largest, elements);
    return allocate.call(device, elements, dtype);
  };
  try {
    scope(() => gradients(a.matmul(b).sum(), [a, b]).forEach(flat));
  } finally {
    device.allocate = allocate;
  }
  assert.ok(largest > 0 && largest <= Math.max(m * k, k * n, m * n), `${largest} elements`);
});
