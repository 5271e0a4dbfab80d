/** What the wasm device needs for the stages that count.ts counts: bytes and seconds, of one process. */

import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { saveModel } from "../../model/checkpoint.ts";
import { disposeParameters, initialParameters } from "../../model/parameters.ts";
import { WasmDevice } from "../../tensor/device/wasm/device.ts";
import { scope, zeros } from "../../tensor/mod.ts";
import { median, Yardstick } from "../support.ts";
import { bytesOfStages, countRun, type Demand, on, peakOf, zeroParameters } from "./count.ts";
import { modelNamed } from "./models.ts";
import { settingsNamed } from "./record.ts";
import { runStages, type Stage, variants, workload } from "./step.ts";
import { type Roof, Tally } from "./tally.ts";

/** A run of one variant, counted and measured. */
export interface Check {
  readonly model: string;
  readonly variant: string;
  readonly answers: number;
  /** Most bytes at once, in all stages. */
  readonly bytes: { readonly counted: number; readonly measured: number };
  /** Of some. */
  readonly time?: Times;
}

/** Seconds to sample and to learn; counted: at the roof that was measured between the repeats. */
export interface Times {
  readonly sample: { readonly counted: number; readonly measured: number };
  readonly learn: { readonly counted: number; readonly measured: number };
  /** Operations and bytes in a second. */
  readonly roof: Roof;
}

const TIMED = ["SFT", "GRPO", "GRPO, LoRA"];

/** What is measured: model, variant, answers of a step, repeats; without repeats memory alone. */
export const checks: readonly (readonly [string, string, number, number])[] = [
  ...["demo", "Llama, 3M"].flatMap((model) =>
    variants.map(({ name }) => {
      return TIMED.includes(name)
        ? ([model, name, 32, 3] as const)
        : ([model, name, 16, 0] as const);
    }),
  ),
  ["SmolLM2-135M", "SFT", 4, 1],
  ["SmolLM2-135M", "GRPO, LoRA", 8, 1],
];

/** Bytes in a second of adding two arrays that no cache holds. */
function streamRate(): number {
  const size = 1 << 24;
  const [a, b] = [zeros([size]), zeros([size])];
  const times = Array.from({ length: 3 }, () => {
    const start = performance.now();
    scope(() => void a.add(b));
    return performance.now() - start;
  });
  for (const t of [a, b]) t.dispose();
  return (3 * 4 * size * 1000) / median(times);
}

/** What this machine does at this moment. */
function roofNow(): Roof {
  using yardstick = new Yardstick();
  for (let turn = 0; turn < 3; turn++) yardstick.sample();
  return { flops: yardstick.rate() * 1e9, bytes: streamRate() };
}

/** One for each model: what it keeps of it, tables of angles, is counted too. */
const devices = new Map<string, WasmDevice>();

function deviceFor(model: string): WasmDevice {
  const device = devices.get(model) ?? new WasmDevice();
  if (!devices.has(model)) device.machine.warmUp(5000);
  devices.set(model, device);
  return device;
}

export async function check(
  model: string,
  variant: string,
  most: number,
  repeats: number,
): Promise<Check> {
  const { config } = modelNamed(model);
  const settings = settingsNamed(variant);
  const counted = await countRun(config, settings, "f32", most);
  const work = workload(config, settings, most);
  const device = deviceFor(model);
  return on(device, async () => {
    const { arena } = device.machine;
    const seconds: Record<Stage, number[]> = { hold: [], sample: [], learn: [], end: [] };
    const roofs: Roof[] = [];
    let measured = 0;
    for (let turn = 0; turn < Math.max(1, repeats); turn++) {
      if (repeats > 0) roofs.push(roofNow());
      const parameters = initialParameters(config, { seed: 1 });
      let [now, since]: [Stage, number] = ["hold", performance.now()];
      const close = () => seconds[now].push((performance.now() - since) / 1000);
      const bytes = await bytesOfStages(arena, (stage) =>
        runStages(config, parameters, work, (name) => {
          close();
          stage(name);
          [now, since] = [name, performance.now()];
        }),
      );
      close();
      measured = Math.max(measured, peakOf(bytes));
      disposeParameters(parameters);
    }
    const bytes = { counted: peakOf(counted), measured };
    const found = { model, variant, answers: work.answers, bytes };
    if (repeats === 0) return found;
    const roof = {
      flops: median(roofs.map((one) => one.flops)),
      bytes: median(roofs.map((one) => one.bytes)),
    };
    const times = (kinds: Demand["sampled"], samples: readonly number[]) => ({
      counted: new Tally(kinds).seconds(roof),
      // The first of several compiles, and is left out.
      measured: samples.length === 0 ? 0 : median(samples.slice(samples.length > 1 ? 1 : 0)),
    });
    const [sample, learn] = [
      times(counted.sampled, seconds.sample),
      times(counted.learned, seconds.learn),
    ];
    return { ...found, time: { sample, learn, roof } };
  });
}

/** Writes weights of a shape in bf16, and has another process open them. */
export async function loadPeak(model: string) {
  const { config } = modelNamed(model);
  const folder = mkdtempSync(join(tmpdir(), "anamnesis-scale-"));
  try {
    await on(new WasmDevice({ threads: 1 }), async () => {
      const parameters = zeroParameters(config);
      await saveModel(folder, { config, parameters }, { dtype: "bf16" });
    });
    const script = fileURLToPath(new URL("load.ts", import.meta.url));
    const { stdout, status, stderr } = spawnSync(process.execPath, [script, folder]);
    if (status !== 0) throw new Error(`bench/scale/load.ts ended with ${status}: ${stderr}`);
    return { model, ...(JSON.parse(String(stdout)) as { weights: number; peak: number }) };
  } finally {
    rmSync(folder, { recursive: true });
  }
}
