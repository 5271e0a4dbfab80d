/** Speed on a GPU: TFLOP/s, GB/s and shares of what the adapter does at most, beside PyTorch's. */
// Question: how much of a GPU do the kernels use? The limits are measured in the same run, by a copy
// and by multiply-adds in registers. Where `python3` has torch and CUDA, the same shapes run in it
// (eager, TF32 off), afterwards, so that the two don't share the GPU.

import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import type { WebGpuDevice } from "../tensor/device/webgpu/device.ts";
import { setDevice } from "../tensor/mod.ts";
import { type Limits, measureLimits } from "./gpu/limits.ts";
import { measureTask } from "./gpu/run.ts";
import {
  bytesOf,
  FULL,
  flopsOf,
  isHalf,
  isPlain,
  nameOf,
  QUICK,
  type Task,
  tokensOf,
} from "./gpu/tasks.ts";
import { line } from "./support.ts";

const { values: options } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    only: { type: "string" },
    adapter: { type: "string" },
    json: { type: "string" },
    help: { type: "boolean", default: false },
  },
});
if (options.help) {
  console.log(`bench/gpu.ts: kernels, training steps and decoding on a GPU
  --quick        small shapes, for a software GPU: shows that all of it runs, not how fast
  --only TEXT    tasks whose name has TEXT in it
  --adapter NAME an adapter by a part of its name
  --json FILE    writes the figures`);
  process.exit(0);
}

interface Figure {
  readonly task: Task;
  readonly seconds: number;
  readonly rival: number | undefined;
}

const WIDTHS = [52, 11, 10, 10, 9, 11, 12];
const engineering = (x: number): string => x.toPrecision(3);

/** A line of the table: time, work per second, and its share of the limit that bounds it. */
function row({ task, seconds, rival }: Figure, { copy, fma }: Limits): string {
  const [flops, bytes, tokens] = [flopsOf(task), bytesOf(task), tokensOf(task)];
  // Of the limit that bounds it.
  const share = Math.max((flops ?? 0) / seconds / fma, (bytes ?? 0) / seconds / copy);
  const cells = [
    nameOf(task),
    `${engineering(1000 * seconds)} ms`,
    flops === undefined ? "" : engineering(flops / seconds / 1e12),
    bytes === undefined ? "" : engineering(bytes / seconds / 1e9),
    `${(100 * share).toFixed(1)} %`,
    tokens === undefined ? "" : engineering(tokens / seconds),
    rival === undefined ? "" : `${engineering(rival / seconds)} x`,
  ];
  return line(cells, WIDTHS);
}

/** Seconds by PyTorch, task by task; why there are none. */
function pytorch(tasks: readonly Task[]): { seconds: (number | undefined)[]; told: string } {
  const script = join(import.meta.dirname, "gpu", "pytorch.py");
  const input = JSON.stringify(tasks);
  const run = spawnSync("python3", [script], { input, encoding: "utf8", maxBuffer: 1 << 26 });
  const none = tasks.map(() => undefined);
  if (run.error !== undefined) return { seconds: none, told: "python3 is not there" };
  const lines = run.stdout.trim().split("\n");
  if (run.status !== 0) {
    return { seconds: none, told: `${run.stderr.trim().split("\n").at(-1) ?? run.status}` };
  }
  const { version, seconds } = JSON.parse(lines.at(-1)!) as {
    version: string;
    seconds: (number | null)[];
  };
  return { seconds: seconds.map((s) => s ?? undefined), told: version };
}

const where = options.adapter === undefined ? "webgpu" : (`webgpu:${options.adapter}` as const);
const device = (await setDevice(where, { subgroups: true })) as WebGpuDevice;
console.log(device.description);
const { quick, only = "" } = options;
const chosen = (quick ? QUICK : FULL).filter((task) => nameOf(task).includes(only));
const limits = await measureLimits(device, quick);
console.log(
  `limits: ${engineering(limits.fma / 1e12)} TFLOP/s of multiply-adds, ` +
    `${engineering(limits.copy / 1e9)} GB/s copied (f32, measured now)\n`,
);
const heads = ["", "time", "TFLOP/s", "GB/s", "of limit", "tokens/s", "vs PyTorch"];
console.log(line(heads, WIDTHS));
const figures: Figure[] = [];
async function measureAll(on: WebGpuDevice, tasks: readonly Task[]): Promise<void> {
  for (const task of tasks) {
    const figure = { task, seconds: await measureTask(on, task, quick), rival: undefined };
    figures.push(figure);
    console.log(row(figure, limits));
  }
  on.destroy();
}
await measureAll(
  device,
  chosen.filter((task) => !isHalf(task) && !isPlain(task)),
);
for (const [needs, choice] of [
  [isPlain, { subgroups: false }],
  [isHalf, { matmulPrecision: "f16" }],
] as const) {
  if (!chosen.some(needs)) continue;
  try {
    const other = (await setDevice(where, choice)) as WebGpuDevice;
    console.log(other.description);
    await measureAll(other, chosen.filter(needs));
  } catch (error) {
    console.log(`not measured: ${error instanceof Error ? error.message : error}`);
  }
}
const tasks = figures.map(({ task }) => task);
const { seconds: theirs, told } = pytorch(tasks);
console.log(`\nPyTorch: ${told}`);
const compared = figures.map((figure, i) => ({ ...figure, rival: theirs[i] }));
if (theirs.some((s) => s !== undefined)) {
  console.log(line(heads, WIDTHS));
  for (const figure of compared) console.log(row(figure, limits));
}
if (options.json !== undefined) {
  const { description } = device;
  const measured = compared.map((f) => ({ name: nameOf(f.task), ...f }));
  writeFileSync(options.json, `${JSON.stringify({ description, limits, measured }, null, 2)}\n`);
}
process.exit(0);
