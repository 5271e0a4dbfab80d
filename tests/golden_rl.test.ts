/** Golden values of advantages and GRPO losses: computed by other trainers, and by formula, in f64. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import * as fc from "fast-check";
import { groupAdvantages } from "../rl/advantage.ts";
import { type Aggregation, tokenWeight, weightedSum } from "../rl/aggregate.ts";
import { clippedSurrogate, type KlEstimator, klPenalty, logRatio } from "../rl/loss.ts";
import { currentDevice, type Device, gradients, reference, scope, tensor } from "../tensor/mod.ts";

const mask = [
  [1, 1, 1, 1],
  [1, 1, 0, 0],
  [1, 1, 1, 0],
  [1, 0, 0, 0],
  [1, 1, 1, 1],
  [1, 1, 0, 0],
];
const policy = [
  [-0.9, -0.8, -1.6, -0.1],
  [-0.7, -0.9, 0, 0],
  [-0.6, -2.1, -0.9, 0],
  [-0.04, 0, 0, 0],
  [-1.1, -0.25, -1.1, -2.2],
  [-0.9, -0.1, 0, 0],
];
const old = [
  [-1.0, -0.5, -2.0, -0.1],
  [-0.7, -1.2, 0, 0],
  [-0.3, -2.5, -0.9, 0],
  [-0.05, 0, 0, 0],
  [-1.5, -0.2, -0.8, -3.0],
  [-0.6, -0.4, 0, 0],
];
const base = [
  [-1.1, -0.6, -1.9, -0.2],
  [-0.8, -1.0, 0, 0],
  [-0.4, -2.4, -1.0, 0],
  [-0.06, 0, 0, 0],
  [-1.4, -0.3, -0.7, -2.8],
  [-0.5, -0.5, 0, 0],
];
const rewards = [1, 0, 0, 1, 1, 0];
const A = groupAdvantages(rewards, 3, { form: "std", ddof: 1, epsilon: 1e-4 });

interface Case {
  readonly aggregation: Aggregation;
  readonly clip?: { low: number; high: number };
  readonly kl?: { estimator: KlEstimator; coefficient: number };
  readonly maxLength?: number;
  readonly policy?: number[][];
  /** What stands in padded positions of the policy's log-probabilities. */
  readonly junk?: number;
  readonly rows?: readonly number[];
  readonly device?: Device;
}

/** The loss and its gradient in the policy's log-probabilities, as rl/grpo.ts composes them. */
function grpoLoss(options: Case): { loss: number; gradient: number[] } {
  const { aggregation, clip = { low: 0.2, high: 0.2 }, kl, junk = 0, device = reference } = options;
  const rows = options.rows ?? [0, 1, 2, 3, 4, 5];
  const pick = (table: number[][]) =>
    tensor(
      rows.map((i) => table[i]!),
      undefined,
      { device },
    );
  const filled = (options.policy ?? policy).map((row, i) => {
    return row.map((x, t) => (mask[i]![t] ? x : junk));
  });
  const tokens = mask.flat().reduce((a, b) => a + b, 0);
  const denominator = { tokens, sequences: 6, maxLength: options.maxLength ?? 4 };
  return scope(() => {
    const logProbs = pick(filled).requireGrad();
    const inside = pick(mask).toBool();
    const advantage = tensor(
      rows.map((i) => [A[i]!]),
      undefined,
      { device },
    );
    const ratio = logRatio(logProbs, pick(old), inside);
    let values = clippedSurrogate(ratio, advantage, clip);
    if (kl !== undefined) {
      const d = inside.where(logProbs.sub(pick(base)), 0);
      values = values.add(klPenalty(d, kl.estimator).mul(kl.coefficient));
    }
    const weights = rows.map((i) => {
      const length = mask[i]!.reduce((a, b) => a + b, 0);
      return mask[i]!.map((m) => m * tokenWeight(aggregation, length, denominator));
    });
    const loss = weightedSum(values, tensor(weights, undefined, { device }));
    const [g] = gradients(loss, [logProbs]);
    return { loss: loss.item(), gradient: Array.from(g!.dataSync()) };
  });
}

function near(actual: ArrayLike<number>, expected: readonly number[], tolerance: number): void {
  assert.equal(actual.length, expected.length);
  expected.forEach((x, i) => {
    assert.ok(Math.abs(actual[i]! - x) <= tolerance, `[${i}] is ${actual[i]}, expected ${x}`);
  });
}

const k3 = { estimator: "k3", coefficient: 0.04 } as const;
const cases: readonly (Case & { name: string; loss: number })[] = [
  { name: "grpo", aggregation: "sequenceMean", loss: 0.035212889254 },
  { name: "grpo, β .04 k3", aggregation: "sequenceMean", kl: k3, loss: 0.036550086217 },
  { name: "dapo", aggregation: "tokenMean", loss: -0.117350472375 },
  { name: "dapo, β .04 k3", aggregation: "tokenMean", kl: k3, loss: -0.115831597928 },
  {
    name: "dapo, clip higher",
    aggregation: "tokenMean",
    clip: { low: 0.2, high: 0.28 },
    loss: -0.128895478106,
  },
  { name: "dr_grpo, L 8", aggregation: "fixedLength", maxLength: 8, loss: -0.039116824125 },
  {
    name: "dr_grpo, L 8, β .04",
    aggregation: "fixedLength",
    maxLength: 8,
    kl: k3,
    loss: -0.038610532643,
  },
  { name: "dr_grpo, L 4", aggregation: "fixedLength", maxLength: 4, loss: -0.07823364825 },
  { name: "on policy, grpo", aggregation: "sequenceMean", policy: old, loss: 0 },
  { name: "on policy, dapo", aggregation: "tokenMean", policy: old, loss: -0.144312571627 },
];

describe("advantages", () => {
  const std = (ddof: 0 | 1, epsilon: number) =>
    groupAdvantages(rewards, 3, { form: "std", ddof, epsilon });
  const form = (name: "centred" | "leaveOneOut") =>
    groupAdvantages(rewards, 3, { form: name, ddof: 1, epsilon: 0 });

  test("golden values of five trainers", () => {
    near(
      form("centred"),
      [2, -1, -1, 1, 1, -2].map((x) => x / 3),
      1e-12,
    );
    near(form("leaveOneOut"), [1, -0.5, -0.5, 0.5, 0.5, -1], 1e-12);
    near(std(1, 1e-4).slice(0, 2), [1.154500573014, -0.577250286507], 1e-9);
    near(std(1, 1e-6).slice(0, 2), [1.154698538383, -0.577349269191], 1e-9);
    near(std(0, 1e-4).slice(0, 2), [1.413913625999, -0.706956813], 1e-9);
    near(std(0, 1e-8).slice(0, 2), [1.414213532373, -0.707106766187], 1e-9);
  });

  test("equal rewards, one reward and null rewards give 0, never NaN", () => {
    for (const name of ["centred", "std", "leaveOneOut"] as const) {
      const of = (r: (number | null)[], n: number) => [
        ...groupAdvantages(r, n, { form: name, ddof: 1, epsilon: 0 }),
      ];
      assert.deepEqual(of([1, 1, 1], 3), [0, 0, 0]);
      assert.deepEqual(of([1], 1), [0]);
      assert.deepEqual(of([null, null], 2), [0, 0]);
      assert.deepEqual(of([null, 1], 2), [0, 0]);
      assert.deepEqual(of([], 4), []);
      assert.equal(of([null, 1, 0], 3)[0], 0);
      near(of([null, 1, 0], 3).slice(1), of([1, 0], 2), 1e-12);
    }
    assert.throws(
      () => groupAdvantages([1, 2, 3], 2, { form: "std", ddof: 1, epsilon: 0 }),
      /3 rew/,
    );
  });

  test("do not change when a number is added to all rewards", () => {
    const binary = fc.array(fc.constantFrom(0, 1), { minLength: 4, maxLength: 4 });
    fc.assert(
      fc.property(binary, fc.integer({ min: -8, max: 8 }), (r, shift) => {
        const options = { form: "std", ddof: 1, epsilon: 1e-4 } as const;
        const moved = groupAdvantages(
          r.map((x) => x + shift),
          4,
          options,
        );
        near(moved, [...groupAdvantages(r, 4, options)], 1e-9);
      }),
      { seed: 1 },
    );
  });
});

describe("GRPO losses", () => {
  for (const { name, loss, ...options } of cases) {
    test(`${name}: f64 to 1e-9, f32 to 2e-6, whatever stands in the padding`, () => {
      for (const junk of [0, -7.5, 1e3, -1e3]) {
        near([grpoLoss({ ...options, junk }).loss], [loss], 1e-9);
        near([grpoLoss({ ...options, junk, device: currentDevice() }).loss], [loss], 2e-6);
      }
    });
  }

  test("gradients: golden values, zeros in the padding", () => {
    const expected = [
      [-0.052861237013, -0.036005465442, 0.000431969632, -0.047945586239],
      [0.048421399149, 0.065251073891, 0, 0],
      [-0.000492006129, 0.048417972517, 0.032280932766, 0],
      [-0.097043282545, 0, 0, 0],
      [0.000431969632, -0.02279777645, -0.018637938252, 0.000751980607],
      [-0.001639415659, 0.130966663749, 0, 0],
    ].flat();
    const options = { aggregation: "sequenceMean", kl: k3, junk: -1e3 } as const;
    near(grpoLoss(options).gradient, expected, 1e-9);
    near(grpoLoss({ ...options, device: currentDevice() }).gradient, expected, 2e-6);
    const higher = [
      [-0.079745028637, -0.053454691267, 0, -0.072156285813],
      [0.036078142907, 0.048700398964, 0, 0],
      [0, 0.053822264633, 0.036078142907, 0],
      [-0.036440734271, 0, 0, 0],
      [0, -0.034318591114, -0.026727345634, 0],
      [0, 0.097400797927, 0, 0],
    ].flat();
    const clip = { low: 0.2, high: 0.28 };
    near(grpoLoss({ aggregation: "tokenMean", clip }).gradient, higher, 1e-9);
  });

  test("on policy the loss is 0 and the gradient is not", () => {
    const { gradient } = grpoLoss({ aggregation: "sequenceMean", policy: old });
    near(
      gradient.slice(0, 4),
      [1, 1, 1, 1].map(() => -0.048104190542),
      1e-9,
    );
    near(gradient.slice(12, 13), [-0.096208381085], 1e-9);
  });

  test("the padding trap: 100 in a padded log-ratio changes neither loss nor gradient", () => {
    for (const device of [reference, currentDevice()]) {
      for (const advantage of [1, -1]) {
        scope(() => {
          const logProbs = tensor([[0, 100]], undefined, { device }).requireGrad();
          const inside = tensor([[true, false]], undefined, { device });
          const ratio = logRatio(logProbs, tensor([[0, 0]], undefined, { device }), inside);
          const A = tensor([[advantage]], undefined, { device });
          const values = clippedSurrogate(ratio, A, { low: 0.2, high: 0.2 });
          const loss = weightedSum(values, tensor([[1, 0]], undefined, { device }));
          assert.equal(loss.item(), -advantage);
          assert.deepEqual([...gradients(loss, [logProbs])[0]!.dataSync()], [-advantage, 0]);
        });
      }
    }
  });

  test("the sum over any split into micro-batches, in any order, is the loss of the step", () => {
    const orders = fc.shuffledSubarray([0, 1, 2, 3, 4, 5], { minLength: 6 });
    fc.assert(
      fc.property(orders, fc.integer({ min: 0, max: 6 }), (order, cut) => {
        for (const { loss, ...options } of cases) {
          const parts = [order.slice(0, cut), order.slice(cut)].filter((rows) => rows.length > 0);
          const total = parts.reduce((sum, rows) => sum + grpoLoss({ ...options, rows }).loss, 0);
          near([total], [loss], 1e-9);
        }
      }),
      { seed: 1, numRuns: 10 },
    );
  });

  test("KL estimators: golden means", () => {
    const mean = (estimator: KlEstimator) =>
      scope(() => {
        const options = { device: reference };
        const d = tensor(mask, undefined, options)
          .toBool()
          .where(tensor(policy, undefined, options).sub(tensor(base, undefined, options)), 0);
        return klPenalty(d, estimator).sum().item() / 16;
      });
    near([mean("k1"), mean("k2"), mean("k3")], [0.085625, 0.039778125, 0.037971861175], 1e-9);
  });
});
