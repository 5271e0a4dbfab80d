/** How cost grows: time of a training and a decoding step along five axes, beside their FLOPs. */
// Question: is time linear in the arithmetic? Around a base model one size is changed at a time; a
// point that takes 15 % more or less than its FLOPs at the base's rate is named, with the ops that
// account for it. Writes bench/scaling.svg (not with --quick).

import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { WasmDevice } from "../tensor/device/wasm/device.ts";
import { currentDevice, useDevice } from "../tensor/mod.ts";
import { perStep, profiled } from "./profile.ts";
import {
  AXES,
  type Axis,
  DECODING,
  type Kind,
  type Point,
  TRAINING,
  type Workload,
} from "./scaling_points.ts";
import { caveat, line, machine, median } from "./support.ts";

const { values: options } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
    wide: { type: "boolean", default: false },
    deterministic: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});
if (options.help) {
  console.log("bench/scaling.ts [--quick] [--wide] [--deterministic] [--json]");
  process.exit(0);
}
const { wide, deterministic } = options;
if (wide || deterministic) useDevice(new WasmDevice({ wide, deterministic }));

/** Seconds for each kind of step; rounds at least; milliseconds of a sample at least. */
const SECONDS = options.quick ? 6 : 40;
const ROUNDS = options.quick ? 3 : 7;
const SAMPLE_MS = options.quick ? 10 : 25;
/** Steps that are profiled. */
const PROFILED = 5;
const DEPARTURE = 0.15;

/** A point with what was measured there. */
export interface Measured {
  readonly point: Point;
  readonly milliseconds: number;
  readonly gflop: number;
}

export interface Departure {
  readonly axis: Axis;
  readonly value: number;
  /** Time over what the base's rate would give. */
  readonly ratio: number;
  /** Milliseconds that each op took more (or less) than that, the largest first. */
  readonly causes: readonly { readonly op: string; readonly milliseconds: number }[];
}

export interface Curve {
  readonly axis: Axis;
  readonly points: readonly Measured[];
  /** e of the fit time ~ FLOPs^e; none where the FLOPs span less than a factor of two. */
  readonly exponent: number | undefined;
}

export interface Result {
  readonly kind: string;
  readonly base: Measured;
  readonly curves: readonly Curve[];
  readonly departures: readonly Departure[];
}

/** Median milliseconds of a step at every point: rounds over all of them, so all share the luck. */
async function timesOf(workloads: readonly Workload[]): Promise<number[]> {
  const samples: number[][] = workloads.map(() => []);
  const turns = [];
  for (const { step } of workloads) {
    await step();
    const start = performance.now();
    await step();
    turns.push(Math.ceil(SAMPLE_MS / (performance.now() - start)));
  }
  const end = performance.now() + 1000 * SECONDS;
  for (let round = 0; round < ROUNDS || performance.now() < end; round++) {
    for (const [i, { step, steps }] of workloads.entries()) {
      await step(); // the caches are another's
      const start = performance.now();
      for (let turn = 0; turn < turns[i]!; turn++) await step();
      samples[i]!.push((performance.now() - start) / turns[i]! / steps);
    }
  }
  return samples.map(median);
}

/**
 * Milliseconds of each op, and of what lies outside of kernels, in one step. They are scaled to sum
 * to `milliseconds`, measured without the stopwatches: so causes sum to what they are to explain.
 */
async function profileOf({ step, steps }: Workload, milliseconds: number) {
  await step();
  const start = performance.now();
  const found = await profiled(currentDevice(), async () => {
    for (let turn = 0; turn < PROFILED; turn++) await step();
  });
  const count = PROFILED * steps;
  const whole = (performance.now() - start) / count;
  const ops = perStep(found.ops, count).map((entry) => [entry.name, entry.milliseconds] as const);
  const outside = [
    "outside of kernels",
    ops.reduce((rest, [, time]) => rest - time, whole),
  ] as const;
  const scale = milliseconds / whole;
  return new Map([...ops, outside].map(([name, time]) => [name, scale * time]));
}

/** The three ops that depart most, in the sum's direction, from the base's times `growth`. */
function causesOf(times: Map<string, number>, base: Map<string, number>, growth: number) {
  const excess = [...new Set([...times.keys(), ...base.keys()])].map((op) => ({
    op,
    milliseconds: (times.get(op) ?? 0) - growth * (base.get(op) ?? 0),
  }));
  const sign = Math.sign(excess.reduce((sum, { milliseconds }) => sum + milliseconds, 0));
  excess.sort((a, b) => sign * (b.milliseconds - a.milliseconds));
  return excess.slice(0, 3).filter(({ milliseconds }) => sign * milliseconds > 0);
}

/** Slope of the least-squares line through log time over log FLOPs. */
function exponentOf(points: readonly Measured[]): number | undefined {
  const x = points.map(({ gflop }) => Math.log(gflop));
  if (Math.max(...x) - Math.min(...x) < Math.LN2) return undefined;
  const y = points.map(({ milliseconds }) => Math.log(milliseconds));
  const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const [mx, my] = [mean(x), mean(y)];
  const covariance = x.reduce((sum, value, i) => sum + (value - mx) * (y[i]! - my), 0);
  return covariance / x.reduce((sum, value) => sum + (value - mx) ** 2, 0);
}

const rateOf = ({ gflop, milliseconds }: Measured) => (1000 * gflop) / milliseconds;

async function measure(kind: Kind): Promise<Result> {
  const axes = AXES.map((axis) => {
    const { [axis]: values } = kind.values;
    return { axis, values: options.quick ? [values[0]!, values.at(-1)!] : values };
  });
  const wanted = axes.flatMap(({ axis, values }) =>
    values.map((value) => ({ axis, value, point: { ...kind.base, [axis]: value } })),
  );
  const others = wanted.filter(({ axis, value }) => value !== kind.base[axis]);
  const workloads = [kind.base, ...others.map(({ point }) => point)].map(kind.workload);
  const times = await timesOf(workloads);
  const all = workloads.map(({ point, gflop }, i): Measured => {
    return { point, gflop, milliseconds: times[i]! };
  });
  const base = all[0]!;
  const curves = axes.map(({ axis }): Curve => {
    const own = all.filter((_, i) => i === 0 || others[i - 1]!.axis === axis);
    const points = own.sort((a, b) => a.point[axis] - b.point[axis]);
    return { axis, points, exponent: exponentOf(points) };
  });
  const departures: Departure[] = [];
  const baseProfile = await profileOf(workloads[0]!, base.milliseconds);
  for (const [i, { axis, value }] of others.entries()) {
    const found = all[i + 1]!;
    const ratio = rateOf(base) / rateOf(found);
    if (Math.abs(ratio - 1) <= DEPARTURE) continue;
    const profile = await profileOf(workloads[i + 1]!, found.milliseconds);
    const causes = causesOf(profile, baseProfile, found.gflop / base.gflop);
    departures.push({ axis, value, ratio, causes });
  }
  for (const { dispose } of workloads) dispose();
  return { kind: kind.name, base, curves, departures };
}

function print({ kind, base, curves, departures }: Result): void {
  const sizes = AXES.map((axis) => `${axis} ${base.point[axis]}`).join(", ");
  const rate = rateOf(base).toFixed(1);
  console.log(`\n${kind}; base ${sizes}: ${base.milliseconds.toFixed(2)} ms, ${rate} GFLOP/s`);
  const widths = [12, 9, 9, 9, 13];
  for (const { axis, points, exponent } of curves) {
    console.log(`\n${line([axis, "ms", "GFLOP", "GFLOP/s", "time/FLOPs"], widths)}`);
    for (const measured of points) {
      const { point, milliseconds, gflop } = measured;
      const relative = (rateOf(base) / rateOf(measured)).toFixed(2);
      const cells = [milliseconds.toFixed(2), gflop.toFixed(3), rateOf(measured).toFixed(1)];
      console.log(line([point[axis], ...cells, `${relative} x`], widths));
    }
    if (exponent !== undefined) console.log(`  time grows as FLOPs^${exponent.toFixed(2)}`);
  }
  console.log(`\n${departures.length} departures of more than ${100 * DEPARTURE} %:`);
  for (const { axis, value, ratio, causes } of departures) {
    const parts = causes.map(({ op, milliseconds: ms }) => {
      return `${op} ${ms < 0 ? "" : "+"}${ms.toFixed(2)} ms`;
    });
    console.log(`  ${axis} ${value}: ${ratio.toFixed(2)} x its FLOPs' share (${parts.join(", ")})`);
  }
}

const here = machine();
if (!options.json) console.log(`${caveat(here)}\nmedians of interleaved rounds`);
const results: Result[] = [];
for (const kind of [TRAINING, DECODING]) {
  const result = await measure(kind);
  results.push(result);
  if (!options.json) print(result);
}
if (options.json) console.log(JSON.stringify({ bench: "scaling", ...here, results }));
if (!options.quick) {
  const { chart } = await import("./scaling_chart.ts");
  const file = fileURLToPath(new URL("./scaling.svg", import.meta.url));
  writeFileSync(file, chart(results, here));
  if (!options.json) console.log("\nwritten: bench/scaling.svg");
}
