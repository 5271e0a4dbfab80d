/** Launches by what they take, and how long a machine needs for them at least. */

import type { Work } from "./counting_device.ts";

/** What a machine can do at most. */
export interface Roof {
  /** Multiplications and additions in a second. */
  readonly flops: number;
  /** Bytes read or written in a second. */
  readonly bytes: number;
}

/** Launches of about the same operations for a byte: they meet the same limit. */
export interface Kind {
  launches: number;
  flops: number;
  bytes: number;
}

/** Kinds for each doubling of operations for a byte. */
const STEPS = 8;

export class Tally {
  readonly #kinds = new Map<number, Kind>();

  constructor(kinds: readonly Kind[] = []) {
    for (const kind of kinds) this.#kinds.set(this.#kinds.size, { ...kind });
  }

  add({ flops, bytes }: Work): void {
    const key = flops === 0 ? -Infinity : Math.round(STEPS * Math.log2(flops / bytes));
    const kind = this.#kinds.get(key) ?? { launches: 0, flops: 0, bytes: 0 };
    kind.launches++;
    kind.flops += flops;
    kind.bytes += bytes;
    this.#kinds.set(key, kind);
  }

  get kinds(): Kind[] {
    return [...this.#kinds.values()];
  }

  get flops(): number {
    return this.kinds.reduce((sum, { flops }) => sum + flops, 0);
  }

  get launches(): number {
    return this.kinds.reduce((sum, { launches }) => sum + launches, 0);
  }

  /** Each kind takes as long as its operations or its bytes do, whichever is more. */
  seconds(roof: Roof): number {
    return this.kinds.reduce(
      (sum, { flops, bytes }) => sum + Math.max(flops / roof.flops, bytes / roof.bytes),
      0,
    );
  }
}
