/** One training step of the transformer: tokens/s, GFLOP/s, share of the GEMM rate, time by op. */
// Question: how much of the GEMM rate reaches a training step, and where is the rest? A step is
// what pretrain() does: forward, loss, backward, clipping, AdamW, and reading two numbers back.
// MiB: its peak memory; "of needed": over weights, gradients, moments and what backward reads.

import { do_not_optimize, measure } from "mitata";
import { AdamW } from "../model/optimizer.ts";
import { disposeParameters } from "../model/parameters.ts";
import { pretrain } from "../model/pretrain.ts";
import { WasmDevice } from "../tensor/device/wasm/device.ts";
import { currentDevice, scope, zeros } from "../tensor/mod.ts";
import { perStep, profiled, table } from "./profile.ts";
import { memoryOf } from "./step_memory.ts";
import {
  benchOptions,
  caveat,
  DEFAULT,
  FULL,
  flopsPerToken,
  line,
  machine,
  median,
  modelOf,
  QUICK,
  randomBatch,
  type Size,
  Yardstick,
} from "./support.ts";

const options = benchOptions("bench/train_step.ts");

const ROWS = 32;
const POSITIONS = 64;
const WARM_UP = 3;
const seconds = options.quick ? 2 : 8;

/** Milliseconds of at least five steps after the warm-up, with yardsticks between them. */
async function stepTimes(wanted: Size) {
  const { config, parameters, inner } = modelOf(wanted);
  using optimizer = new AdamW(parameters, { clipNorm: 1 });
  const batch = randomBatch(ROWS, POSITIONS, wanted.vocabulary);
  const stop = new AbortController();
  using yardstick = new Yardstick();
  const times: number[] = [];
  const start = performance.now();
  let last = start;
  await pretrain({
    ...{ parameters, config, optimizer, signal: stop.signal, steps: 1e6 },
    batches: () => batch,
    schedule: () => 1e-3,
    onStep: ({ step }) => {
      const now = performance.now();
      if (step >= WARM_UP) times.push(now - last);
      if (times.length >= 5 && now - start > 1000 * seconds) stop.abort();
      yardstick.sample();
      last = performance.now();
    },
  });
  disposeParameters(parameters);
  return { times, inner, gemm: yardstick.rate() };
}

/** Peak memory of a step over weights, gradients, moments and what backward reads: both in bytes. */
async function stepMemory(wanted: Size) {
  const device = currentDevice();
  if (!(device instanceof WasmDevice)) return undefined;
  const { config, parameters } = modelOf(wanted);
  const others = device.liveBytes;
  using optimizer = new AdamW(parameters, { clipNorm: 1 });
  const batch = randomBatch(ROWS, POSITIONS, wanted.vocabulary);
  const options = { parameters, config, optimizer, batches: () => batch, schedule: () => 1e-3 };
  const weightBytes = [...parameters.values()].reduce((sum, { size }) => sum + 4 * size, 0);
  const before = others - weightBytes;
  await pretrain({ ...options, steps: 1 });
  const found = await memoryOf(device, () => pretrain({ ...options, steps: 2 }));
  disposeParameters(parameters);
  const neededBytes = found.forwardBytes - before + weightBytes;
  return { peakBytes: found.peakBytes - before, neededBytes };
}

/** Kernel time by op, per step. */
async function profileOf(wanted: Size, steps: number) {
  const { config, parameters } = modelOf(wanted);
  using optimizer = new AdamW(parameters, { clipNorm: 1 });
  const batch = randomBatch(ROWS, POSITIONS, wanted.vocabulary);
  const train = (until: number) =>
    pretrain({
      ...{ parameters, config, optimizer, steps: until },
      batches: () => batch,
      schedule: () => 1e-3,
    });
  await train(WARM_UP);
  const start = performance.now();
  const found = await profiled(currentDevice(), () => train(WARM_UP + steps));
  const step = (performance.now() - start) / steps;
  disposeParameters(parameters);
  const [ops, shapes] = [perStep(found.ops, steps), perStep(found.shapes, steps)];
  const kernels = ops.reduce((sum, { milliseconds }) => sum + milliseconds, 0);
  const launches = ops.reduce((sum, { launches }) => sum + launches, 0);
  return { step, kernels, launches, ops, shapes };
}

async function benchmark(wanted: Size) {
  const { times, inner, gemm } = await stepTimes(wanted);
  const step = median(times);
  const tokens = ROWS * POSITIONS;
  const perToken = flopsPerToken(wanted, inner, { positions: POSITIONS, training: true });
  const gflops = (perToken * tokens) / step / 1e6;
  const rate = { stepMs: step, fastestMs: Math.min(...times), steps: times.length };
  const profile = options.profile ? await profileOf(wanted, options.quick ? 3 : 10) : undefined;
  return {
    ...{ ...wanted, inner, ...rate, tokensPerSecond: (1000 * tokens) / step },
    ...{ gflops, gemmGflops: gemm, shareOfGemm: gflops / gemm },
    memory: await stepMemory(wanted),
    ...(profile && { profile }),
  };
}

/** Microseconds of one launch on a single element: what an op costs before it computes. */
async function launchCosts() {
  const x = zeros([1]);
  const tracked = zeros([1]).requireGrad();
  const time = async (body: () => unknown) => {
    const found = await measure(() => do_not_optimize(body()), { min_cpu_time: 2e8 });
    return (found as unknown as { p50: number }).p50 / 1000;
  };
  return {
    launchMicroseconds: await time(() => x.add(x).dispose()),
    recordedMicroseconds: await time(() => tracked.add(tracked).dispose()),
    scopedMicroseconds: await time(() => scope(() => void x.add(x))),
  };
}

const sizes = (options.quick ? QUICK : options.full ? FULL : DEFAULT).filter(
  ({ width }) => options.width === undefined || width === Number(options.width),
);
if (sizes.length === 0) throw new Error(`--width ${options.width}: no model of that width here`);
const here = machine();
const rows = [];
const WIDTHS = [22, 9, 9, 9, 9, 9, 11, 9, 11];
if (!options.json) {
  console.log(`${caveat(here)}\nbatch ${ROWS} x ${POSITIONS}, medians of whole steps\n`);
  const head = [
    "d / L / V",
    "P",
    "ms",
    "tokens/s",
    "GFLOP/s",
    "GEMM",
    "of GEMM",
    "MiB",
    "of needed",
  ];
  console.log(line(head, WIDTHS));
}
for (const wanted of sizes) {
  const row = await benchmark(wanted);
  rows.push(row);
  if (options.json) continue;
  const { width, depth, vocabulary, inner, stepMs, tokensPerSecond, gflops } = row;
  const model = `${width} / ${depth} / ${vocabulary}`;
  const rates = [stepMs, tokensPerSecond, gflops, row.gemmGflops].map((x) =>
    x.toFixed(x < 99 ? 1 : 0),
  );
  const share = `${(100 * row.shareOfGemm).toFixed(0)} %`;
  const { peakBytes = Number.NaN, neededBytes = Number.NaN } = row.memory ?? {};
  const memory = [(peakBytes / 2 ** 20).toFixed(0), (peakBytes / neededBytes).toFixed(2)];
  console.log(line([model, `${(inner / 1e6).toFixed(2)}M`, ...rates, share, ...memory], WIDTHS));
  if (row.profile === undefined) continue;
  const { step, kernels, launches, ops, shapes } = row.profile;
  const outside = ((100 * (step - kernels)) / step).toFixed(1);
  console.log(`\n  ${launches} launches, ${outside} % of ${step.toFixed(1)} ms outside of kernels`);
  console.log(`${table(ops, step, 14)}\n\n${table(shapes, step, 14)}\n`);
}
const launch = await launchCosts();
if (options.json) console.log(JSON.stringify({ bench: "train_step", ...here, rows, launch }));
else {
  const [plain, recorded, scoped] = Object.values(launch).map((us) => us.toFixed(2));
  console.log(`\none launch ${plain} µs, recorded ${recorded} µs, in a scope ${scoped} µs`);
}
