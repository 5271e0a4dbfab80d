/** Configuration: flags, files, presets, contradictions and hashes, and what users read of errors. */
import assert from "node:assert/strict";
import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import {
  contradictions,
  presetNames,
  seedsOf,
  type TrainConfig,
  trainConfig,
  trainShape,
} from "../rl/config.ts";
import { fieldsOf } from "../rl/fields.ts";
import { configHash, differences } from "../rl/hash.ts";
import { grpo } from "../rl/methods/grpo.ts";
import { sft } from "../rl/methods/supervised.ts";
import { commandFlags, dryRunText, presetConfig, resolveConfig, trainHelp } from "../rl/resolve.ts";
import { createRun } from "../rl/run.ts";
import { UserError } from "../rl/user_error.ts";
import { scratchFolder } from "./support/disk.ts";

const { path: scratch } = scratchFolder();

const jsonFile = (name: string, value: unknown) => {
  const path = join(scratch, name);
  writeFileSync(path, typeof value === "string" ? value : JSON.stringify(value));
  return path;
};

const configOf = (...argv: string[]): TrainConfig => {
  const resolved = resolveConfig(argv);
  assert.equal(resolved.help, null);
  return (resolved as Extract<typeof resolved, { help: null }>).config;
};

/** The message of the UserError that these flags give; also: nothing was written. */
function refusal(...argv: string[]): string {
  const before = readdirSync(scratch, { recursive: true }).length;
  let message = "";
  assert.throws(
    () => resolveConfig(argv),
    (error) => {
      assert.ok(error instanceof UserError, `a user's mistake gave ${error}`);
      assert.equal(error.exitCode, 2);
      message = error.message;
      return true;
    },
  );
  assert.equal(readdirSync(scratch, { recursive: true }).length, before, "something was written");
  return message;
}

describe("precedence", () => {
  test("no flags at all give the smoke preset, which is the schema's default", () => {
    assert.deepEqual(configOf(), presetConfig("smoke"));
    assert.equal(configOf().model.hiddenSize, 64);
    assert.equal(trainConfig.parse({}).train.groupSize, 16);
  });

  test("flags win over the file, the file over the preset, the preset over defaults", () => {
    const file = jsonFile("layers.json", { train: { steps: 77 }, grpo: { clipLow: 0.1 }, seed: 5 });
    const config = configOf("--preset", "demo", "--config", file, "--grpo.clip-low", "0.3");
    assert.equal(config.model.hiddenSize, 128, "preset");
    assert.equal(config.train.steps, 77, "file over preset");
    assert.equal(config.grpo.clipLow, 0.3, "flag over file");
    assert.equal(config.grpo.clipHigh, 0.2, "default");
    assert.equal(config.seed, 5, "file over default");
  });

  test("the file may name the preset, and a flag another one", () => {
    const file = jsonFile("preset.json", { preset: "demo" });
    assert.equal(configOf("--config", file).model.hiddenSize, 128);
    assert.equal(configOf("--config", file, "--preset", "smoke").model.hiddenSize, 64);
  });

  test("a run's config.json is a config file, and seeds still follow --seed", () => {
    const dir = join(scratch, "earlier");
    createRun({ dir, config: configOf("--train.steps", "33", "--seeds.rl", "9") }).close();
    const config = configOf("--config", join(dir, "config.json"), "--seed", "4");
    assert.equal(config.train.steps, 33);
    assert.deepEqual(seedsOf(config), { world: 4, pretrain: 4, rl: 9 });
  });

  test("a recipe that a flag asks for stands above a file of all settings, flags above it", () => {
    const file = jsonFile("all.json", configOf());
    const flags = ["--config", file, "--recipe", "dapo"];
    const { recipe, grpo } = configOf(...flags);
    assert.deepEqual([recipe, grpo.clipHigh, grpo.resampleRounds], ["dapo", 0.28, 4]);
    assert.equal(configOf(...flags, "--grpo.clip-high", "0.25").grpo.clipHigh, 0.25);
    const named = jsonFile("named.json", { recipe: "dapo", grpo: { clipHigh: 0.3 } });
    assert.equal(configOf("--config", named).grpo.clipHigh, 0.3, "the file's own stands below it");
  });

  test("every preset resolves without a contradiction; null is the default but for its world", () => {
    for (const preset of presetNames) assert.deepEqual(contradictions(presetConfig(preset)), []);
    const keys = differences(presetConfig("smoke"), presetConfig("null")).map(({ key }) => key);
    assert.deepEqual(
      keys.filter((key) => !key.startsWith("world.")),
      ["preset"],
    );
  });
});

describe("the forms of a flag", () => {
  test("--name value, --name=value, --no-name, lists, none, negative numbers", () => {
    const config = configOf(
      ...["--grpo.clip-low=0.1", "--no-model.tie-word-embeddings", "--seeds.rl", "7"],
      ...["--pretrain.betas", "0.8,0.99", "--evaluate.pass-at-k", "1,8", "--seeds.world", "none"],
    );
    assert.equal(config.grpo.clipLow, 0.1);
    assert.equal(config.model.tieWordEmbeddings, false);
    assert.deepEqual(config.pretrain.betas, [0.8, 0.99]);
    assert.deepEqual(config.evaluate.passAtK, [1, 8]);
    assert.deepEqual(seedsOf(config), { world: 1, pretrain: 1, rl: 7 });
    assert.match(
      refusal("--seed", "-1"),
      /--seed is "-1"; expected an integer in \[0, 4294967295\]/,
    );
  });

  test("--out, --resume and --dry-run are no settings", () => {
    const resolved = resolveConfig(["--out", "somewhere", "--dry-run"]);
    assert.ok(resolved.help === null);
    assert.equal(resolved.out, "somewhere");
    assert.equal(resolved.resume, null);
    assert.equal(resolved.dryRun, true);
    assert.equal(resolved.hash, configHash(configOf()));
  });
});

describe("mistakes are named, with the nearest real name", () => {
  const cases: [name: string, argv: string[], message: RegExp][] = [
    ["flag", ["--sede", "3"], /^unknown flag --sede; did you mean --seed\?/],
    ["flag with =", ["--sede=3"], /^unknown flag --sede; did you mean --seed\?/],
    [
      "group left out",
      ["--clip-low", "0.1"],
      /--clip-low; did you mean --grpo.clip-low or --ppo.clip-low\?/,
    ],
    ["beginning only", ["--clip-hi", "1"], /did you mean --grpo.clip-high or --ppo.clip-high\?/],
    ["swapped letters", ["--train.setps", "9"], /--train.setps; did you mean --train.steps\?/],
    ["camel case", ["--grpo.clipLow", "1"], /--grpo.clipLow; did you mean --grpo.clip-low\?/],
    ["negation", ["--no-model.tie-embeddings"], /mean --no-model.tie-word-embeddings\?/],
    ["far from all", ["--zzzzqqqq", "1"], /^unknown flag --zzzzqqqq\n/],
    ["stray word", ["demo"], /^unexpected "demo": settings are given as --name value/],
    ["no value", ["--reward", "--seed", "1"], /^--reward needs a value: one of exact, alias/],
    ["no folder", ["--out"], /^--out needs a value: DIR/],
    ["not a number", ["--grpo.clip-low", "abc"], /^--grpo.clip-low is "abc"; expected a number in/],
    ["not an integer", ["--seed", "1.5"], /^--seed is "1.5"; expected an integer/],
    ["empty", ["--seed="], /^--seed is ""; expected an integer/],
    ["out of range", ["--grpo.clip-low", "1.5"], /is "1.5"; expected a number in \[0, 1\]/],
    [
      "not of the enum",
      ["--method", "grop"],
      /--method is "grop"; expected one of grpo, ppo, sft, dpo, rft; did you me/,
    ],
    ["wrong list", ["--pretrain.betas", "0.9"], /"0.9"; expected 2 comma-separated values, each a/],
    ["wrong element", ["--evaluate.pass-at-k", "1,x"], /"1,x"; expected a comma-separated list/],
    ["not a boolean", ["--model.tie-word-embeddings", "7"], /is "7"; expected true or false/],
    ["two folders", ["--out", "a", "--resume", scratch], /--out and --resume name two folders/],
    ["file missing", ["--config", "no/such.json"], /^--config no\/such.json cannot be read: /],
    ["resume of nothing", ["--resume", "no/such"], /^no\/such is no run folder: no\/such.config/],
  ];
  for (const [name, argv, message] of cases) {
    test(name, () => assert.match(refusal(...argv).replaceAll("2 problems:\n  - ", ""), message));
  }

  test("all problems of all sources come together", () => {
    const file = jsonFile("many.json", { train: { stepz: 1 }, sead: 2, model: { heads: "x" } });
    const text = refusal("--config", file, "--sede", "3", "--seed", "abc");
    assert.match(text, /^5 problems:\n/);
    assert.match(text, /unknown flag --sede/);
    assert.match(text, /unknown key "train.stepz"; did you mean train.steps\?/);
    assert.match(text, /unknown key "sead"; did you mean seed\?/);
    assert.match(text, /many.json: "model.heads" is "x"; expected an integer of at least 1/);
    assert.match(text, /--seed is "abc"; expected an integer/);
  });
});

describe("mistakes in the JSON file", () => {
  const cases: [name: string, content: unknown, message: RegExp][] = [
    ["unknown key", { sede: 1 }, /unknown key "sede"; did you mean seed\?/],
    [
      "unknown key inside",
      { grpo: { clipLo: 1 } },
      /key "grpo.clipLo"; did you mean grpo.clipLow\?/,
    ],
    [
      "key outside its group",
      { clipLow: 0.1 },
      /"clipLow"; did you mean grpo.clipLow or ppo.clipLow\?/,
    ],
    ["unknown group", { grpoo: { steps: 1 } }, /unknown key "grpoo"; did you mean grpo\?/],
    [
      "group as number",
      { grpo: 3 },
      /"grpo" is 3; expected an object with keys such as grpo.advantage/,
    ],
    ["number as text", { seed: "1" }, /"seed" is "1"; expected an integer/],
    ["null", { train: { steps: null } }, /"train.steps" is null; expected an integer/],
    ["nested too deep", { seed: { world: 1 } }, /"seed" is {"world":1}; expected an integer/],
    ["preset", { preset: "smok" }, /"preset" is "smok"; expected one of .*; did you mean smoke\?/],
    ["an array", [1], /is not a JSON object/],
    [
      "a key twice",
      '{"train": {"steps": 7}, "train": {"groupSize": 4}}',
      /name "train" occurs twice/,
    ],
    ["not JSON", "{ seed: 1 }", /is not JSON \(/],
  ];
  for (const [name, content, message] of cases) {
    test(name, () => {
      const file = jsonFile(`${name}.json`, content);
      const text = refusal("--config", file);
      assert.match(text, message);
      assert.ok(text.includes(file), "the file is named");
    });
  }
});

describe("settings that contradict each other", () => {
  const cases: [argv: string[], message: RegExp][] = [
    [
      ["--model.heads=3", "--model.key-value-heads=3"],
      /model.heads 3 does not divide model.hiddenSize 64/,
    ],
    [["--model.key-value-heads", "3"], /model.keyValueHeads 3 does not divide model.heads 4/],
    [
      ["--model.experts", "4"],
      /^model.experts with model.family llama: it has no experts; use --model.family qwen3moe/,
    ],
    [
      ["--model.family=qwen2", "--model.experts-per-token=1", "--model.auxiliary-loss=0"],
      /^model.expertsPerToken, model.auxiliaryLoss with model.family qwen2/,
    ],
    [
      ["--model.family=qwen3moe", "--model.experts=2", "--model.experts-per-token=3"],
      /expertsPerToken 3 of model.experts 2: a token cannot go through more experts/,
    ],
    [["--model.hidden-size", "12"], /hiddenSize 12 \/ model.heads 4 is odd: rotary/],
    [
      ["--world.facts", "atlas", "--world.entities", "99"],
      /^world.entities: .*invented facts only/,
    ],
    [["--world.qa-share", "1"], /^world.qaShare: qaShare is 1: no document would state a fact/],
    [["--train.top-p", "0.9"], /train.topP 0.9 in training: a filter renormalises .*; use 1/],
    [["--train.top-k", "5"], /train.topK 5 in training: a filter renormalises .*; use 0/],
    [["--train.group-size", "1"], /groupSize 1 with grpo.advantage std: .*; use at least 2/],
    [["--train.group-size=1", "--grpo.advantage=leaveOneOut"], /1 with grpo.advantage leaveOneOut/],
    [["--grpo.kl-coefficient", "0.1"], /klCoefficient 0.1 without an estimator: set grpo.klEst/],
    [["--grpo.kl-coefficient=1", "--grpo.kl-estimator=k1"], /expected gradient of 0: use k2, or/],
    [["--train.mini-batches", "3"], /miniBatches 3 does not divide the 1024 rollouts/],
    [["--evaluate.pass-at-k", "1,512"], /passAtKSamples 256 cannot estimate pass@512/],
    [["--optimizer.warmup", "500"], /optimizer.warmup 500 never ends within train.steps 120/],
    [
      ["--grpo.surrogate=soft", "--grpo.ratio-cap=3"],
      /ratioCap 3 with grpo.surrogate soft: its gate caps nothing/,
    ],
    [
      ["--grpo.surrogate=cispo", "--grpo.ratio-cap=5", "--grpo.dual-clip=3"],
      /dualClip 3 with grpo.surrogate cispo: only clip has/,
    ],
    [["--dpo.form=ipo", "--dpo.label-smoothing=0.3"], /labelSmoothing 0.3 with dpo.form ipo/],
    [
      ["--recipe=ppo-ziegler", "--ppo.kl-horizon=204"],
      /klHorizon 204 is no more than a fifth of the 1024 rollouts .* use at least 205/,
    ],
    [["--pretrain.length", "300"], /pretrain.length 300 is above the model's 256 positions/],
    [["--train.max-new-tokens", "300"], /maxNewTokens 300 leaves no room .* 256 positions/],
    [["--pretrain.steps", "10"], /pretrain.warmup 50 never ends within pretrain.steps 10/],
  ];
  for (const [argv, message] of cases) {
    test(argv.join(" "), () => {
      assert.match(refusal(...argv), message);
      assert.equal(refusal(...argv).split("\n").length, 2, "one problem and the hint");
    });
  }

  test("trainConfig.parse refuses them, too", () => {
    const result = trainConfig.safeParse({ train: { topP: 0.5 } });
    assert.match(result.error?.issues[0]?.message ?? "", /topP 0.5 in training/);
  });
});

describe("help and dry run", () => {
  test("help names every flag, with its description and the preset's default", () => {
    const text = trainHelp("demo").replace(/\s+/g, " ");
    for (const field of fieldsOf(trainShape)) {
      const name = field.flag.slice(2);
      assert.ok(
        text.includes(field.kind === "boolean" ? ` --[no-]${name} ` : ` --${name} <`),
        `${name} is missing`,
      );
      assert.ok(field.description.length > 0, `${name} has no description`);
      assert.ok(text.includes(field.description), `${name}: ${field.description}`);
    }
    for (const { flag } of commandFlags) assert.ok(text.includes(` ${flag} `));
    assert.match(text, /--train.steps <integer> [^(]*\(default 240\)/);
    for (const line of trainHelp("demo").split("\n")) assert.ok(line.length <= 100, line);
  });

  test("--help is answered even beside mistakes", () => {
    for (const flag of ["--help", "-h"]) {
      assert.equal(resolveConfig(["--sede", flag]).help, trainHelp("smoke"));
    }
    assert.equal(resolveConfig(["--preset", "demo", "--help"]).help, trainHelp("demo"));
  });

  test("the dry run shows origins and a command that gives the same run", () => {
    const resolved = resolveConfig(["--preset", "demo", "--seeds.rl", "3", "--grpo.clip-low=0.1"]);
    assert.ok(resolved.help === null);
    const text = dryRunText(resolved);
    assert.match(text, /^grpo.clipLow +0.1 +flag$/m);
    assert.match(text, /^train.steps +240 +preset demo$/m);
    assert.match(text, /^seeds +world 1, pretrain 1, rl 3$/m);
    const command = text.match(/^repeat +bun run rl\/train.ts (.*)$/m)![1]!;
    assert.deepEqual(configOf(...command.split(" ")), resolved.config);
  });

  // Flags that equal the preset, over a recipe or an engine that stand above it.
  const model = ["--data", "q.jsonl", "--model", "m"];
  for (const argv of [
    ["--recipe", "dapo", "--grpo.clip-high", "0.2"],
    ["--preset", "demo", "--recipe", "ppo-ziegler", "--train.epochs", "1"],
    [...model, "--sampler.engine=vllm", "--sampler.url=http://x/v1", "--grpo.importance=none"],
    [...model, "--judge", "http://x/v1", "--judge.model", "j"],
    [...model, "--recipe", "rloo", "--grpo.kl-coefficient", "0"],
  ]) {
    test(`repeats ${argv.join(" ")}`, () => {
      const resolved = resolveConfig(argv);
      assert.ok(resolved.help === null);
      const command = dryRunText(resolved).match(/^repeat +bun run rl\/train.ts (.*)$/m)![1]!;
      assert.deepEqual(configOf(...command.split(" ")), resolved.config);
    });
  }
});

describe("a run's header", () => {
  const tokenLoss = (...argv: string[]) => grpo.mathematics(configOf(...argv))[1]!;

  test("tells the loss that is minimised, no bound or ratio that it hasn't", () => {
    assert.match(tokenLoss("--grpo.dual-clip", "3"), /at most -3A where A < 0; .*ρ = 1 exactly/);
    const config = configOf("--grpo.surrogate=cispo", "--grpo.ratio-cap=5");
    const both = { ...config, grpo: { ...config.grpo, dualClip: 3 } }; // of a run before it was refused
    assert.doesNotMatch(grpo.mathematics(both)[1]!, /at most/);
    const trainer = ["--trainer.url=http://x", "--trainer.model=Q", "--data=q", "--model=m"];
    assert.match(tokenLoss(...trainer), /; one update a step$/);
    const lines = (...argv: string[]) => sft.mathematics(configOf("--method", "sft", ...argv));
    const warm = lines("--train.temperature", "0.5").filter((line) => /divided by 0\.5/.test(line));
    assert.equal(warm.length, 1);
    assert.ok(!lines().some((line) => line.includes("divided")));
  });
});
