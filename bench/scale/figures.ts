/** Figures of docs/SCALE.md that follow from what was counted and measured, and how they are written. */

import { resolveSettings } from "../../rl/resolve.ts";
import type { Benchmark } from "./benchmarks.ts";
import { type Machine, type Read, result } from "./machines.ts";
import type { Recorded } from "./record.ts";
import { LORA } from "./step.ts";
import { Tally } from "./tally.ts";

export const gb = (bytes: number): string => `${(bytes / 1e9).toPrecision(bytes < 1e12 ? 3 : 4)}`;
/** In thousands, three digits. */
export const kilo = (n: number): string => String(Number((n / 1e3).toPrecision(3)));
export const large = (n: number): string =>
  n >= 1e9 ? `${(n / 1e9).toPrecision(3)}B` : `${(n / 1e6).toPrecision(3)}M`;

/** "14 s", "3.2 h", "26 days", "4.1 years": two digits are more than is known. */
export function span(seconds: number): string {
  const units = [
    ["years", 365 * 86_400],
    ["days", 86_400],
    ["h", 3600],
    ["min", 60],
    ["s", 1],
  ] as const;
  const [unit, size] = units.find(([, size]) => seconds >= 1.5 * size) ?? ["s", 1];
  const value = seconds / size;
  return `${value >= 9.95 ? Math.round(value) : value.toPrecision(2)} ${unit}`;
}

/** What the document is made of: records, and the texts of the repository's files. */
export interface Source {
  readonly values: Recorded;
  readonly read: Read;
}

/** Answers of a run, and how they come about. */
export function runSizes() {
  const shape = (values: Parameters<typeof resolveSettings>[0]) => {
    const { questionsPerStep, groupSize, steps } = resolveSettings(values).train;
    return { questionsPerStep, groupSize, steps, answers: questionsPerStep * groupSize * steps };
  };
  return {
    paper: shape({ preset: "paper-like" }),
    data: shape({ preset: "data", data: { file: "FILE", model: "FOLDER" } }),
  };
}

/** What a benchmark took on a quiet machine, over what its launches take at the roof. */
export function overRoof(read: Read, { name, kinds }: Benchmark, machine: Machine): number {
  const measured = result(read, name, machine.participant!) / 1000;
  return measured / new Tally(kinds).seconds(machine.roof);
}

/** The same of the largest model that was timed; 1 where nothing was. */
export function slack(values: Recorded, read: Read, machine: Machine) {
  const last = (half: Benchmark["half"]) =>
    values.benchmarks.findLast((benchmark) => benchmark.half === half)!;
  const of = (half: Benchmark["half"]) =>
    machine.participant === undefined ? 1 : overRoof(read, last(half), machine);
  return { sample: of("sample"), learn: of("learn") };
}

/** Seconds for `answers` answers of GRPO on adapters, sampled and learned from. */
export function runSeconds(
  { values, read }: Source,
  name: string,
  machine: Machine,
  answers: number,
  half = false,
): { sample: number; learn: number } {
  const { runs, half: halfRun } = values.counted[name]!;
  const run = half ? halfRun : runs[LORA]!;
  const more = slack(values, read, machine);
  const { roof } = machine;
  const each = answers / run.answers;
  return {
    sample: each * more.sample * new Tally(run.sampled).seconds(roof),
    learn: each * more.learn * new Tally(run.learned).seconds(roof),
  };
}
