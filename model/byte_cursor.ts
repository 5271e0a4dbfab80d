/** A place in a byte source that moves on as numbers and texts are read; claims are checked first. */

import type { ByteSource } from "./bytes.ts";
import { UserError } from "./errors.ts";

const WINDOW = 1 << 16;

/** `what` names the thing that is read in errors. */
export class ByteCursor {
  readonly source: ByteSource;
  /** Bytes read so far. */
  at = 0;
  /** The bytes from `#from` on that have been fetched. */
  #window = new Uint8Array(0);
  #from = 0;
  readonly #decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

  constructor(source: ByteSource) {
    this.source = source;
  }

  get left(): number {
    return this.source.size - this.at;
  }

  /** The next bytes, not to be kept: later reads may overwrite them. */
  bytes(length: number, what: string): Uint8Array<ArrayBuffer> {
    if (length > this.left) {
      throw new UserError(
        `${this.source.name}: ${what} needs ${length} bytes, ${Math.max(0, this.left)} are left: ` +
          "is the file cut off?",
      );
    }
    const offset = this.at - this.#from;
    if (offset + length > this.#window.length) {
      this.#window = new Uint8Array(Math.min(Math.max(length, WINDOW), this.left));
      this.source.read(this.#window, this.at);
      this.#from = this.at;
    }
    const begin = this.at - this.#from;
    this.at += length;
    return this.#window.subarray(begin, begin + length) as Uint8Array<ArrayBuffer>;
  }

  view(length: number, what: string): DataView {
    const { buffer, byteOffset } = this.bytes(length, what);
    return new DataView(buffer, byteOffset, length);
  }

  u32(what: string): number {
    return this.view(4, what).getUint32(0, true);
  }

  /** A u64 that JavaScript's numbers hold. */
  u64(what: string): number {
    const value = this.view(8, what).getBigUint64(0, true);
    if (value <= BigInt(Number.MAX_SAFE_INTEGER)) return Number(value);
    throw new UserError(`${this.source.name}: ${what} is ${value}, which no file can hold`);
  }

  /** A number of things of at least `width` bytes each, which the rest of the file must hold. */
  count(what: string, width: number): number {
    const value = this.u64(what);
    if (value * width <= this.left) return value;
    throw new UserError(
      `${this.source.name}: ${what} is ${value}, but ${this.left} bytes are left: ` +
        "the file is cut off or damaged",
    );
  }

  /** A text behind its length in bytes. */
  text(what: string): string {
    const bytes = this.bytes(this.u64(`the length of ${what}`), what);
    try {
      return this.#decoder.decode(bytes);
    } catch (cause) {
      throw new UserError(`${this.source.name}: ${what} is not UTF-8`, { cause });
    }
  }
}
