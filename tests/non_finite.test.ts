/** Numbers that are not finite: the op that made the first one is named, and no step is taken. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { AdamW } from "../model/optimizer.ts";
import { batchOf, optimizerStep } from "../rl/update.ts";
import { UserError } from "../rl/user_error.ts";
import { currentDevice, firstNonFinite, reference, scope, tensor } from "../tensor/mod.ts";

describe("firstNonFinite", () => {
  for (const device of [reference, currentDevice()]) {
    const on = { device };
    test(`${device.name}: the op, its shapes, its value, and whether it made it`, async () => {
      const { run } = device;
      const found = await firstNonFinite(device, () =>
        scope(() => {
          const x = tensor([1, 2, -3], [3], on);
          return x.add(1).log().exp().sum(); // log(-2)
        }),
      );
      assert.deepEqual(found, { op: "log", inputs: [[3]], value: Number.NaN, fromFinite: true });
      const infinite = await firstNonFinite(device, () =>
        scope(() => tensor([1e3, 0], [2], on).mul(1e3).exp().sum()),
      );
      assert.deepEqual([infinite?.op, infinite?.value], ["exp", Infinity]);
      const leaf = await firstNonFinite(device, () =>
        scope(() => tensor([Number.NaN], [1], on).add(1)),
      );
      assert.deepEqual([leaf?.op, leaf?.fromFinite], ["add", false]);
      const clean = await firstNonFinite(device, () => scope(() => tensor([1], [1], on).add(1)));
      assert.equal(clean, undefined);
      assert.equal(device.run, run, "the device is as it was");
    });
  }

  test("a body that throws leaves the device as it was", async () => {
    const device = currentDevice();
    const { run } = device;
    await assert.rejects(
      () =>
        firstNonFinite(device, () => {
          throw new Error("from inside");
        }),
      /from inside/,
    );
    assert.equal(device.run, run);
  });
});

describe("an optimizer step", () => {
  const micros = [[{ prompt: [1], tokens: [2], count: 1, weight: 1 }]];
  const stepOn = async (value: number, factor: number) => {
    const w = tensor([value, 2], [2]);
    const trained = { parameters: new Map([["w", w]]), optimizer: new AdamW(new Map([["w", w]])) };
    const attempt = optimizerStep(trained, micros, 0.1, (micro) => {
      assert.equal(batchOf(micro).shape[0], 1);
      return { loss: w.mul(factor).exp().sum(), observed: [w] };
    });
    return { w, attempt, optimizer: trained.optimizer };
  };

  test("with a loss that is not finite is refused: the op is named, nothing moves", async () => {
    const { w, attempt, optimizer } = await stepOn(1, 1e3);
    await assert.rejects(attempt, (error) => {
      assert.ok(error instanceof UserError);
      assert.match(
        error.message,
        /loss is Infinity .*no step was taken; the first op to give Infinity was exp on \[2\]\. Lower the rate \(it is 0.1\)/,
      );
      return true;
    });
    assert.deepEqual([...w.dataSync()], [1, 2]);
    assert.equal(optimizer.step, 0);
  });

  test("looks for a gradient that is not finite in every part of the batch", async () => {
    const w = tensor([1, 2], [2]);
    const trained = () => ({
      parameters: new Map([["w", w]]),
      optimizer: new AdamW(new Map([["w", w]])),
    });
    // Both losses are finite: the slope of √x at 0 is not.
    const lossOf = (sound: boolean) => {
      const p = trained().parameters.get("w")!;
      const loss = sound ? p.square().sum() : p.sub(p.detach()).sqrt().sum();
      return { loss, observed: [] };
    };
    for (const micros of [
      [true, false],
      [false, true],
    ]) {
      const attempt = optimizerStep(trained(), micros, 0.1, lossOf);
      await assert.rejects(attempt, /the first op to give (Infinity|NaN) was \w+ on/);
    }
    const large = () => ({ loss: w.mul(1e20).sum(), observed: [] });
    const attempt = optimizerStep(trained(), [0], 0.1, large);
    await assert.rejects(attempt, /no step was taken; each gradient is finite, their norm is not/);
  });

  test("names a weight that was spoiled before", async () => {
    const { attempt } = await stepOn(Number.NaN, 1);
    await assert.rejects(attempt, /the weight w was not finite before it/);
  });

  test("with a finite loss moves, and gives loss, norm and what was observed", async () => {
    const { w, attempt } = await stepOn(0, 0.5);
    const { loss, gradNorm, observed } = await attempt;
    assert.ok(Math.abs(loss - (1 + Math.E)) < 1e-5);
    assert.ok(Math.abs(gradNorm - Math.hypot(0.5, 0.5 * Math.E)) < 1e-5);
    assert.deepEqual(Array.from(observed[0]![0]!).length, 2);
    assert.ok(w.dataSync()[0]! < 0);
  });
});
