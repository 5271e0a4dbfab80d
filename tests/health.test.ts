/** Verdicts on made-up histories: each appears where it should, and nowhere in a healthy run. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { trainConfig } from "../rl/config.ts";
import { healthOf, healthText, type Metrics, newsOf, rules, type VerdictId } from "../rl/health.ts";
import { explainText } from "../rl/metric_docs.ts";

const of = (changes: object) => trainConfig.parse(changes);
const grpo = of({ method: "grpo", train: { epochs: 2 } });

/** A step of a run in which all is well. */
const well = {
  ...{ reward: 0.6, reward_null: 0, frac_reward_zero_std: 0.4, entropy: 0.8, loss: -0.1 },
  ...{ grad_norm: 0.5, "completions/clipped_ratio": 0.01, "ratio/first_log_max": 0, kl: 0.01 },
  ...{ "clip_ratio/low_mean": 0.01, "clip_ratio/high_mean": 0.02 },
};
const steps = (count: number, own: (step: number) => object = () => ({})): Metrics[] =>
  Array.from({ length: count }, (_, step) => ({ step, ...well, ...own(step) }));
const ids = (rows: readonly Metrics[], config = grpo): VerdictId[] =>
  healthOf(rows, config).map(({ id }) => id);

const last = (own: object): Metrics[] => steps(40, (step) => (step === 39 ? own : {}));

/** A history that shows the verdict, its settings, and what its text must say. */
const shown: Record<VerdictId, readonly [rows: Metrics[], text: RegExp, config?: object]> = {
  "loss-near-zero": [last({ loss: 1e-7 }), /loss 0.0000: near 0 is expected/, {}],
  "zero-variance": [last({ frac_reward_zero_std: 0.87 }), /87 % of groups have zero variance/],
  truncated: [last({ "completions/clipped_ratio": 0.4 }), /40 % of answers truncated/],
  "nothing-stops": [last({ "completions/clipped_ratio": 1 }), /nothing stops/],
  "reward-null": [last({ reward_null: 32 }), /reward null for 3 % of answers/],
  "kl-rising": [steps(40, (s) => ({ kl: s < 30 ? 0.02 : 0.2 })), /KL rising: 0.020 to 0.200/],
  "entropy-gone": [last({ entropy: 0.001 }), /entropy 0.0010/],
  "ratio-off": [last({ "ratio/first_log_max": 0.02 }), /log-ratio 2.0e-2 before any update/],
  "engine-mismatch": [
    last({ "sampling/sampling_logp_difference/mean": 0.31 }),
    /engine and trainer differ by 0.310 in log p/,
  ],
  "mostly-clipped": [last({ "clip_ratio/high_mean": 0.6 }), /61 % of tokens clipped/],
  "gradient-spike": [last({ grad_norm: 9 }), /gradient norm 9.00, usually 0.50/],
  "no-step": [last({ grad_norm: 0 }), /no step taken/],
  "reward-flat": [steps(40, () => ({ reward: 0.1 })), /reward 0.100, at the start 0.100/],
  "value-useless": [
    last({ "val/explained_variance": -0.3 }),
    /explain -30 % of the variance/,
    { method: "ppo" },
  ],
  "chosen-falling": [
    steps(40, (s) => ({ "logps/chosen": -2 - s / 10 })),
    /fell by 3.90/,
    { method: "dpo" },
  ],
  "nothing-kept": [last({ kept_ratio: 0 }), /no sampled answer was right/, { method: "rft" }],
  "no-pairs": [last({ num_pairs: 0 }), /no wrong answer to pair/, { method: "dpo" }],
};

describe("health", () => {
  test("a healthy run has no verdict, at any step", () => {
    for (let count = 0; count <= 40; count++) assert.deepEqual(ids(steps(count)), []);
    assert.equal(healthText([]), "healthy");
  });

  for (const [id, [rows, text, changes]] of Object.entries(shown)) {
    test(`${id}: shown by its figures, with them in its text`, () => {
      const verdicts = healthOf(rows, changes === undefined ? grpo : of(changes));
      const own = verdicts.find((verdict) => verdict.id === id);
      assert.ok(own, `only ${verdicts.map((verdict) => verdict.id)}`);
      assert.match(own.text, text);
      assert.equal(own.level, rules[id as VerdictId].level);
    });
  }

  test("every verdict has a history here and a meaning in --explain", () => {
    assert.deepEqual(Object.keys(shown).toSorted(), Object.keys(rules).toSorted());
    for (const id of Object.keys(rules)) assert.ok(explainText().includes(`${id} (`), id);
  });

  test("metrics that a method doesn't have say nothing", () => {
    assert.deepEqual(ids([{ step: 0, loss: 1, grad_norm: 1 }], of({ method: "sft" })), []);
    assert.deepEqual(ids([{ step: 0, kl: null, loss: "NaN" }]), []);
  });

  test("warnings come first, and what was told lately is no news", () => {
    const rows = last({ frac_reward_zero_std: 0.9, "completions/clipped_ratio": 0.5 });
    const verdicts = healthOf(rows, grpo);
    assert.match(healthText(verdicts), /^WARNING 50 % of answers truncated; 90 % of groups/);
    const told = (ago: number): Metrics[] =>
      steps(40, (step) => ({ health: step === 39 - ago ? ["truncated"] : [] }));
    assert.deepEqual(
      newsOf(verdicts, told(24)).map(({ id }) => id),
      ["zero-variance"],
    );
    assert.equal(newsOf(verdicts, told(25)).length, 2);
    assert.equal(newsOf(verdicts, []).length, 2);
  });
});
