/** Philox against published known answers, and what the keyed streams promise. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import {
  philox4x32,
  purposeWord,
  randomStream,
  uniform01,
  type Words2,
  type Words4,
} from "../tensor/random.ts";

const hex = (words: readonly number[]) =>
  words.map((w) => w.toString(16).padStart(8, "0")).join(" ");
const seeds = { seed: 20260507, numRuns: 100 };
const key = fc.record({
  seed: fc.maxSafeNat(),
  purpose: fc.string(),
  step: fc.nat({ max: 0xffffffff }),
  row: fc.nat({ max: 0xffffffff }),
});
const take = (draw: () => number, n: number) => Array.from({ length: n }, draw);

describe("philox4x32", () => {
  const all = 0xffffffff;
  const cases: [string, Words4, Words2, string][] = [
    ["zeros", [0, 0, 0, 0], [0, 0], "6627e8d5 e169c58d bc57ac4c 9b00dbd8"],
    ["ones", [all, all, all, all], [all, all], "408f276d 41c83b0e a20bc7c6 6d5451fd"],
    [
      "digits of pi",
      [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
      [0xa4093822, 0x299f31d0],
      "d16cfe09 94fdcceb 5001e420 24126ea1",
    ],
  ];
  for (const [name, counter, words, expected] of cases) {
    test(`gives the Random123 known answer for ${name}`, () => {
      assert.equal(hex(philox4x32(counter, words)), expected);
    });
  }
});

describe("randomStream", () => {
  test("is Philox at counter (index, row, step, hash) under the seed's two words", () => {
    fc.assert(
      fc.property(key, (k) => {
        const stream = randomStream(k);
        const words: Words2 = [k.seed % 2 ** 32, Math.floor(k.seed / 2 ** 32)];
        const hash = purposeWord(k.purpose);
        const expected = [0, 1, 2].flatMap((i) => philox4x32([i, k.row, k.step, hash], words));
        assert.deepEqual(take(stream.bits, 12), expected);
      }),
      seeds,
    );
  });

  test("differs in every field of the key", () => {
    const base = { seed: 7, purpose: "document", step: 3, row: 4 };
    const variants = [
      base,
      { ...base, seed: 8 },
      { ...base, seed: 7 + 2 ** 32 },
      { ...base, purpose: "documents" },
      { ...base, step: 4, row: 3 },
      { ...base, step: 4 },
      { ...base, row: 5 },
    ];
    const heads = variants.map((k) => hex(take(randomStream(k).bits, 4)));
    assert.equal(new Set(heads).size, variants.length);
    assert.equal(hex(take(randomStream(base).bits, 4)), heads[0]);
  });

  test("gives the same bits and normals on every runtime (golden)", () => {
    const stream = randomStream({ seed: 1, purpose: "golden" });
    assert.equal(hex(take(stream.bits, 4)), "4e20e331 c2755dc2 f5631155 143e5f1e");
    assert.deepEqual(
      take(stream.normal, 4),
      [1.0791012609829005, 1.1021557856539737, -1.3230215259238451, 1.67967342115261],
    );
  });

  test("refuses a key out of range, naming it", () => {
    assert.throws(() => randomStream({ seed: -1, purpose: "x" }), /seed is -1/);
    assert.throws(() => randomStream({ seed: 0.5, purpose: "x" }), /seed is 0.5/);
    assert.throws(() => randomStream({ seed: 0, purpose: "x", row: 2 ** 32 }), /row is 4294967296/);
  });

  test("uniform01 is in [0, 1) and exact in f32", () => {
    fc.assert(
      fc.property(fc.nat({ max: 0xffffffff }), (bits) => {
        const u = uniform01(bits);
        assert.ok(u >= 0 && u < 1 && Math.fround(u) === u);
      }),
      seeds,
    );
    assert.equal(uniform01(0xffffffff), 1 - 2 ** -24);
  });

  test("uniform fills 64 bins evenly", () => {
    const stream = randomStream({ seed: 2, purpose: "bins" });
    const counts = new Array<number>(64).fill(0);
    for (let i = 0; i < 64_000; i++) counts[Math.floor(stream.uniform() * 64)]! += 1;
    const chiSquare = counts.reduce((sum, n) => sum + (n - 1000) ** 2 / 1000, 0);
    assert.ok(
      chiSquare > 30 && chiSquare < 110,
      `chi-square ${chiSquare} on 63 degrees of freedom`,
    );
  });

  test("int is unbiased where a plain remainder is not", () => {
    // Of 2^32 words, the remainder by 3·2^30 would hit the lowest third twice as often.
    const stream = randomStream({ seed: 3, purpose: "int" });
    const thirds = [0, 0, 0];
    for (let i = 0; i < 30_000; i++) thirds[Math.floor(stream.int(3 * 2 ** 30) / 2 ** 30)]! += 1;
    for (const n of thirds) assert.ok(Math.abs(n - 10_000) < 5 * 82, `thirds ${thirds}`);
    assert.equal(stream.int(1), 0);
    assert.ok(stream.int(2 ** 32) >= 0);
    for (const n of [0, -1, 1.5, 2 ** 33]) assert.throws(() => stream.int(n), /whole number/);
  });

  test("normal has the moments and tails of a standard normal", () => {
    const stream = randomStream({ seed: 4, purpose: "normal" });
    const draws = take(stream.normal, 100_000);
    const moment = (p: number) => draws.reduce((sum, x) => sum + x ** p, 0) / draws.length;
    assert.ok(Math.abs(moment(1)) < 0.015, `mean ${moment(1)}`);
    assert.ok(Math.abs(moment(2) - 1) < 0.02, `variance ${moment(2)}`);
    assert.ok(Math.abs(moment(3)) < 0.06, `third moment ${moment(3)}`);
    assert.ok(Math.abs(moment(4) - 3) < 0.15, `fourth moment ${moment(4)}`);
    const tail = draws.filter((x) => Math.abs(x) > 1.959964).length / draws.length;
    assert.ok(Math.abs(tail - 0.05) < 0.0035, `tail ${tail}`);
  });

  test("shuffle is a permutation and leaves its argument alone", () => {
    fc.assert(
      fc.property(key, fc.array(fc.integer()), (k, items) => {
        const copy = items.slice();
        const shuffled = randomStream(k).shuffle(items);
        assert.deepEqual(items, copy);
        assert.deepEqual(shuffled.toSorted(), items.toSorted());
      }),
      seeds,
    );
  });

  test("shuffle gives each of the 24 orders of four items equally often", () => {
    const stream = randomStream({ seed: 5, purpose: "orders" });
    const counts = new Map<string, number>();
    for (let i = 0; i < 24_000; i++) {
      const order = stream.shuffle([1, 2, 3, 4]).join("");
      counts.set(order, (counts.get(order) ?? 0) + 1);
    }
    assert.equal(counts.size, 24);
    for (const n of counts.values()) assert.ok(Math.abs(n - 1000) < 5 * 31, `${n} of 24000`);
  });

  test("weighted follows its weights, never picks a weight of zero, refuses no weight", () => {
    const stream = randomStream({ seed: 6, purpose: "weighted" });
    const counts = [0, 0, 0, 0];
    for (let i = 0; i < 40_000; i++) counts[stream.weighted([1, 1, 3, 4])]! += 1;
    assert.equal(counts[1], 0);
    for (const [i, share] of [0.25, 0, 0.5, 0.25].entries()) {
      assert.ok(Math.abs(counts[i]! / 40_000 - share) < 0.0125, `counts ${counts}`);
    }
    for (const bad of [[], [0], [Number.NaN]]) assert.throws(() => stream.weighted(bad), /sum to/);
    assert.throws(() => stream.choice([]), /whole number/);
  });
});
