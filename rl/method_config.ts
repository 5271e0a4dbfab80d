/** Settings of a training step and of each method, as zod schemas. */
import { z } from "zod";
import { questionSetNames } from "../eval/worlds/world.ts";
import { loraTargets } from "../model/lora.ts";
import { advantageForms } from "./advantage.ts";
import { preferenceForms } from "./preference.ts";
import { strata } from "./strata.ts";

export const count = (text: string) => z.int().min(1).describe(text);
export const whole = (text: string) => z.int().min(0).describe(text);
export const rate = (text: string) => z.number().gt(0).lt(10).describe(text);
export const share = (text: string) => z.number().min(0).max(1).describe(text);
export const betas = (text: string) =>
  z.tuple([z.number().min(0).lt(1), z.number().min(0).lt(1)]).describe(text);
export const clipNorm = () => z.number().gt(0).default(1).describe("Largest global gradient norm");
const least0 = (text: string) => z.number().min(0).describe(text);
export const above0 = (text: string) => z.number().gt(0).describe(text);
const aggregation = () =>
  z
    .enum(["tokenMean", "sequenceMean", "fixedLength"])
    .default("tokenMean")
    .describe("Loss is the mean over tokens | sequences of token means | B x max-new-tokens");
const clipLow = () => share("Ratio is clipped below 1 - this").default(0.2);
const clipHigh = () => least0("Ratio is clipped above 1 + this").default(0.2);

export const questionSet = (text: string) =>
  z.enum(questionSetNames).nullable().default(null).describe(text);

export const train = z
  .strictObject({
    steps: count("Steps: one batch of questions each").default(120),
    questionsPerStep: count("Questions per step").default(64),
    groupSize: count("Sampled answers per question (none in sft)").default(16),
    temperature: above0("Divides the logits, in rollout and loss").default(1),
    topP: z.number().gt(0).max(1).default(1).describe("Nucleus filter of rollouts; 1 is off"),
    topK: whole("Top-k filter of rollouts; 0 is off").default(0),
    maxNewTokens: count("Longest answer").default(4),
    epochs: count("Passes over each batch of answers").default(1),
    miniBatches: count("Optimizer steps per pass").default(1),
    stratum: z
      .enum(strata)
      .default("all")
      .describe(
        "Training questions by right answers among the accessibility samples before training: all | " +
          "none right | some | more than a quarter | at most a quarter",
      ),
    questions: count("Training questions, drawn at random; none: all").nullable().default(null),
    questionSet: questionSet("Set whose questions train and validate; none: all"),
    labels: z
      .enum(["gold", "shuffled"])
      .default("gold")
      .describe("What training calls right; shuffled: another question's answer (a control)"),
  })
  .describe("a training step, whatever the method");

export const optimizer = z
  .strictObject({
    name: z.enum(["adamw", "muon", "sgd"]).default("adamw").describe("How weights are moved"),
    learningRate: rate("Peak rate, after a linear warm-up").default(2e-4),
    warmup: whole("Steps of warm-up").default(10),
    schedule: z.enum(["constant", "linear", "cosine"]).default("constant").describe("After it"),
    finalFraction: share("Rate at the last step, as a share of the peak").default(0),
    weightDecay: least0("Decoupled weight decay, on matrices").default(0),
    betas: betas("AdamW moment decays").default([0.9, 0.999]),
    momentum: z.number().min(0).lt(1).default(0.95).describe("Momentum of muon and sgd"),
    clipNorm: clipNorm(),
  })
  .describe("the optimizer of a training run");

export const grpo = z
  .strictObject({
    advantage: z
      .enum(advantageForms)
      .default("std")
      .describe(
        "r | r - mean | (r - mean)/(std + epsilon) | r - mean of the others | the third with the std " +
          "of the whole batch",
      ),
    stdDdof: z.int().min(0).max(1).default(1).describe("std divides by group size - this"),
    stdEpsilon: least0("Added to std").default(1e-4),
    sign: z
      .enum(["both", "positive", "negative"])
      .default("both")
      .describe("Which advantages train; the others count as 0"),
    ratioLevel: z
      .enum(["token", "sequence"])
      .default("token")
      .describe("Ratio of a token, or exp of the mean log-ratio of its answer (GSPO)"),
    surrogate: z
      .enum(["clip", "cispo", "soft"])
      .default("clip")
      .describe("-min(ratio A, clipped) | -sg(min(ratio, cap)) A log p (CISPO) | soft gate (SAPO)"),
    clipLow: clipLow(),
    clipHigh: clipHigh(),
    ratioCap: above0("Largest ratio: of cispo, or before the clip").nullable().default(null),
    dualClip: z
      .number()
      .gt(1)
      .nullable()
      .default(null)
      .describe("Where A < 0 the loss is at most this times -A"),
    softPositive: above0("Temperature of the soft gate where A > 0").default(1),
    softNegative: above0("Temperature of the soft gate where A < 0").default(1.05),
    aggregation: aggregation(),
    klCoefficient: least0("Weight of KL(policy || reference)").default(0),
    klEstimator: z
      .enum(["k1", "k2", "k3", "ratioK3"])
      .nullable()
      .default(null)
      .describe(
        "With d = log(policy/reference): d | d²/2 | exp(-d) - 1 + d | ratio times the third",
      ),
    klPlacement: z.enum(["loss", "reward"]).default("loss").describe("Where the KL term goes"),
    reference: z
      .enum(["base", "ema"])
      .default("base")
      .describe("The KL term's reference: the base model, or a moving average of the policy"),
    referenceDecay: share("Share of itself that the average keeps in a step").default(0.99),
    entropyCoefficient: least0("Weight of the entropy bonus").default(0),
    importance: z
      .enum(["none", "token", "sequence"])
      .default("none")
      .describe(
        "Correction by p_trainer/p_sampler where the two differ; of ppo too, with sampler.engine",
      ),
    importanceMode: z.enum(["truncate", "mask"]).default("truncate").describe("Beyond the cap"),
    importanceCap: above0("Largest correction").default(2),
    resampleRounds: whole(
      "Rounds of further questions in place of those whose answers are all right or all wrong",
    ).default(0),
  })
  .describe("group relative policy optimisation and its family (--method grpo)");

export const ppo = z
  .strictObject({
    gamma: share("Discount of later rewards").default(1),
    lambda: share("Discount of later errors of the value").default(0.95),
    whiten: z.boolean().default(true).describe("Advantages get mean 0 and variance 1"),
    clipLow: clipLow(),
    clipHigh: clipHigh(),
    aggregation: aggregation(),
    valueLearningRate: rate("Peak rate of the value model").default(1e-3),
    valueRange: above0("The value is clipped to its old one ± this").nullable().default(0.2),
    klCoefficient: least0("Weight of k1 in each token's reward, against the base model").default(0),
    klTarget: above0("KL of an answer that an adaptive coefficient aims at")
      .nullable()
      .default(null),
    klHorizon: count("Answers over which it adapts").default(10_000),
    entropyCoefficient: least0("Weight of the entropy bonus").default(0),
  })
  .describe("proximal policy optimisation with a value model (--method ppo)");

export const sft = z
  .strictObject({ aggregation: aggregation() })
  .describe("supervised fine-tuning on gold answers (--method sft)");

export const rft = z
  .strictObject({
    aggregation: aggregation(),
    distinct: z
      .boolean()
      .default(false)
      .describe("Each right answer to a question counts once, however often it was sampled"),
    perQuestion: count("Right answers kept per question; none: all").nullable().default(null),
  })
  .describe("rejection fine-tuning on sampled right answers (--method rft)");

export const dpo = z
  .strictObject({
    form: z
      .enum(preferenceForms)
      .default("sigmoid")
      .describe("-log s(bD) | max(0, 1 - bD) | (D - 1/2b)² on sums | the same on token means"),
    beta: above0("Strength of the pull to the reference").default(0.1),
    labelSmoothing: z.number().min(0).lt(0.5).default(0).describe("Share of swapped labels"),
    pairsPerQuestion: count("Wrong answers that the gold answer is paired with").default(4),
    sampleFrom: z.enum(["policy", "base"]).default("policy").describe("Who gives wrong answers"),
  })
  .describe("direct preference optimisation: gold against sampled wrong answers (--method dpo)");

export const lora = z
  .strictObject({
    rank: whole("Rank of the adapters; 0: all weights are trained").default(0),
    alpha: above0("B·A is multiplied by alpha / rank").default(16),
    targets: z
      .array(z.enum(loraTargets))
      .min(1)
      .default(["q_proj", "v_proj"])
      .describe("Modules that get an adapter"),
  })
  .describe("low-rank adapters in place of all weights");

/** Settings of a method that cannot hold together; `when` turns them into sentences. */
interface Settings {
  readonly method: string;
  readonly train: z.output<typeof train>;
  readonly optimizer: z.output<typeof optimizer>;
  readonly grpo: z.output<typeof grpo>;
  readonly ppo: z.output<typeof ppo>;
  readonly dpo: z.output<typeof dpo>;
}

export function methodProblems({ method, train, optimizer, grpo, ppo, dpo }: Settings): string[] {
  const needsGroup = grpo.advantage !== "reward";
  const answers = train.questionsPerStep * (method === "sft" ? 1 : train.groupSize);
  const paid = train.questionsPerStep * train.groupSize;
  const kinds = method === "sft" ? "gold answers" : "rollouts";
  return when(
    [
      method === "grpo" && train.groupSize === 1 && needsGroup,
      `train.groupSize 1 with grpo.advantage ${grpo.advantage}: a single rollout has no others ` +
        "to be compared with; use at least 2",
    ],
    [
      grpo.klCoefficient > 0 && grpo.klEstimator === null,
      `grpo.klCoefficient ${grpo.klCoefficient} without an estimator: set grpo.klEstimator`,
    ],
    [
      grpo.klCoefficient > 0 && grpo.klEstimator === "k1" && grpo.klPlacement === "loss",
      "grpo.klEstimator k1 in the loss has an expected gradient of 0: use k2, or put k1 in the " +
        "reward (grpo.klPlacement reward)",
    ],
    [
      grpo.klEstimator === "ratioK3" && grpo.klPlacement === "reward",
      "grpo.klEstimator ratioK3 in the reward: its ratio is there for its gradient; use k3",
    ],
    [
      grpo.surrogate === "cispo" && grpo.ratioCap === null,
      "grpo.surrogate cispo needs grpo.ratioCap, the largest weight of a token (TRL: 5)",
    ],
    [
      grpo.ratioCap !== null && grpo.surrogate === "clip" && grpo.ratioCap <= 1 + grpo.clipHigh,
      `grpo.ratioCap ${grpo.ratioCap} is not above 1 + grpo.clipHigh ${1 + grpo.clipHigh}: the clip ` +
        "would never be reached",
    ],
    [
      grpo.ratioCap !== null && grpo.surrogate === "soft",
      `grpo.ratioCap ${grpo.ratioCap} with grpo.surrogate soft: its gate caps nothing; use none`,
    ],
    [
      grpo.dualClip !== null && grpo.surrogate !== "clip",
      `grpo.dualClip ${grpo.dualClip} with grpo.surrogate ${grpo.surrogate}: only clip has this ` +
        "bound; use none",
    ],
    [
      dpo.labelSmoothing > 0 && dpo.form !== "sigmoid",
      `dpo.labelSmoothing ${dpo.labelSmoothing} with dpo.form ${dpo.form}: only sigmoid has it; use 0`,
    ],
    [
      answers % train.miniBatches !== 0,
      `train.miniBatches ${train.miniBatches} does not divide the ${answers} ${kinds} of a step ` +
        `(train.questionsPerStep ${train.questionsPerStep} x train.groupSize ${train.groupSize})`,
    ],
    [
      optimizer.warmup > train.steps,
      `optimizer.warmup ${optimizer.warmup} never ends within train.steps ${train.steps}: use at ` +
        `most ${train.steps}`,
    ],
    [
      ppo.klTarget !== null && ppo.klCoefficient === 0,
      "ppo.klTarget without ppo.klCoefficient: an adaptive coefficient needs one to start from",
    ],
    [
      ppo.klTarget !== null && 5 * ppo.klHorizon <= paid,
      `ppo.klHorizon ${ppo.klHorizon} is no more than a fifth of the ${paid} rollouts of a step: the ` +
        `adaptive coefficient could become 0 or negative; use at least ${Math.floor(paid / 5) + 1}`,
    ],
  );
}

export const when = (...checks: readonly (readonly [boolean, string])[]): string[] =>
  checks.filter(([holds]) => holds).map(([, message]) => message);
