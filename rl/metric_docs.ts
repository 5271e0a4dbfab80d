/** What each metric of metrics.jsonl means, and the text of --explain. */

import { rules } from "./health.ts";

/** By TRL's name where it has one. */
export const metricMeanings: Readonly<Record<string, string>> = {
  step: "Number of the step, from 0; -1: before any.",
  step_time: "Seconds of the step, rollouts among them.",
  learning_rate: "Rate of the policy's optimizer in this step.",
  loss: "Mean over the step's updates of the loss that was minimised. It need not fall in RL.",
  grad_norm: "Norm of the gradient before clipping; 0 where no step was taken.",
  reward: "Mean reward of the sampled answers: should rise.",
  reward_std: "Its standard deviation over all answers.",
  reward_null: "Answers without a verdict: left out, never counted as wrong.",
  frac_reward_zero_std:
    "Share of groups whose answers are all paid alike: these teach GRPO nothing.",
  "completions/mean_length": "Mean number of tokens of an answer.",
  "completions/clipped_ratio": "Share of answers that were cut off at train.maxNewTokens.",
  entropy:
    "Mean -log p of a sampled token: an estimate of the entropy; falls as the policy decides.",
  num_tokens: "Tokens of the answers of this step.",
  num_asked: "Answers sampled, those of groups that were left out (resampleRounds) among them.",
  "clip_ratio/low_mean":
    "Share of trained tokens with A < 0 whose ratio is below the clip; none without one.",
  "clip_ratio/high_mean": "Share of trained tokens with A > 0 whose ratio is above the clip.",
  "ratio/first_log_max":
    "Largest |log ratio| before the step's first update: 0 where one engine samples and trains.",
  "sampling/sampling_logp_difference/mean":
    "With sampler.engine: mean |log p of the engine - our own| of a sampled token; the largest below.",
  "sampling/sampling_logp_difference/max": "Hundredths are a GPU's bf16, more is another model.",
  mismatch_kl:
    "Mean of ratio - 1 - log ratio, ratio = p of ours / p of the engine: KL(engine || trainer).",
  approximate_kl:
    "Mean of (ratio - 1) - log ratio in the last update: how far the policy moved within the step.",
  kl: "KL estimate against the reference, a token; none without a KL term.",
  kept_ratio: "Share of the sampled answers that rejection sampling keeps.",
  num_pairs: "Pairs of a gold and a sampled wrong answer.",
  "rewards/accuracies": "Share of pairs whose gold answer is preferred more than by the reference.",
  "rewards/margins": "Mean of β·(log π/ref of gold minus that of wrong): should rise.",
  "logps/chosen": "Mean log p of gold answers. DPO can lower it while margins rise.",
  "logps/rejected": "Mean log p of wrong answers: should fall.",
  "loss/value_avg": "Mean loss of the value model.",
  "value/grad_norm": "Norm of the value model's gradient before clipping.",
  "val/explained_variance":
    "1 - var(return - value)/var(return): 1 is perfect, 0 or less is useless.",
  "val/mean": "Mean value: should come near the reward.",
  "objective/kl": "Mean of log π/base summed over an answer; none without a KL term.",
  "objective/kl_coefficient": "Weight of the KL term in the reward; moves where it is adaptive.",
  "validation/accuracy":
    "Greedy accuracy on the validation questions: what checkpoints are chosen by.",
  "validation/probability": "Mean probability of a right answer there: breaks ties.",
  "heldout/accuracy":
    "Greedy accuracy on the held-out questions, with evaluate.curves: looked at, never chosen by.",
  "train/accuracy": "Greedy accuracy on the training questions, with evaluate.curves.",
  router_aux_loss:
    "Of a mixture of experts, on the validation questions: E·Σ f·P, experts per token where all " +
    "probabilities are alike, up to E where one expert gets all.",
  "router/busiest_expert":
    "Largest share of their tokens that one expert of one layer gets; experts per token / experts " +
    "where all get alike.",
  health: "Ids of the verdicts on this step.",
};

/** Text in lines of at most `width` letters. */
function wrapped(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    if (line !== "" && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else line = line === "" ? word : `${line} ${word}`;
  }
  return [...lines, line];
}

function listed(entries: readonly (readonly [name: string, text: string])[]): string[] {
  const width = Math.max(...entries.map(([name]) => name.length)) + 2;
  return entries.flatMap(([name, text]) =>
    wrapped(text, 98 - width).map((line, i) => `  ${(i === 0 ? name : "").padEnd(width)}${line}`),
  );
}

export function explainText(): string {
  return [
    "Metrics, one row a step in metrics.jsonl",
    ...listed(Object.entries(metricMeanings)),
    "",
    "Verdicts, in the field `health` and printed where they change",
    ...listed(
      Object.entries(rules).map(([id, { level, meaning }]) => [`${id} (${level})`, meaning]),
    ),
  ].join("\n");
}
