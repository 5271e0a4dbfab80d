/** Choosing a device by name; the default is wasm, made when the first tensor is. */

import { currentDevice, reference, setDefaultDevice, useDevice } from "./create.ts";
import type { Device } from "./device/device.ts";
import { WasmDevice } from "./device/wasm/device.ts";

export interface WasmOptions {
  /** Threads, the caller's included. Default: ANAMNESIS_THREADS, else one a core, at most 8. */
  readonly threads?: number;
}

let wasm: WasmDevice | undefined;
const sharedWasm = (): Device => {
  wasm ??= new WasmDevice();
  return wasm;
};
setDefaultDevice(sharedWasm);

/**
 * Makes a device the current one, on which new tensors are made: "wasm" (SIMD and threads) or
 * "reference" (f64 loops). Awaited, because other devices may take time to be found.
 */
export async function setDevice(
  name: "wasm" | "reference",
  options?: WasmOptions,
): Promise<Device> {
  if (name === "reference") useDevice(reference);
  else if (name === "wasm") useDevice(options ? new WasmDevice(options) : sharedWasm());
  else throw new TypeError(`setDevice: "${name}" is not a device; there are wasm and reference`);
  return currentDevice();
}
