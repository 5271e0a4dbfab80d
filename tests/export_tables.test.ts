/** Exports' quoting, and their tables: every setting accounted for, only keys that an engine has. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { describe, test } from "node:test";
import fc from "fast-check";
import { trainShape } from "../rl/config.ts";
import { worldGroups } from "../rl/data_config.ts";
import { account, type Plan, settingsOf } from "../rl/exporters/account.ts";
import { type EngineName, engineNames, engines } from "../rl/exporters/engines.ts";
import { fieldsOf } from "../rl/fields.ts";
import { hydraQuote, shellQuote, yamlValue } from "../rl/quote.ts";
import { resolveSettings } from "../rl/resolve.ts";
import { openrlhfKeys, trlKeys, verlKeys } from "./support/engine_keys.ts";
import { hydraText } from "./support/hydra.ts";

const yaml = spawnSync("python3", ["-c", "import yaml"]).status === 0;
if (!yaml) console.log("skipped 1 test: no python3 with PyYAML");

const nasty = fc
  .array(
    fc.oneof(
      fc.constantFrom(
        '"',
        "'",
        "\\",
        "$",
        "${",
        "{",
        "}",
        "\n",
        " ",
        "`",
        "!",
        "é",
        "😀",
        "=",
        ",",
      ),
      fc.string({ unit: "binary", maxLength: 3 }),
    ),
    { maxLength: 8 },
  )
  .map((parts) => parts.join("").replaceAll("\0", ""));

describe("quoting", () => {
  test("gives a shell back what it was given", () => {
    fc.assert(
      fc.property(fc.array(nasty, { minLength: 1, maxLength: 40 }), (texts) => {
        const words = texts.map((text) => text.toWellFormed());
        const script = `printf '%s\\0' ${words.map(shellQuote).join(" ")}`;
        const { stdout } = spawnSync("bash", ["-c", script], { encoding: "utf8" });
        assert.deepEqual(stdout.split("\0").slice(0, -1), words);
      }),
      { numRuns: 20 },
    );
  });

  test("gives Hydra back what it was given", () => {
    fc.assert(fc.property(nasty, (text) => assert.equal(hydraText(hydraQuote(text)), text)));
    assert.equal(hydraQuote(`a\\b"c\${d}\\`), `"a\\b\\"c\\\${d}\\\\"`);
  });

  test("writes numbers as YAML has them, and texts as JSON has them", () => {
    assert.equal(yamlValue(1e-7), "1.0e-7");
    assert.equal(
      yamlValue({ a: [1.5e30, -2e-9], b: '1e-7 "2e5"' }),
      '{"a":[1.5e+30,-2.0e-9],"b":"1e-7 \\"2e5\\""}',
    );
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (text) => {
        assert.equal(JSON.parse(yamlValue(text)), text.toWellFormed());
      }),
    );
  });

  if (yaml) {
    test("gives PyYAML back what it was given", () => {
      const values = fc.sample(
        fc.oneof(
          nasty,
          fc.double({ noNaN: true, noDefaultInfinity: true }),
          fc.string({ unit: "binary" }),
        ),
        { numRuns: 300, seed: 1 },
      );
      const lines = values.map((value, i) => `k${i}: ${yamlValue(value)}\n`).join("");
      const read =
        "import sys,yaml,json; print(json.dumps(list(yaml.safe_load(sys.stdin.buffer).values())))";
      const { stdout, stderr } = spawnSync("python3", ["-c", read], {
        input: lines,
        encoding: "utf8",
      });
      assert.notEqual(stdout, "", stderr);
      const back: unknown[] = JSON.parse(stdout);
      values.forEach((value, i) => {
        assert.equal(back[i], typeof value === "string" ? value.toWellFormed() : value + 0);
      });
    });
  }
});

const planOf = (config: Plan["config"], rows = 1000): Plan => ({
  ...{ config, data: config.data!, model: "/m", form: "chat", opening: "" },
  ...{ rows, longestPrompt: 20 },
});

/** Mostly the first of them, so that many combinations are possible ones. */
const one = <T>(first: T, ...others: T[]) =>
  fc.oneof(
    { weight: 5, arbitrary: fc.constant(first) },
    { weight: 1, arbitrary: fc.constantFrom(first, ...others) },
  );
const train = fc.record({
  ...{
    groupSize: one(8, 2, 1),
    epochs: one(1, 2),
    miniBatches: one(1, 2),
    temperature: one(1, 0.7),
  },
});
const grpo = fc.record({
  advantage: one("std", "centred", "reward", "leaveOneOut", "batchStd"),
  ...{ stdDdof: one(1, 0), stdEpsilon: one(1e-4, 0), sign: one("both", "positive") },
  ...{ ratioLevel: one("token", "sequence"), surrogate: one("clip", "cispo", "soft") },
  ...{ ratioCap: one(null, 5), dualClip: one(null, 3), clipHigh: one(0.2, 0.28) },
  aggregation: one("tokenMean", "sequenceMean", "fixedLength"),
  ...{ klCoefficient: one(0, 0.04), klEstimator: one("k3", "k2", "k1", "ratioK3") },
  ...{ klPlacement: one("loss", "reward"), reference: one("base", "ema") },
  ...{ entropyCoefficient: one(0, 0.01), importance: one("none", "token", "sequence") },
  ...{ importanceMode: one("truncate", "mask"), resampleRounds: one(0, 2) },
});
const ppo = fc.record({
  ...{ whiten: one(true, false), valueRange: one(null, 0.2), klCoefficient: one(0, 0.05) },
  ...{ klTarget: one(null, 6), aggregation: one("tokenMean", "fixedLength") },
});
const settings = fc.record({
  method: fc.constantFrom("grpo", "ppo", "sft", "rft", "dpo"),
  ...{ train, grpo, ppo, lora: fc.record({ rank: one(0, 8), alpha: one(16, 8.5) }) },
  dpo: fc.record({ form: one("sigmoid", "hinge", "ipo", "ipoMean"), labelSmoothing: one(0, 0.1) }),
  optimizer: fc.record({
    ...{ name: one("adamw", "muon"), schedule: one("constant", "linear", "cosine") },
    ...{ finalFraction: one(0, 0.1), weightDecay: one(0, 0.1) },
  }),
});

describe("the tables", () => {
  const keys = fieldsOf(trainShape)
    .map(({ key }) => key)
    .filter((key) => !worldGroups.some((group) => key.startsWith(`${group}.`)));

  for (const name of engineNames) {
    test(`of ${name} account for every setting`, () => {
      assert.deepEqual(Object.keys(engines[name].table).sort(), [...keys].sort());
      const plan = planOf(resolveSettings({ data: { file: "f", model: "m" } }));
      const entries = account(engines[name].table, plan);
      const worlds = entries.map(({ key }) => key).filter((key) => !keys.includes(key));
      assert.deepEqual(worlds, [...worldGroups]);
      for (const { fate, key, text } of entries) {
        if (fate === "differs" || fate === "unused") assert.notEqual(text, "", key);
      }
    });
  }

  test("refuse by name, or set each key once, and only keys that the engine has", () => {
    const known: Record<EngineName, (method: string) => ReadonlySet<string>> = {
      verl: () => verlKeys,
      openrlhf: () => openrlhfKeys,
      trl: (method) => trlKeys[method === "rft" ? "sft" : (method as "grpo")],
    };
    const taken = { verl: 0, trl: 0, openrlhf: 0 };
    fc.assert(
      fc.property(settings, fc.constantFrom(...engineNames), (values, name) => {
        let config: Plan["config"];
        try {
          config = resolveSettings({ ...values, data: { file: "f", model: "m" } });
        } catch {
          return; // settings that our own run refuses
        }
        const plan = planOf(config);
        const entries = account(engines[name].table, plan);
        const bad = entries.filter(({ fate }) => fate === "refused");
        if (bad.length > 0) {
          assert.throws(
            () => settingsOf(entries, name),
            (error: Error) =>
              bad.every(
                ({ key, text }) =>
                  error.message.includes(`${key} `) && error.message.includes(text),
              ),
          );
          return;
        }
        taken[name]++;
        const found = settingsOf(entries, name);
        const unknown = Object.keys(found).filter((key) => !known[name](config.method).has(key));
        assert.deepEqual(unknown, []);
        engines[name].files(plan, found);
      }),
      { numRuns: 250, seed: 1 },
    );
    for (const name of engineNames) assert.ok(taken[name] > 4, `${name}: ${taken[name]} of 250`);
  });

  test("say what a mapped recipe is", () => {
    const of = (name: EngineName, recipe: string, more: object = {}) => {
      const config = resolveSettings({ recipe, ...more, data: { file: "f", model: "m" } });
      return settingsOf(account(engines[name].table, planOf(config)), name);
    };
    const actor = "actor_rollout_ref.actor.";
    const dr = of("verl", "dr-grpo");
    assert.equal(dr["algorithm.norm_adv_by_std_in_grpo"], false);
    assert.equal(dr[`${actor}loss_agg_mode`], "seq-mean-token-sum-norm");
    assert.equal(dr[`${actor}loss_scale_factor`], 32);
    assert.equal(dr[`${actor}clip_ratio_c`], 1e9);
    assert.equal(dr[`${actor}ppo_mini_batch_size`], dr["data.train_batch_size"]);
    const cispo = of("verl", "cispo");
    assert.deepEqual([cispo[`${actor}clip_ratio_low`], cispo[`${actor}clip_ratio_high`]], [1, 4]);
    const kl = of("trl", "grpo-deepseekmath");
    assert.deepEqual([kl.beta, kl.loss_type, kl.scale_rewards], [0.04, "grpo", "group"]);
    assert.equal(of("trl", "gspo").importance_sampling_level, "sequence");
    assert.equal(of("trl", "cispo").epsilon_high, 5);
    const ppo = of("verl", "ppo-ziegler");
    assert.equal(ppo["algorithm.adv_estimator"], "gae");
    assert.deepEqual(
      [
        ppo["critic.cliprange_value"],
        ppo["algorithm.kl_ctrl.target_kl"],
        ppo[`${actor}clip_ratio_c`],
      ],
      [0.2, 6, 1e9],
    );
  });
});
