/** Laws of attention, rotary positions and sampling, and the published numbers of AdamW. */

import assert from "node:assert/strict";
import { describe } from "node:test";
import {
  arange,
  ones,
  randomStream,
  reference,
  type Tensor,
  tensor,
  zeros,
} from "../tensor/mod.ts";
import { agree, law, type Maker, near } from "./support/laws.ts";
import { onDevices } from "./tiny_model.ts";

const POSITIONS = 64;
/** Few heads: what matters is how long rows and vectors are. */
const few = (n: number): number => 1 + (n % 3);

/** Tables of angles position · 10000^(-2i/d). */
function tables(d: number): [cos: Tensor, sin: Tensor] {
  const angle = (i: number) => Math.floor(i / (d / 2)) * 1e4 ** (-(i % (d / 2)) / (d / 2));
  const length = (POSITIONS * d) / 2;
  const of = (f: (x: number) => number) =>
    tensor(
      Float64Array.from({ length }, (_, i) => f(angle(i))),
      [POSITIONS, d / 2],
    );
  return [of(Math.cos), of(Math.sin)];
}

describe("rope", () => {
  law("is a rotation: it keeps the length of every vector", (make, { a, b, c }) => {
    const x = make.real([2, few(a), b, 2 * few(c)]);
    const turned = x.rope(make.indices([2, b], POSITIONS), ...tables(2 * few(c)));
    return [[turned.square().sum(-1), x.square().sum(-1)]];
  });
  law("leaves position 0 alone, and turning back undoes it", (make, { a, b, c }) => {
    const x = make.real([2, few(a), b, 2 * few(c)]);
    const [cos, sin] = tables(2 * few(c));
    const places = make.indices([2, b], POSITIONS);
    return [
      [x.rope(places.mul(0), cos, sin), x],
      [x.rope(places, cos, sin).rope(places, cos, sin.neg()), x],
    ];
  });
  law(
    "products of queries and keys depend on the difference of positions only",
    (make, s) => {
      const [b, d] = [s.b, 2 * s.c];
      const [q, k] = [make.real([1, 1, b, d]), make.real([1, 1, b, d])];
      const near = make.indices([1, b], POSITIONS / 2);
      const far = near.add(1 + make.int(POSITIONS / 2));
      const scores = (places: Tensor) => {
        const [cos, sin] = tables(d);
        return q.rope(places, cos, sin).matmul(k.rope(places, cos, sin).transpose());
      };
      return [[scores(far), scores(near)]];
    },
    4,
  );
});

/** Queries [b h t d] on keys and values [b g t d], each query seeing the keys up to its own. */
function drawAttention(make: Maker, [b, g, t, d]: readonly [number, number, number, number]) {
  const q = make.real([b, 2 * g, t, d]);
  const [k, v] = [make.real([b, g, t, d]), make.real([b, g, t, d])];
  return { q, k, v, places: arange(t).expand([b, t]) };
}
const scale = { scale: 0.5 };

describe("attention", () => {
  law("with a single key returns its value", (make, { a, b, c }) => {
    const q = make.real([2, a, b, c]);
    const [k, v] = [make.real([2, a, 1, c]), make.real([2, a, 1, c])];
    const places = zeros([2, b], { dtype: "i32" });
    return [[q.attention(k, v, places, scale), v.expand([2, a, b, c])]];
  });
  law("over equal keys is the running mean of the values", (make, { a: groups, b, c }) => {
    const a = few(groups);
    const { q, v, places } = drawAttention(make, [1, a, b, c]);
    const k = make.real([1, a, 1, c]).expand([1, a, b, c]);
    const counts = arange(b).toF32().add(1).reshape([b, 1]);
    const running = v.transpose().cumulativeSum().transpose().div(counts);
    const repeated = running.reshape([1, a, 1, b, c]).expand([1, a, 2, b, c]);
    return [[q.attention(k, v, places, scale), repeated.reshape([1, 2 * a, b, c])]];
  });
  law(
    "is linear in the values and does not see a shift of the keys",
    (make, { a: groups, b, c }) => {
      const a = few(groups);
      const { q, k, v, places } = drawAttention(make, [1, a, b, c]);
      const v2 = make.real(v.shape);
      const of = (values: Tensor, keys = k) => q.attention(keys, values, places, scale);
      return [
        [of(v.mul(2).sub(v2)), of(v).mul(2).sub(of(v2))],
        [of(v, k.add(make.real([1, a, 1, c]))), of(v)],
      ];
    },
    4,
  );
  law(
    "of grouped heads is that of keys and values repeated for each head",
    (make, { a: groups, b, c }) => {
      const a = few(groups);
      const { q, k, v, places } = drawAttention(make, [1, a, b, c]);
      const repeat = (t: Tensor) =>
        t
          .reshape([1, a, 1, b, c])
          .expand([1, a, 2, b, c])
          .reshape([1, 2 * a, b, c]);
      return [[q.attention(k, v, places, scale), q.attention(repeat(k), repeat(v), places, scale)]];
    },
  );
  law("output t depends on no key or value behind t, to the bit", (make, { a: groups, b, c }) => {
    const a = few(groups);
    const { q, k, v, places } = drawAttention(make, [2, a, b, c]);
    const t = make.int(b);
    const behind = arange(b).reshape([b, 1]).greater(t);
    const swap = (x: Tensor) => behind.where(make.real(x.shape, 1e3), x);
    const seen = (keys: Tensor, values: Tensor) =>
      q.attention(keys, values, places, scale).slice([null, null, [0, t + 1]]);
    const [before, after] = [seen(k, v), seen(swap(k), swap(v))];
    assert.deepEqual(after.dataSync(), before.dataSync());
    return [[after, before]];
  });
});

onDevices("categorical draws with the frequencies of softmax (chi-square)", () => {
  const scores = tensor([2, 1, 0.5, 0, -1, -Infinity]);
  const draws = 20_000;
  const stream = randomStream({ seed: 11, purpose: "chi-square" });
  const u = tensor(Float64Array.from({ length: draws }, () => stream.uniform()));
  const classes = scores.expand([draws, 6]).categorical(u).dataSync();
  const counts = [0, 0, 0, 0, 0, 0];
  for (const c of classes) counts[c]!++;
  assert.equal(counts[5], 0, "a class of probability 0 was drawn");
  const p = scores.softmax().dataSync();
  let distance = 0;
  for (let c = 0; c < 5; c++) distance += (counts[c]! - draws * p[c]!) ** 2 / (draws * p[c]!);
  // The 99.9 % point of chi-square with 4 degrees of freedom.
  assert.ok(distance < 18.47, `chi-square ${distance}, counts ${counts}`);
});

onDevices("categorical inverts the distribution: steps of u at the running sums of p", () => {
  const p = [0.125, 0.25, 0.5, 0.125];
  const scores = tensor(p.map(Math.log)).expand([8, 4]);
  const u = tensor([0, 0.124, 0.126, 0.374, 0.376, 0.874, 0.876, 0.999]);
  assert.deepEqual([...scores.categorical(u).dataSync()], [0, 0, 1, 1, 2, 2, 3, 3]);
});

onDevices("AdamW gives PyTorch's numbers in three steps", (device) => {
  const weight = tensor([0.5, -1, 2]);
  const [m, v] = [zeros([3]), zeros([3])];
  const settings = { learningRate: 0.1, beta1: 0.9, beta2: 0.999, eps: 1e-8, weightDecay: 0.01 };
  const steps: [gradient: number[], expected: number[]][] = [
    [
      [1, -2, 0.5],
      [0.399500001, -0.8990000005, 1.898],
    ],
    [
      [0.1, 0.3, -4],
      [0.32501943776, -0.842881195205, 1.961634663388],
    ],
    [
      [0, 1, 1],
      [0.26742954191, -0.83212021274, 1.993450095188],
    ],
  ];
  steps.forEach(([gradient, expected], i) => {
    weight.adamW(tensor(gradient), m, v, ones([]), { ...settings, step: i + 1 });
    near(weight.dataSync(), expected, device === reference ? 3e-9 : 1e-6);
  });
});

onDevices("AdamW's scale is a factor on the gradient", () => {
  const options = { learningRate: 0.1, beta1: 0.9, beta2: 0.95, eps: 1e-3, weightDecay: 0 };
  const run = (gradient: number[], scale: number): Tensor => {
    const weight = tensor([0.5, -1, 2]);
    const [m, v] = [zeros([3]), zeros([3])];
    weight.adamW(tensor(gradient), m, v, tensor(scale), { ...options, step: 1 });
    return weight;
  };
  agree(run([4, -8, 2], 0.25), run([1, -2, 0.5], 1));
});

onDevices("the clipping factor is PyTorch's: 1 / (norm + 1e-6) at most 1", () => {
  const gradients = [tensor([3, 4]), tensor([[12]])];
  const norm = gradients
    .map((g) => g.sumOfSquares())
    .reduce((a, b) => a.add(b))
    .sqrt();
  assert.equal(norm.item(), 13);
  const factor = tensor(1).div(norm.add(1e-6)).minimum(1);
  const clipped = gradients.flatMap((g) => [...g.mul(factor).dataSync()]);
  near(clipped, [0.230769213018, 0.307692284024, 0.923076852071], 1e-7);
});
