/** OpenRLHF: the rules by which each setting becomes flags of openrlhf.cli.train_ppo_ray. */

import { seedsOf } from "../config.ts";
import {
  differs,
  type Plan,
  type Rule,
  refused,
  type Settings,
  same,
  type Table,
  unless,
  unused,
} from "./account.ts";
import {
  adamwOnly,
  common,
  integerAlpha,
  notExported,
  ofMuon,
  stdRules,
  WARMUP,
} from "./common.ts";

/** Where a bound is to be off: no value gets there. */
const OFF = 1e9;

const estimators = {
  std: "group_norm",
  centred: "dr_grpo",
  leaveOneOut: "rloo",
};

/** A setting of the actor that the value model shares. */
const both = (
  { config }: Plan,
  name: string,
  value: number | string | readonly number[],
): Settings => ({
  [`actor.${name}`]: value,
  ...(config.method === "ppo" && { [`critic.${name}`]: value }),
});

const means = (form: string, wanted: string, loss: string) =>
  form === wanted
    ? unless(
        wanted === "tokenMean",
        "some versions take this mean within each micro-batch, and then the mean of those",
      )
    : refused(`OpenRLHF's ${loss} has one mean alone: use ${wanted}`);

const bounds = (low: number, high: number) => same({ "actor.eps_clip_low_high": [low, high] });

const policyLoss: Rule = ({ config: { grpo } }) => {
  if (grpo.surrogate !== "clip") return refused("OpenRLHF has clip alone");
  return same({ "actor.policy_loss_type": grpo.ratioLevel === "sequence" ? "gspo" : "ppo" });
};

export const openrlhf: Table = {
  ...common,
  ...notExported,
  ...stdRules(1e-9),
  seed: ({ config }) =>
    differs("the order of questions and the draws are the engine's own", {
      "train.seed": seedsOf(config).rl,
    }),
  method: ({ config: { method } }) =>
    method === "grpo"
      ? same()
      : method === "ppo"
        ? same({ "algo.advantage.estimator": "gae", "actor.policy_loss_type": "ppo" })
        : refused("train_ppo_ray trains by grpo and ppo; use --to trl"),
  "data.model": (plan) =>
    same({
      "actor.model_name_or_path": plan.model,
      ...(plan.config.method === "ppo" && { "critic.model_name_or_path": plan.model }),
    }),
  "data.prompt": ({ form, data }) =>
    unless(
      form === "qa" && !data.think,
      "an answer does not end at its line break there: what follows is trained on, though only the " +
        "first line is judged",
    ),
  "data.think": () =>
    same({}, "in the exported rows, which hold prompts as the template writes them"),
  "train.steps": ({ config: { train }, rows }) => {
    const perPass = Math.floor(rows / train.questionsPerStep);
    if (perPass === 0) {
      return refused(
        `a batch of ${train.questionsPerStep} needs as many questions; there are ${rows}`,
      );
    }
    const passes = Math.ceil(train.steps / perPass);
    return unless(
      passes * perPass !== train.steps,
      `OpenRLHF counts passes over the questions: ${passes} of ${perPass} steps`,
      { "train.num_episodes": passes },
    );
  },
  "train.questionsPerStep": ({ config: { train } }) =>
    same({ "rollout.batch_size": train.questionsPerStep }),
  "train.groupSize": ({ config: { train } }) =>
    same({ "rollout.n_samples_per_prompt": train.groupSize }),
  "train.temperature": ({ config: { train } }) =>
    same({ "rollout.temperature": train.temperature }, "logits are divided by it in the loss too"),
  "train.topP": ({ config: { train } }) => same({ "rollout.top_p": train.topP }),
  "train.topK": () => same({}, "off"),
  "train.maxNewTokens": ({ config: { train }, longestPrompt }) =>
    same({
      "rollout.max_new_tokens": train.maxNewTokens,
      "data.max_len": longestPrompt + train.maxNewTokens,
    }),
  "train.epochs": ({ config: { train } }) => same({ "train.max_epochs": train.epochs }),
  "train.miniBatches": ({ config: { train } }) =>
    unless(train.miniBatches > 1, "which answers share a mini-batch is the engine's choice", {
      "train.batch_size": (train.questionsPerStep * train.groupSize) / train.miniBatches,
    }),
  "optimizer.name": (plan) => ({ ...adamwOnly(plan), settings: both(plan, "optim", "adam") }),
  "optimizer.learningRate": ({ config: { optimizer } }) =>
    same({ "actor.adam.lr": optimizer.learningRate }),
  "optimizer.warmup": (plan) => {
    const { optimizer, train } = plan.config;
    const share = both(plan, "lr_warmup_ratio", optimizer.warmup / train.steps);
    return unless(optimizer.warmup > 0, WARMUP, share);
  },
  "optimizer.schedule": (plan) => {
    const { schedule, finalFraction } = plan.config.optimizer;
    if (schedule === "linear" && finalFraction > 0) {
      return refused("its linear schedule ends at 0: use finalFraction 0");
    }
    const names = {
      constant: "constant_with_warmup",
      linear: "linear",
      cosine: "cosine_with_min_lr",
    };
    return same(both(plan, "lr_scheduler", names[schedule]));
  },
  "optimizer.finalFraction": (plan) =>
    plan.config.optimizer.schedule === "cosine"
      ? same(both(plan, "min_lr_ratio", plan.config.optimizer.finalFraction))
      : same({}, "see optimizer.schedule"),
  "optimizer.weightDecay": (plan) =>
    same({
      "actor.adam.weight_decay": plan.config.optimizer.weightDecay,
      ...(plan.config.method === "ppo" && { "critic.adam.weight_decay": 0 }),
    }),
  "optimizer.betas": (plan) => same(both(plan, "adam.betas", plan.config.optimizer.betas)),
  "optimizer.momentum": ofMuon,
  "optimizer.clipNorm": (plan) => same(both(plan, "max_norm", plan.config.optimizer.clipNorm)),
  "lora.rank": ({ config: { lora } }) =>
    unless(
      lora.rank > 0,
      "OpenRLHF's own pages name adapters for SFT, RM and DPO alone: see whether train_ppo_ray takes " +
        "them, or export with --lora 0",
      { "ds.lora.rank": lora.rank },
    ),
  "lora.alpha": integerAlpha("ds.lora.alpha"),
  "lora.targets": ({ config: { lora } }) =>
    lora.rank === 0 ? unused("no adapters") : same({ "ds.lora.target_modules": lora.targets }),
  "grpo.advantage": ({ config: { grpo, train } }) => {
    const name = estimators[grpo.advantage as keyof typeof estimators];
    if (name === undefined) {
      return refused(
        "OpenRLHF has std, centred and leaveOneOut (its other forms are whitened over the batch)",
      );
    }
    return train.groupSize === 1
      ? refused("OpenRLHF needs groups of at least 2")
      : same({ "algo.advantage.estimator": name });
  },
  "grpo.sign": ({ config: { grpo } }) =>
    grpo.sign === "both" ? same() : refused("OpenRLHF trains on both signs"),
  "grpo.ratioLevel": () => same({}, "see grpo.surrogate"),
  "grpo.surrogate": policyLoss,
  "grpo.clipLow": ({ config: { grpo } }) => bounds(grpo.clipLow, grpo.clipHigh),
  "grpo.clipHigh": () => same({}, "see grpo.clipLow"),
  "grpo.ratioCap": ({ config: { grpo } }) =>
    grpo.ratioCap === null ? unused("no cap") : refused("OpenRLHF has no cap before the clip"),
  "grpo.dualClip": ({ config: { grpo } }) =>
    grpo.dualClip === null ? unused("no dual clip") : same({ "actor.dual_clip": grpo.dualClip }),
  "grpo.softPositive": () => unused("of soft"),
  "grpo.softNegative": () => unused("of soft"),
  "grpo.aggregation": ({ config: { grpo } }) =>
    grpo.ratioLevel === "sequence"
      ? means(grpo.aggregation, "sequenceMean", "gspo")
      : means(grpo.aggregation, "tokenMean", "ppo loss"),
  "grpo.klCoefficient": ({ config: { grpo } }) => same({ "algo.kl.init_coef": grpo.klCoefficient }),
  "grpo.klEstimator": ({ config: { grpo } }) => {
    if (grpo.klCoefficient === 0) return unused("no KL term");
    if (grpo.klEstimator === "ratioK3") return refused("OpenRLHF has k1, k2 and k3");
    return unless(grpo.klEstimator === "k3", "log-ratios are clamped to ±10 there", {
      "algo.kl.estimator": grpo.klEstimator,
    });
  },
  "grpo.klPlacement": ({ config: { grpo } }) => {
    if (grpo.klCoefficient === 0) return unused("no KL term");
    return grpo.klPlacement === "loss"
      ? same({ "algo.kl.use_loss": true })
      : differs(
          "each token's KL is taken off behind the group's baseline there; here an answer's sum is " +
            "taken off its reward before it",
        );
  },
  "grpo.reference": ({ config: { grpo } }) =>
    grpo.klCoefficient > 0 && grpo.reference === "ema"
      ? refused("OpenRLHF's reference is the starting model")
      : same(),
  "grpo.referenceDecay": () => unused("of a moving reference"),
  "grpo.entropyCoefficient": ({ config: { grpo } }) =>
    grpo.entropyCoefficient === 0
      ? unused("no entropy bonus")
      : same({ "actor.entropy_coef": grpo.entropyCoefficient }),
  "grpo.importance": ({ config: { grpo } }) => {
    if (grpo.importance === "sequence") {
      return refused(
        "OpenRLHF weighs tokens, and drops sequences by their geometric mean; use token",
      );
    }
    return grpo.importance === "none"
      ? unused("no correction")
      : same({
          "algo.advantage.is_correction_enable": true,
          "algo.advantage.is_correction_threshold": [0, grpo.importanceCap],
        });
  },
  "grpo.importanceMode": ({ config: { grpo } }) =>
    grpo.importance === "none"
      ? unused("no correction")
      : same({
          "algo.advantage.is_correction_type":
            grpo.importanceMode === "truncate" ? "tis" : "icepop",
        }),
  "grpo.importanceCap": () => same({}, "see grpo.importance"),
  "grpo.resampleRounds": ({ config: { grpo } }) =>
    unless(
      grpo.resampleRounds > 0,
      "questions are asked until the batch is full there; here at most for so many rounds",
      grpo.resampleRounds > 0
        ? { "algo.dynamic_filtering_enable": true, "algo.dynamic_filtering_range": [0, 1] }
        : {},
    ),
  "ppo.gamma": ({ config: { ppo } }) => same({ "algo.advantage.gamma": ppo.gamma }),
  "ppo.lambda": ({ config: { ppo } }) => same({ "algo.advantage.lambd": ppo.lambda }),
  "ppo.whiten": ({ config: { ppo } }) =>
    ppo.whiten
      ? differs("the variance divides by n there, by n - 1 here")
      : refused("OpenRLHF takes off the batch's mean in any case"),
  "ppo.clipLow": ({ config: { ppo } }) => bounds(ppo.clipLow, ppo.clipHigh),
  "ppo.clipHigh": () => same({}, "see ppo.clipLow"),
  "ppo.aggregation": ({ config: { ppo } }) => means(ppo.aggregation, "tokenMean", "ppo loss"),
  "ppo.valueLearningRate": ({ config: { ppo } }) =>
    differs("the value head begins at random there, at 0 here", {
      "critic.adam.lr": ppo.valueLearningRate,
    }),
  "ppo.valueRange": ({ config: { ppo } }) => same({ "critic.value_clip": ppo.valueRange ?? OFF }),
  "ppo.klCoefficient": ({ config: { ppo } }) =>
    same({ "algo.kl.init_coef": ppo.klCoefficient, "algo.kl.estimator": "k1" }),
  "ppo.klTarget": ({ config: { ppo } }) =>
    ppo.klTarget === null
      ? unused("the coefficient is fixed")
      : differs("it is the mean KL of a token there, the KL of a whole answer here", {
          "algo.kl.target": ppo.klTarget,
        }),
  "ppo.klHorizon": ({ config: { ppo } }) =>
    ppo.klTarget === null
      ? unused("the coefficient is fixed")
      : same({ "algo.kl.horizon": ppo.klHorizon }),
  "ppo.entropyCoefficient": ({ config: { ppo } }) =>
    ppo.entropyCoefficient === 0
      ? unused("no entropy bonus")
      : same({ "actor.entropy_coef": ppo.entropyCoefficient }),
  "evaluate.every": ({ config: { evaluate } }) =>
    same({ "eval.steps": evaluate.every, "eval.temperature": 0, "eval.n_samples_per_prompt": 1 }),
  "checkpoint.every": ({ config: { checkpoint } }) => same({ "ckpt.save_steps": checkpoint.every }),
  "checkpoint.keep": ({ config: { checkpoint } }) => same({ "ckpt.max_num": checkpoint.keep }),
  "track.tensorboard": () => same({}, "launch.sh gives its folder"),
  "track.wandb": () => unused("add --logger.wandb.key where you have one"),
  "track.project": ({ config: { track } }) => same({ "logger.wandb.project": track.project }),
};
