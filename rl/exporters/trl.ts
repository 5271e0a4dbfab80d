/** TRL: the rules by which each setting becomes a key of run.yaml, for its grpo, sft and dpo commands. */

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
  updatesOf,
} from "./account.ts";
import { adamwOnly, common, integerAlpha, ofMuon, stdRules, WARMUP } from "./common.ts";

/** TRL's command for a method; rejection fine-tuning is supervised, on answers that were kept here. */
export const trlCommands = { grpo: "grpo", sft: "sft", rft: "sft", dpo: "dpo" } as const;

const isGrpo = ({ config }: Plan): boolean => config.method === "grpo";
/** Methods whose rows hold answers that were sampled before training. */
const isSampled = ({ config: { method } }: Plan): boolean => method === "rft" || method === "dpo";

/** Rows of an optimizer step. */
function batchOf(plan: Plan): number {
  const { method, train } = plan.config;
  if (method === "grpo") return (train.questionsPerStep * train.groupSize) / train.miniBatches;
  if (method === "sft") return train.questionsPerStep / train.miniBatches;
  return Math.max(1, Math.round(plan.rows / (train.steps * train.miniBatches)));
}

/** How many of them go through the model at a time: the largest divisor that is at most 16. */
function perDevice(batch: number): number {
  for (let size = 16; size > 1; size--) if (batch % size === 0) return size;
  return 1;
}

function batchSettings(plan: Plan): Settings {
  const batch = batchOf(plan);
  const size = perDevice(batch);
  return { per_device_train_batch_size: size, gradient_accumulation_steps: batch / size };
}

/** A setting that only sampling reads. */
const sampled = (rule: Rule): Rule => {
  return (plan) => {
    if (isGrpo(plan)) return rule(plan);
    return isSampled(plan)
      ? same({}, "the rows were sampled with it")
      : unused("sft samples nothing");
  };
};

const byToken = (form: string) =>
  form === "tokenMean" ? same() : refused("TRL's sft divides by the tokens of the optimizer step");

const lossTypes = { tokenMean: "dapo", sequenceMean: "grpo", fixedLength: "dr_grpo" };

const lossType: Rule = ({ config: { grpo } }) => {
  const { surrogate, aggregation } = grpo;
  if (surrogate === "clip") return same({ loss_type: lossTypes[aggregation] });
  const [name, means] =
    surrogate === "cispo" ? (["cispo", "tokenMean"] as const) : (["sapo", "sequenceMean"] as const);
  return aggregation === means
    ? same({ loss_type: name })
    : refused(`TRL's ${name} has one mean alone: use grpo.aggregation ${means}`);
};

const scales = { std: "group", centred: "none", batchStd: "batch" };

const clip =
  (key: string, side: "clipLow" | "clipHigh"): Rule =>
  ({ config: { grpo } }) =>
    grpo.surrogate === "clip"
      ? same({ [key]: grpo[side] })
      : unused(`${grpo.surrogate} has no such bound`);

const never: Rule = () => unused("of a method that is not exported");

export const trl: Table = {
  ...common,
  ...stdRules(1e-4),
  seed: ({ config }) =>
    differs("the order of rows and the draws are the engine's own", {
      seed: seedsOf(config).rl,
      data_seed: seedsOf(config).rl,
    }),
  method: (plan) => {
    const { method } = plan.config;
    if (method === "ppo") {
      return refused("TRL's PPO takes a reward model, no reward function; use --to verl");
    }
    if (method === "grpo") return same({ reward_funcs: ["reward.reward"], shuffle_dataset: true });
    const lengths = { max_length: null };
    if (method === "sft") return same({ ...lengths, completion_only_loss: true });
    const gap =
      "answers were sampled once, from the starting model, in the order of our steps; " +
      (method === "rft"
        ? "here each step samples from the newest policy"
        : plan.config.dpo.sampleFrom === "base"
          ? "the pairs are those of our run"
          : "here each step samples from the newest policy");
    return differs(gap, { ...lengths, ...(method === "rft" && { completion_only_loss: true }) });
  },
  "data.model": ({ model }) => same({ model_name_or_path: model }),
  "data.prompt": (plan) => {
    const { form, data } = plan;
    const line = form === "qa" && !data.think;
    if (!isGrpo(plan)) {
      return form === "chat"
        ? differs("what the template writes behind the end of a turn is trained on too")
        : differs("TRL adds its EOS behind the end that the answers have in the rows");
    }
    const stop = { stop: ["\n"], include_stop_str_in_output: true };
    return same(line ? { generation_kwargs: stop } : {}, "in the exported rows");
  },
  "data.think": (plan) =>
    plan.form === "chat" && isGrpo(plan)
      ? same({ chat_template_kwargs: { enable_thinking: plan.data.think } })
      : same({}, "in the exported rows"),
  "train.steps": (plan) => {
    const steps = { max_steps: plan.config.train.steps * updatesOf(plan) };
    return unless(
      isSampled(plan),
      "the rows are shared out evenly among the steps; here a step has as many as it kept",
      steps,
    );
  },
  "train.questionsPerStep": (plan) => {
    const { train } = plan.config;
    return same({
      ...batchSettings(plan),
      ...(isGrpo(plan) && { generation_batch_size: train.questionsPerStep * train.groupSize }),
    });
  },
  "train.groupSize": sampled(({ config: { train } }) =>
    train.groupSize === 1
      ? refused("TRL needs groups of at least 2")
      : same({ num_generations: train.groupSize, per_device_eval_batch_size: train.groupSize }),
  ),
  "train.temperature": (plan) => {
    const { temperature } = plan.config.train;
    if (isGrpo(plan)) return same({ temperature }, "logits are divided by it in the loss too");
    return temperature === 1 ? same() : refused("TRL's sft and dpo do not divide logits; use 1");
  },
  "train.topP": sampled(({ config: { train } }) => same({ top_p: train.topP })),
  "train.topK": sampled(() => same({ top_k: 0 })),
  "train.maxNewTokens": sampled(({ config: { train }, longestPrompt }) =>
    same({
      max_completion_length: train.maxNewTokens,
      vllm_max_model_length: longestPrompt + train.maxNewTokens,
    }),
  ),
  "train.epochs": (plan) => {
    const { epochs } = plan.config.train;
    if (isGrpo(plan)) return same({ num_iterations: epochs });
    return unless(
      epochs > 1,
      "further passes come after the first over all rows, not step by step",
    );
  },
  "train.miniBatches": (plan) => {
    const batch = plan.config.method === "sft" ? plan.config.train.questionsPerStep : 0;
    return batch % plan.config.train.miniBatches === 0
      ? same({}, "see train.questionsPerStep")
      : refused(`it must divide train.questionsPerStep ${batch}`);
  },
  "optimizer.name": (plan) => ({ ...adamwOnly(plan), settings: { optim: "adamw_torch" } }),
  "optimizer.learningRate": ({ config: { optimizer } }) =>
    same({ learning_rate: optimizer.learningRate }),
  "optimizer.warmup": (plan) => {
    const { warmup } = plan.config.optimizer;
    return unless(warmup > 0, WARMUP, { warmup_steps: warmup * updatesOf(plan) });
  },
  "optimizer.schedule": ({ config: { optimizer } }) => {
    const { schedule, finalFraction } = optimizer;
    if (schedule === "constant") return same({ lr_scheduler_type: "constant_with_warmup" });
    if (finalFraction === 0) return same({ lr_scheduler_type: schedule });
    if (schedule === "linear") return refused("its linear schedule ends at 0: use finalFraction 0");
    return same({
      lr_scheduler_type: "cosine_with_min_lr",
      lr_scheduler_kwargs: { min_lr_rate: finalFraction },
    });
  },
  "optimizer.finalFraction": () => same({}, "see optimizer.schedule"),
  "optimizer.weightDecay": ({ config: { optimizer } }) =>
    same({ weight_decay: optimizer.weightDecay }),
  "optimizer.betas": ({ config: { optimizer } }) =>
    same({ adam_beta1: optimizer.betas[0], adam_beta2: optimizer.betas[1] }),
  "optimizer.momentum": ofMuon,
  "optimizer.clipNorm": ({ config: { optimizer } }) => same({ max_grad_norm: optimizer.clipNorm }),
  "lora.rank": ({ config: { lora } }) =>
    same(
      lora.rank === 0
        ? { use_peft: false }
        : { use_peft: true, lora_r: lora.rank, lora_dropout: 0 },
    ),
  "lora.alpha": integerAlpha("lora_alpha"),
  "lora.targets": ({ config: { lora } }) =>
    lora.rank === 0 ? unused("no adapters") : same({ lora_target_modules: lora.targets }),
  "grpo.advantage": ({ config: { grpo } }) => {
    const scale = scales[grpo.advantage as keyof typeof scales];
    if (scale !== undefined) return same({ scale_rewards: scale });
    const near = grpo.advantage === "leaveOneOut" ? "; centred is (G - 1)/G of leaveOneOut" : "";
    return refused(`TRL's grpo has std, centred and batchStd${near}`);
  },
  "grpo.sign": ({ config: { grpo } }) =>
    grpo.sign === "both" ? same() : refused("TRL trains on both signs"),
  "grpo.ratioLevel": ({ config: { grpo } }) => same({ importance_sampling_level: grpo.ratioLevel }),
  "grpo.surrogate": lossType,
  "grpo.clipLow": clip("epsilon", "clipLow"),
  "grpo.clipHigh": ({ config: { grpo } }) =>
    grpo.surrogate === "cispo"
      ? unused("cispo has a cap in its place")
      : clip("epsilon_high", "clipHigh")({ config: { grpo } } as Plan),
  "grpo.ratioCap": ({ config: { grpo } }) => {
    if (grpo.surrogate === "cispo") return same({ epsilon_high: grpo.ratioCap });
    return grpo.ratioCap === null || grpo.surrogate === "soft"
      ? unused("no cap")
      : same({ delta: grpo.ratioCap });
  },
  "grpo.dualClip": ({ config: { grpo } }) =>
    grpo.dualClip === null || grpo.surrogate !== "clip"
      ? unused("no dual clip")
      : refused("TRL has none"),
  "grpo.softPositive": ({ config: { grpo } }) =>
    grpo.surrogate === "soft"
      ? same({ sapo_temperature_pos: grpo.softPositive })
      : unused("of soft"),
  "grpo.softNegative": ({ config: { grpo } }) =>
    grpo.surrogate === "soft"
      ? same({ sapo_temperature_neg: grpo.softNegative })
      : unused("of soft"),
  "grpo.aggregation": () => same({}, "see grpo.surrogate"),
  "grpo.klCoefficient": ({ config: { grpo } }) => same({ beta: grpo.klCoefficient }),
  "grpo.klEstimator": ({ config: { grpo } }) => {
    if (grpo.klCoefficient === 0) return unused("no KL term");
    if (grpo.klEstimator === "k3") return same({ use_bias_correction_kl: false });
    if (grpo.klEstimator === "ratioK3") return same({ use_bias_correction_kl: true });
    return refused("TRL has k3 and ratioK3");
  },
  "grpo.klPlacement": ({ config: { grpo } }) =>
    grpo.klCoefficient > 0 && grpo.klPlacement === "reward"
      ? refused("TRL's grpo has the KL term in the loss")
      : same(),
  "grpo.reference": (plan) => {
    const { grpo } = plan.config;
    if (grpo.klCoefficient === 0) return unused("no KL term");
    if (grpo.reference === "base") return same({ sync_ref_model: false });
    return same({ sync_ref_model: true, ref_model_sync_steps: updatesOf(plan) });
  },
  "grpo.referenceDecay": ({ config: { grpo } }) =>
    grpo.klCoefficient > 0 && grpo.reference === "ema"
      ? same({ ref_model_mixup_alpha: 1 - grpo.referenceDecay })
      : unused("of a moving reference"),
  "grpo.entropyCoefficient": ({ config: { grpo } }) =>
    grpo.entropyCoefficient === 0
      ? unused("no entropy bonus")
      : refused("the versions that this was written against have no entropy bonus"),
  "grpo.importance": ({ config: { grpo } }) =>
    same({ vllm_importance_sampling_correction: grpo.importance !== "none" }),
  "grpo.importanceMode": ({ config: { grpo } }) =>
    grpo.importance === "none"
      ? unused("no correction")
      : same({ vllm_importance_sampling_mode: `${grpo.importance}_${grpo.importanceMode}` }),
  "grpo.importanceCap": ({ config: { grpo } }) =>
    grpo.importance === "none"
      ? unused("no correction")
      : same({ vllm_importance_sampling_cap: grpo.importanceCap }),
  "grpo.resampleRounds": ({ config: { grpo } }) =>
    unless(
      grpo.resampleRounds > 0,
      "TRL asks no further questions: groups without variance stay, and count in every mean",
    ),
  "ppo.gamma": never,
  "ppo.lambda": never,
  "ppo.whiten": never,
  "ppo.clipLow": never,
  "ppo.clipHigh": never,
  "ppo.aggregation": never,
  "ppo.valueLearningRate": never,
  "ppo.valueRange": never,
  "ppo.klCoefficient": never,
  "ppo.klTarget": never,
  "ppo.klHorizon": never,
  "ppo.entropyCoefficient": never,
  "sft.aggregation": ({ config: { sft } }) => byToken(sft.aggregation),
  "rft.aggregation": ({ config: { rft } }) => byToken(rft.aggregation),
  "rft.distinct": () => same({}, "in the exported rows"),
  "rft.perQuestion": () => same({}, "in the exported rows"),
  "dpo.form": ({ config: { dpo } }) =>
    dpo.form === "ipo"
      ? refused("TRL's ipo is on means over tokens, which is ipoMean")
      : same({ loss_type: dpo.form === "ipoMean" ? "ipo" : dpo.form }),
  "dpo.beta": ({ config: { dpo } }) => same({ beta: dpo.beta }),
  "dpo.labelSmoothing": ({ config: { dpo } }) => same({ label_smoothing: dpo.labelSmoothing }),
  "dpo.pairsPerQuestion": () => same({}, "in the exported rows"),
  "dpo.sampleFrom": () => same({}, "see method"),
  "evaluate.every": (plan) => {
    const { evaluate, train } = plan.config;
    const every = Math.min(evaluate.every, train.steps) * updatesOf(plan);
    return differs(
      isGrpo(plan)
        ? "the engine validates by the reward of sampled answers; here answers are greedy"
        : "the engine validates by the loss; here by greedy answers",
      {
        eval_strategy: "steps",
        eval_steps: every,
        save_strategy: "steps",
        save_steps: every,
        load_best_model_at_end: true,
        metric_for_best_model: isGrpo(plan) ? "eval_reward" : "eval_loss",
        greater_is_better: isGrpo(plan),
      },
    );
  },
  "checkpoint.every": () => differs("a checkpoint is saved at each validation there"),
  "checkpoint.keep": ({ config: { checkpoint } }) =>
    same({ save_total_limit: checkpoint.keep + 1 }, "the best is one of them"),
  "track.tensorboard": ({ config: { track } }) =>
    same({ report_to: track.tensorboard ? ["tensorboard"] : ["none"] }),
  "track.wandb": () => unused('add "wandb" to report_to where you have a key'),
  "track.project": ({ config: { track } }) => same({ run_name: track.project }),
};
