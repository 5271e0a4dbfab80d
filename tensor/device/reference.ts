/** The reference device: f64 and plain loops. Slow on purpose; the truth of every test. */

import type { DType } from "../dtype.ts";
import { roundToHalf } from "../half.ts";
import type { Block, Definition, KernelCall } from "../op.ts";
import { broadcastStrides, isContiguous, type Shape, sizeOf } from "../shape.ts";
import { parseSignature } from "../signature.ts";
import type { Buffer, Device, View } from "./device.ts";

interface ReferenceBuffer extends Buffer {
  readonly memory: Float64Array;
}
const memoryOf = (view: View): Float64Array => (view.buffer as ReferenceBuffer).memory;

export class ReferenceDevice implements Device {
  readonly name: string = "reference";
  readonly readsSync = true;
  readonly storage = "f32";
  liveBuffers = 0;
  liveBytes = 0;
  peakBytes = 0;

  allocate(elements: number, dtype: DType): Buffer {
    this.liveBuffers++;
    this.liveBytes += elements * 8;
    this.peakBytes = Math.max(this.peakBytes, this.liveBytes);
    return { memory: new Float64Array(elements), elements, dtype };
  }

  free(buffer: Buffer): void {
    this.liveBuffers--;
    this.liveBytes -= buffer.elements * 8;
  }

  write(buffer: Buffer, values: ArrayLike<number>): void {
    const { memory } = buffer as ReferenceBuffer;
    memory.set(values);
    if (buffer.dtype === "f16") roundAll(memory);
  }

  readSync(view: View): Float32Array | Float64Array | Int32Array {
    const values = packed(view, view.shape).data;
    if (view.dtype === "f16") return Float32Array.from(values); // exact
    return view.dtype === "f32" ? values.slice() : Int32Array.from(values);
  }

  async read(view: View): Promise<Float32Array | Float64Array | Int32Array> {
    return this.readSync(view);
  }

  /** Fused ops run as their composed form here: that form is their definition. */
  supports(definition: Definition): boolean {
    return !("composed" in definition);
  }

  run(definition: Definition, call: KernelCall): void {
    if ("scalar" in definition) runScalar(definition.scalar, call);
    else if ("reference" in definition) {
      const { dims, options } = call;
      const inputs = blocks(definition, call);
      const outputs = call.outputs.map((view) => packed(view, view.shape));
      definition.reference({ inputs, outputs, dims, options: options as never });
    }
    for (const view of call.outputs) {
      if (view.dtype === "f16") roundAll(packed(view, view.shape).data);
    }
  }
}

const roundAll = (values: Float64Array): void => {
  for (const [i, x] of values.entries()) values[i] = roundToHalf(x);
};

/** Packed inputs; those of a signature are broadcast to the common "..." axes first. */
function blocks({ shape }: Definition, { inputs, batch }: KernelCall): Block[] {
  if (typeof shape !== "string") return inputs.map((view) => packed(view, view.shape));
  const terms = parseSignature(shape).inputs;
  return inputs.map((view, i) => {
    const { batched, axes } = terms[i]!;
    const own = view.shape.slice(view.shape.length - axes.length);
    return packed(view, batched ? [...batch, ...own] : own);
  });
}

/** The values that a view shows when broadcast to `shape`; no copy where they lie packed already. */
function packed(view: View, shape: Shape): Block {
  const memory = memoryOf(view);
  const strides = broadcastStrides(view.shape, view.strides, shape);
  const size = sizeOf(shape);
  if (isContiguous(shape, strides)) {
    return { data: memory.subarray(view.offset, view.offset + size), shape };
  }
  const data = new Float64Array(size);
  const index = new Array<number>(shape.length).fill(0);
  let at = view.offset;
  for (let i = 0; i < size; i++) {
    data[i] = memory[at]!;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      at += strides[axis]!;
      index[axis]!++;
      if (index[axis]! < shape[axis]!) break;
      at -= strides[axis]! * shape[axis]!;
      index[axis] = 0;
    }
  }
  return { data, shape };
}

type Scalar = (...values: number[]) => number | readonly number[];

function runScalar(scalar: Scalar, { inputs, outputs }: KernelCall): void {
  const { shape } = outputs[0]!;
  const blocks = inputs.map((view) => packed(view, shape).data);
  const targets = outputs.map((view) => packed(view, shape).data);
  for (let i = 0; i < sizeOf(shape); i++) {
    const result = scalar(...blocks.map((data) => data[i]!));
    targets.forEach((data, k) => {
      data[i] = typeof result === "number" ? result : result[k]!;
    });
  }
}
