/** Differences, equivalence and agreement: published examples, identities, coverage. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { cohenKappa, spearman } from "../eval/agreement.ts";
import { studentAtMost, studentQuantile } from "../eval/distributions.ts";
import { equivalentMeans, equivalentOutcomes, equivalentUnpaired } from "../eval/equivalence.ts";
import { bootstrapGain, newcombe, wilson } from "../eval/statistics.ts";
import { randomStream } from "../tensor/random.ts";

function near(found: number, expected: number, tolerance = 1e-9): void {
  assert.ok(Math.abs(found - expected) <= tolerance, `${found}, expected ${expected}`);
}

const runs = { seed: 20260507, numRuns: 200 };
const count = fc
  .integer({ min: 0, max: 60 })
  .chain((trials) => fc.record({ trials: fc.constant(trials), successes: fc.nat(trials) }));

describe("Student's distribution", () => {
  test("gives the table's values, for fractions of a degree of freedom too", () => {
    near(studentQuantile(0.975, 4), 2.7764451, 1e-7);
    near(studentQuantile(0.95, 1), 6.3137515, 1e-7);
    assert.equal(studentAtMost(0, 3), 0.5);
    assert.equal(studentAtMost(Number.POSITIVE_INFINITY, 3), 1);
    for (const freedom of [1, 2.5, 24.9, 300]) {
      for (const p of [0.001, 0.3, 0.5, 0.975]) {
        near(studentAtMost(studentQuantile(p, freedom), freedom), p, 1e-10);
      }
    }
  });
});

describe("newcombe", () => {
  test("gives the published intervals", () => {
    // Newcombe 1998, table II, method 10: a/m - b/n.
    const published = [
      [56, 70, 48, 80, 0.0524, 0.3339],
      [9, 10, 3, 10, 0.1705, 0.809],
      [6, 7, 2, 7, 0.0582, 0.8062],
      [5, 56, 0, 29, -0.0381, 0.1926],
      [0, 10, 0, 20, -0.1611, 0.2775],
      [0, 10, 0, 10, -0.2775, 0.2775],
      [10, 10, 0, 20, 0.6791, 1],
      [10, 10, 0, 10, 0.6075, 1],
    ] as const;
    for (const [x, m, y, n, low, high] of published) {
      const found = newcombe({ successes: y, trials: n }, { successes: x, trials: m });
      near(found.low, low, 6e-5);
      near(found.high, high, 6e-5);
      near(found.estimate!, x / m - y / n, 1e-15);
    }
  });

  test("turns its sign with its sides, stays in [-1, 1], and knows nothing without trials", () => {
    fc.assert(
      fc.property(count, count, (a, b) => {
        const [forward, back] = [newcombe(a, b), newcombe(b, a)];
        near(forward.low, -back.high, 1e-12);
        assert.ok(forward.low >= -1 - 1e-12 && forward.high <= 1 + 1e-12);
        assert.ok(forward.low <= forward.high);
        if (a.trials === 0 || b.trials === 0) {
          assert.deepEqual(forward, { estimate: null, low: -1, high: 1 });
        } else assert.ok(forward.low <= forward.estimate! && forward.estimate! <= forward.high);
      }),
      runs,
    );
  });

  test("covers the truth in 95 % of samples, also near 1", () => {
    // Exact: the sum of the probabilities of all outcomes whose interval covers.
    const choose = (n: number, k: number): number =>
      k === 0 ? 1 : (choose(n, k - 1) * (n - k + 1)) / k;
    const chance = (n: number, k: number, p: number) => choose(n, k) * p ** k * (1 - p) ** (n - k);
    for (const [pA, pB] of [
      [0.3, 0.5],
      [0.89, 0.95],
      [0.99, 0.99],
    ] as const) {
      let covered = 0;
      for (let a = 0; a <= 40; a++) {
        for (let b = 0; b <= 40; b++) {
          const { low, high } = newcombe(
            { successes: a, trials: 40 },
            { successes: b, trials: 40 },
          );
          if (low <= pB - pA && pB - pA <= high) covered += chance(40, a, pA) * chance(40, b, pB);
        }
      }
      assert.ok(covered > 0.94 && covered <= 1 + 1e-9, `${pA}, ${pB}: ${covered}`);
    }
  });
});

describe("equivalence", () => {
  test("of paired means is Student's interval inside the margin", () => {
    const found = equivalentMeans([0.01, -0.01, 0.02, 0, 0.005], { margin: 0.03 });
    near(found.estimate, 0.005, 1e-15);
    near(found.high - found.estimate, 2.1318468 * Math.sqrt(0.000125 / 5), 1e-8);
    assert.equal(found.equivalent, true);
    assert.equal(
      equivalentMeans([0.01, -0.01, 0.02, 0, 0.005], { margin: 0.015 }).equivalent,
      false,
    );
  });

  test("of runs that share nothing has Welch's error and degrees of freedom", () => {
    // A worked example of Welch's test: t = -2.46 on 25.0 degrees of freedom, two-sided p = 0.021.
    const a = [27.5, 21, 19, 23.6, 17, 17.9, 16.9, 20.1, 21.9, 22.6, 23.1, 19.6, 19, 21.7, 21.4];
    const b = [
      27.1, 22, 20.8, 23.4, 23.4, 23.5, 25.8, 22, 24.8, 20.2, 21.9, 22.1, 22.9, 20.5, 24.4,
    ];
    const found = equivalentUnpaired(a, b, { margin: 4, alpha: 0.025 });
    near(found.freedom, 25, 0.05);
    const error = (found.high - found.low) / 2 / studentQuantile(0.975, found.freedom);
    near(found.estimate / error, 2.46, 0.01);
    near(2 * studentAtMost(-found.estimate / error, found.freedom), 0.021, 5e-4);
    near(found.p, studentAtMost(-(4 - found.estimate) / error, found.freedom), 1e-12);
    assert.throws(() => equivalentUnpaired([1], b, { margin: 1 }), /1 and 15 runs/);
  });

  test("is claimed exactly where p < α, and never of one run", () => {
    const values = fc.array(fc.integer({ min: -40, max: 40 }), { minLength: 2, maxLength: 8 });
    fc.assert(
      fc.property(values, values, fc.integer({ min: 1, max: 60 }), (a, b, margin) => {
        for (const found of [
          equivalentMeans(a, { margin }),
          equivalentUnpaired(a, b, { margin }),
        ]) {
          if (Math.abs(found.p - 0.05) > 1e-9) assert.equal(found.equivalent, found.p < 0.05);
          assert.ok(found.p >= 0 && found.p <= 1);
        }
      }),
      runs,
    );
    const one = equivalentMeans([0], { margin: 0.03 });
    assert.deepEqual([one.equivalent, one.p, one.high], [false, 1, Number.POSITIVE_INFINITY]);
    // Equal values, whose mean rounds to another number, and as good as equal ones.
    for (const same of [[0, 0], [0.02, 0.02, 0.02], Array<number>(7).fill(0.1), [1e-17, -1e-17]]) {
      const found = equivalentMeans(same, { margin: 0.3 });
      assert.deepEqual(
        [found.equivalent, found.p, found.low],
        [false, 1, Number.NEGATIVE_INFINITY],
      );
      const apart = equivalentUnpaired(same, same, { margin: 0.3 });
      assert.deepEqual(
        [apart.equivalent, apart.p, apart.high],
        [false, 1, Number.POSITIVE_INFINITY],
      );
    }
    assert.equal(equivalentMeans([0.02, 0.0201, 0.0199], { margin: 0.03 }).equivalent, true);
    assert.throws(() => equivalentMeans([], { margin: 1 }), /no differences/);
    assert.throws(() => equivalentMeans([1, 2], { margin: 0 }), /margin is 0/);
  });

  test("of methods that differ by the margin is claimed at most in α of samples", () => {
    const stream = randomStream({ seed: 3, purpose: "tost" });
    let claimed = 0;
    for (let sample = 0; sample < 2000; sample++) {
      const differences = Array.from({ length: 6 }, () => 0.03 + 0.01 * stream.normal());
      if (equivalentMeans(differences, { margin: 0.03 }).equivalent) claimed++;
    }
    near(claimed / 2000, 0.05, 4 * Math.sqrt((0.05 * 0.95) / 2000));
  });

  test("of outcomes is the 90 % bootstrap interval; without any change, a bound of what was unseen", () => {
    const stream = randomStream({ seed: 4, purpose: "outcomes" });
    const outcomes = Array.from({ length: 600 }, (_, i) => {
      const [before, flips] = [Number(stream.uniform() < 0.6), stream.uniform() < 0.03];
      return { entity: i >> 1, before, after: flips ? 1 - before : before };
    });
    const options = { seed: 5, resamples: 2000 };
    const found = equivalentOutcomes(outcomes, { margin: 0.03, ...options });
    const interval = bootstrapGain(outcomes, { level: 0.9, ...options });
    assert.deepEqual([found.low, found.high], [interval.low, interval.high]);
    assert.equal(found.equivalent, true);
    assert.equal(equivalentOutcomes(outcomes, { margin: 0.005, ...options }).equivalent, false);
    const same = (n: number) =>
      equivalentOutcomes(
        outcomes
          .slice(0, n)
          .map((outcome, entity) => ({ ...outcome, entity, after: outcome.before })),
        { margin: 0.03, ...options, resamples: 50 },
      );
    assert.equal(same(10).equivalent, false);
    near(same(10).high, wilson(0, 10, 0.9).high, 1e-15);
    assert.equal(same(300).equivalent, true);
    // Resampled means of such differences are equal but for rounding.
    const tenth = outcomes.slice(0, 90).map((_, i) => {
      return { entity: i >> (i % 3), before: 0.1, after: 0.1 + 0.2 };
    });
    const { estimate, high, low } = equivalentOutcomes(tenth, { margin: 0.3, ...options });
    const { entities } = bootstrapGain(tenth, options);
    near(high - estimate, wilson(0, entities, 0.9).high, 1e-12);
    near(estimate - low, wilson(0, entities, 0.9).high, 1e-12);
  });
});

describe("cohenKappa", () => {
  test("gives the published values", () => {
    near(
      cohenKappa([
        [20, 5],
        [10, 15],
      ]).kappa!,
      0.4,
      1e-12,
    );
    // Fleiss, Levin & Paik 2003, table 18.1: 100 patients, three diagnoses.
    const found = cohenKappa([
      [75, 1, 4],
      [5, 4, 1],
      [0, 0, 10],
    ]);
    near(found.kappa!, 0.676, 5e-4);
    near((found.high - found.low) / 2 / 1.959964, 0.0877, 5e-4);
  });

  test("has the error of the delta method, by central differences", () => {
    const cell = fc.integer({ min: 1, max: 30 });
    fc.assert(
      fc.property(fc.array(cell, { minLength: 9, maxLength: 9 }), (cells) => {
        const kappaOf = (flat: readonly number[]) =>
          cohenKappa([flat.slice(0, 3), flat.slice(3, 6), flat.slice(6)]);
        const found = kappaOf(cells);
        const n = cells.reduce((a, b) => a + b, 0);
        // κ depends on shares only, so its gradient by a count, times n, is that by a share.
        const slope = cells.map((_, i) => {
          const moved = (by: number) => kappaOf(cells.map((x, j) => (i === j ? x + by : x))).kappa!;
          return (n * (moved(1e-4) - moved(-1e-4))) / 2e-4;
        });
        const mean = slope.reduce((sum, g, i) => sum + (g * cells[i]!) / n, 0);
        const square = slope.reduce((sum, g, i) => sum + (g ** 2 * cells[i]!) / n, 0);
        const half = 1.959963984540054 * Math.sqrt((square - mean ** 2) / n);
        if (found.high < 1) near(found.high - found.kappa!, half, 1e-6);
      }),
      runs,
    );
  });

  test("covers the truth in about 95 % of samples", () => {
    const stream = randomStream({ seed: 6, purpose: "kappa" });
    const cumulative = [0.55, 0.6, 0.7, 1];
    const truth = cohenKappa([
      [55, 5],
      [10, 30],
    ]).kappa!;
    let covered = 0;
    for (let sample = 0; sample < 1000; sample++) {
      const cells = [0, 0, 0, 0];
      for (let i = 0; i < 200; i++) cells[stream.weighted(cumulative)]! += 1;
      const { low, high } = cohenKappa([cells.slice(0, 2), cells.slice(2)]);
      if (low <= truth && truth <= high) covered++;
    }
    near(covered / 1000, 0.95, 0.025);
  });

  test("is undefined without observations or variety, and bounded without disagreement", () => {
    for (const table of [
      [],
      [
        [0, 0],
        [0, 0],
      ],
      [
        [9, 0],
        [0, 0],
      ],
    ]) {
      const { kappa, low, high } = cohenKappa(table);
      assert.deepEqual([kappa, low, high], [null, -1, 1]);
    }
    const perfect = cohenKappa([
      [12, 0],
      [0, 8],
    ]);
    assert.deepEqual([perfect.kappa, perfect.high], [1, 1]);
    near(perfect.low, (wilson(20, 20).low - 0.52) / 0.48, 1e-12);
    assert.equal(
      cohenKappa([
        [0, 10],
        [10, 0],
      ]).kappa,
      -1,
    );
    assert.throws(() => cohenKappa([[1, 2]]), /square table/);
    assert.throws(
      () =>
        cohenKappa([
          [1, -2],
          [0, 0],
        ]),
      /square table/,
    );
  });
});

describe("spearman", () => {
  test("gives the published value, and counts all orders where they are few", () => {
    const iq = [106, 86, 100, 101, 99, 103, 97, 113, 112, 110];
    const hours = [7, 0, 27, 50, 28, 29, 20, 12, 6, 17];
    const found = spearman(iq, hours);
    near(found.rho!, -29 / 165, 1e-12);
    near(found.p, 0.627188, 1e-5);
    const rising = spearman([1, 2, 3, 4, 5], [2, 4, 8, 16, 32]);
    assert.deepEqual([rising.rho, rising.p], [1, 2 / 120]);
    // Of the 6 orders of 3 values only the two straight ones reach |ρ| = 1.
    assert.equal(spearman([1, 2, 3], [9, 5, 1]).p, 2 / 6);
    const many = Array.from({ length: 12 }, (_, i) => i);
    assert.deepEqual([spearman(many, many).rho, spearman(many, many).p], [1, 0]);
  });

  test("sees order alone, turns with it, shares ranks of ties, and is undefined of constants", () => {
    const pairs = fc.array(fc.tuple(fc.integer({ min: 0, max: 9 }), fc.integer()), {
      minLength: 2,
      maxLength: 14,
    });
    fc.assert(
      fc.property(pairs, (points) => {
        const [x, y] = [points.map(([a]) => a), points.map(([, b]) => b)];
        const found = spearman(x, y);
        assert.deepEqual(
          spearman(
            x.map((v) => Math.exp(v)),
            y,
          ),
          found,
        );
        const turned = spearman(
          x.map((v) => -v),
          y,
        );
        if (found.rho === null) return assert.equal(found.p, 1);
        near(turned.rho!, -found.rho, 1e-12);
        near(turned.p, found.p, 1e-9);
        near(spearman(y, x).rho!, found.rho, 1e-12);
        assert.ok(found.p > 0 || Math.abs(found.rho) === 1);
      }),
      { ...runs, numRuns: 60 },
    );
    assert.equal(spearman([], []).rho, null);
    assert.equal(spearman([1, 1, 1], [1, 2, 3]).rho, null);
    assert.throws(() => spearman([1], [1, 2]), /1 and 2 values/);
  });
});
