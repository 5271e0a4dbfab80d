/** Verdicts on a step: what its figures mean and what to do, one declaration for each. */

import type { TrainConfig } from "./config.ts";

/** A row of metrics.jsonl; a metric that a method has no use for is missing or null. */
export type Metrics = Readonly<Record<string, unknown>>;

/** The steps of a run so far, as its rules look at them. */
interface History {
  readonly config: TrainConfig;
  /** A metric of the last step; NaN where it has none, so that every comparison is false. */
  readonly now: (name: string) => number;
  /** A metric of all steps that have it. */
  readonly all: (name: string) => number[];
  readonly steps: number;
}

interface Rule {
  /** note: expected, or worth knowing. warning: training is probably wasted, or wrong. */
  readonly level: "note" | "warning";
  /** What it means and what to do about it: the text of --explain. */
  readonly meaning: string;
  /** What to say of the last step; undefined: nothing. */
  readonly check: (history: History) => string | undefined;
}

export interface Verdict {
  readonly id: VerdictId;
  readonly level: Rule["level"];
  /** With the figures of the step. */
  readonly text: string;
}

/** Steps that a trend is judged over. */
const WINDOW = 10;

/** |log p of the engine - ours| of a token, on average: bf16 on a GPU stays below 0.02 or so. */
const MISMATCH = 0.05;

const percent = (share: number): string => `${Math.round(100 * share)} %`;
const mean = (values: readonly number[]): number =>
  values.reduce((a, b) => a + b, 0) / Math.max(1, values.length);
const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
const CUT = "completions/clipped_ratio";

export const rules = {
  "loss-near-zero": {
    level: "note",
    meaning:
      "On policy the ratio is 1 and the advantages of a group add up to 0: the loss is near 0, its " +
      "gradient is not. Look at grad_norm and reward.",
    check: ({ config: { method, train, grpo }, now }) => {
      const onPolicy = method === "grpo" && train.epochs * train.miniBatches === 1;
      const plain = grpo.advantage !== "reward" && grpo.klCoefficient === 0;
      const zero = Math.abs(now("loss")) < 0.02 && now("grad_norm") > 0;
      if (onPolicy && plain && zero) {
        return `loss ${now("loss").toFixed(4)}: near 0 is expected on policy`;
      }
    },
  },
  "zero-variance": {
    level: "note",
    meaning:
      "In most groups all answers are paid alike: they have no advantage and teach nothing. Ask " +
      "harder or easier questions, sample larger groups, or set grpo.resampleRounds.",
    check: ({ config, now }) => {
      const share = now("frac_reward_zero_std");
      if (config.method === "grpo" && share > 0.8) {
        return `${percent(share)} of groups have zero variance`;
      }
    },
  },
  truncated: {
    level: "warning",
    meaning: "Many answers are cut off before they end. Raise train.maxNewTokens.",
    check: ({ now }) =>
      now(CUT) > 0.2 && now(CUT) < 1 ? `${percent(now(CUT))} of answers truncated` : undefined,
  },
  "nothing-stops": {
    level: "warning",
    meaning: "No answer ends by itself: the policy never says <eos>, or it is not recognised.",
    check: ({ now }) => (now(CUT) === 1 ? "nothing stops: no answer ended by itself" : undefined),
  },
  "reward-null": {
    level: "warning",
    meaning: "Some answers got no verdict and are left out, never taken as wrong: is a judge down?",
    check: ({ config: { train }, now }) => {
      const share = now("reward_null") / (train.questionsPerStep * train.groupSize);
      return share > 0 ? `reward null for ${percent(share)} of answers` : undefined;
    },
  },
  "kl-rising": {
    level: "warning",
    meaning: "The policy leaves its reference fast. Lower the rate, or raise the weight of the KL.",
    check: ({ all }) => {
      const values = all("kl");
      const [late, early] = [values.slice(-WINDOW), values.slice(-2 * WINDOW, -WINDOW)];
      if (early.length === WINDOW && mean(late) > Math.max(0.05, 2 * mean(early))) {
        return `KL rising: ${mean(early).toFixed(3)} to ${mean(late).toFixed(3)}`;
      }
    },
  },
  "entropy-gone": {
    level: "warning",
    meaning:
      "Answers hardly vary any more, so that there is nothing to compare. Stop, lower the rate, or " +
      "add an entropy bonus.",
    check: ({ now }) =>
      now("entropy") < 0.01
        ? `entropy ${now("entropy").toFixed(4)}: answers hardly vary`
        : undefined,
  },
  "ratio-off": {
    level: "warning",
    meaning:
      "Before the first update of a step the ratio is 1: here sampler and trainer compute different " +
      "probabilities. Check temperature and filters, or set grpo.importance.",
    check: ({ config: { trainer }, now }) => {
      const off = now("ratio/first_log_max");
      // A server samples and trains by engines of their own: see engine-mismatch.
      return trainer === undefined && off > 1e-4
        ? `log-ratio ${off.toExponential(1)} before any update`
        : undefined;
    },
  },
  "engine-mismatch": {
    level: "warning",
    meaning:
      "The engine that samples gives its tokens other probabilities than the trainer. Does it serve " +
      "the model of data.model, in a type near ours, unquantised, with the newest weights?",
    check: ({ now }) => {
      const off = now("sampling/sampling_logp_difference/mean");
      return off > MISMATCH ? `engine and trainer differ by ${off.toFixed(3)} in log p` : undefined;
    },
  },
  "mostly-clipped": {
    level: "warning",
    meaning:
      "The updates of one batch go too far. Fewer epochs or mini-batches, a lower rate, wider bounds.",
    check: ({ now }) => {
      const share = now("clip_ratio/low_mean") + now("clip_ratio/high_mean");
      return share > 0.5 ? `${percent(share)} of tokens clipped` : undefined;
    },
  },
  "gradient-spike": {
    level: "warning",
    meaning:
      "The gradient is many times its usual size (it was clipped). If it repeats, lower the rate.",
    check: ({ now, all }) => {
      const before = all("grad_norm")
        .slice(0, -1)
        .slice(-2 * WINDOW);
      const usual = median(before.filter((x) => x > 0));
      if (before.length >= WINDOW && now("grad_norm") > 10 * usual) {
        return `gradient norm ${now("grad_norm").toFixed(2)}, usually ${usual.toFixed(2)}`;
      }
    },
  },
  "no-step": {
    level: "note",
    meaning: "Nothing was to be learned in this step, and no step was taken.",
    check: ({ now }) => (now("grad_norm") === 0 ? "nothing to learn: no step taken" : undefined),
  },
  "reward-flat": {
    level: "warning",
    meaning:
      "The reward does not rise. Is a right answer ever sampled? If not, nothing that learns from " +
      "samples can begin.",
    check: ({ all }) => {
      const values = all("reward");
      const [first, late] = [mean(values.slice(0, WINDOW)), mean(values.slice(-WINDOW))];
      if (values.length >= 3 * WINDOW && late < 0.5 && late <= first + 0.01) {
        return `reward ${late.toFixed(3)}, at the start ${first.toFixed(3)}`;
      }
    },
  },
  "value-useless": {
    level: "warning",
    meaning: "The value model explains nothing of the returns: raise ppo.valueLearningRate.",
    check: ({ now, steps }) => {
      const share = now("val/explained_variance");
      if (steps > 2 * WINDOW && share < 0) {
        return `values explain ${percent(share)} of the variance of returns`;
      }
    },
  },
  "chosen-falling": {
    level: "warning",
    meaning:
      "Gold answers become less likely together with wrong ones, as DPO often does: the margin grows " +
      "and answers do not improve. Watch validation; raise dpo.beta.",
    check: ({ all }) => {
      const values = all("logps/chosen");
      const fall = (values[0] ?? 0) - (values.at(-1) ?? 0);
      return fall > 1 ? `log p of gold answers fell by ${fall.toFixed(2)}` : undefined;
    },
  },
  "nothing-kept": {
    level: "warning",
    meaning: "No sampled answer was right: rejection sampling has nothing to learn from.",
    check: ({ now }) => (now("kept_ratio") === 0 ? "no sampled answer was right" : undefined),
  },
  "no-pairs": {
    level: "note",
    meaning: "No wrong answer was sampled: there is no pair to prefer.",
    check: ({ now }) => (now("num_pairs") === 0 ? "no wrong answer to pair with gold" : undefined),
  },
} as const satisfies Record<string, Rule>;
export type VerdictId = keyof typeof rules;

const numberOf = (x: unknown): number => (typeof x === "number" ? x : Number.NaN);

/**
 * The verdicts on the last of `rows`, the steps of a run so far; warnings first. A function of them
 * alone, so that a resumed run says the same.
 */
export function healthOf(rows: readonly Metrics[], config: TrainConfig): Verdict[] {
  const last = rows.at(-1);
  if (last === undefined) return [];
  const history: History = {
    config,
    now: (name) => numberOf(last[name]),
    all: (name) => rows.map((row) => numberOf(row[name])).filter(Number.isFinite),
    steps: rows.length,
  };
  const found = Object.entries(rules).flatMap(([id, { level, check }]): Verdict[] => {
    const text = (check as Rule["check"])(history);
    return text === undefined ? [] : [{ id: id as VerdictId, level, text }];
  });
  return found.toSorted((a, b) => Number(a.level === "note") - Number(b.level === "note"));
}

/** Steps for which a verdict that has been told is no news. */
const SILENCE = 25;

/** The verdicts that none of the last steps before had, by the `health` of their rows. */
export function newsOf(verdicts: readonly Verdict[], before: readonly Metrics[]): Verdict[] {
  const told = new Set(before.slice(-SILENCE).flatMap(({ health }) => (health ?? []) as string[]));
  return verdicts.filter(({ id }) => !told.has(id));
}

/** "WARNING 40 % of answers truncated; loss 0.0001: near 0 is expected on policy", or "healthy". */
export function healthText(verdicts: readonly Verdict[]): string {
  if (verdicts.length === 0) return "healthy";
  return verdicts
    .map(({ level, text }) => (level === "warning" ? `WARNING ${text}` : text))
    .join("; ");
}
