/** What machines can do: measured figures from where they are recorded, and published ones. */

import type { Roof } from "./tally.ts";

export interface Machine {
  readonly name: string;
  /** Bytes that a run may take. */
  readonly memory: number;
  readonly roof: Roof;
  /** Its name in bench/RESULTS.md; undefined: nothing was measured on it. */
  readonly participant?: string;
}

export type Read = (path: string) => string;

/** A number in a file, by the words around it; throws where they are gone. */
export function figure(text: string, pattern: RegExp, file: string): number {
  const found = pattern.exec(text)?.[1];
  if (found === undefined)
    throw new Error(`${file} no longer has ${pattern}: docs/SCALE.md reads it`);
  return Number(found);
}

const RESULTS = "bench/RESULTS.md";

/** What a participant has in a row of a table of bench/RESULTS.md. */
export function result(read: Read, row: string, participant: string): number {
  const lines = read(RESULTS).split("\n");
  const cells = (line = "") => line.split("|").map((cell) => cell.trim());
  const at = lines.findIndex((line) => line.startsWith(`| ${row} |`));
  const rule = lines.findLastIndex((line, i) => i < at && line.startsWith("| ---"));
  const column = cells(lines[rule - 1]).indexOf(participant);
  return figure(cells(lines[at])[column] ?? "", /^([\d.]+)/, `${RESULTS}, ${row}, ${participant}:`);
}

/** GFLOP/s of products of 512³: A·B, A·Bᵀ and Aᵀ·B in turn, as in training. */
export function productRate(read: Read, participant: string): number {
  const rates = ["NN", "NT", "TN"].map((form) => result(read, `512 512 512 ${form}`, participant));
  return rates.length / rates.reduce((sum, rate) => sum + 1 / rate, 0);
}

/** Bytes in a second that two threads read, from experiments/LOG.md. */
const readRate = (read: Read): number =>
  1e9 *
  figure(
    read("experiments/LOG.md"),
    /reading alone \((\d+) GB\/s with two threads, measured\)/,
    "experiments/LOG.md",
  );

/** Bytes that WebAssembly addresses (tensor/device/wasm/arena.ts leaves a page of them out). */
export const WASM = 65535 * 65536;
/** What surely fits there: its allocator rounds a block up by at most a sixteenth. */
export const WASM_SURE = (WASM * 16) / 17;

const cores = (read: Read, name: string, participant: string): Machine => ({
  ...{ name, participant, memory: WASM },
  roof: { flops: 1e9 * productRate(read, participant), bytes: readRate(read) },
});

/** NVIDIA's data sheets (SXM): f32 without tensor cores, and f16 with them, dense; memory and its rate. */
const H100 = { memory: 80e9, bytes: 3.35e12 };
const H200 = { memory: 141e9, bytes: 4.8e12 };
export const F32 = 66.9e12;
export const F16 = 989.4e12;

type MachineName = "plain" | "wide" | "h100" | "h100half" | "h200half";

export const machines = (read: Read): Record<MachineName, Machine> => ({
  plain: cores(read, "2 CPU cores", "anamnesis, Node"),
  wide: cores(read, "2 CPU cores, `--wide`", "anamnesis --wide, Node"),
  h100: {
    name: "H100 by WebGPU",
    memory: H100.memory,
    roof: { flops: F32, bytes: H100.bytes },
  },
  h100half: {
    ...{ name: "H100 by WebGPU, f16", memory: H100.memory },
    roof: { flops: F16, bytes: H100.bytes },
  },
  h200half: {
    ...{ name: "H200 by WebGPU, f16", memory: H200.memory },
    roof: { flops: F16, bytes: H200.bytes },
  },
});

/** Largest buffers: what WebGPU promises everywhere, and what Dawn offers at most (its tiers). */
export const BINDINGS = { promised: 128 * 2 ** 20, usual: 2 ** 31 - 4, most: 2 ** 32 - 4 };

/** A share of a GPU's memory that vLLM takes unless told otherwise (gpu_memory_utilization). */
export const USABLE = 0.9;

/** Bytes of a parameter in other trainers. */
export const ENGINE = {
  /** bf16 weights, as vLLM and SGLang serve them, and as adapters stand on. */
  weights: 2,
  /** Mixed precision with Adam: bf16 weights and gradients, f32 weights and two moments. */
  trained: 16,
} as const;

/** GPUs of 80 GB that hold so many bytes, in a count that splits heads evenly. */
export function gpusFor(bytes: number): number {
  let count = 1;
  while (count * USABLE * H100.memory < bytes) count *= 2;
  return count;
}
