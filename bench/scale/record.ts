/** bench/scale.json: what was counted, and what was measured on this machine, for docs/SCALE.md. */

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "../../scripts/tree.ts";
import type { Benchmark } from "./benchmarks.ts";
import { countRun, type Demand, keptOf, samplingOf, scoringOf, type Use } from "./count.ts";
import type { Check } from "./measure.ts";
import { models, type PaperModel } from "./models.ts";
import { LORA, variants } from "./step.ts";

export interface Counted {
  /** Bytes that backward finds kept of a token; with f16 storage. */
  readonly kept: number;
  readonly keptHalf: number;
  readonly sampling: Use;
  readonly scoring: Use;
  /** By the names of step.ts. */
  readonly runs: Readonly<Record<string, Demand>>;
  /** GRPO on adapters with f16 storage. */
  readonly half: Demand;
}

export interface Measured {
  readonly date: string;
  readonly runtime: string;
  readonly cpu: string;
  readonly loadAverage: number;
  readonly checks: readonly Check[];
  /** Opening a folder of bf16 weights: bytes of them in f32, and the most that the process grew by. */
  readonly load: { readonly model: string; readonly weights: number; readonly peak: number };
}

export interface Recorded {
  readonly counted: Readonly<Record<string, Counted>>;
  readonly benchmarks: readonly Benchmark[];
  readonly measured: Measured;
}

const PATH = join(root, "bench/scale.json");

export const recorded = (): Recorded | undefined =>
  existsSync(PATH) ? (JSON.parse(readFileSync(PATH, "utf8")) as Recorded) : undefined;

export const record = (values: Recorded): void =>
  writeFileSync(PATH, `${JSON.stringify(values, null, 1)}\n`);

export const settingsNamed = (name: string) => {
  const found = variants.find((variant) => variant.name === name);
  if (found === undefined) throw new RangeError(`step.ts has no variant ${name}`);
  return found.settings;
};

export async function countModel({ config }: PaperModel): Promise<Counted> {
  const runs: Record<string, Demand> = {};
  for (const { name, settings } of variants) runs[name] = await countRun(config, settings);
  return {
    ...{ kept: await keptOf(config), keptHalf: await keptOf(config, "f16") },
    ...{ sampling: await samplingOf(config), scoring: await scoringOf(config) },
    ...{ runs, half: await countRun(config, settingsNamed(LORA), "f16") },
  };
}

export async function countAll(onModel: (name: string) => void): Promise<Recorded["counted"]> {
  const counted: Record<string, Counted> = {};
  for (const model of models) {
    onModel(model.name);
    counted[model.name] = await countModel(model);
  }
  return counted;
}
