/** WASM attention: launches the fused kernels on strided queries, keys and values. */

import type { View } from "../../device/device.ts";
import type { WasmKernel } from "../../device/wasm/kernel.ts";
import { address, copyStrided, fillZero } from "../../device/wasm/launch.ts";
import { type Machine, SCRATCH_BYTES } from "../../device/wasm/machine.ts";
import type { KernelCall } from "../../op.ts";
import { rowMajor, type Shape, sizeOf } from "../../shape.ts";
import { emitBackward } from "./attention_backward.ts";
import { emitDecode } from "./attention_decode.ts";
import { emitForward } from "./attention_forward.ts";
import { emitTiles, NOTES, TILE } from "./attention_rows.ts";

export { causalSoftmax } from "./causal_softmax.ts";

/** Rows of a block of the backward pass, where scratch has room. */
const BLOCK = 32;
/** Rough rates of one thread: products in FLOP per nanosecond, exponentials in nanoseconds. */
const RATE = 30;
const EXP_COST = 1;

export const attention: WasmKernel = {
  strided: true,
  emit(m) {
    const tiles = emitTiles(m);
    emitForward(m, tiles);
    emitDecode(m, tiles);
    emitBackward(m, tiles);
  },
  run(machine, call) {
    const [q, k, v, positions] = call.inputs as [View, View, View, View];
    withRows(machine, [q, k, v], call.outputs, (rows, [target]) => {
      const sizes = sizesOf(q, k);
      const { b, h, g, t, s, width } = sizes;
      const step = 4 * Math.ceil(s / 8) * 8;
      checkScratch("attention", s, NOTES + 2 * TILE * 4 * width + TILE * step);
      const operands = [...rows.map(address), address(positions), target!];
      const strides = [...rows.flatMap(rowStrides), ...positions.strides.map((n) => 4 * n)];
      const { scale } = call.options as { scale: number };
      const shares = { grain: 1, work: workOf(sizes, 4) };
      if (t === 1 && h === g) {
        const share = headsTogether(machine, sizes, 4 * width + step);
        const args = [...operands, share, ...shapeArguments(sizes), ...strides, scale];
        machine.parallel("f32_attention_decode", args, (b * h) / share, shares);
      } else {
        const units = b * g * Math.ceil((t * h) / g / TILE);
        const args = [...operands, ...shapeArguments(sizes), ...strides, scale];
        machine.parallel("f32_attention", args, units, shares);
      }
    });
  },
};

/**
 * Heads that one thread takes through the cache together, so that it reads on and on: all of them,
 * unless sequences are too few for the threads or scratch has no room.
 */
const headsTogether = ({ threads }: Machine, { b, h }: Sizes, bytesOfHead: number): number =>
  b >= 2 * threads && h * bytesOfHead <= SCRATCH_BYTES - 64 ? h : 1;

/** Its kernel is emitted with that of attention: they share their tiles. */
export const attentionVjp: WasmKernel = {
  strided: true,
  run(machine, call) {
    const [g, q, k, v, positions] = call.inputs as [View, View, View, View, View];
    withRows(machine, [g, q, k, v], call.outputs, ([cotangent, ...rows], targets) => {
      const sizes = sizesOf(q, k);
      const { b, s, width } = sizes;
      const step = 4 * Math.ceil(s / 8) * 8;
      const bytes = (block: number) =>
        Math.ceil(block / 16) * 64 + (2 * block + TILE) * 4 * width + 2 * block * step;
      let block = BLOCK;
      while (block > TILE && bytes(block) > SCRATCH_BYTES / 4) block -= TILE;
      checkScratch("attentionVjp", s, bytes(block));
      const args = [...rows.map(address), address(positions), address(cotangent!)];
      const incoming = [...rowStrides(cotangent!), ...targets, block];
      const strides = [...rows.flatMap(rowStrides), ...positions.strides.map((n) => 4 * n)];
      const { scale } = call.options as { scale: number };
      const all = [...args, ...incoming, ...shapeArguments(sizes), ...strides, scale];
      const shares = { grain: 1, work: workOf(sizes, 10) };
      machine.parallel("f32_attention_vjp", all, b * sizes.g, shares);
    });
  },
};

interface Sizes {
  readonly b: number;
  readonly h: number;
  readonly g: number;
  readonly t: number;
  readonly s: number;
  readonly d: number;
  /** d, rounded up to whole vectors. */
  readonly width: number;
}

function sizesOf(q: View, k: View): Sizes {
  const [b, h, t, d] = q.shape as [number, number, number, number];
  const [, g, s] = k.shape as [number, number, number];
  return { b, h, g, t, s, d, width: roundUp(d) };
}

const roundUp = (d: number): number => Math.ceil(d / 4) * 4;

const shapeArguments = ({ h, g, t, s, width }: Sizes) => [h, g, t, s, 4 * width];

/** Byte strides of the axes in front of a row. */
const rowStrides = ({ strides }: View): number[] => strides.slice(0, 3).map((n) => 4 * n);

/** Nanoseconds: of as many queries as keys, half are taken to be masked. */
function workOf({ b, h, t, s, width }: Sizes, flops: number): number {
  const visible = t > 1 && t === s ? (t + 1) / 2 : s;
  return b * h * t * (visible * ((flops * width) / RATE + EXP_COST) + 20);
}

function checkScratch(op: string, s: number, bytes: number): void {
  if (bytes <= SCRATCH_BYTES) return;
  const need = `${s} keys need ${bytes} bytes of scratch memory for their scores`;
  throw new RangeError(
    `${op}: ${need}, a thread has ${SCRATCH_BYTES}: attend to fewer keys at once`,
  );
}

/**
 * Runs `launch` on views whose rows are whole vectors: the operands themselves, or else copies
 * with the last axis packed and filled up with zeros; likewise the outputs (their addresses).
 */
function withRows(
  machine: Machine,
  inputs: readonly View[],
  outputs: KernelCall["outputs"],
  launch: (inputs: View[], outputs: number[]) => void,
): void {
  const temporary: number[] = [];
  const room = (shape: Shape) => {
    const memory = machine.arena.allocate(4 * sizeOf(shape));
    temporary.push(memory);
    return memory;
  };
  const widened = ({ shape }: View) => [...shape.slice(0, 3), roundUp(shape[3]!)];
  const whole = ({ shape }: View) => shape[3]! % 4 === 0;
  try {
    const rows = inputs.map((view) => {
      if (whole(view) && (view.strides[3] === 1 || view.shape[3]! <= 1)) return view;
      const shape = widened(view);
      const memory = room(shape);
      const strides = rowMajor(shape);
      if (!whole(view)) fillZero(machine, memory, sizeOf(shape));
      const from = { at: address(view), strides: view.strides };
      copyStrided(machine, view.shape, from, { at: memory, strides });
      const buffer = { memory, elements: sizeOf(shape), dtype: view.dtype };
      return { buffer, dtype: view.dtype, shape, strides, offset: 0 };
    });
    const targets = outputs.map((view) => (whole(view) ? address(view) : room(widened(view))));
    launch(rows, targets);
    outputs.forEach((view, i) => {
      if (whole(view)) return;
      const from = { at: targets[i]!, strides: rowMajor(widened(view)) };
      copyStrided(machine, view.shape, from, { at: address(view), strides: view.strides });
    });
  } finally {
    for (const memory of temporary) machine.arena.free(memory);
  }
}
