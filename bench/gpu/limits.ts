/** What the adapter can do at most, measured: bytes copied and multiply-adds done per second. */

import type { WebGpuDevice } from "../../tensor/device/webgpu/device.ts";
import { launchThreads } from "../../tensor/device/webgpu/rows.ts";
import { zeros } from "../../tensor/mod.ts";
import { secondsOf } from "./timing.ts";

export interface Limits {
  /** Bytes per second, read and written, by a copy of vectors of four. */
  readonly copy: number;
  /** Floating-point operations per second of independent multiply-adds in registers. */
  readonly fma: number;
}

const LOOPS = 256;
const CHAINS = 8;

export async function measureLimits(device: WebGpuDevice, quick: boolean): Promise<Limits> {
  const elements = quick ? 1 << 16 : 1 << 26;
  const [x, y] = [zeros([elements], { device }), zeros([elements], { device })];
  const copy = await secondsOf(device, quick, () => {
    device.launch((gpu) =>
      launchThreads(gpu, {
        ...{ name: "bench_copy", body: "y[p.y_at / 4u + i] = x[p.x_at / 4u + i];" },
        ...{ reads: { x: x.view }, writes: { y: y.view }, vec4: ["x", "y"], size: elements / 4 },
      }),
    );
  });
  const threads = quick ? 1 << 12 : 1 << 21;
  const chains = Array.from({ length: CHAINS }, (_, k) => k);
  const fma = await secondsOf(device, quick, () => {
    device.launch((gpu) =>
      launchThreads(gpu, {
        name: "bench_fma",
        body: `
  let factor = vec4f(x[p.x_at] + 0.999);
  ${chains.map((k) => `var sum${k} = vec4f(f32(i + ${k}u));`).join(" ")}
  for (var turn = 0u; turn < ${LOOPS}u; turn++) {
    ${chains.map((k) => `sum${k} = fma(sum${k}, factor, factor);`).join(" ")}
  }
  let total = ${chains.map((k) => `sum${k}`).join(" + ")};
  if (total.x == 12345.678) { y[p.y_at] = total.x; }`,
        ...{ reads: { x: x.view }, writes: { y: y.view }, size: threads },
      }),
    );
  });
  for (const t of [x, y]) t.dispose();
  return { copy: (8 * elements) / copy, fma: (threads * LOOPS * CHAINS * 4 * 2) / fma };
}
