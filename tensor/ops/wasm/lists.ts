/** One launch over a list of arrays: they are cut into fixed blocks, listed in a table. */

import type { Machine } from "../../device/wasm/machine.ts";
import { withTemporary } from "./columns.ts";

/** A fixed number of elements, because it decides the bits of a sum over blocks. */
const BLOCK = 8192;

/** Elements [from, from + count) of array `array` of the list. */
export interface Block {
  readonly array: number;
  readonly from: number;
  readonly count: number;
}

/** Blocks of all arrays, from the first to the last; an empty array has none. */
export function blocksOf(sizes: readonly number[]): Block[] {
  return sizes.flatMap((size, array) =>
    Array.from({ length: Math.ceil(size / BLOCK) }, (_, k) => {
      return { array, from: k * BLOCK, count: Math.min(BLOCK, size - k * BLOCK) };
    }),
  );
}

interface TableLaunch {
  /** Called with (table, …args, begin, end): unit k is row k of the table. */
  readonly kernel: string;
  readonly args: readonly number[];
  readonly blocks: readonly Block[];
  /** 32-bit words of a row, and what writes one at this index of the machine's views. */
  readonly words: number;
  readonly write: (block: Block, at: number) => void;
  /** Nanoseconds per element. */
  readonly cost: number;
}

/** Runs a kernel on a table with a row for each block. */
export function launchTable(machine: Machine, launch: TableLaunch): void {
  const { kernel, args, blocks, words, write, cost } = launch;
  withTemporary(machine, words * blocks.length, (table) => {
    for (const [k, block] of blocks.entries()) write(block, table / 4 + k * words);
    const work = blocks.reduce((sum, { count }) => sum + cost * count, 0);
    machine.parallel(kernel, [table, ...args], blocks.length, { grain: 1, work });
  });
}
