/** Choosing a device by name; the default is wasm, made when the first tensor is. */

import { currentDevice, reference, setDefaultDevice, useDevice } from "./create.ts";
import type { Device } from "./device/device.ts";
import { WasmDevice, type WasmOptions } from "./device/wasm/device.ts";
import type { GpuOptions } from "./device/webgpu/gpu.ts";
import { probedDevice } from "./ops/wgsl/probe.ts";

export type { WasmOptions };

let wasm: WasmDevice | undefined;
const sharedWasm = (): Device => {
  wasm ??= new WasmDevice();
  return wasm;
};
setDefaultDevice(sharedWasm);

/**
 * Makes a device the current one, on which new tensors are made: "wasm" (SIMD and threads),
 * "webgpu" (a GPU; or "webgpu:NAME" for an adapter whose name has NAME in it) or "reference" (f64
 * loops). Awaited, because a GPU takes time to be found; throws what was looked for where there is
 * none. Says in one line on stderr why `wide` could not be had; then vectors have 128 bits.
 */
export async function setDevice(
  name: "wasm" | "reference" | "webgpu" | `webgpu:${string}`,
  options?: WasmOptions | GpuOptions,
): Promise<Device> {
  if (name === "reference") useDevice(reference);
  else if (name === "wasm") useDevice(options ? wasmWith(options as WasmOptions) : sharedWasm());
  else if (name === "webgpu" || name.startsWith("webgpu:")) {
    const adapter = name.slice("webgpu:".length);
    const wanted = adapter === "" ? {} : { adapter };
    const asked = { ...wanted, ...(options as GpuOptions) };
    useDevice(await probedDevice(asked));
  } else {
    throw new TypeError(
      `setDevice: "${name}" is not a device; there are wasm, webgpu and reference`,
    );
  }
  return currentDevice();
}

function wasmWith(options: WasmOptions): Device {
  const device = new WasmDevice(options);
  const { refused } = device.machine.choice;
  if (refused !== undefined) console.warn(`wide mode is off: ${refused}; using 128-bit vectors`);
  return device;
}
