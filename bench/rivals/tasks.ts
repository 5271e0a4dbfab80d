/** What is measured, and on which numbers: every participant gets these tasks and this input. */

export type Transpose = "NN" | "NT" | "TN";

/** C [m n] = A·B. NT: B is stored [n k]. TN: A is stored [k m]. */
export interface GemmTask {
  readonly kind: "gemm";
  readonly m: number;
  readonly k: number;
  readonly n: number;
  readonly transpose: Transpose;
}

export type OpName = "softmax" | "rmsNorm" | "layerNorm" | "attention";

/**
 * One op. `backward`: the op and the gradients of Σ out·g by all its inputs, for a given g.
 * Attention is causal, scaled by 1/√d; its shape is [batch heads length d].
 */
export interface OpTask {
  readonly kind: "op";
  readonly op: OpName;
  readonly shape: readonly number[];
  readonly backward: boolean;
}

export interface ModelSize {
  readonly width: number;
  readonly depth: number;
  readonly vocabulary: number;
  readonly heads: number;
  readonly inner: number;
}

/** Name and shape of a weight; the file holds them one behind the other, f32, matrices [out in]. */
export type Weights = readonly (readonly [name: string, shape: readonly number[]])[];

interface ModelTask extends ModelSize {
  readonly file: string;
  readonly weights: Weights;
}

/** One training step: forward, mean cross-entropy, backward, clipping to norm 1, AdamW. */
export interface StepTask extends ModelTask {
  readonly kind: "step";
  readonly rows: number;
  readonly positions: number;
  readonly tokens: readonly number[];
  readonly targets: readonly number[];
}

/** `count` prompts are read and `newTokens` drawn for each, with a KV cache, at temperature 1. */
export interface DecodeTask extends ModelTask {
  readonly kind: "decode";
  readonly prompts: readonly (readonly number[])[];
  readonly newTokens: number;
}

export type Task = GemmTask | OpTask | StepTask | DecodeTask;
export type Part = "gemm" | "ops" | "step" | "decode";

/** What all participants' steps have in common. */
export const ADAMW = {
  ...{ learningRate: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, weightDecay: 0.01, clipNorm: 1 },
} as const;
/** Of the norms, and of rotary positions. */
export const NORM_EPS = 1e-5;
export const MODEL_NORM_EPS = 1e-6;
export const ROPE_THETA = 10000;

/** Steps whose losses must agree before a step is timed: the optimizer is compared as well. */
export const CHECKED_STEPS = 3;
/** Rows of a greedy decoding that must agree before decoding is timed. */
export const CHECKED_ROWS = 8;

/** Element i of input number `salt`: uniform in [-0.5, 0.5), the same in C, Python and here. */
export function inputValue(i: number, salt: number): number {
  let u = Math.imul(i + 1 + Math.imul(salt, 0x3504f335), 0x9e3779b1);
  u = Math.imul(u ^ (u >>> 15), 0x85ebca77);
  u ^= u >>> 13;
  return (u >>> 8) / 2 ** 24 - 0.5;
}

export const input = (size: number, salt: number): Float32Array<ArrayBuffer> =>
  Float32Array.from({ length: size }, (_, i) => inputValue(i, salt));

export const sizeOf = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

/** The shapes of an op's inputs; input i is filled with `input(size, i + 1)`. */
export function inputShapes({ op, shape }: OpTask): readonly (readonly number[])[] {
  const row = [shape.at(-1)!];
  if (op === "attention") return [shape, shape, shape];
  return op === "softmax" ? [shape] : op === "rmsNorm" ? [shape, row] : [shape, row, row];
}
/** The salt of g, by which an op's output is weighted. */
export const COTANGENT = 9;

/** Sixteen elements, evenly spread: what participants compare. */
export function samplesOf(values: ArrayLike<number>): number[] {
  return Array.from({ length: 16 }, (_, i) => values[Math.floor((i * values.length) / 16)]!);
}

/** Work of one call, in multiplications and additions, or undefined where a rate says little. */
export function flopsOf(task: Task): number | undefined {
  return task.kind === "gemm" ? 2 * task.m * task.k * task.n : undefined;
}

/** Tokens of one call, where it has tokens. */
export function tokensOf(task: Task): number | undefined {
  if (task.kind === "step") return task.rows * task.positions;
  return task.kind === "decode" ? task.prompts.length * task.newTokens : undefined;
}

export function labelOf(task: Task): string {
  if (task.kind === "gemm") return `${task.m} ${task.k} ${task.n} ${task.transpose}`;
  if (task.kind === "op") {
    return `${task.op} [${task.shape.join(" ")}] ${task.backward ? "forward+backward" : "forward"}`;
  }
  const size = `${task.width}/${task.depth}`;
  return task.kind === "step" ? `step ${size}` : `decode ${size}, batch ${task.prompts.length}`;
}
