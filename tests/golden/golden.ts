/** The golden numbers, the devices they hold on, and comparison to a tolerance. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { groupAdvantages } from "../../rl/advantage.ts";
import {
  type Aggregation,
  type Denominator,
  tokenWeight,
  weightedSum,
} from "../../rl/aggregate.ts";
import { type ImportanceForm, importanceWeights } from "../../rl/importance.ts";
import { type PolicyLossForm, policyTokenLosses } from "../../rl/policy_loss.ts";
import {
  currentDevice,
  type Device,
  gradients,
  reference,
  scope,
  type Tensor,
  tensor,
} from "../../tensor/mod.ts";

export const golden = JSON.parse(readFileSync(new URL("rl.json", import.meta.url), "utf8"));

export type Rows = readonly (readonly number[])[];
export const { mask, old, ref, rollout, rewards, groupSize } = golden.inputs as Record<
  "mask" | "old" | "ref" | "rollout",
  number[][]
> & { rewards: number[]; groupSize: number };
export const policyRows: number[][] = golden.inputs.new;
export const tokens = mask.flat().reduce((a, b) => a + b, 0);
export const lengthOf = (row: number): number => mask[row]!.reduce((a, b) => a + b, 0);

/** f64 to 1e-9; f32 on the device at hand to 2e-6. */
export const precisions: readonly (readonly [
  name: string,
  device: () => Device,
  tolerance: number,
])[] = [
  ["f64", () => reference, 1e-9],
  ["f32", currentDevice, 2e-6],
];

export function near(actual: ArrayLike<number>, expected: ArrayLike<number>, tolerance: number) {
  assert.equal(actual.length, expected.length);
  Array.from(expected).forEach((x, i) => {
    const right = Math.abs(actual[i]! - x) <= tolerance;
    assert.ok(right, `[${i}] is ${actual[i]}, expected ${x} within ${tolerance}`);
  });
}

/** GRPO advantages of the inputs, as TRL has them. */
export const A = groupAdvantages(rewards, groupSize, { form: "std", ddof: 1, epsilon: 1e-4 });

export interface PolicyCase extends Partial<PolicyLossForm> {
  readonly name: string;
  readonly loss: number;
  readonly gradient?: Rows;
  readonly aggregation: Aggregation;
  readonly maxLength?: number;
  /** "new": on policy. */
  readonly old?: "new";
  readonly importance?: ImportanceForm;
}

/** Clipped at 0.2, and nothing else. */
export const plainForm: PolicyLossForm = {
  ...{ ratioLevel: "token", surrogate: "clip", clipLow: 0.2, clipHigh: 0.2 },
  ...{ ratioCap: null, dualClip: null, softPositive: 1, softNegative: 1 },
  ...{ klCoefficient: 0, klEstimator: null },
};

export interface Layout {
  readonly device: Device;
  /** What stands in padded positions. */
  readonly junk?: number;
  /** Positions behind the four of the inputs. */
  readonly padding?: number;
  /** Rows in work, in this order; their terms alone are summed. */
  readonly rows?: readonly number[];
  /** In place of the inputs' own. */
  readonly policy?: Rows;
  readonly advantages?: ArrayLike<number>;
}

type Settings = Omit<PolicyCase, "name" | "loss">;

/** The loss of a case on a layout, and d loss / d log-probabilities of its rows. */
export function policyLoss(form: Settings, layout: Layout) {
  return scope(() => {
    const [loss, gradient] = policyLossTensors(form, layout);
    const width = 4 + (layout.padding ?? 0);
    return { loss: loss.item(), gradient: Float64Array.from(gradient.dataSync()), width };
  });
}

/** The same as tensors, for devices whose values are awaited. */
export function policyLossTensors(
  { aggregation, maxLength = 4, importance, ...form }: Settings,
  { device, junk = 0, padding = 0, rows = [0, 1, 2, 3, 4, 5], policy, advantages = A }: Layout,
): [loss: Tensor, gradient: Tensor] {
  const width = 4 + padding;
  const table = (source: Rows, filler: number) =>
    rows.flatMap((i) =>
      Array.from({ length: width }, (_, t) => (mask[i]![t] ? source[i]![t]! : filler)),
    );
  const on = (values: readonly number[], shape = [rows.length, width]) =>
    tensor(values, shape, { device });
  const denominator: Denominator = { tokens, sequences: 6, maxLength };
  const source = policy ?? policyRows;
  const sampled = form.old === "new" ? policyRows : old;
  return scope(() => {
    const logProbs = on(table(source, junk)).requireGrad();
    const parts = {
      logProbs,
      ...{ old: on(table(sampled, -junk)), mask: on(table(mask, 0)).toBool() },
      advantage: on(
        rows.map((i) => advantages[i]!),
        [rows.length, 1],
      ),
      ...(form.klEstimator && { reference: on(table(ref, junk / 3)) }),
      ...(importance && {
        importance: on(table(importanceWeights(old, rollout, importance), junk)),
      }),
    };
    const { values } = policyTokenLosses(parts, { ...plainForm, ...form });
    const weights = rows.flatMap((i) =>
      Array.from({ length: width }, (_, t) =>
        mask[i]![t] ? tokenWeight(aggregation, lengthOf(i), denominator) : 0,
      ),
    );
    const loss = weightedSum(values, on(weights));
    const [gradient] = gradients(loss, [logProbs]);
    return [loss.detach(), gradient!];
  });
}
