/** Every setting of a training run: one zod schema, and the contradictions between settings. */
import { z } from "zod";
import { type WorldConfig, worldConfig } from "../eval/worlds/config.ts";
import { setsInUse } from "../eval/worlds/question_sets.ts";
import { data, dataProblems, worldGroups } from "./data_config.ts";
import { canonicalJson, configHash } from "./hash.ts";
import { judge, judgeProblems } from "./judge_config.ts";
import {
  betas,
  clipNorm,
  count,
  dpo,
  grpo,
  lora,
  methodProblems,
  optimizer,
  ppo,
  questionSet,
  rate,
  rft,
  sft,
  share,
  train,
  when,
  whole,
} from "./method_config.ts";
import { model, modelProblems, POSITIONS, shapingSettings } from "./model_config.ts";
import { recipeNames } from "./recipes.ts";
import { sampler, samplerProblems } from "./sampler_config.ts";
import { trainer, trainerProblems } from "./trainer_config.ts";

export const presetNames = [
  "smoke",
  "null",
  "demo",
  "null-demo",
  "atlas",
  "null-atlas",
  "benchmarks",
  "null-benchmarks",
  "extraction",
  "paper-like",
  "null-paper-like",
  "data",
] as const;
export type PresetName = (typeof presetNames)[number];

/** The ways to train: a new one adds its name here, its settings to method_config.ts. */
export const methods = ["grpo", "ppo", "sft", "dpo", "rft"] as const;
export const rewards = [
  "exact",
  "alias",
  "normalised",
  "contains",
  "noisy",
  "random",
  "llm",
] as const;

/** Part of the key of a cached base model: raise it when pre-training changes its outcome. */
export const pretrainingVersion = 2;

const seed = (text: string) =>
  z.int().min(0).max(0xffffffff).nullable().default(null).describe(text);

const seeds = z
  .strictObject({
    world: seed("Seed of the world and its split; none: --seed"),
    pretrain: seed("Seed of initialisation and pre-training; none: --seed"),
    rl: seed("Seed of question order and rollouts; none: --seed"),
  })
  .describe("separate seeds, for studies of what varies with what");

// The world's own seed is left out here: seeds.world is the one place that sets it.
const { seed: _seed, ...worldKnobs } = worldConfig.shape;
const world = z.strictObject(worldKnobs).describe("the world of facts");

const pretrain = z
  .strictObject({
    steps: count("Optimizer steps").default(1200),
    batch: count("Sequences per step").default(48),
    length: z.int().min(2).default(44).describe("Tokens per sequence"),
    learningRate: rate("Peak rate; linear warm-up, then cosine").default(4e-3),
    warmup: whole("Steps of warm-up").default(50),
    finalFraction: share("Rate at the last step, as a share of the peak").default(0),
    weightDecay: z.number().min(0).default(0.01).describe("AdamW weight decay"),
    betas: betas("AdamW moment decays").default([0.9, 0.99]),
    clipNorm: clipNorm(),
  })
  .describe("pre-training of the base model on the world's documents");

const warmStart = z
  .strictObject({
    steps: whole("Optimizer steps; 0: no warm-up").default(0),
    questionsPerStep: count("Questions per step").default(64),
    learningRate: rate("Peak rate, after ten steps of linear warm-up").default(2e-4),
  })
  .describe("supervised warm-up of the base model on the QA entities' gold answers");

const evaluate = z
  .strictObject({
    accessibilitySamples: count("Samples per question behind the accessibility bins").default(128),
    passAtKSamples: count("Samples per question behind pass@k").default(256),
    passAtK: z
      .array(z.int().min(1))
      .min(1)
      .default([1, 2, 4, 8, 16, 32, 64, 128, 256])
      .describe("Every k to report"),
    every: count("Steps between validations; the last step always has one").default(10),
    curves: z
      .boolean()
      .default(false)
      .describe("Log held-out and training accuracy at each validation too; nothing reads them"),
    patience: whole("Stop after this many validations without a better one; 0: never").default(0),
    questionSet: questionSet("Set whose questions are the test; none: all"),
    validationQuestions: count("Questions of the validation set; none: all")
      .nullable()
      .default(null),
  })
  .describe("what is measured, and how often");

const checkpoint = z
  .strictObject({
    every: count("Steps between checkpoints").default(20),
    keep: count("Newest checkpoints kept, beside the best").default(2),
  })
  .describe("what a run keeps on disk");

const track = z
  .strictObject({
    tensorboard: z.boolean().default(true).describe("Write an event file for TensorBoard"),
    wandb: z
      .boolean()
      .default(true)
      .describe("Log to Weights & Biases where WANDB_API_KEY is set and @wandb/sdk installed"),
    project: z.string().min(1).default("anamnesis").describe("Its project there"),
  })
  .describe("where metrics go beside metrics.jsonl");

const rewardNoise = z
  .strictObject({
    falsePositive: share("Share of wrong answers that --reward noisy pays").default(0.05),
    falseNegative: share("Share of right answers that --reward noisy does not pay").default(0.05),
    randomRate: share("Share of all answers that --reward random pays").default(0.5),
  })
  .describe("the imperfect rewards");

/** The settings alone: what becomes flags, keys of the JSON file, and documentation. */
export const trainShape = z.strictObject({
  preset: z.enum(presetNames).default("smoke").describe("Named starting point"),
  seed: z.int().min(0).max(0xffffffff).default(1).describe("Seed of everything random"),
  recipe: z
    .enum(recipeNames)
    .nullable()
    .default(null)
    .describe("Published algorithm whose settings stand above the preset's"),
  method: z.enum(methods).default("grpo").describe("How recall is trained"),
  reward: z.enum(rewards).default("alias").describe("What counts as a right answer in training"),
  device: z
    .string()
    .regex(/^(wasm|reference|webgpu(:.+)?)$/, "expected wasm, webgpu, webgpu:ADAPTER or reference")
    .default("wasm")
    .describe("Where tensors live: wasm, webgpu, webgpu:ADAPTER (part of its name) or reference"),
  matmulPrecision: z
    .enum(["f32", "f16"])
    .default("f32")
    .describe("What products on webgpu round their operands to; sums stay f32"),
  storage: z
    .enum(["f32", "f16"])
    .default("f32")
    .describe("What products read weights and activations in; f16 halves what backward keeps"),
  wide: z
    .boolean()
    .default(false)
    .describe("256-bit vectors on engines that can join 128-bit ones (Node 24 on x86-64)"),
  deterministic: z
    .boolean()
    .default(false)
    .describe("The same bits on every runtime: products and sums are rounded one by one"),
  seeds: seeds.prefault({}),
  data: data.describe("real questions and a real model, in place of a world and its own"),
  world: world.prefault({}),
  model: model.prefault({}),
  pretrain: pretrain.prefault({}),
  warmStart: warmStart.prefault({}),
  train: train.prefault({}),
  optimizer: optimizer.prefault({}),
  lora: lora.prefault({}),
  grpo: grpo.prefault({}),
  ppo: ppo.prefault({}),
  sft: sft.prefault({}),
  rft: rft.prefault({}),
  dpo: dpo.prefault({}),
  rewardNoise: rewardNoise.prefault({}),
  judge,
  sampler,
  trainer,
  evaluate: evaluate.prefault({}),
  checkpoint: checkpoint.prefault({}),
  track: track.prefault({}),
});

export type TrainConfig = z.output<typeof trainShape>;

/** Settings and cross-checks in one: `trainConfig.parse({})` is the default run. */
export const trainConfig = trainShape.superRefine((config, context) => {
  for (const message of contradictions(config)) context.addIssue({ code: "custom", message });
});

/** The seeds in force: each one that is not set follows `seed`. */
export function seedsOf({ seed, seeds }: TrainConfig) {
  return { world: seeds.world ?? seed, pretrain: seeds.pretrain ?? seed, rl: seeds.rl ?? seed };
}

/** The world's settings with the seed in force, as eval/worlds wants them. */
export function worldOf(config: TrainConfig): WorldConfig {
  return { ...config.world, seed: seedsOf(config).world };
}

/** Hash of all that decides the weights of the pre-trained base model: the key of its cache. */
export function baseModelHash(config: TrainConfig): string {
  const { pretrain, warmStart, device, deterministic, matmulPrecision, storage } = config;
  const model = shapingSettings(config.model);
  const [world, seed] = [documentKnobs(worldOf(config)), seedsOf(config).pretrain];
  const half = matmulPrecision === "f32" ? {} : { matmulPrecision };
  const stored = storage === "f32" ? {} : { storage };
  const arithmetic = { device, deterministic, ...half, ...stored };
  const warmed = warmStart.steps === 0 ? {} : { warmStart };
  const version = pretrainingVersion;
  return configHash({ world, model, pretrain, ...warmed, ...arithmetic, seed, version });
}

/**
 * What decides the documents: without the share of leaked questions, which no document asks, and
 * without newer knobs that are off, so that models that were made before them are found.
 */
function documentKnobs({ leakShare: _, ...world }: WorldConfig) {
  const off: Partial<WorldConfig> = { questionSets: "one", questionWordings: 1, thinkShare: 0 };
  const isOff = ([key, value]: [string, unknown]) => off[key as keyof WorldConfig] === value;
  return Object.fromEntries(Object.entries(world).filter((entry) => !isOff(entry)));
}

/** Settings that cannot hold together, one sentence each: which, why, and what to do. */
export function contradictions(config: TrainConfig): string[] {
  return [
    ...dataProblems(config, config.data ? changedGroups(config) : []),
    ...(config.data ? setProblems(config) : worldProblems(config)),
    ...deviceProblems(config),
    ...modelProblems(config.model),
    ...samplingProblems(config),
    ...methodProblems(config),
    ...(config.data ? [] : scheduleProblems(config)),
    ...judgeProblems(config),
    ...samplerProblems(config),
    ...trainerProblems(config),
  ];
}

/** The groups of a world's settings that are not at their defaults. */
function changedGroups(config: TrainConfig): string[] {
  const defaults = trainShape.parse({});
  return worldGroups.filter(
    (name) => canonicalJson(config[name]) !== canonicalJson(defaults[name]),
  );
}

/** Question sets are a world's. */
function setProblems({ train, evaluate }: TrainConfig): string[] {
  const chosen = { train: train.questionSet, evaluate: evaluate.questionSet };
  return Object.entries(chosen).flatMap(([group, set]) =>
    set === null ? [] : [`${group}.questionSet ${set}: a question file has no such sets`],
  );
}

function worldProblems(config: TrainConfig): string[] {
  const { error } = worldConfig.safeParse(worldOf(config));
  const sets = setsInUse(config.world);
  const chosen = { train: config.train.questionSet, evaluate: config.evaluate.questionSet };
  return [
    ...(error?.issues ?? []).map(({ path, message }) => `world.${path.join(".")}: ${message}`),
    ...Object.entries(chosen).flatMap(([group, set]) =>
      set === null || sets.includes(set)
        ? []
        : [`${group}.questionSet ${set}: this world has ${sets}; set world.questionSets to four`],
    ),
  ];
}

function deviceProblems(config: TrainConfig): string[] {
  const { device, matmulPrecision, storage, wide, deterministic } = config;
  const wasmOnly = [wide && "wide", deterministic && "deterministic"].filter(Boolean).join(" and ");
  return when(
    [
      matmulPrecision === "f16" && !device.startsWith("webgpu"),
      `matmulPrecision f16 on device ${device}: only webgpu has it; use --device webgpu, or f32`,
    ],
    [
      storage === "f16" && device === "reference",
      "storage f16 on device reference: it widens all to f64; use --device wasm or webgpu, or f32",
    ],
    [wasmOnly !== "" && device !== "wasm", `${wasmOnly} on device ${device}: only wasm has it`],
  );
}

function samplingProblems({ world, train, evaluate, data }: TrainConfig): string[] {
  const why =
    "a filter renormalises what the rollout samples from, but not the trainer's log-probabilities";
  const maxK = Math.max(...evaluate.passAtK);
  return when(
    [train.topP < 1, `train.topP ${train.topP} in training: ${why}; use 1`],
    [
      data === undefined && world.facts === "invented" && train.maxNewTokens <= world.answerTokens,
      `train.maxNewTokens ${train.maxNewTokens} cuts off every answer of world.answerTokens ` +
        `${world.answerTokens} words and the <eos> behind it: use at least ${world.answerTokens + 1}`,
    ],
    [train.topK > 0, `train.topK ${train.topK} in training: ${why}; use 0`],
    [
      evaluate.passAtKSamples < maxK,
      `evaluate.passAtKSamples ${evaluate.passAtKSamples} cannot estimate pass@${maxK}: ` +
        `use at least ${maxK} samples, or smaller k in evaluate.passAtK`,
    ],
  );
}

function scheduleProblems({ world, pretrain, warmStart, train }: TrainConfig): string[] {
  const { warmup, steps } = pretrain;
  return when(
    [
      warmup > steps,
      `pretrain.warmup ${warmup} never ends within pretrain.steps ${steps}: use at most ${steps}`,
    ],
    [
      pretrain.length > POSITIONS,
      `pretrain.length ${pretrain.length} is above the model's ${POSITIONS} positions`,
    ],
    [
      train.maxNewTokens >= POSITIONS,
      `train.maxNewTokens ${train.maxNewTokens} leaves no room for a question in the model's ` +
        `${POSITIONS} positions`,
    ],
    [
      world.qaShare === 0 && warmStart.steps === 0,
      "world.qaShare 0 without warmStart.steps: nothing teaches the base model what a question is",
    ],
  );
}
