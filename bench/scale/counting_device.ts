/** A device that holds nothing and computes nothing: it counts bytes, operations and launches. */
// The code that trains a model of 0.8 million parameters runs on it with 72 billion, unchanged: what
// it would hold and move is found by running it, not by a second set of formulas.

import { bytesOf, type DType } from "../../tensor/dtype.ts";
import {
  type Buffer,
  type Definition,
  type Device,
  isMissing,
  randomStream,
  type View,
} from "../../tensor/mod.ts";
import type { KernelCall } from "../../tensor/op.ts";
import { type Shape, sizeOf } from "../../tensor/shape.ts";

/** What a launch takes at least. */
export interface Work {
  readonly op: string;
  /** Multiplications and additions of products and attention; 0 of all other ops. */
  readonly flops: number;
  /** Bytes that are read and written once. */
  readonly bytes: number;
}

export class CountingDevice implements Device {
  readonly name = "counting";
  readonly readsSync = true;
  readonly storage: "f32" | "f16";
  liveBuffers = 0;
  liveBytes = 0;
  peakBytes = 0;
  /** The largest single buffer so far. */
  largestBytes = 0;
  /** Is told of every launch before it would run. */
  onLaunch: (work: Work) => void = () => {};
  readonly #drawn = new WeakMap<Buffer, number>();
  readonly #stream = randomStream({ seed: 1, purpose: "counting device" });

  constructor(storage: "f32" | "f16" = "f32") {
    this.storage = storage;
  }

  allocate(elements: number, dtype: DType): Buffer {
    const bytes = elements * bytesOf(dtype);
    this.liveBuffers++;
    this.liveBytes += bytes;
    this.peakBytes = Math.max(this.peakBytes, this.liveBytes);
    this.largestBytes = Math.max(this.largestBytes, bytes);
    return { memory: undefined, elements, dtype };
  }

  free({ elements, dtype }: Buffer): void {
    this.liveBuffers--;
    this.liveBytes -= elements * bytesOf(dtype);
  }

  write(): void {}

  /** Zeros; where classes were drawn, classes: no two samples of a prompt are to be alike. */
  readSync({ buffer, dtype, shape }: View): Float32Array | Int32Array {
    const size = sizeOf(shape);
    if (dtype !== "i32") return new Float32Array(size);
    const classes = this.#drawn.get(buffer);
    if (classes === undefined) return new Int32Array(size);
    return Int32Array.from({ length: size }, () => this.#stream.int(classes));
  }

  async read(view: View): Promise<Float32Array | Int32Array> {
    return this.readSync(view);
  }

  /** What the wasm device has a kernel for. */
  supports(definition: Definition): boolean {
    if ("expression" in definition) return true;
    return "wasm" in definition && !isMissing(definition.wasm);
  }

  run(definition: Definition, call: KernelCall): void {
    this.onLaunch({
      op: definition.name,
      flops: flopsOf(definition, call),
      bytes: bytesMoved(definition, call),
    });
    if (definition.name === "drawClasses") {
      this.#drawn.set(call.outputs[0]!.buffer, call.inputs[0]!.shape.at(-1)!);
    }
  }
}

function flopsOf({ name, flops }: Definition, { inputs, dims }: KernelCall): number {
  const shapes = inputs.map(({ shape }) => shape);
  if (flops !== undefined) return flops(dims as never);
  switch (name) {
    case "linearLogProb":
      return logProbFlops(shapes[0]!, shapes[1]!);
    case "linearLogProbVjp": // two products; a third where the logits are gone
      return logProbFlops(shapes[1]!, shapes[2]!) * (shapes[4]![0] === 0 ? 3 : 2);
    case "attention":
      return attentionFlops(shapes[0]!, shapes[1]!);
    case "attentionVjp": // counted like the gradients of two products, without the scores made anew
      return 2 * attentionFlops(shapes[1]!, shapes[2]!);
    default:
      return 0;
  }
}

const logProbFlops = ([n, d]: Shape, [v]: Shape): number => 2 * n! * d! * v!;
/** The masked half is counted too. */
const attentionFlops = ([b, h, t, d]: Shape, [, , s]: Shape): number => 4 * b! * h! * t! * s! * d!;

/** Operands of which an op touches as many elements as its other operands name, not all. */
const TABLES: Readonly<Record<string, readonly number[]>> = {
  embedding: [0],
  writeRows: [0],
  rope: [2, 3],
  extendCache: [3, 4, 6, 7],
};

function bytesMoved({ name, updates }: Definition, { inputs, outputs }: KernelCall): number {
  const tables = TABLES[name] ?? [];
  const seen = (view: View): number =>
    bytesOf(view.dtype) *
    view.shape.reduce((size, n, axis) => (view.strides[axis] === 0 ? size : size * n), 1);
  const total = (views: readonly View[]) => views.reduce((sum, view) => sum + seen(view), 0);
  const read = inputs.filter((_, i) => !tables.includes(i));
  const changed = typeof updates === "function" ? updates(inputs.length) : (updates ?? []);
  const written = inputs.filter((_, i) => changed.includes(i) && !tables.includes(i));
  const rows = tables.length > 0 ? total(outputs) : 0;
  return total(read) + total(written) + total(outputs) + rows;
}
