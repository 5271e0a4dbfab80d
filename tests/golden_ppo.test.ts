/** Golden values of PPO's arithmetic, and estimators whose expectation is enumerated exactly. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import * as fc from "fast-check";
import { groupAdvantages } from "../rl/advantage.ts";
import { weightedSum } from "../rl/aggregate.ts";
import { adaptedKlCoefficient, gae, tokenRewards, whiten } from "../rl/gae.ts";
import { type KlEstimator, klPenalty, valueLoss } from "../rl/loss.ts";
import { policyTokenLosses } from "../rl/policy_loss.ts";
import { type Device, gradients, reference, scope, tensor } from "../tensor/mod.ts";
import {
  golden,
  lengthOf,
  mask,
  near,
  old,
  plainForm,
  policyRows,
  precisions,
  ref,
  rewards,
  tokens,
} from "./golden/golden.ts";

const { ppo, enumeration } = golden;
const cut = (rows: number[][]): number[][] => rows.map((row, i) => row.slice(0, lengthOf(i)));
const valuesOld: number[][] = golden.inputs.valuesOld;

const perToken = cut(old).map((line, i) =>
  tokenRewards(rewards[i]!, line, cut(ref)[i]!, ppo.klCoefficient),
);
const estimates = perToken.map((line, i) => gae(line, cut(valuesOld)[i]!, ppo));
const whitened = whiten(estimates.map(({ advantages }) => advantages));

/** Rows of answers as [6 4], zeros behind them. */
const padded = (rows: readonly (readonly number[])[], device: Device) =>
  tensor(
    rows.map((row) => [...row, ...new Array<number>(4 - row.length).fill(0)]),
    undefined,
    { device },
  );

describe("golden PPO", () => {
  test("rewards of tokens", () => {
    for (const [row, values] of Object.entries(ppo.tokenRewards)) {
      near(perToken[Number(row)]!, values as number[], 1e-9);
    }
    near(tokenRewards(2, [-1, -2], undefined, 5), [0, 2], 0);
    assert.deepEqual(tokenRewards(2, [], undefined, 5), []);
  });

  test("generalised advantages, and returns before any whitening", () => {
    estimates.forEach(({ advantages, returns }, i) => {
      near(advantages, ppo.advantages[i], 1e-9);
      const values = valuesOld[i]!;
      near(
        returns,
        advantages.map((a, t) => a + values[t]!),
        0,
      );
    });
  });

  test("λ = 1 gives rewards to go minus values, λ = 0 one-step errors", () => {
    const numbers = fc.array(
      fc.tuple(fc.integer({ min: -9, max: 9 }), fc.integer({ min: -9, max: 9 })),
    );
    fc.assert(
      fc.property(numbers, (pairs) => {
        const [r, v] = [pairs.map(([x]) => x), pairs.map(([, x]) => x)];
        const far = gae(r, v, { gamma: 1, lambda: 1 }).advantages;
        const near1 = gae(r, v, { gamma: 1, lambda: 0 }).advantages;
        r.forEach((x, t) => {
          const toGo = r.slice(t).reduce((a, b) => a + b, 0);
          near([far[t]!, near1[t]!], [toGo - v[t]!, x + (v[t + 1] ?? 0) - v[t]!], 1e-9);
        });
      }),
    );
  });

  test("whitening", () => {
    for (const [row, values] of Object.entries(ppo.whitened)) {
      near(whitened[Number(row)]!, values as number[], 1e-8);
    }
    const pair = golden.whitenPair;
    near(whiten([pair.values])[0]!, pair.whitened, pair.tolerance);
    assert.deepEqual(whiten([[3], []]), [[3], []]);
  });

  for (const [precision, device, tolerance] of precisions) {
    test(`policy and value loss, ${precision}`, () => {
      const form = { ...plainForm, clipLow: ppo.clip, clipHigh: ppo.clip };
      scope(() => {
        const on = device();
        const inside = padded(mask, on).toBool();
        const weights = padded(mask, on).div(tokens);
        const parts = { logProbs: padded(policyRows, on), old: padded(old, on), mask: inside };
        const advantage = padded(whitened, on);
        const policy = weightedSum(
          policyTokenLosses({ ...parts, advantage }, form).values,
          weights,
        );
        near([policy.item()], [ppo.policyLoss], Math.max(tolerance, 1e-8));
        const returns = padded(
          estimates.map((e) => e.returns),
          on,
        );
        const values = padded(golden.inputs.valuesNew, on).requireGrad();
        const losses = valueLoss(values, padded(valuesOld, on), returns, { range: ppo.valueRange });
        const value = weightedSum(losses, weights);
        near([value.item()], [ppo.valueLoss], tolerance);
        near([policy.item() + ppo.valueCoefficient * value.item()], [ppo.total], 10 * tolerance);
        const slope = gradients(value.mul(ppo.valueCoefficient), [values])[0]!.dataSync();
        for (const [row, line] of Object.entries(ppo.valueGradient)) {
          near(slope.slice(4 * Number(row), 4 * Number(row) + 4), line as number[], tolerance);
        }
      });
    });
  }

  test("without a range the value loss is half the square", () => {
    const one = (x: number) => tensor([x], undefined, { device: reference });
    assert.equal(valueLoss(one(3), one(0), one(1), { range: null }).item(), 2);
  });

  test("the adaptive KL coefficient", () => {
    const { coefficient, answers, cases, ...goal } = golden.adaptiveKl;
    let now = coefficient;
    for (const { kl, next } of cases) {
      now = adaptedKlCoefficient(now, kl, goal, answers);
      near([now], [next], 1e-15);
    }
  });
});

/** log-probabilities of three actions at θ, and Σ coefficient · log π as the loss to differentiate. */
function expectedGradient(
  loss: (logProbs: ReturnType<typeof tensor>) => ReturnType<typeof tensor>,
) {
  return scope(() => {
    const theta = tensor(enumeration.theta as number[], undefined, {
      device: reference,
    }).requireGrad();
    return [...gradients(loss(theta.logSoftmax()), [theta])[0]!.dataSync()];
  });
}

describe("estimators, by enumeration of all outcomes", () => {
  const p: number[] = enumeration.p;
  /** E over all groups of three actions of the mean of A·∇log π; action 0 is paid. */
  const groupGradient = (form: "centred" | "std" | "leaveOneOut" | "reward", epsilon = 1e-4) => {
    const coefficients = [0, 0, 0];
    for (let outcome = 0; outcome < 27; outcome++) {
      const actions = [outcome % 3, Math.floor(outcome / 3) % 3, Math.floor(outcome / 9)];
      const probability = actions.reduce((all, a) => all * p[a]!, 1);
      const paid = actions.map((a) => Number(a === 0));
      const advantages = groupAdvantages(paid, 3, { form, ddof: 1, epsilon });
      actions.forEach((a, i) => {
        coefficients[a]! += (probability * advantages[i]!) / 3;
      });
    }
    return expectedGradient((logProbs) =>
      logProbs.mul(tensor(coefficients, undefined, { device: reference })).sum(),
    );
  };

  test("REINFORCE and RLOO are unbiased; centred is (1 - 1/G)·∇J; std is neither", () => {
    near(groupGradient("reward"), enumeration.gradient, 1e-9);
    near(groupGradient("leaveOneOut"), enumeration.gradient, 1e-9);
    near(groupGradient("centred"), enumeration.centred, 1e-9);
    near(groupGradient("std"), enumeration.std.gradient, 1e-9);
  });

  const reverse: Record<KlEstimator, number[]> = {
    k1: [0, 0, 0],
    k2: enumeration.klGradient,
    k3: enumeration.reverseGradient,
    ratioK3: enumeration.klGradient,
  };
  for (const [estimator, expected] of Object.entries(reverse)) {
    test(`E∇${estimator} as a loss on on-policy tokens`, () => {
      const found = expectedGradient((logProbs) => {
        const on = (values: number[]) => tensor(values, undefined, { device: reference });
        const d = logProbs.sub(on(enumeration.reference).log());
        const ratio = logProbs.sub(logProbs.detach());
        return klPenalty(d, estimator as KlEstimator, ratio)
          .mul(on(p))
          .sum();
      });
      near(found, expected, 1e-9);
    });
  }

  test("E[k1] = E[k3] = KL, E[k2] is not", () => {
    const d = p.map((x, i) => Math.log(x) - Math.log(enumeration.reference[i]));
    const mean = (estimator: KlEstimator) => {
      const values = klPenalty(tensor(d, undefined, { device: reference }), estimator).dataSync();
      return p.reduce((total, x, i) => total + x * values[i]!, 0);
    };
    const { kl, k2 } = enumeration;
    near([mean("k1"), mean("k2"), mean("k3")], [kl, k2, kl], 1e-9);
  });
});
