/** What a device must do: hold bytes, hand them back, and run the kernels of ops. */

import type { DType } from "../dtype.ts";
import type { Definition, KernelCall } from "../op.ts";
import type { Shape } from "../shape.ts";

/** Memory of a device. What `memory` is, only the device knows (an array, an address, a GPU buffer). */
export interface Buffer {
  readonly memory: unknown;
  readonly elements: number;
  readonly dtype: DType;
}

/** A strided window on a buffer: element (i, j, …) lies at offset + i·strides[0] + j·strides[1] + … */
export interface View {
  readonly buffer: Buffer;
  readonly dtype: DType;
  readonly shape: Shape;
  readonly strides: readonly number[];
  readonly offset: number;
}

export interface Device {
  readonly name: string;
  /** False: values arrive later, and only `read` can wait for them. */
  readonly readsSync: boolean;
  /** Where "f16", models keep weights and activations in f16 wherever products read them. */
  readonly storage: "f32" | "f16";
  /** Buffers that are allocated and not yet freed. */
  readonly liveBuffers: number;
  readonly liveBytes: number;
  /** Largest `liveBytes` so far. */
  readonly peakBytes: number;
  allocate(elements: number, dtype: DType): Buffer;
  free(buffer: Buffer): void;
  /** Copies `values` to the start of the buffer. */
  write(buffer: Buffer, values: ArrayLike<number>): void;
  /** A packed row-major copy of what the view sees. Throws where `readsSync` is false. */
  readSync(view: View): Float32Array | Float64Array | Int32Array;
  read(view: View): Promise<Float32Array | Float64Array | Int32Array>;
  /** False: the engine runs the op's composed form instead. */
  supports(definition: Definition): boolean;
  run(definition: Definition, call: KernelCall): void;
}
