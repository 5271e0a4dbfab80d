/** Laws of the algebra: equations that no single op's definition states, on every device. */

import { describe } from "node:test";
import { concat, full, ones, type Tensor, tensor } from "../tensor/mod.ts";
import { law } from "./support/laws.ts";

const last = { axes: -1, keepDims: true } as const;
/** ⟨x, y⟩: the sum of products. */
const inner = (x: Tensor, y: Tensor): Tensor => x.mul(y).sum();

describe("softmax", () => {
  law("does not see a shift of a row", (make, { a, b }) => {
    // Multiples of 1/64, so that the sum is exact in f32 although the shift is large.
    const x = make.real([a, b], 320).floor().div(64);
    const shift = make.indices([a, 1], 1000).toF32().sub(500);
    const both = (f: (t: Tensor) => Tensor) => [f(x.add(shift)), f(x)] as const;
    return [
      both((t) => t.softmax()),
      both((t) => t.logSoftmax()),
      [x.add(shift).logSumExp(), x.logSumExp().add(shift.reshape([a]))],
    ];
  });
  law("has rows that sum to 1 and no negative entry", (make, { a, b }) => {
    const p = make.real([a, b], 40).softmax();
    return [
      [p.sum(-1), ones([a])],
      [p.abs(), p],
    ];
  });
  law("has logSoftmax as its logarithm, x - logSumExp(x)", (make, { a, b }) => {
    const x = make.real([a, b], 5);
    const y = x.logSoftmax();
    return [
      [y, x.softmax().log()],
      [y, x.sub(x.logSumExp().reshape([a, 1]))],
    ];
  });
  law("gathered log-probability is the entry of logSoftmax", (make, { a, b }) => {
    const [x, target] = [make.real([a, b], 5), make.indices([a], b)];
    const picked = x.logSoftmax().takeAlong(target.reshape([a, 1]));
    return [[x.gatherLogProb(target), picked.reshape([a])]];
  });
});

describe("views", () => {
  law("transposing twice, or by an order and its inverse, changes nothing", (make, sizes) => {
    const x = make.real([sizes.a, sizes.b, sizes.c]);
    const order = make.order(3);
    const inverse = order.map((_, axis) => order.indexOf(axis));
    return [
      [x.transpose().transpose(), x],
      [x.transpose(order).transpose(inverse), x],
    ];
  });
  law("a reshape goes there and back, also that of a transposed view", (make, { a, b, c }) => {
    const x = make.real([a, b, c]);
    const turned = x.transpose([2, 0, 1]);
    return [
      [x.reshape([c, a * b]).reshape([a, b, c]), x],
      [turned.reshape([-1]).reshape([c, a, b]), turned],
      [turned.reshape([-1]), turned.contiguous().reshape([-1])],
    ];
  });
  law("a slice of a concatenation is the part", (make, { a, b, c, d }) => {
    const [x, y, z] = [make.real([a, b]), make.real([a, c]), make.real([a, d])];
    const all = concat([x, y.transpose().contiguous().transpose(), z], 1);
    return [
      [all.slice([null, [0, b]]), x],
      [all.slice([null, [b, b + c]]), y],
      [all.slice([null, [-d]]), z],
    ];
  });
  law("expanding and then summing multiplies by the number of copies", (make, { a, b, c }) => {
    const x = make.real([b, 1]);
    return [[x.expand([a, b, c]).sum([0, 2]), x.reshape([b]).mul(a * c)]];
  });
});

describe("matrix product", () => {
  law("is associative", (make, { a, b, c, d }) => {
    const [x, y, z] = [make.real([a, b]), make.real([b, c]), make.real([c, d])];
    return [[x.matmul(y).matmul(z), x.matmul(y.matmul(z))]];
  });
  law("transposed is the product of the transposed, in the other order", (make, sizes) => {
    const { a, b, c, d } = sizes;
    const [x, y] = [make.real([d, a, b]), make.real([b, c])];
    return [[x.matmul(y).transpose(), y.transpose().matmul(x.transpose())]];
  });
  law("is linear in each operand", (make, { a, b, c }) => {
    const [x, x2] = [make.real([a, b]), make.real([a, b])];
    const [y, y2] = [make.real([b, c]), make.real([b, c])];
    const mix = (p: Tensor, q: Tensor) => p.mul(1.5).sub(q.mul(0.25));
    return [
      [mix(x, x2).matmul(y), mix(x.matmul(y), x2.matmul(y))],
      [x.matmul(mix(y, y2)), mix(x.matmul(y), x.matmul(y2))],
    ];
  });
  law("of a batch is the products of its matrices", (make, { a, b, c, d }) => {
    const [x, y] = [make.real([2, a, b]), make.real([2, b, c])];
    const at = (t: Tensor, i: number) => t.slice([[i, i + 1]]).reshape(t.shape.slice(1));
    const v = make.real([c, d]);
    return [
      [
        x.matmul(y),
        concat(
          [0, 1].map((i) => at(x, i).matmul(at(y, i)).reshape([1, a, c])),
          0,
        ),
      ],
      [
        x.matmul(y).matmul(v).sum(0),
        at(x.matmul(y), 0)
          .add(at(x.matmul(y), 1))
          .matmul(v),
      ],
    ];
  });
});

describe("reductions", () => {
  law("the axes of a sum may be summed in any order", (make, { a, b, c }) => {
    const x = make.real([a, b, c]);
    const all = x.sum();
    return [
      [x.sum(0).sum(0).sum(0), all],
      [x.sum(2).sum(0).sum(0), all],
      [x.sum([1, 2]).sum(), all],
      [x.sum([0, 2]), x.sum(2).sum(0)],
      [x.sum([0, 2]), x.transpose([2, 0, 1]).sum([0, 1])],
    ];
  });
  law("the mean, the largest and the smallest of a constant are the constant", (make, sizes) => {
    const shape = [sizes.a, sizes.b];
    const value = (make.int(2000) - 1000) / 8;
    const [x, one] = [full(shape, value), full([sizes.b], value)];
    return [
      [x.mean(0), one],
      [x.max(0), one],
      [x.min(0), one],
    ];
  });
  law("a running sum and the one from the other end overlap in one element", (make, { a, b }) => {
    const x = make.real([a, b]);
    const both = x.cumulativeSum().add(x.cumulativeSum({ reverse: true }));
    return [[both, x.sum(last).add(x)]];
  });
  law("the largest element is that at argmax, and the first of topK", (make, { a, b }) => {
    const x = make.real([a, b]);
    const top = x.max(last);
    const k = 1 + make.int(b);
    const [values, indices] = x.topK(k);
    return [
      [x.takeAlong(x.argmax().reshape([a, 1])), top],
      [values.slice([null, [0, 1]]), top],
      [x.takeAlong(indices), values],
    ];
  });
});

describe("indexed reads and writes are transposes of each other", () => {
  law("scatterRows and embedding", (make, { a, b, c }) => {
    const [ids, v, w] = [make.indices([a], b), make.real([a, c]), make.real([b, c])];
    return [[inner(v.scatterRows(ids, b), w), inner(v, w.embedding(ids))]];
  });
  law("scatterAlong and takeAlong", (make, { a, b, c }) => {
    const [ids, v, w] = [make.indices([a, b], c), make.real([a, b]), make.real([a, c])];
    return [[inner(v.scatterAlong(ids, c), w), inner(v, w.takeAlong(ids))]];
  });
  law("scatterSlice and slice", (make, { a, b }) => {
    const [from, step] = [make.int(a), 1 + make.int(3)];
    const size = Math.ceil((a - from) / step);
    const [v, w] = [make.real([size, b]), make.real([a, b])];
    const windows = [
      { from, size, step },
      { from: 0, size: b, step: 1 },
    ];
    const placed = v.scatterSlice({ shape: [a, b], windows });
    return [[inner(placed, w), inner(v, w.slice([[from, a, step]]))]];
  });
});

describe("norms", () => {
  law("RMSNorm does not see the scale of a row", (make, { a, b }) => {
    const [x, w] = [make.real([a, b]), make.real([b])];
    const factor = make.real([a, 1]).abs().add(0.5);
    const eps = { eps: 1e-30 };
    return [[x.mul(factor).rmsNorm(w, eps), x.rmsNorm(w, eps)]];
  });
  law("RMSNorm with weight 1 gives rows with a mean square of 1", (make, { a, b }) => {
    const x = make.real([a, b]).abs().add(0.1);
    return [
      [
        x
          .rmsNorm(ones([b]), { eps: 1e-30 })
          .square()
          .mean(-1),
        ones([a]),
      ],
    ];
  });
  law(
    "LayerNorm sees neither shift nor scale of a row",
    (make, { a, b }) => {
      // A row of distinct values: the smaller its deviation, the more rounding is magnified.
      const ramp = tensor(Float64Array.from({ length: b + 1 }, (_, i) => i / (b + 1)));
      const x = make.real([a, b + 1], 0.1).add(ramp);
      const [w, bias] = [make.real([b + 1]), make.real([b + 1])];
      const moved = x.mul(make.real([a, 1]).abs().add(0.5)).add(make.real([a, 1]));
      const eps = { eps: 1e-30 };
      return [[moved.layerNorm(w, bias, eps), x.layerNorm(w, bias, eps)]];
    },
    20,
  );
});

describe("activations", () => {
  law("f(x) - f(-x) = x for GELU, SiLU and softplus; sigmoids of x and -x sum to 1", (make, s) => {
    const x = make.real([s.a, s.b], 30);
    const odd = (["gelu", "silu", "softplus"] as const).map((name) => {
      return [x[name]().sub(x.neg()[name]()), x] as const;
    });
    return [...odd, [x.sigmoid().add(x.neg().sigmoid()), ones(x.shape)]];
  });
  law("far out GELU, SiLU and softplus are x on the right and 0 on the left", (make, { a, b }) => {
    const x = make.real([a, b], 400).abs().add(100);
    const zero = x.mul(0);
    return (["gelu", "silu", "softplus"] as const).flatMap((name) => [
      [x[name](), x] as const,
      [x.neg()[name]().abs(), zero] as const,
    ]);
  });
  law("SwiGLU is SiLU of the gate times the rest", (make, { a, b }) => {
    const [gate, up] = [make.real([a, b], 10), make.real([a, b])];
    return [[gate.swiGlu(up), gate.silu().mul(up)]];
  });
});
