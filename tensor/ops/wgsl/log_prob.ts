/** Log-probabilities of targets from hidden states: products and row programs, chunk by chunk. */

import type { View } from "../../device/device.ts";
import type { Launcher, WgslKernel } from "../../device/webgpu/kernel.ts";
import type { LinearLogProbOptions, LogProbSettings } from "../log_prob.ts";
import { launchGemm, matrix } from "./gemm.ts";
import { launchLogProb, launchLogProbSlopes } from "./softmax.ts";

/** Logits in work at a time where they aren't kept: 256 MiB, or what the caller asks for. */
const CHUNK_LOGITS = 1 << 26;

/** x [n d], weight [v d], targets [n]. */
interface Head {
  readonly n: number;
  readonly d: number;
  readonly v: number;
  readonly x: View;
  readonly weight: View;
  readonly targets: View;
  readonly temperature: number;
}

function headOf(inputs: readonly View[], temperature: number): Head {
  const [x, weight, targets] = inputs as [View, View, View];
  const [[n, d], [v]] = [x.shape, weight.shape] as [[number, number], [number]];
  return { n, d, v, x, weight, targets, temperature };
}

/** Rows first … first + count of a packed [n m] or [n]. */
const rowsOf = (view: View, first: number, count: number): View => {
  const width = view.shape[1] ?? 1;
  return { ...view, shape: [count, ...view.shape.slice(1)], offset: view.offset + first * width };
};

/** Calls `body` with each chunk of rows and memory for its logits. */
function inChunks(
  gpu: Launcher,
  { n, v }: Head,
  chunk: number | undefined,
  body: (first: number, rows: number, memory: View) => void,
): void {
  const most = Math.min(n, chunk ?? Math.max(1, Math.floor(CHUNK_LOGITS / v)));
  if (n === 0) return;
  const memory = gpu.temporary(most * v);
  for (let first = 0; first < n; first += most) {
    const rows = Math.min(most, n - first);
    body(first, rows, { ...memory, shape: [rows, v], strides: [v, 1] });
  }
}

/** c = x·Wᵀ / temperature of some rows. */
function logitsOf(gpu: Launcher, head: Head, first: number, rows: number, c: View): void {
  const { d, v, x, weight, temperature } = head;
  const a = matrix(rowsOf(x, first, rows), [d, 1]);
  const b = matrix(weight, [1, d]);
  launchGemm(gpu, { m: rows, k: d, n: v, batch: [], a, b, c, scale: 1 / temperature });
}

export const linearLogProb: WgslKernel = {
  halves: true,
  run(gpu, { inputs, outputs: [y, logits], options }) {
    const { temperature, keepLogits, chunk } = options as LinearLogProbOptions;
    const head = headOf(inputs, temperature);
    const score = (first: number, rows: number, memory: View) => {
      logitsOf(gpu, head, first, rows, memory);
      const [targets, to] = [head.targets, y!].map((view) => rowsOf(view, first, rows));
      launchLogProb(gpu, { x: memory, targets: targets!, y: to! }, head.v);
    };
    if (keepLogits) score(0, head.n, logits!);
    else inChunks(gpu, head, chunk, score);
  },
};

export const linearLogProbVjp: WgslKernel = {
  halves: true,
  run(gpu, { inputs, outputs: [dx, dw], options }) {
    const [g, x, weight, targets, logits] = inputs as [View, View, View, View, View];
    const { temperature, chunk } = options as LogProbSettings;
    const head = headOf([x, weight, targets], temperature);
    const { n, d, v } = head;
    const pull = (first: number, rows: number, dz: View) => {
      const [own, cotangent, from, to] = [targets, g, x, dx!].map((view) =>
        rowsOf(view, first, rows),
      ) as [View, View, View, View];
      launchLogProbSlopes(gpu, { g: cotangent, x: dz, targets: own }, v, 1 / temperature);
      const product = { batch: [], b: matrix(weight, [d, 1]), c: to };
      launchGemm(gpu, { m: rows, k: v, n: d, a: matrix(dz, [v, 1]), ...product });
      const sums = { batch: [], b: matrix(from, [d, 1]), c: dw!, add: first > 0 };
      launchGemm(gpu, { m: v, k: rows, n: d, a: matrix(dz, [1, v]), ...sums });
    };
    if (n === 0 || logits.shape[0] === n)
      pull(0, n, logits); // no rows: dW is zeros
    else {
      inChunks(gpu, head, chunk, (first, rows, memory) => {
        logitsOf(gpu, head, first, rows, memory);
        pull(first, rows, memory);
      });
    }
  },
};
