/** Results over worlds and seeds, and ratios of gains: exact variances, identities, coverage. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { bootstrapByWorld, gainRatio, summariseWorlds } from "../eval/hierarchy.ts";
import { bootstrapGain, wilson } from "../eval/statistics.ts";
import { estimate } from "../experiments/pooled.ts";
import { randomStream } from "../tensor/random.ts";

function near(found: number, expected: number, tolerance = 1e-9): void {
  assert.ok(Math.abs(found - expected) <= tolerance, `${found}, expected ${expected}`);
}

const average = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;

describe("worlds and seeds", () => {
  test("are summarised over the worlds' means, every world alike", () => {
    const found = summariseWorlds([
      { world: "a", value: 10 },
      { world: "b", value: 14 },
      { world: "a", value: 12 },
      { world: "c", value: 18 },
    ]);
    assert.deepEqual(
      found.worlds.map(({ mean }) => mean),
      [11, 14, 18],
    );
    near(found.mean, 43 / 3, 1e-12);
    near(found.sd!, Math.sqrt(37 / 3), 1e-12);
    near(found.interval!.high - found.mean, (4.30265273 * Math.sqrt(37 / 3)) / Math.sqrt(3), 1e-7);
    near(found.seedSd!, Math.SQRT2, 1e-12);
    const one = summariseWorlds([{ world: 1, value: 3 }]);
    assert.deepEqual([one.mean, one.sd, one.interval, one.seedSd], [3, null, null, null]);
    assert.throws(() => summariseWorlds([]), /no values/);
  });

  /** Worlds whose true gains scatter by `spread` around 0.2; entities scatter by 0.4. */
  const draw = (stream: ReturnType<typeof randomStream>, worlds: number, spread: number) =>
    Array.from({ length: worlds }, (_, world) => {
      const gain = 0.2 + spread * stream.normal();
      return Array.from({ length: 20 }, (_, entity) => {
        const whole = gain + 0.4 * stream.normal();
        return { world, entity, part: 0.5 * whole + 0.2 * stream.normal(), whole };
      });
    }).flat();

  const gains = (pairs: ReturnType<typeof draw>) =>
    pairs.map(({ world, entity, whole }) => ({ world, entity, values: [whole] }));

  test("a mean has Student's interval over worlds, or the entities' where that is longer", () => {
    const pairs = draw(randomStream({ seed: 7, purpose: "worlds" }), 4, 0.1);
    const groups = [0, 1, 2, 3].map((w) => pairs.filter((p) => p.world === w).map((p) => p.whole));
    const found = bootstrapByWorld(gains(pairs), ([mean]) => mean!, { seed: 1 });
    const { mean, interval } = summariseWorlds(
      groups.flatMap((values, world) => values.map((value) => ({ world, value }))),
    );
    near(found.estimate, mean, 1e-12);
    assert.equal(found.worlds, 4);
    near((found.high - found.low) / (interval!.high - interval!.low), 1, 0.03);

    const level = pairs.map((p) => ({ ...p, whole: p.whole - average(groups[p.world]!) }));
    const equal = bootstrapByWorld(gains(level), ([mean]) => mean!, { seed: 1 });
    const spread = (values: number[]) => average(values.map((x) => (x - average(values)) ** 2));
    const half = 1.959964 * Math.sqrt(average(groups.map(spread)) / 20 / 4);
    near((equal.high - equal.low) / 2 / half, 1, 0.12);
  });

  test("one world gives the entities' interval; a second row of an entity adds no certainty", () => {
    const pairs = draw(randomStream({ seed: 8, purpose: "worlds" }), 1, 0);
    const rows = gains(pairs);
    const options = { seed: 2, resamples: 4000 };
    const one = bootstrapByWorld(rows, ([mean]) => mean!, options);
    const outcomes = pairs.map(({ entity, whole }) => ({ entity, before: 0, after: whole }));
    const percentile = bootstrapGain(outcomes, options);
    near((one.high - one.low) / (percentile.high - percentile.low), 1, 0.06);
    const twice = bootstrapByWorld([...rows, ...rows], ([mean]) => mean!, options);
    assert.deepEqual([twice.low, twice.high], [one.low, one.high]);
  });

  test("intervals cover the truth in 95 % of samples of three and of eight worlds, or in more", () => {
    for (const [worlds, spread, most] of [
      [3, 0.3, 1],
      [8, 0.3, 0.985],
      [3, 0, 1],
    ] as const) {
      const stream = randomStream({ seed: 9, purpose: `cover ${worlds} ${spread}` });
      let covered = 0;
      const samples = 200;
      for (let sample = 0; sample < samples; sample++) {
        const rows = gains(draw(stream, worlds, spread));
        const options = { seed: sample, resamples: 100 };
        const { low, high } = bootstrapByWorld(rows, ([mean]) => mean!, options);
        if (low <= 0.2 && 0.2 <= high) covered++;
      }
      const share = covered / samples;
      assert.ok(share >= 0.93 && share <= most, `${worlds} worlds, spread ${spread}: ${share}`);
    }
  });

  test("that agree in all they were seen to do leave Wilson's bound open, rounded or not", () => {
    for (const worlds of [1, 2, 3, 6, 7]) {
      for (const value of [1, 1 / 3, 0]) {
        const rows = Array.from({ length: worlds * 40 }, (_, i) => {
          return { world: i % worlds, entity: i >> 1, values: [value] };
        });
        const {
          estimate: mean,
          low,
          high,
        } = estimate({ id: "q", label: "q", unit: "percent" }, rows, ([share]) => 100 * share!);
        const entities = new Set(rows.map(({ entity }) => entity)).size;
        const open = 100 * wilson(0, entities).high;
        assert.ok(Math.abs(high! - mean! - open) < 1e-9, `${worlds} worlds of ${value}: ${high}`);
        assert.ok(Math.abs(mean! - low! - open) < 1e-9, `${worlds} worlds of ${value}: ${low}`);
      }
    }
  });

  test("refuse no rows, ragged rows and statistics that are not finite", () => {
    const mean = ([value]: Float64Array) => value!;
    assert.throws(() => bootstrapByWorld([], mean, { seed: 1 }), /no observations/);
    const ragged = [
      { world: 0, entity: 0, values: [1] },
      { world: 1, entity: 0, values: [1, 2] },
    ];
    assert.throws(() => bootstrapByWorld(ragged, mean, { seed: 1 }), /different numbers of values/);
    const rows = [{ world: 0, entity: 0, values: [0] }];
    const options = { seed: 1, resamples: 10 };
    assert.throws(
      () => bootstrapByWorld(rows, ([x]) => 1 / x!, options),
      /10 of 10 resamples of 1/,
    );
  });
});

describe("gainRatio", () => {
  const outcomes = (entities: number, whole: number, part: number, seed: number) => {
    const stream = randomStream({ seed, purpose: "ratio" });
    return Array.from({ length: entities }, (_, entity) => ({
      entity,
      whole: whole + 0.5 * stream.normal(),
      part: part + 0.5 * stream.normal(),
    }));
  };

  test("of parts in a fixed proportion is that proportion, without doubt", () => {
    const pairs = outcomes(60, 0.4, 0, 1).map((pair) => ({ ...pair, part: 0.8 * pair.whole }));
    const { ratio } = gainRatio(pairs, { seed: 1, resamples: 500 });
    near(ratio!.estimate, 0.8, 1e-12);
    near(ratio!.low, 0.8, 1e-6);
    near(ratio!.high, 0.8, 1e-6);
  });

  test("is undefined where the whole's interval includes 0, and has bounds where it does not", () => {
    let defined = 0;
    for (let seed = 0; seed < 40; seed++) {
      const pairs = outcomes(40, 0.16, 0.1, seed);
      const { whole, ratio } = gainRatio(pairs, { seed, resamples: 300 });
      const includes = whole.low <= 0 && whole.high >= 0;
      assert.equal(ratio === null, includes);
      if (ratio === null) continue;
      defined++;
      assert.ok(ratio.low <= ratio.estimate && ratio.estimate <= ratio.high);
      assert.ok(Number.isFinite(ratio.low) && Number.isFinite(ratio.high));
    }
    assert.ok(defined > 5 && defined < 35, `${defined} of 40 defined`);
    const none = gainRatio([{ entity: 0, part: 0, whole: 0 }], { seed: 1, resamples: 10 });
    assert.deepEqual([none.ratio, none.whole.estimate], [null, 0]);
    const lost = outcomes(60, -0.6, -0.3, 3);
    near(gainRatio(lost, { seed: 1, resamples: 300 }).ratio!.estimate, 0.5, 0.2);
  });

  test("covers the true ratio in about 95 % of samples, of one world and of four", () => {
    const samples = 200;
    const [one, four] = [0, 0].map((_, i) => {
      let covered = 0;
      for (let sample = 0; sample < samples; sample++) {
        const pairs =
          i === 0
            ? outcomes(50, 0.4, 0.3, 100 + sample)
            : [0, 1, 2, 3].flatMap((world) =>
                outcomes(25, 0.4, 0.3, 9000 + 4 * sample + world).map((x) => ({ ...x, world })),
              );
        const { ratio } = gainRatio(pairs, { seed: sample, resamples: 100 });
        if (ratio !== null && ratio.low <= 0.75 && 0.75 <= ratio.high) covered++;
      }
      return covered / samples;
    });
    assert.ok(one! > 0.91 && one! < 0.99, `${one}`);
    assert.ok(four! > 0.92, `${four}`);
  });
});
