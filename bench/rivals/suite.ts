/** The list of tasks of each part, and the weights and tokens that its models start from. */

import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { initialParameters } from "../../model/parameters.ts";
import { ReferenceDevice, randomStream } from "../../tensor/mod.ts";
import { configOf, randomBatch, type Size } from "../support.ts";
import { folder } from "./install.ts";
import type { GemmTask, OpTask, Part, Task, Transpose } from "./tasks.ts";

type Shape = readonly [m: number, k: number, n: number];
const square = (size: number): Shape => [size, size, size];

const SHAPES: readonly Shape[] = [
  ...[64, 128, 256, 512, 1024].map(square),
  ...([square(509), [512, 509, 512], [127, 129, 131]] as const),
  [2048, 256, 256],
  [2048, 256, 1024],
  [64, 256, 256],
  [64, 32, 64],
  [1, 1024, 1024],
];
const MORE_SHAPES: readonly Shape[] = [
  [512, 128, 512],
  [2048, 128, 128],
  [2048, 128, 512],
  [2048, 512, 128],
  [2048, 1024, 256],
  [2048, 768, 3072],
  [4096, 256, 256],
  [256, 128, 4096],
  [7, 512, 2048],
  [1, 256, 1024],
  [256, 2048, 1024],
];
/** Shapes that are measured in all three forms by default. */
const TRANSPOSED: readonly Shape[] = [square(512), [2048, 256, 256]];

function gemmTasks(full: boolean): GemmTask[] {
  const one = (shapes: readonly Shape[], transposes: readonly Transpose[]): GemmTask[] =>
    shapes.flatMap(([m, k, n]) =>
      transposes.map((transpose) => ({ kind: "gemm", m, k, n, transpose }) as const),
    );
  if (full) return one([...SHAPES, ...MORE_SHAPES], ["NN", "NT", "TN"]);
  return [...one(SHAPES, ["NN"]), ...one(TRANSPOSED, ["NT", "TN"])];
}

function opTasks(full: boolean): OpTask[] {
  const rows = ["softmax", "rmsNorm", "layerNorm"] as const;
  const wanted = [
    ...rows.map((op) => ({ op, shape: [2048, 256] })),
    { op: "attention", shape: [32, 8, 64, 32] } as const,
    ...(full ? [{ op: "attention", shape: [4, 8, 512, 32] } as const] : []),
  ];
  return wanted.flatMap((op) =>
    [false, true].map((backward) => ({ kind: "op", ...op, backward }) as const),
  );
}

const SIZES: readonly Size[] = [
  { width: 64, depth: 3, vocabulary: 256 },
  { width: 128, depth: 5, vocabulary: 256 },
  { width: 256, depth: 4, vocabulary: 256 },
];
const LARGE: Size = { width: 384, depth: 6, vocabulary: 256 };
const ROWS = 32;
const POSITIONS = 64;
const PROMPT = 16;
const NEW_TOKENS = 48;
const BATCHES = [64, 256];

/** Writes a model's start weights to a file, once, and says what is in it. */
async function modelOf(size: Size) {
  const config = configOf(size);
  const parameters = initialParameters(config, { seed: 1, device: new ReferenceDevice() });
  const weights = [...parameters].map(([name, { shape }]) => [name, shape] as const);
  const { width, depth, vocabulary } = size;
  const file = join(folder, "models", `${width}-${depth}-${vocabulary}.f32`);
  if (!existsSync(file)) {
    mkdirSync(join(folder, "models"), { recursive: true });
    const parts = await Promise.all([...parameters.values()].map((t) => t.data()));
    writeFileSync(
      file,
      Buffer.concat(parts.map((part) => Buffer.from(Float32Array.from(part).buffer))),
    );
  }
  const { num_attention_heads: heads, intermediate_size: inner } = config;
  return { ...size, heads, inner, file, weights };
}

function promptsOf(count: number, vocabulary: number): number[][] {
  const stream = randomStream({ seed: 1, purpose: "prompts", step: count });
  return Array.from({ length: count }, () =>
    Array.from({ length: PROMPT }, () => stream.int(vocabulary)),
  );
}

/** The tasks of a part. */
export async function tasksOf(part: Part, full: boolean): Promise<Task[]> {
  if (part === "gemm") return gemmTasks(full);
  if (part === "ops") return opTasks(full);
  const tasks: Task[] = [];
  for (const size of full ? [...SIZES, LARGE] : SIZES) {
    const model = await modelOf(size);
    if (part === "step") {
      const { tokens, targets } = randomBatch(ROWS, POSITIONS, size.vocabulary);
      const batch = { tokens: [...tokens], targets: [...targets] };
      tasks.push({ kind: "step", ...model, rows: ROWS, positions: POSITIONS, ...batch });
      continue;
    }
    for (const count of BATCHES) {
      const prompts = promptsOf(count, size.vocabulary);
      tasks.push({ kind: "decode", ...model, prompts, newTokens: NEW_TOKENS });
    }
  }
  return tasks;
}
