/** The model's settings: which family, which sizes, and what of them cannot hold together. */
import { z } from "zod";
import { count, when } from "./method_config.ts";

/** What --model.family says -> `model_type` of config.json. */
/** Longest sequence that a world's model is made for: documents are far shorter. */
export const POSITIONS = 256;

export const modelTypes = {
  llama: "llama",
  qwen2: "qwen2",
  qwen3: "qwen3",
  olmo2: "olmo2",
  qwen3moe: "qwen3_moe",
} as const;
type FamilyName = keyof typeof modelTypes;

export const model = z
  .strictObject({
    family: z
      .enum(Object.keys(modelTypes) as [FamilyName, ...FamilyName[]])
      .default("llama")
      .describe("Biases, norms and mixtures as in this family of models"),
    hiddenSize: count("Width of the residual stream").default(64),
    layers: count("Transformer blocks").default(3),
    heads: count("Query heads").default(4),
    keyValueHeads: count("Key/value heads; fewer than heads is grouped-query attention").default(4),
    intermediateSize: count("Width of the SwiGLU layer").default(176),
    experts: count("SwiGLU layers to choose from (qwen3moe)").default(8),
    expertsPerToken: count("How many of them a token goes through (qwen3moe)").default(2),
    expertIntermediateSize: count(
      "Width of each; none: intermediateSize / expertsPerToken, the work of one layer (qwen3moe)",
    )
      .nullable()
      .default(null),
    auxiliaryLoss: z
      .number()
      .min(0)
      .default(0.01)
      .describe("Weight in pre-training of the loss that evens out the experts' loads (qwen3moe)"),
    tieWordEmbeddings: z.boolean().default(true).describe("Use the embedding as output head"),
    ropeTheta: z.number().gt(0).default(10_000).describe("Base of the rotary frequencies"),
    normEpsilon: z.number().gt(0).default(1e-6).describe("Added to the mean square in RMSNorm"),
    initialStd: z.number().gt(0).default(0.02).describe("Standard deviation of initial weights"),
  })
  .describe("the transformer");

export type ModelSettings = z.output<typeof model>;

const mixtureFields = [
  "experts",
  "expertsPerToken",
  "expertIntermediateSize",
  "auxiliaryLoss",
] as const;

/** The settings that shape the model: what others leave unread is no part of a base model's key. */
export function shapingSettings({ family, ...settings }: ModelSettings): object {
  if (family === "qwen3moe") return { family, ...settings };
  const { experts: _, expertsPerToken: __, ...dense } = settings;
  const { expertIntermediateSize: ___, auxiliaryLoss: ____, ...rest } = dense;
  return family === "llama" ? rest : { family, ...rest };
}

/** config.json's keys of these settings, without the vocabulary. */
export function modelKeys(settings: ModelSettings): Record<string, unknown> {
  const { family, hiddenSize, intermediateSize, heads, experts, expertsPerToken } = settings;
  const mixture = {
    num_experts: experts,
    num_experts_per_tok: expertsPerToken,
    moe_intermediate_size: expertWidth(settings),
    // Divided by its sum the weight of a single expert would be 1, and teach the router nothing.
    norm_topk_prob: expertsPerToken > 1,
    router_aux_loss_coef: settings.auxiliaryLoss,
  };
  return {
    model_type: modelTypes[family],
    hidden_size: hiddenSize,
    intermediate_size: intermediateSize,
    num_hidden_layers: settings.layers,
    num_attention_heads: heads,
    num_key_value_heads: settings.keyValueHeads,
    // qwen3's default is a constant.
    ...(family === "qwen3" && { head_dim: hiddenSize / heads }),
    rms_norm_eps: settings.normEpsilon,
    rope_theta: settings.ropeTheta,
    tie_word_embeddings: settings.tieWordEmbeddings,
    initializer_range: settings.initialStd,
    ...(family === "qwen3moe" && mixture),
  };
}

export const expertWidth = (settings: ModelSettings): number =>
  settings.expertIntermediateSize ??
  Math.max(1, Math.round(settings.intermediateSize / settings.expertsPerToken));

export function modelProblems(settings: ModelSettings): string[] {
  const { family, hiddenSize, heads, keyValueHeads, experts, expertsPerToken } = settings;
  const defaults = model.parse({});
  const unread = mixtureFields.filter((name) => settings[name] !== defaults[name]);
  return when(
    [
      hiddenSize % heads !== 0,
      `model.heads ${heads} does not divide model.hiddenSize ${hiddenSize}`,
    ],
    [
      hiddenSize % heads === 0 && (hiddenSize / heads) % 2 !== 0,
      `model.hiddenSize ${hiddenSize} / model.heads ${heads} is odd: rotary embedding needs pairs`,
    ],
    [
      heads % keyValueHeads !== 0,
      `model.keyValueHeads ${keyValueHeads} does not divide model.heads ${heads}`,
    ],
    [
      family === "qwen3moe" && expertsPerToken > experts,
      `model.expertsPerToken ${expertsPerToken} of model.experts ${experts}: a token cannot go ` +
        "through more experts than there are",
    ],
    [
      family !== "qwen3moe" && unread.length > 0,
      `model.${unread.join(", model.")} with model.family ${family}: it has no experts; use ` +
        "--model.family qwen3moe",
    ],
  );
}
