/** What is timed on a GPU, as data that PyTorch reads too, and how much work each is. */

export type Task =
  | {
      readonly kind: "gemm";
      readonly m: number;
      readonly k: number;
      readonly n: number;
      /** Operands rounded to f16, sums in f32. */
      readonly half: boolean;
      /** On a device that does without subgroups: the other programs for few rows. */
      readonly plain?: boolean;
    }
  | {
      readonly kind: "attention";
      readonly b: number;
      readonly h: number;
      readonly t: number;
      readonly d: number;
      readonly backward: boolean;
    }
  | { readonly kind: "rmsNorm" | "softmax" | "swiGlu"; readonly rows: number; readonly n: number }
  | { readonly kind: "crossEntropy"; readonly rows: number; readonly v: number }
  | {
      readonly kind: "head";
      readonly rows: number;
      readonly d: number;
      readonly v: number;
    }
  | { readonly kind: "adamW"; readonly n: number }
  | ({ readonly kind: "step"; readonly b: number; readonly t: number } & ModelSize)
  | ({
      readonly kind: "decode";
      readonly b: number;
      readonly prompt: number;
      readonly newTokens: number;
    } & ModelSize);

export interface ModelSize {
  readonly width: number;
  readonly inner: number;
  readonly layers: number;
  readonly heads: number;
  readonly vocabulary: number;
}

const M1 = { width: 128, inner: 344, layers: 5, heads: 4, vocabulary: 256 };
const M10 = { width: 384, inner: 1024, layers: 6, heads: 6, vocabulary: 256 };
const M124 = { width: 768, inner: 2048, layers: 12, heads: 12, vocabulary: 50_304 };
const TINY = { width: 32, inner: 64, layers: 2, heads: 2, vocabulary: 64 };

const gemm = (m: number, k = m, n = m): Task => ({ kind: "gemm", m, k, n, half: false });
/** Few rows, as in decoding: by subgroups where the adapter has them, and without. */
const thin = (m: number, k: number, n: number): Task[] =>
  [false, true].map((plain) => ({ kind: "gemm", m, k, n, half: false, plain }));
const halfGemm = (n: number): Task => ({ kind: "gemm", m: n, k: n, n, half: true });

export const FULL: readonly Task[] = [
  ...[512, 1024, 2048, 4096, 8192].map((n) => gemm(n)),
  // Products of a transformer of width 768 on 4,096 tokens, and of a decoding step on 64 rows.
  ...[gemm(4096, 768, 2304), gemm(4096, 768, 2048), gemm(4096, 2048, 768), gemm(64, 768, 2048)],
  // One, four and eight rows on the widest layer and on the head of a model of width 768.
  ...[1, 4, 8].flatMap((m) => [...thin(m, 768, 2304), ...thin(m, 768, 50_304)]),
  ...[false, true].map((backward) => {
    return { kind: "attention", b: 8, h: 12, t: 1024, d: 64, backward } as const;
  }),
  { kind: "rmsNorm", rows: 16_384, n: 4096 },
  { kind: "softmax", rows: 16_384, n: 4096 },
  { kind: "swiGlu", rows: 16_384, n: 4096 },
  { kind: "crossEntropy", rows: 1024, v: 150_000 },
  { kind: "head", rows: 1024, d: 768, v: 150_000 },
  { kind: "adamW", n: 124_000_000 },
  { kind: "step", b: 32, t: 64, ...M1 },
  { kind: "step", b: 32, t: 256, ...M10 },
  { kind: "step", b: 8, t: 512, ...M124 },
  { kind: "decode", b: 256, prompt: 16, newTokens: 48, ...M10 },
  { kind: "decode", b: 64, prompt: 16, newTokens: 48, ...M124 },
  ...[512, 1024, 2048, 4096, 8192].map(halfGemm),
];

/** Small enough for a software GPU: shows that all of it runs. */
export const QUICK: readonly Task[] = [
  gemm(128),
  gemm(64, 64, 128),
  ...[1, 4, 8].flatMap((m) => thin(m, 64, 96)),
  { kind: "attention", b: 1, h: 2, t: 64, d: 32, backward: false },
  { kind: "attention", b: 1, h: 2, t: 64, d: 32, backward: true },
  { kind: "rmsNorm", rows: 64, n: 256 },
  { kind: "softmax", rows: 64, n: 256 },
  { kind: "swiGlu", rows: 64, n: 256 },
  { kind: "crossEntropy", rows: 16, v: 1000 },
  { kind: "head", rows: 16, d: 32, v: 1000 },
  { kind: "adamW", n: 10_000 },
  { kind: "step", b: 2, t: 16, ...TINY },
  { kind: "decode", b: 2, prompt: 4, newTokens: 4, ...TINY },
  halfGemm(128),
];

/** Weights of a model apart from its embeddings, which are tied to the head. */
const innerWeights = ({ width, inner, layers }: ModelSize): number =>
  layers * (4 * width * width + 3 * width * inner);
const parameters = (size: ModelSize): number => innerWeights(size) + size.width * size.vocabulary;

/** Floating-point operations of one call, those that causal masks spare left out. */
export function flopsOf(task: Task): number | undefined {
  switch (task.kind) {
    case "gemm":
      return 2 * task.m * task.k * task.n;
    case "attention": {
      const product = task.b * task.h * task.t * task.t * task.d; // 2·t²·d, half of it masked
      return (task.backward ? 7 : 2) * product;
    }
    case "head":
      return 3 * 2 * task.rows * task.d * task.v;
    case "step": {
      const attention = 2 * task.layers * task.t * task.width;
      return 3 * task.b * task.t * (2 * parameters(task) + attention);
    }
    case "decode":
      return task.b * task.newTokens * 2 * parameters(task);
    default:
      return undefined;
  }
}

/** Bytes that one call must read and write at least, where that is what bounds it. */
export function bytesOf(task: Task): number | undefined {
  switch (task.kind) {
    case "gemm":
      return task.plain === undefined
        ? undefined
        : 4 * (task.m * task.k + task.k * task.n + task.m * task.n);
    case "rmsNorm":
    case "softmax":
      return 4 * 2 * task.rows * task.n;
    case "swiGlu":
      return 4 * 3 * task.rows * task.n;
    case "crossEntropy":
      return 4 * task.rows * task.v;
    case "adamW":
      return 4 * 7 * task.n;
    default:
      return undefined;
  }
}

/** Whether the task needs a device whose products have f16 operands. */
export const isHalf = (task: Task): boolean => task.kind === "gemm" && task.half;
/** Whether the task needs a device without subgroups. */
export const isPlain = (task: Task): boolean => task.kind === "gemm" && task.plain === true;

/** Tokens that one call trains on or makes. */
export const tokensOf = (task: Task): number | undefined =>
  task.kind === "step"
    ? task.b * task.t
    : task.kind === "decode"
      ? task.b * task.newTokens
      : undefined;

export function nameOf(task: Task): string {
  switch (task.kind) {
    case "gemm":
      return `gemm ${task.m}x${task.k}x${task.n}${task.half ? ", f16 operands" : ""}${task.plain ? ", no subgroups" : ""}`;
    case "attention":
      return `attention ${task.backward ? "forward and backward" : "forward"} b${task.b} h${task.h} t${task.t} d${task.d}`;
    case "head":
      return `linear cross-entropy and gradients ${task.rows}x${task.d}, ${task.v} classes`;
    case "crossEntropy":
      return `cross-entropy ${task.rows}x${task.v}`;
    case "adamW":
      return `AdamW ${task.n}`;
    case "step":
      return `training step ${(parameters(task) / 1e6).toFixed(1)}M, ${task.b}x${task.t} tokens`;
    case "decode":
      return `decoding ${(parameters(task) / 1e6).toFixed(1)}M, ${task.b} rows, ${task.newTokens} tokens`;
    default:
      return `${task.kind} ${task.rows}x${task.n}`;
  }
}
