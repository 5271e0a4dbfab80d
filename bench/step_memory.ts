/** How much memory a training step takes at most, beside what it cannot do without. */

import type { WasmDevice } from "../tensor/device/wasm/device.ts";
import { bytesOf } from "../tensor/dtype.ts";

export interface StepMemory {
  /** Most bytes in use at once: tensors, and what kernels borrow for packed copies. */
  readonly peakBytes: number;
  /** Bytes in use when backward begins: weights, moments, and the activations that it will read. */
  readonly forwardBytes: number;
}

/** Watches the arena while `step` runs one training step. */
export async function memoryOf(
  device: WasmDevice,
  step: () => Promise<unknown>,
): Promise<StepMemory> {
  const { arena } = device.machine;
  const { run } = device;
  const { allocate } = arena;
  let [peakBytes, forwardBytes] = [arena.liveBytes, 0];
  arena.allocate = (bytes) => {
    const address = allocate.call(arena, bytes);
    peakBytes = Math.max(peakBytes, arena.liveBytes);
    return address;
  };
  device.run = (definition, call) => {
    if (forwardBytes === 0 && definition.name.endsWith("Vjp")) {
      const outputs = call.outputs.reduce(
        (sum, { shape, dtype }) => sum + bytesOf(dtype) * shape.reduce(product, 1),
        0,
      );
      forwardBytes = arena.liveBytes - outputs;
    }
    run.call(device, definition, call);
  };
  try {
    await step();
  } finally {
    arena.allocate = allocate;
    device.run = run;
  }
  return { peakBytes, forwardBytes };
}

const product = (a: number, b: number): number => a * b;
