/** What goes over the wire to a Tinker-compatible server: requests as it takes them, answers checked. */

import { z } from "zod";
import { excerpt } from "./http.ts";
import { CallFailure } from "./retry.ts";

// Read in public sources, and not run against any server: the Python SDK's types and clients
// (thinking-machines-lab/tinker, 2025-09 to 2026, JSON bodies: SDKs before 0.25), and the servers of
// NovaSky-AI/SkyRL (skyrl-tx/tx/tinker, skyrl/tinker) and verl-project/verl-recipe (verl_tinker).

/** The SDK whose JSON protocol this is; servers may look at it. */
export const SDK_VERSION = "0.19.0";

export interface TensorData {
  readonly data: readonly number[];
  readonly dtype: "int64" | "float32";
  readonly shape: readonly [number];
}

/** A sequence, and what the loss needs at each of its places. */
export interface Datum {
  readonly model_input: ModelInput;
  readonly loss_fn_inputs: Readonly<Record<string, TensorData>>;
}

export interface ModelInput {
  readonly chunks: readonly { readonly type: "encoded_text"; readonly tokens: readonly number[] }[];
}

export interface Loss {
  readonly loss_fn: "cross_entropy" | "importance_sampling" | "ppo" | "cispo";
  readonly loss_fn_config?: Readonly<Record<string, number>>;
}

/** Names of SDK 0.19; a server may leave some unread (weight_decay, grad_clip_norm: see DECISIONS). */
export interface AdamParams {
  readonly learning_rate: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly eps: number;
  readonly weight_decay: number;
  readonly grad_clip_norm: number;
}

export const modelInput = (tokens: readonly number[]): ModelInput => ({
  chunks: [{ type: "encoded_text", tokens }],
});

const tensorData = (dtype: TensorData["dtype"], data: readonly number[]): TensorData => ({
  ...{ data, dtype },
  shape: [data.length],
});

/** What a datum says of each token of its answer: one number a token. */
export type TokenInputs = Readonly<Record<string, readonly number[]>>;

/**
 * prompt + answer as the model reads it and as it is to predict it: place i predicts token i + 1.
 * The answer's first token is predicted at the prompt's last; before that every input is 0.
 */
export function datumOf(
  prompt: readonly number[],
  answer: readonly number[],
  inputs: TokenInputs,
): Datum {
  const all = [...prompt, ...answer];
  const before = prompt.slice(1).map(() => 0);
  const floats = Object.entries(inputs).map(([name, values]) => {
    if (values.length !== answer.length) {
      throw new RangeError(`${name}: ${values.length} values for ${answer.length} tokens`);
    }
    return [name, tensorData("float32", [...before, ...values])];
  });
  return {
    model_input: modelInput(all.slice(0, -1)),
    loss_fn_inputs: {
      target_tokens: tensorData("int64", all.slice(1)),
      ...Object.fromEntries(floats),
    },
  };
}

const numbers = z.array(z.number());
const figures = z.record(z.string(), z.number().nullable());

/** Of operations: where their result will be. */
export const submitted = z.object({ request_id: z.coerce.string().min(1) });
export const health = z.object({ status: z.string() });
export const capabilities = z.object({
  supported_models: z.array(z.object({ model_name: z.string().nullish() })),
  supported_loss_fns: z.array(z.string()).optional(),
});
const told = z.string().nullish();
export const session = z.object({
  ...{ session_id: z.string().min(1), info_message: told, warning_message: told },
  error_message: told,
});
export const createdModel = z.object({ model_id: z.string().min(1) });
export const samplingSession = z.object({ sampling_session_id: z.string().min(1) });

/** What stands in the place of a result. */
export const pending = z.object({ type: z.literal("try_again"), queue_state: told });
export const failed = z.object({ error: z.string(), category: told });

export const passed = z.object({
  loss_fn_outputs: z.array(z.object({ logprobs: z.object({ data: numbers }) })),
});
export type Passed = z.output<typeof passed>;
export const stepped = z.object({ metrics: figures.nullish() });
export const saved = z.object({ path: z.string().min(1) });
export const loaded = z.object({});
export const sampled = z.object({
  sequences: z.array(
    z.object({ tokens: z.unknown(), logprobs: z.unknown(), stop_reason: z.unknown() }),
  ),
});
export type Sampled = z.output<typeof sampled>;

/** The answer as `schema` has it; a CallFailure says what is wrong with it. */
export function read<T>(schema: z.ZodType<T>, what: string, answer: unknown): T {
  const result = schema.safeParse(answer);
  if (result.success) return result.data;
  const { path, message } = result.error.issues[0]!;
  const where = path.length === 0 ? "" : ` at ${path.join(".")}`;
  const text = `${what}: an answer of another form (${message}${where}): ${excerpt(JSON.stringify(answer) ?? "")}`;
  throw new CallFailure("nonsense", text);
}
