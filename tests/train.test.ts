/** A whole run at the smallest size: resume to the same bits, ratio 1, controls, and the command. */

import assert from "node:assert/strict";
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import fc from "fast-check";
import { localSampler } from "../eval/engines/sampler.ts";
import { buildWorld } from "../eval/worlds/presets.ts";
import { initialParameters } from "../model/parameters.ts";
import { modelConfigOf } from "../rl/base.ts";
import { latestCheckpoint, readCheckpoint } from "../rl/checkpoints.ts";
import { type TrainConfig, trainConfig, worldOf } from "../rl/config.ts";
import { scoreOf } from "../rl/evaluate.ts";
import { updatePolicy } from "../rl/methods/grpo.ts";
import { metricMeanings } from "../rl/metric_docs.ts";
import { modelTypes } from "../rl/model_config.ts";
import type { PolicyAnswer } from "../rl/policy_step.ts";
import { localTrainer, type Trainer } from "../rl/policy_trainer.ts";
import { Progress } from "../rl/progress.ts";
import { rewardOf } from "../rl/reward.ts";
import { questionsOfStep, type Rollout, rollOut } from "../rl/rollout.ts";
import { createRun, openRun } from "../rl/run.ts";
import { restore } from "../rl/state.ts";
import { tensorboard } from "../rl/tracking.ts";
import { rolloutMetrics, trainPolicy } from "../rl/trainer.ts";
import { runCommand, smallRun } from "./support/command.ts";

const folder = mkdtempSync(join(tmpdir(), "anamnesis-train-"));
after(() => rmSync(folder, { recursive: true, force: true }));

interface Changes {
  readonly method?: string;
  readonly train?: object;
  readonly optimizer?: object;
  readonly [group: string]: unknown;
}

const shape = { hiddenSize: 16, layers: 1, heads: 2, keyValueHeads: 1, intermediateSize: 32 };

const tiny = ({ train = {}, optimizer = {}, ...changes }: Changes = {}): TrainConfig =>
  trainConfig.parse({
    world: { entities: 24, relations: 2, answers: 6, qaShare: 0.3, qaEntityShare: 0.3 },
    model: shape,
    train: { steps: 6, questionsPerStep: 4, groupSize: 4, ...train },
    optimizer: { learningRate: 1e-2, warmup: 2, ...optimizer },
    ...changes,
    evaluate: { every: 2, accessibilitySamples: 128, passAtKSamples: 256 },
    checkpoint: { every: 1, keep: 10 },
  });

const silent = () => new Progress({ output: { write: () => true } });

/** Trains a fresh tiny policy in `dir`, asked to stop after `stopAfter` steps, or resumes it. */
async function trainTiny(dir: string, config: TrainConfig, stopAfter = Infinity, resume = false) {
  const world = buildWorld(worldOf(config));
  const shape = modelConfigOf(config, world);
  const base = { config: shape, parameters: initialParameters(shape, { seed: 1 }) };
  using run = resume ? openRun(dir, config) : createRun({ config, dir });
  const { policy, state } = restore(run, resume, base);
  const first = state.step;
  const interrupt = {
    requested: false,
    check: async () => state.step - first >= stopAfter,
    [Symbol.dispose]: () => {},
  };
  const progress = silent();
  const tracker = tensorboard(run);
  const questions = world.questions("train");
  const training = {
    run,
    task: world,
    questions,
    policy,
    base,
    state,
    progress,
    interrupt,
    tracker,
  };
  const done = await trainPolicy(training);
  return { done, metrics: run.metrics.rows(), rollouts: run.rollouts.rows() };
}

/** Rows without what a clock wrote. */
const timeless = (rows: readonly Record<string, unknown>[]) =>
  rows.map(({ step_time: _, ...row }) => row);

const kl = (klEstimator: string, klPlacement: string, more: object = {}): Changes => ({
  grpo: { klEstimator, klPlacement, klCoefficient: 0.05, ...more },
});

/** Every method, and everything that one carries from step to step. */
const variants: readonly Changes[] = [
  {},
  { train: { epochs: 2, miniBatches: 2 }, optimizer: { schedule: "cosine" } },
  kl("k3", "loss"),
  kl("k1", "reward"),
  kl("ratioK3", "loss", { reference: "ema", referenceDecay: 0.5 }),
  { grpo: { resampleRounds: 2, entropyCoefficient: 0.01, importance: "sequence" } },
  { grpo: { ratioLevel: "sequence", aggregation: "sequenceMean" }, train: { epochs: 2 } },
  { grpo: { surrogate: "cispo", ratioCap: 5, advantage: "leaveOneOut" } },
  { method: "ppo", train: { epochs: 2, miniBatches: 2 } },
  { method: "ppo", ppo: { klCoefficient: 0.1, klTarget: 0.01, klHorizon: 50 } },
  { lora: { rank: 2, targets: ["q_proj", "down_proj"] }, train: { epochs: 2 } },
  { method: "dpo", lora: { rank: 1 }, optimizer: { name: "muon" } },
  { model: { ...shape, family: "olmo2" } },
  { model: { ...shape, family: "qwen3moe", experts: 4 }, method: "ppo" },
  { method: "sft" },
  { method: "sft", optimizer: { name: "muon" } },
  { method: "rft", optimizer: { name: "sgd" } },
  { method: "rft", rft: { distinct: true, perQuestion: 2 } },
  { method: "dpo", train: { epochs: 2 } },
  { method: "dpo", dpo: { form: "ipoMean", sampleFrom: "base" } },
];

describe("a run", () => {
  for (const changes of variants) {
    test(`killed and resumed ends with the same bits: ${JSON.stringify(changes)}`, async () => {
      const config = tiny(changes);
      const name = JSON.stringify(changes).replace(/\W+/g, "-");
      const [straight, broken] = [join(folder, `straight${name}`), join(folder, `broken${name}`)];
      const whole = await trainTiny(straight, config);
      assert.equal((await trainTiny(broken, config, 3)).done, false);
      // A kill may come in the middle of a row, after the checkpoint.
      writeFileSync(join(broken, "metrics.jsonl"), '{"step": 3, "rew', { flag: "a" });
      const resumed = await trainTiny(broken, config, Infinity, true);
      assert.ok(whole.done && resumed.done);
      const [a, b] = [straight, broken].map((dir) => {
        return readCheckpoint(latestCheckpoint(join(dir, "checkpoints"))!.path).contents;
      });
      assert.deepEqual(Object.keys(a!), Object.keys(b!));
      for (const [file, bytes] of Object.entries(a!)) {
        assert.ok(Buffer.from(bytes).equals(Buffer.from(b![file]!)), `${file} differs`);
      }
      assert.deepEqual(timeless(resumed.metrics), timeless(whole.metrics));
      assert.deepEqual(resumed.rollouts, whole.rollouts);
      for (const name of whole.metrics.flatMap(Object.keys)) {
        assert.ok(name in metricMeanings, `--explain says nothing of the metric ${name}`);
      }
      assert.equal(whole.metrics.length, 7);
    });
  }

  test("that stopped early stays stopped, however often it is resumed", async () => {
    // A rate that spoils the model: validation never gets better.
    const rough = tiny({ optimizer: { learningRate: 0.5, warmup: 0 } });
    const config = { ...rough, evaluate: { ...rough.evaluate, every: 1, patience: 2 } };
    const [dir, broken] = [join(folder, "patience"), join(folder, "patience-stopped")];
    const whole = await trainTiny(dir, config);
    const steps = latestCheckpoint(join(dir, "checkpoints"))!.step;
    assert.ok(whole.done && steps < config.train.steps, `${steps} steps`);
    // Asked to stop in the very step that is the last one.
    assert.equal((await trainTiny(broken, config, steps)).done, false);
    for (const path of [dir, dir, broken]) {
      const resumed = await trainTiny(path, config, Infinity, true);
      assert.ok(resumed.done);
      assert.deepEqual(timeless(resumed.metrics), timeless(whole.metrics));
    }
  });

  for (const family of Object.keys(modelTypes))
    test(`the ratio is exactly 1 at the first update, with what the sampler said: ${family}`, async () => {
      const config = tiny({
        model: { ...shape, layers: 2, family },
        train: { temperature: 0.7, epochs: 2 },
        optimizer: { learningRate: 1e-3 },
      });
      const world = buildWorld(worldOf(config));
      const own = modelConfigOf(config, world);
      const policy = { config: own, parameters: initialParameters(own, { seed: 3 }) };
      using run = createRun({ config, dir: join(folder, `ratio-${family}`) });
      const { state, policy: trained } = restore(run, false, policy);
      const questions = questionsOfStep(world.questions("train"), { seed: 1, step: 0, count: 8 });
      // Rewards that differ within a group, so that no rollout is left out.
      const paid = rewardOf({ ...config, reward: "random" });
      const options = { ...config.train, groupSize: 4, seed: 1, step: 0 };
      const rollouts = await rollOut(localSampler(trained), world, questions, paid, options);
      const reports = await updatePolicy(
        trained,
        localTrainer(trained, state.optimizer),
        rollouts,
        config,
        {
          learningRate: 1e-2,
          reference: undefined,
        },
      );
      assert.equal(reports[0]!.maxLogRatio, 0);
      assert.ok(reports[0]!.gradNorm > 0);
      assert.ok(reports[1]!.maxLogRatio > 1e-4, "after one update the ratio has moved");
    });

  test("an answer is told from an equal one that a server gave other probabilities", async () => {
    const here = tiny();
    const there = { ...here, trainer: { url: "http://x", model: "m" } } as TrainConfig;
    const world = buildWorld(worldOf(here));
    const [question] = world.questions("train");
    const rollouts = [0, 1, 2, 3].map((i): Rollout => {
      const score = Number(i < 2);
      const judgement = { score, correct: i < 2, predicted: "", reason: "" };
      const own = { question: question!, tokens: [5, 6], logProbs: [-1 - i, -2] };
      return { ...own, judgement, text: "", finished: true };
    });
    for (const [config, expected] of [
      [here, 2],
      [there, 4],
    ] as const) {
      const seen: PolicyAnswer[] = [];
      const report = { loss: 0, gradNorm: 0, maxLogRatio: 0, approximateKl: 0 };
      const none = { clippedLow: 0, clippedHigh: 0, kl: null, entropy: null };
      const trainer: Trainer = {
        policyStep: async (answers) => {
          seen.push(...answers);
          return { ...report, ...none };
        },
        imitationStep: async () => report,
      };
      const policy = { config: modelConfigOf(here, world), parameters: new Map() };
      const options = { learningRate: 1, reference: undefined };
      await updatePolicy(policy, trainer, rollouts, config, options);
      assert.equal(seen.length, expected);
      const olds = seen.map(({ old }) => old[0]);
      if (expected === 4) assert.deepEqual(olds, [-1, -2, -3, -4]);
    }
  });

  test("without a verdict has no reward, and counts groups that have one alone", () => {
    const rollout = (score: number | null) =>
      ({ judgement: { score }, tokens: [1], logProbs: [-1], finished: true }) as unknown as Rollout;
    const of = (...scores: (number | null)[]) => {
      const { reward, reward_std, frac_reward_zero_std } = rolloutMetrics(scores.map(rollout), 2);
      return [reward, reward_std, frac_reward_zero_std];
    };
    assert.deepEqual(of(null, null, null, null), [null, null, null]);
    assert.deepEqual(of(null, null, 0, 1), [0.5, 0.5, 0]);
    assert.deepEqual(of(1, 1, 0, null), [2 / 3, Math.sqrt(2 / 9), 1]);
  });

  test("is chosen by accuracy first, whatever the probabilities and the number of questions", () => {
    const n = fc.integer({ min: 1, max: 1_000_000 });
    const probability = fc.double({ min: 0, max: 1, noNaN: true });
    fc.assert(
      fc.property(
        n,
        fc.double({ min: 0, max: 1, noNaN: true }),
        probability,
        probability,
        (n, at, p, q) => {
          const right = Math.floor(at * (n - 1));
          assert.ok(scoreOf((right + 1) / n, p, n) > scoreOf(right / n, q, n), `${right} of ${n}`);
          // As it was, bit for bit, where that was right.
          if (n < 1000) assert.equal(scoreOf(right / n, p, n), right / n + 1e-3 * p);
          if (p > q + 1e-3) assert.ok(scoreOf(right / n, p, n) > scoreOf(right / n, q, n));
        },
      ),
    );
  });

  test("equal rewards are no reason to move", async () => {
    const config = tiny();
    const world = buildWorld(worldOf(config));
    const shape = modelConfigOf(config, world);
    const base = { config: shape, parameters: initialParameters(shape, { seed: 3 }) };
    using run = createRun({ config, dir: join(folder, "flat") });
    const { state, policy } = restore(run, false, base);
    const flat = () => ({ score: 1, correct: true, predicted: "", reason: "all are paid" });
    const questions = world.questions("train").slice(0, 4);
    const rollouts = await rollOut(localSampler(policy), world, questions, flat, {
      ...config.train,
      seed: 1,
      step: 0,
    });
    const options = { learningRate: 1, reference: undefined };
    const [report] = await updatePolicy(
      policy,
      localTrainer(policy, state.optimizer),
      rollouts,
      config,
      options,
    );
    assert.deepEqual([report!.loss, report!.gradNorm, state.optimizer.step], [0, 0, 0]);
    for (const [name, t] of policy.parameters) {
      assert.deepEqual(t.dataSync(), base.parameters.get(name)!.dataSync(), name);
    }
  });
});

const command = (...args: string[]) => runCommand(folder, "train.ts", args);

const small = [
  ...smallRun,
  ...["--train.steps", "4", "--optimizer.warmup", "1", "--train.questions-per-step", "4"],
];

describe("the command", () => {
  const out = join(folder, "run");

  test("runs from nothing to a summary, and a second time from the cached base model", () => {
    const { code, text } = command(...small, "--out", out);
    assert.equal(code, 0, text);
    const summary = JSON.parse(readFileSync(join(out, "summary.json"), "utf8"));
    const { heldout, train } = summary;
    for (const key of ["preset", "seed", "params", "seconds"]) assert.ok(key in summary, key);
    const stages = Object.values(summary.stages as Record<string, number>);
    assert.ok(summary.seconds >= stages.reduce((a, b) => a + b), "pre-training is part of a run");
    for (const key of ["n", "before", "after", "fixed", "broken", "p"])
      assert.ok(key in heldout, key);
    assert.deepEqual(Object.keys(heldout.passAtK.before), Object.keys(heldout.passAtK.after));
    assert.equal(Object.keys(heldout.passAtK.after).length, 9);
    assert.equal(heldout.repair.length, 9);
    assert.ok("before" in train && "after" in train);
    for (const file of [
      "config.json",
      "metrics.jsonl",
      "ledger.jsonl",
      "rollouts.jsonl",
      "report.md",
    ]) {
      assert.ok(existsSync(join(out, file)), file);
    }
    assert.match(text, /held-out, \d+ questions/);
    const again = command(...small, "--out", join(folder, "again"), "--reward", "random");
    assert.equal(again.code, 0, again.text);
    assert.match(again.text, /pre-trained before/);
  });

  const refused: [name: string, args: () => string[], message: RegExp][] = [
    ["an unknown flag", () => ["--sede", "3"], /unknown flag --sede; did you mean --seed\?/],
    ["a wrong type", () => ["--train.steps", "many"], /--train\.steps.*many/],
    ["a contradiction", () => ["--train.top-p", "0.9"], /topP 0\.9 in training/],
    ["a missing run", () => ["--resume", join(folder, "nowhere")], /no run folder/],
    [
      "a resume with other settings",
      () => ["--resume", out, "--optimizer.learning-rate", "0.5"],
      /learningRate/,
    ],
    ["a folder in use", () => [...small, "--out", out], /run/],
    [
      "an unwritable folder",
      () => [...small, "--out", join(out, "summary.json", "x")],
      /summary\.json/,
    ],
    ["a corrupt checkpoint", () => ["--resume", corrupt()], /model\.safetensors/],
  ];
  for (const [name, args, message] of refused) {
    test(`refuses ${name} in plain words`, () => {
      const { code, text } = command(...args());
      assert.equal(code, 2, text);
      assert.match(text, message);
      assert.doesNotMatch(text, /\n\s+at /, "no stack trace");
    });
  }

  function corrupt(): string {
    const copy = join(folder, "corrupt");
    cpSync(out, copy, { recursive: true });
    const { path } = latestCheckpoint(join(copy, "checkpoints"))!;
    const weights = readFileSync(join(path, "model.safetensors"));
    weights[weights.length - 5]! ^= 1;
    writeFileSync(join(path, "model.safetensors"), weights);
    return copy;
  }
});
