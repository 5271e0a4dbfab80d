/** Golden values of losses on given answers (DPO, SFT), of entropy, the optimizer, sampling, pass@k. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import * as fc from "fast-check";
import { passAtK } from "../eval/pass_at_k.ts";
import { samplingProbabilities } from "../model/filters.ts";
import { tokenWeight, weightedSum } from "../rl/aggregate.ts";
import { entropy } from "../rl/loss.ts";
import { metricsOf } from "../rl/methods/dpo.ts";
import { type PreferenceForm, preferenceLoss } from "../rl/preference.ts";
import { gradients, scope, tensor } from "../tensor/mod.ts";
import { golden, near, precisions } from "./golden/golden.ts";

const { dpo, sft } = golden;

describe("golden DPO", () => {
  const difference = (form: PreferenceForm) => {
    const scaled = (values: number[], lengths: number[]) =>
      values.map((x, i) => (form.form === "ipoMean" ? x / lengths[i]! : x));
    const gap = (side: "chosen" | "rejected") => {
      const lengths = dpo[`${side}Lengths`];
      const reference = scaled(dpo[`${side}Reference`], lengths);
      return scaled(dpo[side], lengths).map((x, i) => x - reference[i]!);
    };
    const rejected = gap("rejected");
    return gap("chosen").map((x, i) => x - rejected[i]!);
  };

  for (const [precision, device, tolerance] of precisions) {
    for (const { loss, ...form } of dpo.cases) {
      test(`${form.form}, β ${form.beta}, smoothing ${form.labelSmoothing}, ${precision}`, () => {
        const delta = tensor(difference(form), undefined, { device: device() });
        near([preferenceLoss(delta, form).mean().item()], [loss], tolerance * Math.max(1, loss));
      });
    }

    test(`values of pairs and gradients, ${precision}`, () => {
      scope(() => {
        const form = dpo.cases[0];
        const delta = tensor(dpo.delta as number[], undefined, { device: device() }).requireGrad();
        const losses = preferenceLoss(delta, form);
        near(losses.dataSync(), dpo.perPair, tolerance);
        near(gradients(losses.mean(), [delta])[0]!.dataSync(), dpo.gradientChosen, tolerance);
      });
    });
  }

  test("reported margins are of rewards: β times the difference of log-ratios", () => {
    const report = { loss: 0, gradNorm: 0, margins: [3, -1], chosen: [-1], rejected: [-2] };
    const found = metricsOf([report], 0.1);
    near([found["rewards/margins"]!, found["rewards/accuracies"]!], [0.1, 0.5], 1e-15);
  });

  test("a policy that is the reference has ln 2, and large margins stay finite", () => {
    const form = { form: "sigmoid", beta: 0.1, labelSmoothing: 0 } as const;
    near([preferenceLoss(tensor([0]), form).item()], [Math.LN2], 2e-7);
    const far = preferenceLoss(tensor([1e5, -1e5]), form).dataSync();
    near(far, [0, 1e4], 1e-2);
  });
});

describe("golden SFT", () => {
  for (const [precision, device, tolerance] of precisions) {
    test(`log-probabilities, entropy and both means, ${precision}`, () => {
      scope(() => {
        const logits = tensor(sft.logits as number[][][], undefined, { device: device() });
        const targets = tensor(sft.targets as number[][], undefined, {
          dtype: "i32",
          device: device(),
        });
        const logProbs = logits.gatherLogProb(targets);
        near(logProbs.dataSync(), sft.logProbs.flat(), tolerance);
        const tempered = logits.div(sft.temperature).gatherLogProb(targets);
        near(tempered.slice([[0, 1]]).dataSync(), sft.logProbsAtTemperature, 2 * tolerance);
        near(entropy(logits).dataSync(), sft.entropy.flat(), tolerance);
        for (const aggregation of ["tokenMean", "sequenceMean"] as const) {
          const weights = (sft.mask as number[][]).map((row) => {
            const length = row.reduce((a, b) => a + b, 0);
            const denominator = { tokens: 5, sequences: 2, maxLength: 3 };
            return row.map((m) => m * tokenWeight(aggregation, length, denominator));
          });
          const loss = weightedSum(
            logProbs.neg(),
            tensor(weights, undefined, { device: device() }),
          );
          near([loss.item()], [sft[aggregation]], 2 * tolerance);
        }
      });
    });
  }
});

describe("golden optimizer, sampling and pass@k", () => {
  for (const [precision, device, tolerance] of precisions) {
    test(`AdamW in three steps, ${precision}`, () => {
      const {
        weights,
        gradients: steps,
        after,
        learningRate,
        betas,
        eps,
        weightDecay,
      } = golden.adamW;
      const on = { device: device() };
      const [w, m, v] = [weights, [0, 0, 0], [0, 0, 0]].map((x) => tensor(x as number[], [3], on));
      const rates = { learningRate, beta1: betas[0], beta2: betas[1], eps, weightDecay };
      for (const [i, gradient] of steps.entries()) {
        w!.adamW(tensor(gradient, [3], on), m!, v!, tensor(1, [], on), { ...rates, step: i + 1 });
        near(w!.dataSync(), after[i], tolerance);
      }
    });
  }

  test("sampling filters", () => {
    const { logits, p, topK2, topP8, topP9Keeps, minP2Keeps } = golden.sampling;
    near(samplingProbabilities(logits), p, 1e-9);
    near(samplingProbabilities(logits, { topK: 2 }), topK2, 1e-9);
    near(samplingProbabilities(logits, { topP: 0.8 }), topP8, 1e-9);
    const kept = (filters: object) =>
      Array.from(samplingProbabilities(logits, filters)).filter((x) => x > 0).length;
    assert.deepEqual([kept({ topP: 0.9 }), kept({ minP: 0.2 })], [topP9Keeps, minP2Keeps]);
  });

  test("pass@k, and that it rises with k", () => {
    for (const { n, c, k, value } of golden.passAtK) near([passAtK(n, c, k)], [value], 1e-12);
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 60 }), fc.nat(60), (n, c) => {
        const right = Math.min(c, n);
        for (let k = 1; k < n; k++) assert.ok(passAtK(n, right, k + 1) >= passAtK(n, right, k));
      }),
    );
  });
});
