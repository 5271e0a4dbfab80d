/** Log-probabilities of targets from hidden states: products and row kernels, chunk by chunk. */

import { f32x4, i32 } from "../../device/wasm/assembler.ts";
import { gemm } from "../../device/wasm/gemm.ts";
import type { WasmKernel } from "../../device/wasm/kernel.ts";
import { address, fillZero, i32s } from "../../device/wasm/launch.ts";
import type { Machine } from "../../device/wasm/machine.ts";
import { elementAt, sweep } from "../../device/wasm/rows.ts";
import type { LinearLogProbOptions, LogProbSettings } from "../log_prob.ts";
import { withTemporary } from "./columns.ts";
import { checkTargets, logProbRows, logProbVjpRows } from "./softmax.ts";

/** Logits in work at a time, and rows, for which packing the weight anew is worth it. */
const CHUNK_LOGITS = 1 << 21;
const CHUNK_ROWS = 256;

/** Byte addresses; x [n d], weight [v d], targets [n]. */
interface Head {
  readonly n: number;
  readonly d: number;
  readonly v: number;
  readonly x: number;
  readonly weight: number;
  readonly targets: number;
  readonly temperature: number;
}

/** Calls `body` with each chunk of rows and memory for its logits. */
function inChunks(
  machine: Machine,
  { n, v }: Head,
  chunk: number | undefined,
  body: (first: number, rows: number, memory: number) => void,
): void {
  const most = chunk ?? Math.max(CHUNK_ROWS, Math.floor(CHUNK_LOGITS / v));
  withTemporary(machine, Math.min(n, most) * v, (memory) => {
    for (let first = 0; first < n; first += most) body(first, Math.min(most, n - first), memory);
  });
}

/** x·Wᵀ / temperature of some rows. */
function logitsOf(machine: Machine, head: Head, first: number, rows: number, to: number): void {
  const { d, v, weight, temperature } = head;
  const a = head.x + 4 * first * d;
  const strides = { aRow: d, aCol: 1, bRow: 1, bCol: d, ldc: v };
  gemm(machine, { m: rows, k: d, n: v, a, b: weight, c: to, ...strides });
  if (temperature === 1) return;
  const count = rows * v;
  machine.parallel("f32_over", [to, temperature], count, { grain: 16, work: 0.2 * count });
}

export const linearLogProb: WasmKernel = {
  emit: (m) => {
    const parameters = { ...i32s("x"), divisor: "f32", ...i32s("begin", "end") } as const;
    m.function("f32_over", parameters, (f, { x, divisor, begin, end }) => {
      const at = f.local("i32", elementAt(x, begin), "from");
      const count = f.local("i32", i32.sub(end, begin), "count");
      const by = f.local("v128", f32x4.splat(divisor), "by");
      sweep(f, count, 2, (step) => step.store(at, f32x4.div(step.load(at), by)));
    });
  },
  run(machine, { inputs: [x, weight, targets], outputs: [y, logits], options }) {
    const { temperature, keepLogits, chunk } = options as LinearLogProbOptions;
    const [[n, d], [v]] = [x!.shape, weight!.shape] as [[number, number], [number]];
    checkTargets(machine, "linearLogProb", targets!, v);
    const addresses = { x: address(x!), weight: address(weight!), targets: address(targets!) };
    const head = { n, d, v, ...addresses, temperature };
    const score = (first: number, rows: number, memory: number) => {
      logitsOf(machine, head, first, rows, memory);
      const [own, to] = [head.targets, address(y!)].map((at) => at + 4 * first) as [number, number];
      logProbRows(machine, [memory, own, to], rows, v);
    };
    if (keepLogits) score(0, n, address(logits!));
    else inChunks(machine, head, chunk, score);
  },
};

export const linearLogProbVjp: WasmKernel = {
  run(machine, { inputs: [g, x, weight, targets, logits], outputs: [dx, dw], options }) {
    const { temperature, chunk } = options as LogProbSettings;
    const [[n, d], [v]] = [x!.shape, weight!.shape] as [[number, number], [number]];
    checkTargets(machine, "linearLogProbVjp", targets!, v);
    const addresses = { x: address(x!), weight: address(weight!), targets: address(targets!) };
    const head = { n, d, v, ...addresses, temperature };
    const kept = logits!.shape[0] === n;
    const [toX, toW] = [address(dx!), address(dw!)];
    withTemporary(machine, n, (slopes) => {
      const shares = machine.f32.subarray(slopes / 4, slopes / 4 + n);
      shares.set(machine.f32.subarray(address(g!) / 4, address(g!) / 4 + n));
      if (temperature !== 1) for (let i = 0; i < n; i++) shares[i]! /= temperature;
      // Each sum over rows goes on where the last chunk ended: the same bits for any chunk.
      const pull = (first: number, rows: number, dz: number) => {
        const [own, share] = [head.targets, slopes].map((at) => at + 4 * first);
        logProbVjpRows(machine, [share!, dz, own!, dz], rows, v);
        const rowsOfX = { b: head.x + 4 * first * d, bRow: d, bCol: 1 };
        const b = { b: head.weight, bRow: d, bCol: 1, ldc: d };
        const c = toX + 4 * first * d;
        gemm(machine, { m: rows, k: v, n: d, a: dz, aRow: v, aCol: 1, ...b, c });
        const a = { a: dz, aRow: 1, aCol: v, ...rowsOfX };
        gemm(machine, { m: v, k: rows, n: d, ...a, c: toW, ldc: d, accumulate: first > 0 });
      };
      if (n === 0) fillZero(machine, toW, v * d);
      else if (kept) pull(0, n, address(logits!));
      else {
        inChunks(machine, head, chunk, (first, rows, memory) => {
          logitsOf(machine, head, first, rows, memory);
          pull(first, rows, memory);
        });
      }
    });
  },
};
