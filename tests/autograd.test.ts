/** The tape: what accumulates, what nests, what is freed, and what is refused in which words. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  currentDevice,
  grad,
  gradients,
  noGrad,
  ReferenceDevice,
  requireGrad,
  type Tensor,
  tensor,
  valueAndGrad,
  zeros,
} from "../tensor/mod.ts";
import { agree, near } from "./support/laws.ts";
import { devices, leftBehind, onDevices } from "./tiny_model.ts";

const flat = (t: Tensor | undefined): number[] => [...(t?.dataSync() ?? [])];
const gradAt = (f: (x: Tensor) => Tensor, x: Tensor): Tensor => grad(f)(x)[0]!;

describe("backward", () => {
  onDevices("adds to .grad until that is set to undefined", () => {
    const x = tensor([1, 2]).requireGrad();
    assert.equal(x.grad, undefined);
    x.square().sum().backward();
    assert.deepEqual(flat(x.grad), [2, 4]);
    x.mul(10).sum().backward();
    assert.deepEqual(flat(x.grad), [12, 14]);
    const old = x.grad!;
    x.grad = undefined;
    assert.ok(old.disposed);
    x.sum().backward();
    assert.deepEqual(flat(x.grad), [1, 1]);
  });

  onDevices("gives each leaf the sum over all paths to it, and visits a node once", (device) => {
    const x = tensor(1).requireGrad();
    let y: Tensor = x;
    for (let i = 0; i < 60; i++) y = y.add(y);
    let launches = 0;
    const { run } = device;
    device.run = (definition, call) => {
      launches++;
      run.call(device, definition, call);
    };
    try {
      y.backward();
    } finally {
      device.run = run;
    }
    // 2⁶⁰ paths, 60 nodes.
    assert.equal(x.grad!.item(), 2 ** 60);
    assert.ok(launches <= 120, `${launches} launches`);
  });

  onDevices("undoes broadcasting of leading axes, of axes of size 1, and of numbers", () => {
    const [row, column, one] = [tensor([1, 2, 3]), tensor([[4], [5]]), tensor(6)];
    for (const t of [row, column, one]) t.requireGrad();
    row.mul(column).mul(one).add(1).sum().backward();
    assert.deepEqual(flat(row.grad), [54, 54, 54]);
    assert.deepEqual(
      [flat(column.grad), column.grad!.shape],
      [
        [36, 36],
        [2, 1],
      ],
    );
    assert.deepEqual([one.grad!.item(), one.grad!.shape], [54, []]);
  });

  onDevices("starts from a cotangent where the output is no scalar", () => {
    const x = tensor([1, 2, 3]).requireGrad();
    const y = x.square();
    assert.throws(() => y.backward(), /\[3\].*reduce it to a scalar, or pass a cotangent/);
    const wrong = { cotangent: tensor([1, 2]) };
    assert.throws(() => y.backward(wrong), /cotangent has shape \[2\], the output \[3\]/);
    y.backward({ cotangent: tensor([1, 0, -1]) });
    assert.deepEqual(flat(x.grad), [2, 0, -6]);
  });

  onDevices("of a leaf itself is 1", () => {
    const x = tensor(5).requireGrad();
    x.backward();
    x.backward();
    assert.deepEqual([x.grad!.item(), x.grad!.shape], [2, []]);
    assert.throws(() => tensor([1, 2]).requireGrad().backward(), /reduce it to a scalar/);
  });

  test("walks a chain of 20,000 ops without running out of stack", () => {
    const x = tensor(0).requireGrad();
    let y: Tensor = x;
    for (let i = 0; i < 20_000; i++) y = y.add(1);
    y.backward();
    assert.deepEqual([y.item(), x.grad!.item()], [20_000, 1]);
  });

  onDevices("gives zeros for an input on which the output does not depend", () => {
    const [x, y] = [tensor([1, 2]), tensor([[3, 4]])];
    const [, gy] = grad((a) => a.sum())(x, y);
    assert.deepEqual(
      [flat(gy), gy!.shape],
      [
        [0, 0],
        [1, 2],
      ],
    );
  });
});

describe("gradients of gradients", () => {
  onDevices("sin differentiated four times is sin", (device) => {
    const x = tensor([0.3, -1.2, 2]);
    let f = (t: Tensor): Tensor => t.sin();
    for (let order = 0; order < 4; order++) {
      const before = f;
      f = (t) => gradAt((u) => before(u).sum(), t);
    }
    agree(f(x), x.sin(), device === devices[0] ? 1 : 2);
  });

  onDevices("an inner gradient may capture the outer variable: d/dx (d/dy x·y) = 1", () => {
    const [x, y] = [tensor(3), tensor(5)];
    const inner = (outer: Tensor): Tensor => gradAt((t) => outer.mul(t), y);
    assert.deepEqual([inner(x).item(), gradAt(inner, x).item()], [3, 1]);
    // The inner point and the captured variable are one tensor here, but two variables.
    assert.equal(gradAt((t) => gradAt((u) => u.mul(t), t), x).item(), 1);
    assert.equal(gradAt((t) => gradAt((u) => u.mul(u).mul(t), t), x).item(), 12);
  });

  onDevices("valueAndGrad gives the value with the gradient of each argument", () => {
    const [value, [dx, dy]] = valueAndGrad((x, y) => x.square().mul(y).sum())(
      tensor([1, 2]),
      tensor([3, 4]),
    );
    assert.equal(value.item(), 19);
    assert.deepEqual(
      [flat(dx), flat(dy)],
      [
        [6, 16],
        [1, 4],
      ],
    );
    assert.equal(value.variable, undefined);
  });

  onDevices("createGraph makes backward() itself differentiable", () => {
    const x = tensor([1, 2]).requireGrad();
    x.square().mul(x).sum().backward({ createGraph: true });
    const slope = x.grad!;
    assert.deepEqual(flat(slope), [3, 12]);
    assert.deepEqual(flat(gradients(slope.sum(), [x])[0]), [6, 12]);
  });

  onDevices("a Hessian's rows agree with its closed form", (device) => {
    const a = tensor([
      [2, 1],
      [1, 3],
    ]);
    const quadratic = (x: Tensor) => x.reshape([1, 2]).matmul(a).mul(x).sum();
    const row = (i: number) =>
      gradAt(
        (x) =>
          gradAt(quadratic, x)
            .slice([[i, i + 1]])
            .sum(),
        tensor([0.5, -4]),
      );
    const tolerance = device.name === "reference" ? 1e-12 : 1e-5;
    near([...flat(row(0)), ...flat(row(1))], [4, 2, 2, 6], tolerance);
  });
});

describe("constants", () => {
  onDevices("noGrad records nothing, and ends when its body throws", () => {
    const x = tensor([1, 2]).requireGrad();
    assert.equal(noGrad(() => x.mul(2)).variable, undefined);
    const broken = () =>
      noGrad(() => {
        throw new Error("broken");
      });
    assert.throws(broken, /broken/);
    assert.notEqual(x.mul(2).variable, undefined);
  });

  onDevices("detach cuts the graph and shares the values", () => {
    const x = tensor([1, 2]).requireGrad();
    const y = x.mul(3);
    assert.equal(y.detach().storage, y.storage);
    y.detach().mul(x).sum().backward();
    assert.deepEqual(flat(x.grad), [3, 6]);
  });

  onDevices("a computation that needs no gradient keeps no graph", async (device) => {
    const x = tensor([1, 2]);
    const kept: Tensor[] = [];
    assert.equal(await leftBehind(device, () => kept.push(x.exp().neg())), 2);
    // The 2: exp(x) waits for its finalizer, the result is `kept`. Neither holds the other.
    assert.equal(kept[0]!.variable, undefined);
  });
});

describe("what is freed", () => {
  onDevices("a second backward over a freed graph says so; retainGraph allows it", () => {
    const x = tensor([1, 2]).requireGrad();
    const once = x.square().sum();
    once.backward();
    assert.throws(() => once.backward(), /backward: the graph of \w+ was freed; pass retainGraph/);
    const twice = x.square().sum();
    x.grad = undefined;
    twice.backward({ retainGraph: true });
    twice.backward();
    assert.deepEqual(flat(x.grad), [4, 8]);
    assert.throws(() => twice.backward(), /was freed/);
  });

  onDevices(
    "backward frees all but the gradients, and so does dropping the loss",
    async (device) => {
      const x = tensor([1, 2]).requireGrad();
      const loss = () => {
        using a = x.exp();
        using b = a.mul(x);
        return b.sum();
      };
      const backwards = () => {
        using y = loss();
        y.backward();
      };
      backwards();
      assert.equal(await leftBehind(device, backwards), 1); // the new sum in .grad
      assert.equal(await leftBehind(device, () => loss().dispose()), 0);
    },
  );

  onDevices("disposing a leaf disposes its gradient", () => {
    const x = tensor([1, 2]).requireGrad();
    x.sum().backward();
    const g = x.grad!;
    x.dispose();
    assert.ok(g.disposed);
  });
});

describe("refusals", () => {
  onDevices("an input that is overwritten after its use", () => {
    const w = tensor([1, 2, 3]).requireGrad();
    const loss = w.square().sum();
    const [m, v] = [zeros([3]), zeros([3])];
    const settings = { learningRate: 0.1, beta1: 0.9, beta2: 0.999, eps: 1e-8, weightDecay: 0 };
    const step = () => w.adamW(tensor([1, 1, 1]), m, v, tensor(1), { ...settings, step: 1 });
    assert.throws(step, /adamW: writes in place; detach\(\) its inputs first/);
    noGrad(step);
    assert.throws(
      () => loss.backward(),
      /input 0 of square was overwritten in place after its use/,
    );
    // An op whose gradient reads no input does not mind.
    const sum = w.sum();
    noGrad(step);
    sum.backward();
    assert.deepEqual(flat(w.grad), [1, 1, 1]);
  });

  onDevices("an output that is overwritten after its op, through another handle on it", () => {
    for (const name of [
      "exp",
      "tanh",
      "sigmoid",
      "sqrt",
      "softmax",
      "logSoftmax",
      "max",
    ] as const) {
      const x = tensor([1, 2, 3], [1, 1, 3, 1]).requireGrad();
      const y = name === "max" ? x.max({ axes: 0, keepDims: true }) : x[name]();
      const first = tensor([0], [1, 1], { dtype: "i32" });
      y.detach().writeRows(tensor([100], [1, 1, 1, 1]), first);
      const message = new RegExp(`output 0 of ${name} was overwritten in place after its op`);
      assert.throws(() => y.sum().backward(), message);
    }
    // An op whose gradient reads no output does not mind.
    const x = tensor([1, 2], [1, 1, 2, 1]).requireGrad();
    const y = x.square();
    y.detach().writeRows(tensor([9], [1, 1, 1, 1]), tensor([0], [1, 1], { dtype: "i32" }));
    y.sum().backward();
    assert.deepEqual(flat(x.grad), [2, 4]);
  });

  onDevices("a gradient of whole numbers, of indices, and without a leaf", () => {
    const ids = tensor([1, 2], [2], { dtype: "i32" });
    assert.throws(() => requireGrad(ids), /requireGrad: dtype is i32, only f32 has gradients/);
    assert.throws(() => ids.requireGrad(), /only f32/);
    assert.throws(() => tensor([1]).sum().backward(), /no tensor under the loss has requireGrad/);
    assert.throws(() => {
      tensor([1]).grad = undefined;
    }, /call requireGrad\(\) on the leaf first/);
    assert.equal(tensor([1, 3]).requireGrad().argmax().variable, undefined);
  });

  onDevices("operands on two devices", () => {
    const elsewhere = tensor([1], [1], { device: new ReferenceDevice() });
    const message = new RegExp(`add: operands lie on ${currentDevice().name} and reference`);
    assert.throws(() => tensor([1]).add(elsewhere), message);
  });

  onDevices("shapes, axes and types that do not fit, with op, axis and both sizes", () => {
    const x = zeros([2, 3]);
    const ids = zeros([2], { dtype: "i32" });
    const moments = { beta1: 0.9, beta2: 0.999, eps: 1e-8 };
    const rates = { ...moments, learningRate: 1, weightDecay: 0, step: 1 };
    const cases: [() => unknown, RegExp][] = [
      [() => x.matmul(zeros([4, 5])), /matmul: axis "k" is 3 and 4 \(\.\.\. m k, \.\.\. k n -> /],
      [
        () => x.add(zeros([2, 4])),
        /add: shapes \[2 3\] and \[2 4\] don't broadcast: axis -1 is 3 and 4/,
      ],
      [() => x.rmsNorm(zeros([4]), { eps: 1 }), /rmsNorm: axis "n" is 3 and 4/],
      [() => x.reshape([4, 2]), /reshape: \[2 3\] doesn't fit \[4 2\]/],
      [() => x.expand([2, 4]), /expand: .*\[2 3\].*\[2 4\]/],
      [() => x.sum(2), /axis 2 is not an axis of an array of rank 2/],
      [() => x.slice([[0, 3]]), /slice: \[0, 3, 1\] of axis 0 with size 2/],
      [() => x.slice([[0.5, 2]]), /slice: \[0\.5, 2, 1\] of axis 0 with size 2/],
      [() => x.slice([null, [0, 3, 1.5]]), /slice: \[0, 3, 1\.5\] of axis 1 with size 3/],
      [() => x.reshape([-2, -3]), /reshape: \[2 3\] doesn't fit \[-2 -3\]/],
      [() => zeros([1]).expand([-2]), /expand: \[1\] doesn't expand to \[-2\]/],
      [() => ids.mul(0.5), /mul: input 1 is 0\.5 beside i32, expected a whole number of i32/],
      [() => ids.add(2 ** 31), /add: input 1 is 2147483648 beside i32/],
      [() => zeros([2, 0]).argmax(), /argmax: the last axis of \[2 0\] has no element/],
      [() => zeros([0, 0]).argmax(), /argmax: the last axis of \[0 0\] has no element/],
      [() => x.adamW(x, x, x, zeros([3]), rates), /adamW: the scale has shape \[3\], expected one/],
      [() => x.transpose([0, 0]), /transpose: order \[0,0\] doesn't name each of 2 axes once/],
      [() => x.embedding(x), /embedding: input 1 is f32, expected i32/],
      [() => x.embedding(ids.add(2)), /embedding: index 2 at position 0 is outside of \[0, 2\)/],
      [() => x.toI32().add(x), /add: input 1 is f32, expected i32/],
      [() => x.item(), /item: the tensor has shape \[2 3\], not one element/],
      [() => x.topK(4), /topK: k is 4, the last axis has 3 elements/],
      [() => tensor([1, 2, 3], [2, 2]), /tensor: 3 values don't fill shape \[2 2\]/],
      [() => tensor([[1], [2, 3]]), /nested arrays have different lengths/],
    ];
    for (const [action, message] of cases) assert.throws(action, message);
  });
});
