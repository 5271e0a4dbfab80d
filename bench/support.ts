/** What the model benchmarks share: models by size, counting of work, medians, the GEMM yardstick. */

import { availableParallelism, loadavg } from "node:os";
import { parseArgs } from "node:util";
import type { Batch } from "../model/batch.ts";
import { type ModelConfig, parseConfig } from "../model/config.ts";
import { initialParameters, parameterCount } from "../model/parameters.ts";
import { WasmDevice } from "../tensor/device/wasm/device.ts";
import type { Choice } from "../tensor/device/wasm/profile.ts";
import {
  currentDevice,
  randomStream,
  scope,
  type Tensor,
  tensor,
  useDevice,
} from "../tensor/mod.ts";

/** Width d, number of layers L, vocabulary V. */
export interface Size {
  readonly width: number;
  readonly depth: number;
  readonly vocabulary: number;
}

const size = (width: number, depth: number, vocabulary = 256): Size => {
  return { width, depth, vocabulary };
};
export const QUICK: readonly Size[] = [size(64, 3)];
export const DEFAULT: readonly Size[] = [size(64, 3), size(128, 5), size(256, 4)];
export const FULL: readonly Size[] = [
  ...DEFAULT,
  ...[size(384, 6), size(128, 5, 4096), size(256, 4, 4096)],
];

/** Heads of 32 and an inner width of 8d/3, so that a layer has about 12 d² parameters. */
export function configOf({ width, depth, vocabulary }: Size): ModelConfig {
  return parseConfig({
    model_type: "llama",
    vocab_size: vocabulary,
    hidden_size: width,
    intermediate_size: 8 * Math.round(width / 3),
    num_hidden_layers: depth,
    num_attention_heads: width / 32,
    max_position_embeddings: 128,
    tie_word_embeddings: false,
  });
}

export function modelOf(wanted: Size) {
  const config = configOf(wanted);
  const parameters = initialParameters(config, { seed: 1 });
  const embeddings = 2 * wanted.vocabulary * wanted.width;
  // P: every weight that is multiplied with each token, apart from the head.
  return { config, parameters, inner: parameterCount(parameters) - embeddings };
}

/** Multiplications and additions of one token: forward, or forward and backward (three times). */
export function flopsPerToken(
  { width, depth, vocabulary }: Size,
  inner: number,
  context: { positions: number; training: boolean },
): number {
  const attention = 4 * depth * context.positions * width; // the masked half is counted too
  return (context.training ? 3 : 1) * (2 * inner + 2 * width * vocabulary + attention);
}

/** A batch of random tokens, each with a target. */
export function randomBatch(b: number, t: number, vocabulary: number, step = 0): Batch {
  const stream = randomStream({ seed: 1, purpose: "bench", step });
  const all = Int32Array.from({ length: b * (t + 1) }, () => stream.int(vocabulary));
  const cut = (from: number) =>
    Int32Array.from(
      { length: b * t },
      (_, i) => all[Math.floor(i / t) * (t + 1) + (i % t) + from]!,
    );
  return { shape: [b, t], tokens: cut(0), targets: cut(1) };
}

export function median(samples: readonly number[]): number {
  if (samples.length === 0) throw new Error("median: no sample");
  return samples.toSorted((x, y) => x - y)[samples.length >> 1]!;
}

const YARDSTICK = 512;

/** What training is measured against: 512³ products on all threads, A·B, A·Bᵀ and Aᵀ·B in turn. */
export class Yardstick {
  readonly #a = operand(1);
  readonly #b = operand(2);
  readonly #times: [number[], number[], number[]] = [[], [], []];

  /** One product of each kind. Called between the samples of what is measured, it shares its luck. */
  sample(): void {
    const [a, b] = [this.#a, this.#b];
    const products = [
      () => a.matmul(b),
      () => a.matmul(b.transpose()),
      () => a.transpose().matmul(b),
    ];
    products.forEach((product, i) => {
      const start = performance.now();
      scope(() => void product());
      this.#times[i]!.push(performance.now() - start);
    });
  }

  /** GFLOP/s: the mean of the three, each at its median. */
  rate(): number {
    const total = this.#times.reduce((sum, times) => sum + median(times), 0);
    return (3 * 2 * YARDSTICK ** 3) / total / 1e6;
  }

  [Symbol.dispose](): void {
    this.#a.dispose();
    this.#b.dispose();
  }
}

function operand(step: number): Tensor {
  const stream = randomStream({ seed: 1, purpose: "yardstick", step });
  const values = Float32Array.from({ length: YARDSTICK ** 2 }, stream.uniform);
  return tensor(values, [YARDSTICK, YARDSTICK]);
}

export interface Machine {
  readonly runtime: string;
  readonly threads: number;
  readonly cores: number;
  readonly load: number;
  /** How the products are computed: their tile, and why it is not wide where that was asked for. */
  readonly mode: string;
}

/** Where a benchmark runs. Starts and warms the device's threads, so that no sample has to. */
export function machine(): Machine {
  const device = currentDevice();
  const threads = device instanceof WasmDevice ? device.machine.warmUp(5000) : 1;
  using yardstick = new Yardstick();
  for (let turn = 0; turn < 30; turn++) yardstick.sample();
  const { bun, deno, node } = process.versions;
  const runtime = bun ? `Bun ${bun}` : deno ? `Deno ${deno}` : `Node ${node}`;
  const mode = device instanceof WasmDevice ? modeOf(device.machine.choice) : device.name;
  return { runtime, threads, cores: availableParallelism(), load: loadavg()[0]!, mode };
}

function modeOf({ profile: { rows, vectors, fma }, refused }: Choice): string {
  const tile = `tile ${rows} x ${4 * vectors}, ${fma ? "fused" : "separate"} multiply-add`;
  return refused === undefined ? tile : `${tile} (no wide mode: ${refused})`;
}

/** One line on how far the figures of this run can be trusted. */
export function caveat({ runtime, threads, cores, load, mode }: Machine): string {
  const busy = load > 0.5 ? "others compute too: only ratios within this run count" : "quiet";
  return `${runtime}, ${threads} threads on ${cores} cores, ${mode}, load average ${load.toFixed(1)} (${busy})`;
}

/** A line of right-aligned cells. */
export const line = (cells: readonly (string | number)[], widths: readonly number[]): string =>
  cells.map((cell, i) => String(cell).padStart(widths[i]!)).join("  ");

/** The flags that the model benchmarks share. */
export function benchOptions(file: string) {
  const { values } = parseArgs({
    options: {
      full: { type: "boolean", default: false },
      quick: { type: "boolean", default: false },
      profile: { type: "boolean", default: false },
      json: { type: "boolean", default: false },
      width: { type: "string" },
      wide: { type: "boolean", default: false },
      deterministic: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(
      `${file} [--quick | --full] [--width N] [--profile] [--wide] [--deterministic] [--json]`,
    );
    process.exit(0);
  }
  const { wide, deterministic } = values;
  if (wide || deterministic) useDevice(new WasmDevice({ wide, deterministic }));
  return values;
}
