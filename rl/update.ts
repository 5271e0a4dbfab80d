/** One optimizer step on answers: micro-batches summed, gradients clipped and applied, then observed. */

import type { Model } from "../eval/accuracy.ts";
import { type Batch, completionBatch } from "../model/batch.ts";
import { ADAPTED, ALL_TRAINED, trainingRows } from "../model/memory.ts";
import { globalNorm, type Optimizer } from "../model/optimizer.ts";
import { gradientsOf, type ParameterTree, requireGradients } from "../model/parameters.ts";
import { firstNonFinite, scope, type Tensor, tensor } from "../tensor/mod.ts";
import { type Aggregation, tokenWeight } from "./aggregate.ts";
import { UserError } from "./user_error.ts";

/** An answer to a prompt, and what its tokens weigh in the loss of its optimizer step. */
export interface Answer {
  readonly prompt: readonly number[];
  /** Token ids; the one that ended it is among them. */
  readonly tokens: readonly number[];
  /** How many equal answers it stands for. */
  readonly count: number;
  /** Weight of each token, for all that it stands for. */
  readonly weight: number;
}

/** What a loss gives: a scalar, and tensors to be read after the step. */
export interface MicroLoss {
  readonly loss: Tensor;
  readonly observed: readonly Tensor[];
}

export interface Update {
  /** Sum over the micro-batches. */
  readonly loss: number;
  /** Before clipping; 0 where nothing was to be learned and no step was taken. */
  readonly gradNorm: number;
  /** Of each micro-batch, what its loss asked to be read. */
  readonly observed: readonly ArrayLike<number>[][];
}

/** Most answers that go through the model at a time; changes no result beyond rounding. */
const MICRO_BATCH = 256;

/** Answers in parts that go through the model at a time: fewer where a large model needs the room. */
export function microBatches<T extends Pick<Answer, "prompt" | "tokens">>(
  items: readonly T[],
  { config, lora }: Pick<Model, "config" | "lora">,
  most = MICRO_BATCH,
): T[][] {
  const lengths = items.map(({ prompt, tokens }) => prompt.length + tokens.length);
  const copies = lora === undefined ? ALL_TRAINED : ADAPTED;
  return chunks(items, trainingRows(config, Math.max(0, ...lengths), most, copies));
}

function chunks<T>(items: readonly T[], size: number): T[][] {
  const count = Math.ceil(items.length / size);
  return Array.from({ length: count }, (_, i) => items.slice(i * size, (i + 1) * size));
}

/** Consecutive parts of a step's answers, one for each optimizer step of a pass. */
export function miniBatches<T>(items: readonly T[], count: number): T[][] {
  const size = Math.ceil(items.length / count);
  return size === 0 ? [] : chunks(items, size);
}

/**
 * One step of `optimizer` on the sum of the losses. The gradients of all micro-batches are added
 * before they are clipped; without any, no step is taken. Throws a UserError where the loss or a
 * gradient is not finite, with the op that made it; the weights are then as they were.
 */
export async function optimizerStep<T>(
  { parameters, optimizer }: { parameters: ParameterTree; optimizer: Optimizer },
  micros: readonly T[],
  learningRate: number,
  lossOf: (micro: T) => MicroLoss,
): Promise<Update> {
  requireGradients(parameters);
  if (micros.length === 0) return { loss: 0, gradNorm: 0, observed: [] };
  const { parts, sums, norm } = scope(() => {
    let total: Map<string, Tensor> | undefined;
    const parts = micros.map((micro) => {
      const [kept, sum] = scope(() => {
        const { loss, observed } = lossOf(micro);
        const sum = gradientsOf(loss, parameters, total);
        return [[loss, ...observed].map((t) => t.detach()), sum] as const;
      });
      total = sum;
      return kept;
    });
    return { parts, sums: total!, norm: globalNorm(total!.values()) };
  });
  try {
    const losses = await Promise.all(parts.map(async (part) => (await part[0]!.data())[0]!));
    const loss = losses.reduce((a, b) => a + b, 0);
    const gradNorm = (await norm.data())[0]!;
    if (!Number.isFinite(loss) || !Number.isFinite(gradNorm)) {
      const bad = losses.findIndex((x) => !Number.isFinite(x));
      // Where all losses are finite, any of the gradients may be what is not.
      const suspects = bad < 0 ? micros : [micros[bad]!];
      const repeats = suspects.map(
        (micro) => () => scope(() => void gradientsOf(lossOf(micro).loss, parameters)),
      );
      throw await nonFiniteError({ loss, gradNorm, learningRate }, parameters, repeats);
    }
    optimizer.apply(sums, norm, learningRate);
    const observed = await Promise.all(
      parts.map(([, ...rest]) => Promise.all(rest.map((t) => t.data()))),
    );
    return { loss, gradNorm, observed };
  } finally {
    for (const t of [...parts.flat(), ...sums.values(), norm]) t.dispose();
  }
}

/** One step on a policy: on its parameters, or on the adapters among them. */
export const policyUpdate = <T>(
  { parameters, lora }: Model,
  optimizer: Optimizer,
  micros: readonly T[],
  learningRate: number,
  lossOf: (micro: T) => MicroLoss,
): Promise<Update> =>
  optimizerStep(
    { parameters: lora?.adapters ?? parameters, optimizer },
    micros,
    learningRate,
    lossOf,
  );

/** What to tell where no step can be taken: the first op that gave NaN or an infinity. */
async function nonFiniteError(
  { loss, gradNorm, learningRate }: { loss: number; gradNorm: number; learningRate: number },
  parameters: ParameterTree,
  repeats: readonly (() => void)[],
): Promise<UserError> {
  const spoiled = (
    await Promise.all(
      [...parameters].map(async ([name, t]) => {
        const values = Array.from(await t.data());
        return values.every(Number.isFinite) ? undefined : name;
      }),
    )
  ).find((name) => name !== undefined);
  const { device } = parameters.values().next().value!;
  let first: Awaited<ReturnType<typeof firstNonFinite>>;
  for (const repeat of repeats) first ??= await firstNonFinite(device, repeat);
  const shapes = first?.inputs.map((shape) => `[${shape.join(" ")}]`).join(" ");
  const culprit =
    spoiled !== undefined
      ? `the weight ${spoiled} was not finite before it`
      : first === undefined
        ? Number.isFinite(loss)
          ? "each gradient is finite, their norm is not"
          : "computed once more it is finite: is the machine sound?"
        : `the first op to give ${first.value} was ${first.op} on ${shapes}`;
  return new UserError(
    `the loss is ${loss} and the gradient's norm ${gradNorm}: no step was taken; ${culprit}. ` +
      `Lower the rate (it is ${learningRate}), or clip the gradient harder`,
  );
}

export const batchOf = (answers: readonly Pick<Answer, "prompt" | "tokens">[]): Batch =>
  completionBatch(
    answers.map(({ prompt }) => prompt),
    answers.map(({ tokens }) => tokens),
  );

/** A number for each token of each answer where its target stands, f32 [b t]; 0 elsewhere. */
export function placed<T extends Answer>(
  answers: readonly T[],
  { shape }: Batch,
  values: (answer: T) => ArrayLike<number>,
): Tensor {
  const flat = new Float64Array(shape[0] * shape[1]);
  answers.forEach((answer, i) => {
    flat.set(Array.from(values(answer)), i * shape[1] + answer.prompt.length - 1);
  });
  return tensor(flat, shape);
}

/** Whether a target stands there: bool [b t]. By position, never by token id. */
export const maskOf = ({ targets, shape }: Batch): Tensor =>
  tensor(
    targets.map((target) => Number(target >= 0)),
    shape,
    { dtype: "bool" },
  );

/** Each token's weight, f32 [b t]; 0 where none stands. */
export const weightsOf = (answers: readonly Answer[], batch: Batch): Tensor =>
  placed(answers, batch, ({ tokens, weight }) => tokens.map(() => weight));

/** The part of row i of an observed [b t] that belongs to answer i. */
export function tokensOf(
  observed: ArrayLike<number>,
  answers: readonly Answer[],
  i: number,
): number[] {
  const width = observed.length / answers.length;
  const start = i * width + answers[i]!.prompt.length - 1;
  return answers[i]!.tokens.map((_, t) => observed[start + t]!);
}

/**
 * Equal answers as one, with the weight of all. `all` are the answers of the optimizer step, which
 * every mean divides by; `key` tells which are equal, undefined leaves one out.
 */
export function weighed<T extends { readonly tokens: readonly number[] }, R extends Answer>(
  all: readonly T[],
  aggregation: Aggregation,
  maxLength: number,
  key: (item: T, i: number) => string | undefined,
  make: (item: T, i: number, count: number, weight: number) => R,
): R[] {
  const tokens = all.reduce((total, item) => total + item.tokens.length, 0);
  const denominator = { tokens, sequences: all.length, maxLength };
  const distinct = new Map<string, R>();
  all.forEach((item, i) => {
    const name = key(item, i);
    if (name === undefined) return;
    const count = (distinct.get(name)?.count ?? 0) + 1;
    const weight = count * tokenWeight(aggregation, item.tokens.length, denominator);
    distinct.set(name, make(item, i, count, weight));
  });
  return [...distinct.values()];
}
