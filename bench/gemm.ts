/** GEMM rates over the shape list, all transposes, 1 and all threads, as shares of the peak. */
// Question: how near is each product to what this engine can do with registers alone, and is there
// any shape where it falls off a cliff? A figure is the best of several medians, taken at different
// times of one run (a shared machine has slow spells): compare ratios of one run only.
import { parseArgs } from "node:util";
import type { FunctionBuilder, Local, ModuleBuilder } from "../tensor/device/wasm/assembler.ts";
import { f32x4, v128 } from "../tensor/device/wasm/assembler.ts";
import { emitGemm, gemm } from "../tensor/device/wasm/gemm.ts";
import type { Machine } from "../tensor/device/wasm/machine.ts";
import { createMachine } from "../tensor/device/wasm/machine.ts";
import { hasFusedMultiplyAdd } from "../tensor/device/wasm/profile.ts";
import { emitStream, prepareStream } from "./stream.ts";

type Shape = readonly [m: number, k: number, n: number];
const TRANSPOSES = ["NN", "NT", "TN", "TT"] as const;
type Transpose = (typeof TRANSPOSES)[number];

const QUICK: readonly Shape[] = [
  [64, 64, 64],
  [128, 128, 128],
  [512, 512, 512],
  [509, 509, 509],
  [2048, 256, 256],
  [1, 1024, 1024],
];
const ALL: readonly Shape[] = [
  ...[64, 128, 256, 512, 1024, 509].map((size): Shape => [size, size, size]),
  [127, 129, 131],
  [512, 509, 512],
  [512, 128, 512],
  [2048, 128, 128],
  [2048, 128, 512],
  [2048, 512, 128],
  [2048, 256, 256],
  [2048, 256, 1024],
  [2048, 1024, 256],
  [2048, 768, 3072],
  [4096, 256, 256],
  [64, 32, 64],
  [64, 256, 256],
  [256, 128, 4096],
  [7, 512, 2048],
  [1, 256, 1024],
  [1, 1024, 1024],
  [1, 128, 384],
  [1, 256, 768],
  [1, 384, 1024],
  [3, 512, 512],
  [512, 512, 2],
  [256, 2048, 1024],
];

const { values: options } = parseArgs({
  options: {
    json: { type: "boolean", default: false },
    quick: { type: "boolean", default: false },
    shape: { type: "string" },
    threads: { type: "string" },
    wide: { type: "boolean", default: false },
    deterministic: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});
if (options.help) {
  console.log(
    "bench/gemm.ts [--quick] [--shape M,K,N] [--threads N] [--wide] [--deterministic] [--json]",
  );
  process.exit(0);
}

function shapes(): readonly Shape[] {
  if (options.shape === undefined) return options.quick ? QUICK : ALL;
  const sizes = options.shape.split(",").map(Number);
  if (sizes.length === 3 && sizes.every((size) => Number.isInteger(size) && size > 0)) {
    return [sizes as unknown as Shape];
  }
  throw new Error(`--shape ${options.shape}: expected three positive sizes, such as 512,512,512`);
}

/** Median time in ms of one call; calls are grouped so that each sample takes at least 0.2 ms. */
function median(run: () => void, milliseconds: number): number {
  const once = performance.now();
  run();
  const repeats = Math.max(1, Math.ceil(0.2 / Math.max(performance.now() - once, 1e-4)));
  const samples: number[] = [];
  const end = performance.now() + milliseconds;
  while (samples.length < 3 || performance.now() < end) {
    const start = performance.now();
    for (let turn = 0; turn < repeats; turn++) run();
    samples.push((performance.now() - start) / repeats);
  }
  return samples.sort((a, b) => a - b)[samples.length >> 1]!;
}

const PEAK_TURNS = 4000;
const PEAK_SUMS = [8, 10, 12];
const PEAK_UNROLL = 4;

/** Loops that only touch registers: multiply-adds on independent sums. */
function emitPeak(m: ModuleBuilder): void {
  type Vector = Local<"v128">;
  type Step = (f: FunctionBuilder, sum: Vector, x: Vector, y: Vector) => void;
  const emit = (name: string, step: Step) => {
    for (const count of PEAK_SUMS) {
      m.function(`peak_${name}_${count}`, { p: "i32", turns: "i32" }, (f, { p, turns }) => {
        const [x, y] = [f.local("v128", v128.load(p)), f.local("v128", v128.load(p, 16))];
        const sums = Array.from({ length: count }, () => f.local("v128", v128.load(p)));
        const i = f.local("i32", undefined, "i");
        f.for(i, 0, turns, 1, () => {
          for (let turn = 0; turn < PEAK_UNROLL; turn++) for (const sum of sums) step(f, sum, x, y);
        });
        for (const [at, sum] of sums.entries()) f.store("v128", p, sum, 32 + 16 * at);
      });
    }
  };
  emit("multiply_add", (f, sum, x, y) => f.set(sum, f32x4.add(sum, f32x4.mul(x, y))));
  emit("chained", (f, sum, x, y) => f.set(sum, f32x4.add(f32x4.mul(sum, x), y)));
  if (hasFusedMultiplyAdd()) {
    emit("fused", (f, sum, x, y) => f.set(sum, f32x4.relaxedMadd(x, y, sum)));
  }
}

/** The best rate of those loops on this thread, in GFLOP/s. */
function measurePeak(machine: Machine): number {
  const p = machine.arena.allocate(512);
  machine.f32.fill(0.5, p / 4, p / 4 + 128);
  const forms = hasFusedMultiplyAdd()
    ? ["multiply_add", "chained", "fused"]
    : ["multiply_add", "chained"];
  let best = 0;
  for (let round = 0; round < 2; round++) {
    for (const form of forms) {
      for (const sums of PEAK_SUMS) {
        const time = median(() => machine.call(`peak_${form}_${sums}`, p, PEAK_TURNS), 15);
        best = Math.max(best, (PEAK_TURNS * PEAK_UNROLL * sums * 8) / time / 1e6);
      }
    }
  }
  machine.arena.free(p);
  return best;
}

/** A product over random operands; `run` computes it, `free` gives its memory back. */
function prepare(machine: Machine, [m, k, n]: Shape, transpose: Transpose) {
  const [a, b, c] = [m * k, k * n, m * n].map((size) => {
    const address = machine.arena.allocate(4 * size);
    for (let i = 0; i < size; i++) machine.f32[address / 4 + i] = Math.random() - 0.5;
    return address;
  }) as [number, number, number];
  const [aRow, aCol] = transpose[0] === "N" ? [k, 1] : [1, m];
  const [bRow, bCol] = transpose[1] === "N" ? [n, 1] : [1, k];
  const product = { m, k, n, a, aRow, aCol, b, bRow, bCol, c, ldc: n };
  return {
    run: () => gemm(machine, product),
    free: () => {
      for (const address of [a, b, c]) machine.arena.free(address);
    },
  };
}

/** GFLOP/s of a product of one row that reads `size` floats as fast as a sum of them does. */
function readBound(machine: Machine, size: number): number {
  const { bytes, run, free } = prepareStream(machine, size);
  const time = median(run, 30);
  free();
  return bytes / 2 / time / 1e6;
}

interface Row {
  readonly m: number;
  readonly k: number;
  readonly n: number;
  readonly transpose: Transpose;
  readonly threads: number;
  readonly gflops: number;
  /** For one row: GFLOP/s if it took no longer than reading B once. */
  readonly readBound?: number;
}

const { wide, deterministic } = options;
const one = createMachine([emitGemm, emitPeak, emitStream], { threads: 1, wide, deterministic });
const { profile, refused } = one.choice;
const wanted = options.threads === undefined ? {} : { threads: Number(options.threads) };
const many = createMachine([emitGemm, emitStream], { ...wanted, wide, deterministic });
many.warmUp(5000);
const machines = many.threads > 1 ? [one, many] : [one];

for (const machine of machines) {
  const warm = prepare(machine, [256, 256, 256], "NN");
  median(warm.run, 150);
  warm.free();
}
const ROUNDS = 3;
const rows: { -readonly [K in keyof Row]: Row[K] }[] = shapes().flatMap(([m, k, n]) =>
  machines.flatMap(({ threads }) =>
    TRANSPOSES.map((transpose) => ({ m, k, n, transpose, threads, gflops: 0 })),
  ),
);
let peakGflops = 0;
for (let round = 0; round < ROUNDS; round++) {
  peakGflops = Math.max(peakGflops, measurePeak(one));
  for (const row of rows) {
    const { m, k, n, transpose, threads } = row;
    const machine = threads === 1 ? one : many;
    const { run, free } = prepare(machine, [m, k, n], transpose);
    const time = median(run, 30);
    free();
    row.gflops = Math.max(row.gflops, (2 * m * k * n) / time / 1e6);
    if (m === 1) row.readBound = Math.max(row.readBound ?? 0, readBound(machine, k * n));
  }
}

if (options.json) {
  console.log(JSON.stringify({ peakGflops, profile, refused, rows }));
} else {
  const { rows: height, vectors, unroll, fma } = profile;
  if (refused !== undefined) console.log(`no wide mode: ${refused}`);
  const arithmetic = fma ? "fused multiply-add" : "multiply, then add";
  console.log(`tile ${height} x ${4 * vectors}, k unrolled by ${unroll}, ${arithmetic}`);
  console.log(`register-level peak of one thread: ${peakGflops.toFixed(1)} GFLOP/s`);
  console.log("GFLOP/s (% of one thread's peak times the threads)\n");
  const cell = ({ gflops, threads }: Row) => {
    const share = `(${Math.round((100 * gflops) / peakGflops / threads)}%)`;
    return `${gflops.toFixed(1).padStart(6)} ${share.padEnd(6)}`;
  };
  const head = machines.flatMap(({ threads }) => TRANSPOSES.map((t) => `${t} ${threads}T`));
  console.log(`${"M K N".padEnd(16)}${head.map((title) => title.padStart(13)).join("")}`);
  for (const [m, k, n] of shapes()) {
    const line = rows.filter((row) => row.m === m && row.k === k && row.n === n);
    console.log(`${`${m} ${k} ${n}`.padEnd(16)}${line.map(cell).join("")}`);
  }
  const single = rows.filter(({ m }) => m === 1);
  if (single.length > 0) console.log("\nOne row: % of the rate at which B can be read and summed");
  for (const [m, k, n] of shapes().filter(([m]) => m === 1)) {
    const line = single.filter((row) => row.k === k && row.n === n);
    const shares = line.map(({ gflops, readBound = 0 }) => {
      return `${`${Math.round((100 * gflops) / readBound)}%`.padStart(6)} of ${readBound.toFixed(0)}`;
    });
    console.log(
      `${`${m} ${k} ${n}`.padEnd(16)}${shares.map((share) => share.padEnd(13)).join("")}`,
    );
  }
}
