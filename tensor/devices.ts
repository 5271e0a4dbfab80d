/** Choosing a device by name; the default is wasm, made when the first tensor is. */

import { currentDevice, reference, setDefaultDevice, useDevice } from "./create.ts";
import type { Device } from "./device/device.ts";
import { WasmDevice } from "./device/wasm/device.ts";
import type { MachineOptions } from "./device/wasm/machine.ts";

export type WasmOptions = MachineOptions;

let wasm: WasmDevice | undefined;
const sharedWasm = (): Device => {
  wasm ??= new WasmDevice();
  return wasm;
};
setDefaultDevice(sharedWasm);

/**
 * Makes a device the current one, on which new tensors are made: "wasm" (SIMD and threads) or
 * "reference" (f64 loops). Awaited, because other devices may take time to be found. Says in one
 * line on stderr why `wide` could not be had; everything then runs on 128-bit vectors.
 */
export async function setDevice(
  name: "wasm" | "reference",
  options?: WasmOptions,
): Promise<Device> {
  if (name === "reference") useDevice(reference);
  else if (name === "wasm") useDevice(options ? wasmWith(options) : sharedWasm());
  else throw new TypeError(`setDevice: "${name}" is not a device; there are wasm and reference`);
  return currentDevice();
}

function wasmWith(options: WasmOptions): Device {
  const device = new WasmDevice(options);
  const { refused } = device.machine.choice;
  if (refused !== undefined) console.warn(`wide mode is off: ${refused}; using 128-bit vectors`);
  return device;
}
