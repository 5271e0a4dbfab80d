/** Where the time of a step goes: kernel time by op, and by shape for matrix products. */

import type { Device } from "../tensor/mod.ts";
import type { KernelCall } from "../tensor/op.ts";
import type { Dims } from "../tensor/signature.ts";

/** One op, or one shape of an op that states its flops. */
export interface Entry {
  readonly name: string;
  launches: number;
  milliseconds: number;
  flops: number;
}

export interface Profile {
  readonly ops: Map<string, Entry>;
  readonly shapes: Map<string, Entry>;
}

function book(entries: Map<string, Entry>, name: string, milliseconds: number, flops: number) {
  const entry = entries.get(name) ?? { name, launches: 0, milliseconds: 0, flops: 0 };
  entry.launches++;
  entry.milliseconds += milliseconds;
  entry.flops += flops;
  entries.set(name, entry);
}

/** "2048·64·168 NT": the sizes m·k·n, times the batch, and which operands come transposed. */
function shapeName({ inputs, dims }: KernelCall): string {
  const { m, k, n, batch } = dims as Dims<"... m k, ... k n -> ... m n">;
  const letters = inputs.map(({ strides }) => (strides.at(-1) === 1 ? "N" : "T")).join("");
  return `${m}·${k}·${n} ${letters}${batch > 1 ? ` x ${batch}` : ""}`;
}

/** Runs `body` with a stopwatch around every kernel of a device whose launches are synchronous. */
export async function profiled(device: Device, body: () => Promise<unknown>): Promise<Profile> {
  const profile: Profile = { ops: new Map(), shapes: new Map() };
  const { run } = device;
  device.run = (definition, call) => {
    const start = performance.now();
    run.call(device, definition, call);
    const time = performance.now() - start;
    const flops = definition.flops?.(call.dims as never) ?? 0;
    book(profile.ops, definition.name, time, flops);
    if (flops > 0) book(profile.shapes, shapeName(call), time, flops);
  };
  try {
    await body();
  } finally {
    device.run = run;
  }
  return profile;
}

/** Entries from the longest to the shortest, per step. */
export function perStep(entries: Map<string, Entry>, steps: number): Entry[] {
  return [...entries.values()]
    .map((entry) => ({
      ...entry,
      launches: entry.launches / steps,
      milliseconds: entry.milliseconds / steps,
      flops: entry.flops / steps,
    }))
    .sort((a, b) => b.milliseconds - a.milliseconds);
}

/** The longest entries as lines: launches, ms, share of `total`, GFLOP/s where that is known. */
export function table(entries: readonly Entry[], total: number, rows: number): string {
  return entries
    .slice(0, rows)
    .map(({ name, launches, milliseconds, flops }) => {
      const share = ((100 * milliseconds) / total).toFixed(1);
      const rate = flops > 0 ? `  ${(flops / milliseconds / 1e6).toFixed(1)} GFLOP/s` : "";
      const count = Number.isInteger(launches) ? launches : launches.toFixed(1);
      const time = milliseconds.toFixed(2);
      return `  ${name.padEnd(24)}${String(count).padStart(6)} x${time.padStart(9)} ms${share.padStart(6)} %${rate}`;
    })
    .join("\n");
}
