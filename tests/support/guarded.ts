/** A wasm device with sentinels before and after every buffer: a stray store fails the test. */

import { WasmDevice } from "../../tensor/device/wasm/device.ts";
import type { Buffer, DType } from "../../tensor/mod.ts";

const GUARD = 16;
const SENTINEL = 0x5a5a5a5a;

export class GuardedWasmDevice extends WasmDevice {
  override allocate(elements: number, dtype: DType): Buffer {
    const whole = super.allocate(elements + 2 * GUARD, dtype);
    const memory = (whole.memory as number) + GUARD * 4;
    // Junk inside too: an output that a kernel forgets to write must not look right by chance.
    this.machine.i32.fill(SENTINEL, memory / 4 - GUARD, memory / 4 + elements + GUARD);
    return { memory, elements, dtype };
  }

  override free(buffer: Buffer): void {
    const memory = buffer.memory as number;
    const { i32 } = this.machine;
    for (let i = 0; i < GUARD; i++) {
      const [before, after] = [memory / 4 - 1 - i, memory / 4 + buffer.elements + i];
      if (i32[before] !== SENTINEL || i32[after] !== SENTINEL) {
        const where = i32[before] !== SENTINEL ? `${i + 1} before` : `${i} after`;
        throw new Error(`a kernel stored outside of its buffer of ${buffer.elements}: ${where}`);
      }
    }
    super.free({ ...buffer, memory: memory - GUARD * 4 });
  }
}
