/** verl: the rules by which each setting becomes overrides of verl.trainer.main_ppo. */

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

const ACTOR = "actor_rollout_ref.actor";
const ROLLOUT = "actor_rollout_ref.rollout";
const MODEL = "actor_rollout_ref.model";
/** Where a bound is to be off: no ratio or value gets there. */
const OFF = 1e9;

const aggregations = {
  tokenMean: "token-mean",
  sequenceMean: "seq-mean-token-mean",
  fixedLength: "seq-mean-token-sum-norm",
};
const aggregate = (form: keyof typeof aggregations, { config: { train } }: Plan) =>
  form === "fixedLength"
    ? differs(
        "versions of verl before 0.10 do not divide by the number of answers: their loss is that " +
          "many times ours (check agg_loss of yours)",
        {
          [`${ACTOR}.loss_agg_mode`]: aggregations[form],
          [`${ACTOR}.loss_scale_factor`]: train.maxNewTokens,
        },
      )
    : same({ [`${ACTOR}.loss_agg_mode`]: aggregations[form] });

const isPpo = ({ config }: Plan): boolean => config.method === "ppo";
/** A setting of the actor that the value model shares. */
const both = (plan: Plan, name: string, value: number | string | readonly number[]): Settings => ({
  [`${ACTOR}.optim.${name}`]: value,
  ...(isPpo(plan) && { [`critic.optim.${name}`]: value }),
});

const estimators = { k1: "kl", k2: "mse", k3: "low_var_kl", ratioK3: "low_var_kl" };

const klPlace: Rule = ({ config: { grpo } }) => {
  const { klCoefficient, klEstimator, klPlacement } = grpo;
  const inLoss = klCoefficient > 0 && klPlacement === "loss";
  const inReward = klCoefficient > 0 && klPlacement === "reward";
  const name = estimators[klEstimator ?? "k1"];
  const settings = {
    [`${ACTOR}.use_kl_loss`]: inLoss,
    "algorithm.use_kl_in_reward": inReward,
    ...(inLoss && {
      [`${ACTOR}.kl_loss_coef`]: klCoefficient,
      [`${ACTOR}.kl_loss_type`]: name,
    }),
    ...(inReward && {
      "algorithm.kl_ctrl.type": "fixed",
      "algorithm.kl_ctrl.kl_coef": klCoefficient,
      "algorithm.kl_penalty": name,
    }),
  };
  const clamped = klCoefficient > 0 && name === "low_var_kl";
  return unless(clamped, "k3 is clamped there: its log-ratio to ±20, its value to ±10", settings);
};

/** Which loss, and the bounds of its ratio. */
const surrogate: Rule = ({ config: { grpo } }) => {
  const { surrogate: form, ratioLevel, aggregation, ratioCap } = grpo;
  const key = `${ACTOR}.policy_loss.loss_mode`;
  const bySequence =
    "verl takes this loss as a mean of sequences' means: use grpo.aggregation sequenceMean";
  if (ratioLevel === "sequence") {
    if (form !== "clip") return refused(`verl has no ${form} of a sequence's ratio`);
    if (aggregation !== "sequenceMean") return refused(bySequence);
    return same({ [key]: "gspo" }, "its log-ratio is clamped at 10 there");
  }
  if (form === "soft") {
    return aggregation === "sequenceMean" ? same({ [key]: "sapo" }) : refused(bySequence);
  }
  if (form === "clip") return same({ [key]: "vanilla" }, "its log-ratio is clamped to ±20 there");
  return same({
    [key]: "cispo",
    [`${ACTOR}.clip_ratio_low`]: 1,
    [`${ACTOR}.clip_ratio_high`]: ratioCap! - 1,
  });
};

const clip =
  (name: string, side: "clipLow" | "clipHigh"): Rule =>
  ({ config: { grpo } }) =>
    grpo.surrogate === "clip"
      ? same({ [`${ACTOR}.${name}`]: grpo[side] })
      : unused(`${grpo.surrogate} has no such bound`);

export const verl: Table = {
  ...common,
  ...notExported,
  ...stdRules(1e-6),
  seed: ({ config }) =>
    differs("the order of questions and the draws are the engine's own", {
      "data.seed": seedsOf(config).rl,
      [`${ACTOR}.data_loader_seed`]: seedsOf(config).rl,
    }),
  method: ({ config: { method }, model }) =>
    method === "grpo"
      ? same()
      : method === "ppo"
        ? same({
            "algorithm.adv_estimator": "gae",
            "critic.model.path": model,
            [`${ACTOR}.policy_loss.loss_mode`]: "vanilla",
            [`${ACTOR}.clip_ratio_c`]: OFF,
          })
        : refused("main_ppo trains by grpo and ppo; use --to trl"),
  "data.model": ({ model }) => same({ [`${MODEL}.path`]: model }),
  "data.prompt": ({ form, opening, data }) => {
    if (form === "chat") return same({}, "in the exported rows");
    const template = {
      [`${MODEL}.custom_chat_template`]: `${opening}{{ messages[0]['content'] }}`,
    };
    return unless(
      form === "qa" && !data.think,
      "an answer does not end at its line break there: what follows is trained on, though only the " +
        "first line is judged",
      template,
    );
  },
  "data.think": ({ form, data }) =>
    form === "chat"
      ? same({ "+data.apply_chat_template_kwargs.enable_thinking": data.think })
      : same({}, "in the exported rows"),
  "train.steps": ({ config: { train }, rows }) => {
    const perPass = Math.floor(rows / train.questionsPerStep);
    if (perPass === 0) {
      return refused(
        `a batch of ${train.questionsPerStep} needs as many questions; there are ${rows}`,
      );
    }
    return unless(
      rows % train.questionsPerStep !== 0,
      `${rows % train.questionsPerStep} questions of each pass are left out there, for they fill no batch`,
      {
        "trainer.total_training_steps": train.steps,
        "trainer.total_epochs": Math.ceil(train.steps / perPass),
      },
    );
  },
  "train.questionsPerStep": ({ config: { train } }) =>
    same({ "data.train_batch_size": train.questionsPerStep }),
  "train.groupSize": ({ config: { train } }) => same({ [`${ROLLOUT}.n`]: train.groupSize }),
  "train.temperature": ({ config: { train } }) =>
    same(
      { [`${ROLLOUT}.temperature`]: train.temperature },
      "logits are divided by it in the loss too",
    ),
  "train.topP": ({ config: { train } }) => same({ [`${ROLLOUT}.top_p`]: train.topP }),
  "train.topK": () => same({ [`${ROLLOUT}.top_k`]: -1 }),
  "train.maxNewTokens": ({ config: { train }, longestPrompt }) =>
    same({
      "data.max_response_length": train.maxNewTokens,
      "data.max_prompt_length": longestPrompt,
    }),
  "train.epochs": ({ config: { train } }) => same({ [`${ACTOR}.ppo_epochs`]: train.epochs }),
  "train.miniBatches": ({ config: { train } }) =>
    train.questionsPerStep % train.miniBatches === 0
      ? unless(train.miniBatches > 1, "which answers share a mini-batch is the engine's choice", {
          [`${ACTOR}.ppo_mini_batch_size`]: train.questionsPerStep / train.miniBatches,
        })
      : refused(`it must divide train.questionsPerStep ${train.questionsPerStep}`),
  "optimizer.name": adamwOnly,
  "optimizer.learningRate": ({ config: { optimizer } }) =>
    same({ [`${ACTOR}.optim.lr`]: optimizer.learningRate }),
  "optimizer.warmup": (plan) => {
    const { warmup } = plan.config.optimizer;
    return unless(warmup > 0, WARMUP, both(plan, "lr_warmup_steps", warmup));
  },
  "optimizer.schedule": (plan) => {
    const { schedule } = plan.config.optimizer;
    return schedule === "linear"
      ? refused("verl has constant and cosine")
      : same(both(plan, "lr_scheduler_type", schedule));
  },
  "optimizer.finalFraction": (plan) => {
    const { schedule, finalFraction } = plan.config.optimizer;
    return schedule === "constant"
      ? unused("the rate stays")
      : same(both(plan, "min_lr_ratio", finalFraction));
  },
  "optimizer.weightDecay": (plan) => {
    const { weightDecay } = plan.config.optimizer;
    return unless(weightDecay > 0, "it is on every trained weight there, on matrices here", {
      [`${ACTOR}.optim.weight_decay`]: weightDecay,
      ...(isPpo(plan) && { "critic.optim.weight_decay": 0 }),
    });
  },
  "optimizer.betas": (plan) => same(both(plan, "betas", plan.config.optimizer.betas)),
  "optimizer.momentum": ofMuon,
  "optimizer.clipNorm": (plan) => {
    const { clipNorm } = plan.config.optimizer;
    return same({
      [`${ACTOR}.grad_clip`]: clipNorm,
      ...(isPpo(plan) && { "critic.grad_clip": clipNorm }),
      ...both(plan, "clip_grad", clipNorm),
    });
  },
  "lora.rank": ({ config: { lora } }) =>
    same({
      [`${MODEL}.lora_rank`]: lora.rank,
      ...(lora.rank > 0 && { [`${ROLLOUT}.load_format`]: "safetensors" }),
    }),
  "lora.alpha": integerAlpha(`${MODEL}.lora_alpha`),
  "lora.targets": ({ config: { lora } }) =>
    lora.rank === 0 ? unused("no adapters") : same({ [`${MODEL}.target_modules`]: lora.targets }),
  "grpo.advantage": ({ config: { grpo, train } }) => {
    const group = (scaled: boolean) =>
      same({
        "algorithm.adv_estimator": "grpo",
        "algorithm.norm_adv_by_std_in_grpo": scaled,
      });
    if (grpo.advantage === "std") return group(true);
    if (grpo.advantage === "centred") return group(false);
    if (grpo.advantage === "leaveOneOut") return same({ "algorithm.adv_estimator": "rloo" });
    // A group of one has mean 0 there: its advantage is its reward.
    if (grpo.advantage === "reward" && train.groupSize === 1) return group(false);
    return refused("verl has std, centred, leaveOneOut, and reward for groups of 1");
  },
  "grpo.sign": ({ config: { grpo } }) =>
    grpo.sign === "both" ? same() : refused("verl trains on both signs"),
  "grpo.ratioLevel": () => same({}, "see grpo.surrogate"),
  "grpo.surrogate": surrogate,
  "grpo.clipLow": clip("clip_ratio_low", "clipLow"),
  "grpo.clipHigh": clip("clip_ratio_high", "clipHigh"),
  "grpo.ratioCap": ({ config: { grpo } }) =>
    grpo.ratioCap === null || grpo.surrogate === "soft"
      ? unused("no cap")
      : grpo.surrogate === "cispo"
        ? same({}, "see grpo.surrogate")
        : refused("verl has no cap before the clip"),
  "grpo.dualClip": ({ config: { grpo } }) => {
    if (grpo.surrogate !== "clip") return unused(`${grpo.surrogate} has none`);
    if (grpo.ratioLevel === "token")
      return same({ [`${ACTOR}.clip_ratio_c`]: grpo.dualClip ?? OFF });
    return grpo.dualClip === null ? unused("gspo has none") : refused("verl's gspo has none");
  },
  "grpo.softPositive": ({ config: { grpo } }) =>
    grpo.surrogate === "soft"
      ? same({ [`${ACTOR}.tau_pos`]: grpo.softPositive })
      : unused("of soft"),
  "grpo.softNegative": ({ config: { grpo } }) =>
    grpo.surrogate === "soft"
      ? same({ [`${ACTOR}.tau_neg`]: grpo.softNegative })
      : unused("of soft"),
  "grpo.aggregation": (plan) => aggregate(plan.config.grpo.aggregation, plan),
  "grpo.klCoefficient": klPlace,
  "grpo.klEstimator": ({ config: { grpo } }) =>
    grpo.klCoefficient > 0 && grpo.klEstimator === "ratioK3"
      ? refused("verl has no k3 times the ratio; k2 has the same expected gradient on policy")
      : same({}, "see grpo.klCoefficient"),
  "grpo.klPlacement": () => same({}, "see grpo.klCoefficient"),
  "grpo.reference": ({ config: { grpo } }) =>
    grpo.klCoefficient > 0 && grpo.reference === "ema"
      ? refused("verl's reference is the starting model")
      : same(),
  "grpo.referenceDecay": () => unused("of a moving reference"),
  "grpo.entropyCoefficient": ({ config: { grpo } }) =>
    same({ [`${ACTOR}.entropy_coeff`]: grpo.entropyCoefficient }),
  "grpo.importance": ({ config: { grpo } }) =>
    same({
      "algorithm.rollout_correction.rollout_is":
        grpo.importance === "none" ? null : grpo.importance,
    }),
  "grpo.importanceMode": ({ config: { grpo } }) =>
    grpo.importance === "none"
      ? unused("no correction")
      : grpo.importanceMode === "truncate"
        ? same()
        : refused("only truncation is exported; use truncate"),
  "grpo.importanceCap": ({ config: { grpo } }) =>
    grpo.importance === "none"
      ? unused("no correction")
      : same({ "algorithm.rollout_correction.rollout_is_threshold": grpo.importanceCap }),
  "grpo.resampleRounds": ({ config: { grpo } }) =>
    unless(
      grpo.resampleRounds > 0,
      "whether main_ppo reads filter_groups depends on the version (the DAPO recipe always does): " +
        "where it does not, groups without variance stay and count in every mean",
      {
        "algorithm.filter_groups.enable": grpo.resampleRounds > 0,
        ...(grpo.resampleRounds > 0 && {
          "algorithm.filter_groups.metric": "acc",
          "algorithm.filter_groups.max_num_gen_batches": grpo.resampleRounds + 1,
        }),
      },
    ),
  "ppo.gamma": ({ config: { ppo } }) => same({ "algorithm.gamma": ppo.gamma }),
  "ppo.lambda": ({ config: { ppo } }) => same({ "algorithm.lam": ppo.lambda }),
  "ppo.whiten": ({ config: { ppo } }) =>
    ppo.whiten ? same() : refused("verl always whitens GAE's advantages"),
  "ppo.clipLow": ({ config: { ppo } }) => same({ [`${ACTOR}.clip_ratio_low`]: ppo.clipLow }),
  "ppo.clipHigh": ({ config: { ppo } }) => same({ [`${ACTOR}.clip_ratio_high`]: ppo.clipHigh }),
  "ppo.aggregation": (plan) => aggregate(plan.config.ppo.aggregation, plan),
  "ppo.valueLearningRate": ({ config: { ppo } }) =>
    differs("the value head begins at random there, at 0 here", {
      "critic.optim.lr": ppo.valueLearningRate,
    }),
  "ppo.valueRange": ({ config: { ppo } }) =>
    same({ "critic.cliprange_value": ppo.valueRange ?? OFF }),
  "ppo.klCoefficient": ({ config: { ppo } }) =>
    same({
      [`${ACTOR}.use_kl_loss`]: false,
      "algorithm.use_kl_in_reward": ppo.klCoefficient > 0,
      ...(ppo.klCoefficient > 0 && {
        "algorithm.kl_penalty": "kl",
        "algorithm.kl_ctrl.kl_coef": ppo.klCoefficient,
        "algorithm.kl_ctrl.type": ppo.klTarget === null ? "fixed" : "adaptive",
      }),
    }),
  "ppo.klTarget": ({ config: { ppo } }) =>
    ppo.klTarget === null
      ? unused("the coefficient is fixed")
      : differs("it is the mean KL of a token there, the KL of a whole answer here", {
          "algorithm.kl_ctrl.target_kl": ppo.klTarget,
        }),
  "ppo.klHorizon": ({ config: { ppo } }) =>
    ppo.klTarget === null
      ? unused("the coefficient is fixed")
      : same({ "algorithm.kl_ctrl.horizon": ppo.klHorizon }),
  "ppo.entropyCoefficient": ({ config: { ppo } }) =>
    same({ [`${ACTOR}.entropy_coeff`]: ppo.entropyCoefficient }),
  "evaluate.every": ({ config: { evaluate } }) =>
    same({
      "trainer.test_freq": evaluate.every,
      "trainer.val_before_train": true,
      [`${ROLLOUT}.val_kwargs.do_sample`]: false,
      [`${ROLLOUT}.val_kwargs.temperature`]: 0,
      [`${ROLLOUT}.val_kwargs.n`]: 1,
    }),
  "checkpoint.every": ({ config: { checkpoint } }) =>
    same({ "trainer.save_freq": checkpoint.every }),
  "checkpoint.keep": (plan) =>
    differs("the best checkpoint is not kept apart there", {
      "trainer.max_actor_ckpt_to_keep": plan.config.checkpoint.keep,
      ...(isPpo(plan) && { "trainer.max_critic_ckpt_to_keep": plan.config.checkpoint.keep }),
    }),
  "track.tensorboard": ({ config: { track } }) =>
    same({ "trainer.logger": ["console", ...(track.tensorboard ? ["tensorboard"] : [])] }),
  "track.wandb": () => unused('add "wandb" to trainer.logger where you have a key'),
  "track.project": ({ config: { track } }) => same({ "trainer.project_name": track.project }),
};
