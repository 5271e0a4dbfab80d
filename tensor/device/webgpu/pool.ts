/** GPU buffers by size class: freed ones are kept for the next of their size. */

import type { Failures } from "./failures.ts";

/** Storage buffers that can be copied from and to. */
const USAGE = 0x80 | 0x4 | 0x8;

export interface Pooled {
  readonly buffer: GPUBuffer;
  readonly bytes: number;
  /** Its number, for the cache of bind groups. */
  readonly id: number;
  /** The last batch of commands that uses it. */
  batch: number;
}

/** Powers of two and the steps half-way between them, from 256 bytes on. */
export function sizeClass(bytes: number): number {
  let size = 256;
  while (size < bytes) size *= 2;
  return size > 256 && bytes <= (size / 4) * 3 ? (size / 4) * 3 : size;
}

export class Pool {
  readonly #device: GPUDevice;
  readonly #failures: Failures;
  readonly #free = new Map<number, Pooled[]>();
  #ids = 0;
  /** Bytes of all buffers, in use or not. */
  held = 0;

  constructor(device: GPUDevice, failures: Failures) {
    this.#device = device;
    this.#failures = failures;
  }

  /** Memory for `bytes`. Throws where no buffer can be that large. */
  take(bytes: number): Pooled {
    const { maxBufferSize, maxStorageBufferBindingSize: binding } = this.#device.limits;
    const most = Math.min(maxBufferSize, binding);
    if (bytes > most) {
      throw new RangeError(
        `webgpu: a tensor of ${bytes} bytes was asked for; this adapter binds at most ${most} ` +
          "at once (maxStorageBufferBindingSize): use smaller batches or chunks",
      );
    }
    const size = Math.min(sizeClass(bytes), most - (most % 4));
    const kept = this.#free.get(size)?.pop();
    if (kept !== undefined) return kept;
    const what = `out of memory: ${size} bytes beside the ${this.held} that are held`;
    const buffer = this.#failures.watch("out-of-memory", what, () =>
      this.#device.createBuffer({ size, usage: USAGE }),
    );
    this.held += size;
    return { buffer, bytes: size, id: this.#ids++, batch: -1 };
  }

  give(pooled: Pooled): void {
    const list = this.#free.get(pooled.bytes);
    if (list === undefined) this.#free.set(pooled.bytes, [pooled]);
    else list.push(pooled);
  }
}
