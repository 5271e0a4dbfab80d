/** A wasm device with sentinels before and after every buffer: a stray store fails the test. */

import { WasmDevice } from "../../tensor/device/wasm/device.ts";
import { bytesOf } from "../../tensor/dtype.ts";
import type { Buffer, DType } from "../../tensor/mod.ts";

const GUARD = 16;
const wordsOf = (elements: number, dtype: DType): number =>
  Math.ceil((elements * bytesOf(dtype)) / 4);
const SENTINEL = 0x5a5a5a5a;

export class GuardedWasmDevice extends WasmDevice {
  override allocate(elements: number, dtype: DType): Buffer {
    const words = wordsOf(elements, dtype);
    const whole = super.allocate(words + 2 * GUARD, "i32");
    const memory = (whole.memory as number) + GUARD * 4;
    // Junk inside too: an output that a kernel forgets to write must not look right by chance.
    this.machine.i32.fill(SENTINEL, memory / 4 - GUARD, memory / 4 + words + GUARD);
    return { memory, elements, dtype };
  }

  override free(buffer: Buffer): void {
    const memory = buffer.memory as number;
    const { i32 } = this.machine;
    for (let i = 0; i < GUARD; i++) {
      const words = wordsOf(buffer.elements, buffer.dtype);
      const [before, after] = [memory / 4 - 1 - i, memory / 4 + words + i];
      if (i32[before] !== SENTINEL || i32[after] !== SENTINEL) {
        const where = i32[before] !== SENTINEL ? `${i + 1} before` : `${i} after`;
        throw new Error(`a kernel stored outside of its buffer of ${buffer.elements}: ${where}`);
      }
    }
    super.free({ ...buffer, memory: memory - GUARD * 4 });
  }
}
