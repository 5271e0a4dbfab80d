/** The GPU that these tests run on, or why there is none: then they are skipped, and counted. */

import { test } from "node:test";
import type { WebGpuDevice } from "../../tensor/device/webgpu/device.ts";
import { probedDevice } from "../../tensor/ops/wgsl/probe.ts";

const wanted = process.env.ANAMNESIS_ADAPTER;

async function find(): Promise<{ device?: WebGpuDevice; reason: string }> {
  try {
    const adapter = wanted === undefined ? {} : { adapter: wanted };
    const device = await probedDevice({ ...adapter, subgroups: true });
    // The probe ends inside a callback of Dawn's; Bun would run all tests in there, and Dawn none more.
    await new Promise((resolve) => setTimeout(resolve, 0));
    return { device, reason: "" };
  } catch (error) {
    return { reason: (error as Error).message };
  }
}

const found = await find();
let skipped = 0;

if (found.device) console.log(`webgpu: ${found.device.description}`);

/** A test that needs the GPU. */
export function gpuTest(name: string, body: (device: WebGpuDevice) => Promise<void>): void {
  const { device, reason } = found;
  if (device !== undefined) {
    test(name, () => body(device));
    return;
  }
  if (skipped++ === 0) {
    process.on("exit", () => console.log(`SKIPPED ${skipped} tests without a GPU: ${reason}`));
  }
  test(name, { skip: true }, () => {});
}
