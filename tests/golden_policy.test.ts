/** Golden values of advantages and policy losses: by other trainers, and by formula, in f64. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import * as fc from "fast-check";
import { type AdvantageForm, advantageForms, groupAdvantages } from "../rl/advantage.ts";
import { weightedSum } from "../rl/aggregate.ts";
import { importanceWeights } from "../rl/importance.ts";
import { clippedSurrogate, type KlEstimator, klPenalty, logRatio } from "../rl/loss.ts";
import { metricsOf } from "../rl/methods/grpo.ts";
import { ratioFigures } from "../rl/policy_step.ts";
import { gradients, reference, scope, tensor } from "../tensor/mod.ts";
import {
  A,
  golden,
  groupSize,
  lengthOf,
  mask,
  near,
  old,
  type PolicyCase,
  policyLoss,
  policyRows,
  precisions,
  ref,
  rewards,
  rollout,
  tokens,
} from "./golden/golden.ts";

const cases = golden.policy as PolicyCase[];

describe("golden advantages", () => {
  for (const { name, form, ddof, epsilon, values } of golden.advantages) {
    test(name, () => {
      const found = groupAdvantages(rewards, groupSize, { form, ddof, epsilon });
      near(found.slice(0, values.length), values, 1e-9);
    });
  }

  test("equal rewards, one reward and null rewards give 0, never NaN", () => {
    for (const form of advantageForms) {
      const of = (r: (number | null)[], n: number) => [
        ...groupAdvantages(r, n, { form, ddof: 1, epsilon: 0 }),
      ];
      assert.deepEqual(of([null, null], 2), [0, 0]);
      assert.deepEqual(of([], 4), []);
      assert.equal(of([null, 1, 0], 3)[0], 0);
      if (form === "reward") continue;
      assert.deepEqual(of([1, 1, 1], 3), [0, 0, 0]);
      assert.deepEqual(of([1], 1), [0]);
      assert.deepEqual(of([null, 1], 2), [0, 0]);
      near(of([null, 1, 0], 3).slice(1), of([1, 0], 2), 1e-12);
    }
    const form = { form: "std", ddof: 1, epsilon: 0 } as const;
    assert.throws(() => groupAdvantages([1, 2, 3], 2, form), /3 rewards in groups of 2/);
  });

  test("of equal rewards are 0 though their mean is rounded and no epsilon is added", () => {
    const cents = fc.integer({ min: -1000, max: 1000 }).map((n) => n * 0.00137);
    const forms = fc.constantFrom("std" as const, "batchStd" as const);
    fc.assert(
      fc.property(cents, fc.integer({ min: 2, max: 16 }), forms, (reward, n, form) => {
        const equal = Array(n).fill(reward);
        const found = groupAdvantages(equal, n, { form, ddof: 1, epsilon: 0 });
        assert.ok(
          found.every((a) => a === 0),
          `${n} times ${reward}: ${found}`,
        );
      }),
    );
  });

  test("do not change when a number is added to all rewards", () => {
    const binary = fc.array(fc.constantFrom(0, 1), { minLength: 8, maxLength: 8 });
    const forms = fc.constantFrom(...advantageForms.filter((form) => form !== "reward"));
    fc.assert(
      fc.property(forms, binary, fc.integer({ min: -8, max: 8 }), (form, r, shift) => {
        const options: AdvantageForm = { form, ddof: 1, epsilon: 1e-4 };
        const moved = r.map((x) => x + shift);
        near(groupAdvantages(moved, 4, options), groupAdvantages(r, 4, options), 1e-9);
      }),
    );
  });
});

describe("golden policy losses", () => {
  for (const { name, loss, gradient, ...form } of cases) {
    for (const [precision, device, tolerance] of precisions) {
      test(`${name}, ${precision}, whatever stands in the padding`, () => {
        for (const junk of [0, -7.5, 1e3, -1e3]) {
          for (const padding of [0, 3]) {
            const found = policyLoss(form, { device: device(), junk, padding });
            near([found.loss], [loss], tolerance);
            found.gradient.forEach((x, i) => {
              const [row, t] = [Math.floor(i / found.width), i % found.width];
              if (!mask[row]![t]) assert.equal(x, 0, `the gradient of padding [${row}][${t}]`);
              else if (gradient) near([x], [gradient[row]![t]!], tolerance);
            });
          }
        }
      });
    }
  }

  test("the sum over any split into micro-batches, in any order, is the loss of the step", () => {
    const orders = fc.shuffledSubarray([0, 1, 2, 3, 4, 5], { minLength: 6 });
    fc.assert(
      fc.property(orders, fc.integer({ min: 0, max: 6 }), (order, cut) => {
        for (const { loss, ...form } of cases) {
          const parts = [order.slice(0, cut), order.slice(cut)].filter((rows) => rows.length > 0);
          const sums = parts.map((rows) => policyLoss(form, { device: reference, rows }).loss);
          near([sums.reduce((a, b) => a + b, 0)], [loss], 1e-9);
        }
      }),
      { numRuns: 10 },
    );
  });

  test("the mean of micro-batch means is another number: aggregation is over the step", () => {
    const half = (rows: number[]) => {
      const form = cases.find(({ name }) => name.startsWith("token mean (DAPO"))!;
      const own = rows.reduce((total, row) => total + lengthOf(row), 0);
      return (policyLoss(form, { device: reference, rows }).loss * tokens) / own;
    };
    near([(half([0, 1, 2]) + half([3, 4, 5])) / 2], [golden.microBatchMeans.value], 1e-9);
  });

  test("dual clip bounds the loss of a bad answer that has become likely, and its gradient", () => {
    const { dualClip, ...expected } = golden.dualClip;
    const moved = old.map((row, i) =>
      row.map((x, t) => (i === 1 && t === 0 ? x + Math.log(4) : x)),
    );
    const of = (more: object) =>
      policyLoss({ aggregation: "tokenMean", ...more }, { device: reference, policy: moved });
    near([of({}).loss, of({ dualClip }).loss], [expected.without, expected.with], 1e-9);
    near([of({}).gradient[4]!], [expected.gradientWithout], 1e-9);
    near([of({ dualClip }).gradient[4]!], [expected.gradientWith], 1e-9);
    const { advantage, ratio, free, ratioCap, capped, dual } = expected.single;
    const single = (more: object) =>
      scope(() =>
        clippedSurrogate(
          tensor([Math.log(ratio)], undefined, { device: reference }),
          tensor([advantage], undefined, { device: reference }),
          { low: 0.2, high: 0.2, ...more },
        )
          .sum()
          .item(),
      );
    near([single({}), single({ ratioCap }), single({ dualClip })], [free, capped, dual], 1e-9);
  });

  test("the padding trap: 100 in a padded log-ratio changes neither loss nor gradient", () => {
    for (const [, device] of precisions) {
      for (const advantage of [1, -1]) {
        scope(() => {
          const on = (values: number[]) => tensor([values], undefined, { device: device() });
          const logProbs = on([0, 100]).requireGrad();
          const ratio = logRatio(logProbs, on([0, 0]), on([1, 0]).toBool());
          const values = clippedSurrogate(ratio, on([advantage]), { low: 0.2, high: 0.2 });
          const loss = weightedSum(values, on([1, 0]));
          assert.equal(loss.item(), -advantage);
          assert.deepEqual([...gradients(loss, [logProbs])[0]!.dataSync()], [-advantage, 0]);
        });
      }
    }
  });

  test("CISPO and the soft gate report no shares of a clip that they don't have", () => {
    const answer = {
      prompt: [1],
      tokens: [2],
      count: 1,
      weight: 1,
      old: [0],
      importance: undefined,
    };
    const answers = [1, -1].map((a) => ({ ...answer, advantages: [a] }));
    const logRatios = [[1], [-1]]; // both beyond the bounds
    const bounds = { clipLow: 0.2, clipHigh: 0.2 };
    for (const surrogate of ["cispo", "soft", "clip"] as const) {
      const found = ratioFigures(answers, logRatios, { surrogate, ...bounds });
      const share = surrogate === "clip" ? 0.5 : null;
      assert.deepEqual([found.clippedLow, found.clippedHigh], [share, share]);
      const { "clip_ratio/low_mean": low } = metricsOf([
        { ...found, loss: 0, gradNorm: 0, kl: null, entropy: null },
      ]);
      assert.equal(low, share);
    }
  });

  test("gradients of CISPO and of the soft gate, by formula", () => {
    for (const cap of [0.9, 1.2, 5]) {
      const form = { aggregation: "tokenMean", surrogate: "cispo", ratioCap: cap } as const;
      const soft = { ...form, surrogate: "soft", softPositive: 1.5, softNegative: 2 } as const;
      const [bounded, gated] = [form, soft].map(
        (own) => policyLoss(own, { device: reference }).gradient,
      );
      for (const [i, row] of policyRows.entries()) {
        for (const [t, x] of row.entries()) {
          const ratio = mask[i]![t] ? Math.exp(x - old[i]![t]!) : 0;
          const weight = -A[i]! / tokens;
          // The weight of a token is a constant: its gradient is that of log π alone.
          const expected = mask[i]![t] ? weight * Math.min(ratio, cap) : 0;
          near([bounded![4 * i + t]!], [expected], 1e-12);
          const gate = 1 / (1 + Math.exp(-(A[i]! > 0 ? 1.5 : 2) * (ratio - 1)));
          near([gated![4 * i + t]!], [4 * gate * (1 - gate) * ratio * weight], 1e-12);
        }
      }
    }
  });

  test("KL estimators: golden means", () => {
    for (const [precision, device, tolerance] of precisions) {
      for (const [estimator, mean] of Object.entries(golden.klMeans)) {
        const found = scope(() => {
          const on = (rows: number[][]) => tensor(rows, undefined, { device: device() });
          const d = on(mask)
            .toBool()
            .where(on(policyRows).sub(on(ref)), 0);
          return (
            klPenalty(d, estimator as KlEstimator)
              .sum()
              .item() / tokens
          );
        });
        near([found], [mean as number], tolerance);
        assert.ok(precision);
      }
    }
    const d = tensor([0.5], undefined, { device: reference });
    assert.throws(() => klPenalty(d, "ratioK3"), /ratioK3 needs the log-ratio/);
  });

  test("importance weights: golden ratios of sequences; lengths must agree", () => {
    const cut = (rows: number[][]) => rows.map((row, i) => row.slice(0, lengthOf(i)));
    const form = { level: "sequence", mode: "truncate", cap: Infinity } as const;
    const weights = importanceWeights(cut(old), cut(rollout), form);
    near(
      weights.map((row) => row[0]!),
      golden.sequenceImportance,
      1e-9,
    );
    assert.throws(() => importanceWeights([[1]], [[1, 2]], form), /answer 0 has 1 and 2/);
  });
});
