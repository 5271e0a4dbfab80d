/** Allocator over the one WebAssembly memory: segregated free lists, O(1), neighbours merged. */

const PAGE = 65536;
/** Blocks start at multiples of this: a cache line. */
const ALIGNMENT = 64;
/** Readable bytes past the end of each block, so that a vector load may overrun it. */
const SPARE = 16;
/** The last page of the 4 GiB stays out of use, so that no address arithmetic wraps around. */
const MAXIMUM_PAGES = 65535;

/** A stretch of memory: in use when `bytes` >= 0, else free and linked in the list of its class. */
interface Block {
  address: number;
  /** Bytes from here to the next block, a multiple of ALIGNMENT. */
  size: number;
  /** Bytes asked for, or FREE. */
  bytes: number;
  before: Block | undefined;
  after: Block | undefined;
  previousFree: Block | undefined;
  nextFree: Block | undefined;
}
const FREE = -1;

/**
 * Sizes in units of 64 bytes fall into 16 classes per power of two. A request is rounded up to the
 * least size of its class (at most 1/16 more), so each block of that class or of a higher one fits.
 */
function sizeClass(units: number): number {
  if (units < 16) return units;
  const power = 31 - Math.clz32(units);
  return (power - 3) * 16 + ((units >>> (power - 4)) & 15);
}

function roundToClass(units: number): number {
  if (units < 32) return units;
  const step = 1 << (31 - Math.clz32(units) - 4);
  return Math.ceil(units / step) * step;
}

const CLASSES = sizeClass((MAXIMUM_PAGES * PAGE) / ALIGNMENT) + 1;

export class Arena {
  /** Blocks in use, the bytes asked for in them, and the most there ever were. */
  live = 0;
  liveBytes = 0;
  peakBytes = 0;

  private readonly memory: WebAssembly.Memory;
  private readonly onGrow: () => void;
  private readonly used = new Map<number, Block>();
  private readonly lists: (Block | undefined)[] = new Array(CLASSES).fill(undefined);
  /** One bit per class: is its list non-empty? */
  private readonly occupied = new Int32Array((CLASSES + 31) >>> 5);
  private last: Block | undefined;
  private end: number;

  /** Manages all memory from address `start` on; calls `onGrow` after each growth of the memory. */
  constructor(memory: WebAssembly.Memory, start: number, onGrow: () => void = () => {}) {
    this.memory = memory;
    this.onGrow = onGrow;
    this.end = Math.ceil(start / ALIGNMENT) * ALIGNMENT;
  }

  /**
   * Address of `bytes` uninitialised bytes, aligned to 64, followed by at least 16 readable bytes.
   * Throws when 4 GiB are exhausted.
   */
  allocate(bytes: number): number {
    if (!Number.isInteger(bytes) || bytes < 0) {
      throw new RangeError(`allocate(${bytes}): expected a whole number of bytes, 0 or more`);
    }
    const size = roundToClass(Math.ceil((bytes + SPARE) / ALIGNMENT)) * ALIGNMENT;
    const block = this.takeFree(size) ?? this.extend(size, bytes);
    this.split(block, size);
    block.bytes = bytes;
    this.used.set(block.address, block);
    this.live++;
    this.liveBytes += bytes;
    if (this.liveBytes > this.peakBytes) this.peakBytes = this.liveBytes;
    return block.address;
  }

  /** Gives a block back. Throws when no block in use starts at this address. */
  free(address: number): void {
    const block = this.used.get(address);
    if (block === undefined) {
      throw new Error(`free(${address}): no block in use starts there (was it freed twice?)`);
    }
    this.used.delete(address);
    this.live--;
    this.liveBytes -= block.bytes;
    block.bytes = FREE;
    const { before, after } = block;
    if (after?.bytes === FREE) {
      this.unlink(after);
      this.absorbNext(block);
    }
    if (before?.bytes === FREE) {
      this.unlink(before);
      this.absorbNext(before);
      this.link(before);
    } else {
      this.link(block);
    }
  }

  /** The first block of the lowest class whose blocks all fit, taken off its list. */
  private takeFree(size: number): Block | undefined {
    const wanted = sizeClass(size / ALIGNMENT);
    let word = wanted >>> 5;
    let bits = this.occupied[word]! & (-1 << (wanted & 31));
    while (bits === 0) {
      word++;
      if (word >= this.occupied.length) return undefined;
      bits = this.occupied[word]!;
    }
    const block = this.lists[(word << 5) + (31 - Math.clz32(bits & -bits))]!;
    this.unlink(block);
    return block;
  }

  /** A block at the end of what is in use, growing the memory when that is needed. */
  private extend(size: number, bytes: number): Block {
    const tail = this.last?.bytes === FREE ? this.last : undefined;
    const missing = size - (tail?.size ?? 0);
    this.reserve(this.end + missing, bytes);
    this.end += missing;
    if (tail !== undefined) {
      this.unlink(tail);
      tail.size = size;
      return tail;
    }
    const block: Block = {
      address: this.end - size,
      size,
      bytes: FREE,
      before: this.last,
      after: undefined,
      previousFree: undefined,
      nextFree: undefined,
    };
    if (this.last !== undefined) this.last.after = block;
    this.last = block;
    return block;
  }

  private reserve(end: number, bytes: number): void {
    const pages = this.memory.buffer.byteLength / PAGE;
    const needed = Math.ceil(end / PAGE);
    if (needed <= pages) return;
    // Growing by an eighth keeps the number of growths small; a growth costs up to 5 ms in Deno.
    const generous = Math.min(Math.max(needed, pages + (pages >>> 3), pages + 16), MAXIMUM_PAGES);
    for (const target of [generous, needed]) {
      if (target < needed || target > MAXIMUM_PAGES) continue;
      try {
        this.memory.grow(target - pages);
        this.onGrow();
        return;
      } catch {
        // Refused by the engine or the operating system: try the smaller step, then report.
      }
    }
    throw new RangeError(
      `out of memory: ${bytes} bytes do not fit beside ${this.liveBytes} bytes in ${this.live} ` +
        `live blocks (limit ${MAXIMUM_PAGES * PAGE} bytes); free tensors sooner, or use ` +
        "smaller batches",
    );
  }

  /** Cuts what a block has beyond `size` off as a free block. */
  private split(block: Block, size: number): void {
    const rest = block.size - size;
    if (rest === 0) return;
    block.size = size;
    const { after } = block;
    const cut: Block = {
      address: block.address + size,
      size: rest,
      bytes: FREE,
      before: block,
      after,
      previousFree: undefined,
      nextFree: undefined,
    };
    block.after = cut;
    if (after === undefined) this.last = cut;
    else after.before = cut;
    this.link(cut);
  }

  private absorbNext(block: Block): void {
    const { size, after } = block.after!;
    block.size += size;
    block.after = after;
    if (after === undefined) this.last = block;
    else after.before = block;
  }

  private link(block: Block): void {
    const index = sizeClass(block.size / ALIGNMENT);
    const head = this.lists[index];
    block.previousFree = undefined;
    block.nextFree = head;
    if (head === undefined) this.occupied[index >>> 5]! |= 1 << (index & 31);
    else head.previousFree = block;
    this.lists[index] = block;
  }

  private unlink(block: Block): void {
    const { previousFree, nextFree } = block;
    if (nextFree !== undefined) nextFree.previousFree = previousFree;
    if (previousFree !== undefined) {
      previousFree.nextFree = nextFree;
      return;
    }
    const index = sizeClass(block.size / ALIGNMENT);
    this.lists[index] = nextFree;
    if (nextFree === undefined) this.occupied[index >>> 5]! &= ~(1 << (index & 31));
  }
}
