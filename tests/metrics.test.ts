/** pass@k, accessibility and the statistics, against known values, identities and simulation. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import {
  accessibilityBins,
  cochranArmitage,
  repairByAccessibility,
} from "../eval/accessibility.ts";
import { normalQuantile, normalTwoSided } from "../eval/distributions.ts";
import { exactPassAtK, exactPassAtKCurve, passAtK, passAtKCurve } from "../eval/pass_at_k.ts";
import {
  bootstrapByEntity,
  bootstrapGain,
  holm,
  mcnemar,
  mcnemarFromCounts,
  wilson,
} from "../eval/statistics.ts";
import { randomStream } from "../tensor/random.ts";

function near(found: number, expected: number, tolerance = 1e-9): void {
  assert.ok(Math.abs(found - expected) <= tolerance, `${found}, expected ${expected}`);
}

/** C(n, k), exactly. */
function choose(n: number, k: number): bigint {
  let result = 1n;
  for (let i = 1; i <= k; i++) result = (result * BigInt(n - k + i)) / BigInt(i);
  return result;
}

const samples = fc
  .integer({ min: 1, max: 300 })
  .chain((n) => fc.tuple(fc.constant(n), fc.nat({ max: n }), fc.integer({ min: 1, max: n })));
const runs = { seed: 20260507, numRuns: 200 };

describe("passAtK", () => {
  test("gives the golden values", () => {
    near(passAtK(8, 3, 4), 0.928571428571, 1e-12);
    const golden: [number, number[]][] = [
      [1, [0.0078125, 0.0625, 0.5, 1]],
      [5, [0.0390625, 0.279659004318, 0.971181102362, 1]],
    ];
    for (const [c, values] of golden) {
      for (const [i, k] of [1, 8, 64, 128].entries()) near(passAtK(128, c, k), values[i]!, 1e-12);
    }
  });

  test("equals 1 - C(n-c, k) / C(n, k) in exact arithmetic", () => {
    fc.assert(
      fc.property(samples, ([n, c, k]) => {
        const scale = 10n ** 18n;
        const wrong = n - c < k ? 0n : (choose(n - c, k) * scale) / choose(n, k);
        near(passAtK(n, c, k), 1 - Number(wrong) / 1e18, 1e-12);
      }),
      runs,
    );
  });

  test("grows with k and with c, from 0 to 1; at k = 1 it is the share of right samples", () => {
    fc.assert(
      fc.property(samples, ([n, c, k]) => {
        const value = passAtK(n, c, k);
        assert.ok(value >= 0 && value <= 1);
        near(passAtK(n, c, 1), c / n, 1e-12);
        if (k < n) assert.ok(passAtK(n, c, k + 1) >= value);
        if (c < n) assert.ok(passAtK(n, c + 1, k) >= value);
        if (c === 0) assert.equal(value, 0);
        if (c === n) assert.equal(value, 1);
      }),
      runs,
    );
  });

  test("refuses k beyond the samples, and impossible counts", () => {
    assert.throws(() => passAtK(128, 5, 256), /k = 256 is more than the 128 samples/);
    for (const [n, c, k] of [
      [8, 9, 1],
      [8, -1, 1],
      [8, 1, 0],
      [8, 1.5, 2],
    ] as const) {
      assert.throws(() => passAtK(n, c, k), RangeError);
    }
  });

  test("is unbiased: means over samples are the exact pass@k within 4 standard errors", () => {
    const [repeats, n] = [800, 256];
    for (const p of [0.002, 0.03, 0.4]) {
      const stream = randomStream({ seed: 1, purpose: `pass@k of ${p}` });
      const counts = Array.from({ length: repeats }, () => {
        let right = 0;
        for (let i = 0; i < n; i++) if (stream.uniform() < p) right += 1;
        return right;
      });
      for (const k of [1, 4, 16, 64, 256]) {
        const values = counts.map((c) => passAtK(n, c, k));
        const mean = values.reduce((a, b) => a + b, 0) / repeats;
        const variance = values.reduce((a, b) => a + (b - mean) ** 2, 0) / (repeats - 1);
        near(mean, exactPassAtK(p, k), 4 * Math.sqrt(variance / repeats) + 1e-9);
      }
    }
  });

  test("exact values stay accurate for tiny probabilities and end at 1", () => {
    near(exactPassAtK(1e-12, 4) / 4e-12, 1, 1e-9);
    assert.equal(exactPassAtK(1, 3), 1);
    assert.equal(exactPassAtK(1 + 1e-7, 3), 1);
    assert.equal(exactPassAtK(0, 256), 0);
    near(exactPassAtK(0.5, 3), 0.875, 1e-15);
    assert.throws(() => exactPassAtK(1.5, 2), /probability 1.5/);
  });

  test("curves are means over questions, for every k that the samples allow", () => {
    const curve = passAtKCurve([0, 4, 128], 128);
    assert.deepEqual(
      curve.map(({ k }) => k),
      [1, 2, 4, 8, 16, 32, 64, 128],
    );
    near(curve[0]!.value, (0 + 4 / 128 + 1) / 3);
    near(curve.at(-1)!.value, 2 / 3);
    near(exactPassAtKCurve([0, 0.5], [2])[0]!.value, 0.375);
    assert.throws(() => passAtKCurve([], 128), /no questions/);
  });
});

describe("accessibility", () => {
  test("of 128 samples the nine bins are the paper's", () => {
    const labels = accessibilityBins(128).map((bin) => bin.label);
    assert.deepEqual(labels, ["0", "1", "2", "3-4", "5-8", "9-16", "17-32", "33-64", "≥65"]);
  });

  test("bins of any number of samples cover all counts once, other counts are refused", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 600 }), (samples) => {
        const bins = accessibilityBins(samples);
        for (let count = 0; count <= samples; count++) {
          assert.equal(bins.filter(({ low, high }) => count >= low && count <= high).length, 1);
        }
        assert.equal(bins.at(-1)!.high, samples);
      }),
    );
    for (const accessibleCount of [-1, 129, 2.5]) {
      const record = { accessibleCount, greedyBefore: false, greedyAfter: true };
      assert.throws(() => repairByAccessibility([record], 128), /of 128 samples/);
    }
  });

  test("repair rates count the failed questions only", () => {
    const record = (accessibleCount: number, before: boolean, after: boolean) => ({
      accessibleCount,
      greedyBefore: before,
      greedyAfter: after,
    });
    const { rows } = repairByAccessibility(
      [
        record(0, false, false),
        record(0, false, true),
        record(0, false, false),
        record(0, false, false),
        record(6, false, true),
        record(90, true, false),
      ],
      128,
    );
    assert.deepEqual(
      rows.map(({ n }) => n),
      [4, 0, 0, 0, 1, 0, 0, 0, 0],
    );
    assert.deepEqual(
      rows.map(({ rate }) => rate),
      [0.25, null, null, null, 1, null, null, null, null],
    );
    assert.deepEqual(rows[0]!.interval, wilson(1, 4));
    assert.deepEqual(rows[8]!.interval, { low: 0, high: 1 });
    assert.ok(rows.every((row) => row.few));
  });

  test("the trend's z² is N times the squared correlation of score and outcome", () => {
    const groups = fc.array(fc.tuple(fc.nat({ max: 40 }), fc.nat({ max: 40 })), {
      minLength: 2,
      maxLength: 9,
    });
    fc.assert(
      fc.property(groups, (pairs) => {
        const outcomes = pairs.flatMap(([right, wrong], score) => [
          ...new Array<[number, number]>(right).fill([score, 1]),
          ...new Array<[number, number]>(wrong).fill([score, 0]),
        ]);
        const mean = (f: (pair: [number, number]) => number) =>
          outcomes.reduce((sum, pair) => sum + f(pair), 0) / outcomes.length;
        const [x, y] = [mean((o) => o[0]), mean((o) => o[1])];
        const covariance = mean((o) => (o[0] - x) * (o[1] - y));
        const scale = Math.sqrt(mean((o) => (o[0] - x) ** 2) * mean((o) => (o[1] - y) ** 2));
        const trend = cochranArmitage(
          pairs.map(([a]) => a),
          pairs.map(([a, b]) => a + b),
        );
        if (outcomes.length === 0 || scale < 1e-9) return assert.deepEqual(trend, { z: 0, p: 1 });
        near(trend.z, (covariance / scale) * Math.sqrt(outcomes.length), 1e-6);
      }),
      runs,
    );
    assert.ok(cochranArmitage([6, 52, 84], [100, 100, 100]).p < 1e-20);
    assert.ok(cochranArmitage([84, 52, 6], [100, 100, 100]).z < 0);
  });
});

describe("distributions", () => {
  test("give textbook values, and accurate far tails", () => {
    near(normalQuantile(0.975), 1.959963984540054, 1e-12);
    near(normalTwoSided(1.959963984540054), 0.05, 1e-12);
    near(normalTwoSided(-20) / 5.507248237212379e-89, 1, 1e-9);
    assert.ok(normalTwoSided(36.9) > 0);
    assert.equal(normalTwoSided(400), 0);
    assert.throws(() => normalQuantile(1), /expected in \(0, 1\)/);
  });
});

describe("wilson", () => {
  test("gives known intervals", () => {
    const judge = wilson(184, 200);
    near(judge.low, 0.874, 5e-4);
    near(judge.high, 0.95, 5e-4);
    const none = wilson(0, 200);
    assert.equal(none.low, 0);
    near(none.high, 0.018845, 1e-5);
    assert.deepEqual(wilson(0, 0), { low: 0, high: 1 });
    assert.throws(() => wilson(3, 2), /3 successes of 2/);
  });

  test("contains the proportion, mirrors, and solves the score equation", () => {
    fc.assert(
      fc.property(samples, ([n, c]) => {
        const { low, high } = wilson(c, n);
        assert.ok(low >= 0 && high <= 1 && low <= c / n && c / n <= high);
        const mirrored = wilson(n - c, n);
        near(mirrored.low, 1 - high, 1e-12);
        near(mirrored.high, 1 - low, 1e-12);
        for (const p of [low, high]) {
          if (p > 0 && p < 1) near((c / n - p) ** 2 / ((p * (1 - p)) / n), 3.841458820694124, 1e-6);
        }
      }),
      runs,
    );
  });
});

describe("mcnemar", () => {
  test("is the exact binomial below 25 changes, else the corrected chi-square", () => {
    const small = mcnemarFromCounts(10, 2);
    assert.equal(small.method, "exact binomial");
    near(small.p, (2 * 79) / 4096, 1e-12);
    const large = mcnemarFromCounts(40, 12);
    assert.equal(large.method, "chi-square, continuity-corrected");
    near(large.p, normalTwoSided(27 / Math.sqrt(52)), 1e-15);
    near(large.p, 0.000181, 1e-6);
    assert.equal(mcnemarFromCounts(0, 0).p, 1);
    assert.equal(mcnemarFromCounts(3, 3).p, 1);
    assert.equal(mcnemarFromCounts(13, 13).p, 1);
    assert.ok(mcnemarFromCounts(385, 14).p < 1e-70);
    assert.equal(mcnemarFromCounts(9000, 0).p, 0);
  });

  test("counts fixed and broken questions, and is symmetric", () => {
    const pairs = fc.array(fc.tuple(fc.boolean(), fc.boolean()), { maxLength: 80 });
    fc.assert(
      fc.property(pairs, (outcomes) => {
        const before = outcomes.map(([a]) => a);
        const after = outcomes.map(([, b]) => b);
        const forward = mcnemar(before, after);
        const backward = mcnemar(after, before);
        assert.equal(forward.fixed, outcomes.filter(([a, b]) => !a && b).length);
        assert.deepEqual([forward.fixed, forward.broken], [backward.broken, backward.fixed]);
        assert.equal(forward.p, backward.p);
        assert.ok(forward.p > 0 && forward.p <= 1);
      }),
      runs,
    );
    assert.throws(() => mcnemar([true], []), /1 outcomes before, 0 after/);
  });
});

describe("bootstrap by entity", () => {
  const outcomes = (entities: number, copies: number) => {
    const stream = randomStream({ seed: 8, purpose: "outcomes" });
    return Array.from({ length: entities }, (_, entity) => {
      const [before, after] = [stream.uniform() < 0.3 ? 1 : 0, stream.uniform() < 0.6 ? 1 : 0];
      return Array.from({ length: copies }, () => ({ entity, before, after }));
    }).flat();
  };

  test("agrees with the normal interval where every entity has one question", () => {
    const data = outcomes(400, 1);
    const gains = data.map(({ before, after }) => after - before);
    const mean = gains.reduce((a, b) => a + b, 0) / gains.length;
    const error = Math.sqrt(gains.reduce((a, b) => a + (b - mean) ** 2, 0)) / gains.length;
    const result = bootstrapGain(data, { seed: 1 });
    near(result.estimate, mean, 1e-12);
    near(result.low, mean - 1.96 * error, 0.1 * error);
    near(result.high, mean + 1.96 * error, 0.1 * error);
    const few = (seed: number) => bootstrapGain(data, { seed, resamples: 20 });
    assert.deepEqual(few(1), few(1));
    assert.notDeepEqual(few(1), few(2));
  });

  test("copies of a question add no certainty, as they would if entities were ignored", () => {
    const width = ({ low, high }: { low: number; high: number }) => high - low;
    const data = outcomes(100, 9);
    const clustered = bootstrapGain(data, { seed: 3, resamples: 3000 });
    const naive = data.map((outcome, entity) => ({ ...outcome, entity }));
    const ignored = bootstrapGain(naive, { seed: 3, resamples: 3000 });
    assert.equal(clustered.entities, 100);
    near(width(clustered) / width(ignored), 3, 0.3);
  });

  test("resamples the parts of a ratio together, and reports an undefined one", () => {
    const rows = outcomes(50, 2).map(({ entity, before, after }) => ({
      entity,
      values: [2 * (1 + after + before), 1 + after + before],
    }));
    const ratio = (sums: Float64Array) => sums[0]! / sums[1]!;
    const result = bootstrapByEntity(rows, ratio, { seed: 4, resamples: 500 });
    assert.deepEqual([result.low, result.estimate, result.high], [2, 2, 2]);
    const undefinedRows = rows.map(({ entity, values }) => ({
      entity,
      values: [values[0]!, entity === 0 ? 1 : 0],
    }));
    assert.throws(
      () => bootstrapByEntity(undefinedRows, ratio, { seed: 4, resamples: 500 }),
      /not finite in \d+ of 500 resamples of 50 entities/,
    );
    assert.throws(() => bootstrapByEntity([], ratio, { seed: 4 }), /no observations/);
    const ragged = [rows[0]!, { entity: 1, values: [1] }];
    assert.throws(() => bootstrapByEntity(ragged, ratio, { seed: 4 }), /rows of 2 and of 1/);
  });
});

describe("holm", () => {
  test("gives the textbook adjustment in the order given", () => {
    const adjusted = holm([0.01, 0.04, 0.03, 0.005]);
    for (const [i, p] of [0.03, 0.06, 0.06, 0.02].entries()) near(adjusted[i]!, p, 1e-15);
    assert.deepEqual(holm([]), []);
  });

  test("never lowers a p-value, keeps their order, and is no harsher than Bonferroni", () => {
    fc.assert(
      fc.property(fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 12 }), (ps) => {
        const adjusted = holm(ps);
        for (const [i, p] of ps.entries()) {
          assert.ok(adjusted[i]! >= p && adjusted[i]! <= Math.min(1, p * ps.length) + 1e-15);
          for (const [j, q] of ps.entries()) if (p < q) assert.ok(adjusted[i]! <= adjusted[j]!);
        }
      }),
      runs,
    );
  });
});
