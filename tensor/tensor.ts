/** Tensor: shape, dtype and a counted hold on storage; its methods come from the op table. */

import {
  backward,
  type GradientOptions,
  type Graph,
  requireGrad,
  type Variable,
} from "./autograd.ts";
import type { Buffer, Device, View } from "./device/device.ts";
import type { DType, TypedArray } from "./dtype.ts";
import type { Methods } from "./ops/mod.ts";
import { adopt, type Handle, type Holds, letGo, unwatch } from "./scope.ts";
import { formatShape, type Shape, sizeOf } from "./shape.ts";

/** A buffer with the number of tensors that look into it; the last one frees it. */
export class Storage {
  readonly device: Device;
  readonly buffer: Buffer;
  /** Counts in-place writes, so that a saved value that was overwritten is noticed. */
  version = 0;
  #references = 0;

  constructor(device: Device, buffer: Buffer) {
    this.device = device;
    this.buffer = buffer;
  }
  /** Whether more than one tensor looks into it. */
  get shared(): boolean {
    return this.#references > 1;
  }
  retain(): this {
    this.#references++;
    return this;
  }
  release(): void {
    if (--this.#references === 0) this.device.free(this.buffer);
  }
}

export interface Layout {
  readonly shape: Shape;
  readonly strides: readonly number[];
  readonly offset: number;
  readonly dtype: DType;
}

// The one metaprogramming step: see ops/mod.ts.
export interface Tensor extends Methods {}

/** An n-dimensional array on a device. Never consumed by an op; freed by scope, `using` or dispose(). */
// biome-ignore lint/suspicious/noUnsafeDeclarationMerging: as above
export class Tensor implements Handle {
  readonly shape: Shape;
  readonly strides: readonly number[];
  readonly offset: number;
  readonly dtype: DType;
  readonly device: Device;
  /** Its place in the gradient graph; undefined for a constant. */
  variable: Variable | undefined;
  readonly holds: Holds<Storage, Graph>;
  disposed = false;
  /** True for the graph's own handles: no scope owns them. */
  readonly #internal: boolean;

  /** For the library itself: users make tensors with `tensor`, `zeros`, `random`… */
  constructor(
    layout: Layout,
    device: Device,
    storage: Storage | undefined,
    variable: Variable | undefined,
    internal = false,
  ) {
    this.shape = layout.shape;
    this.strides = layout.strides;
    this.offset = layout.offset;
    this.dtype = layout.dtype;
    this.device = device;
    this.variable = variable;
    this.holds = { storage: storage?.retain(), graph: variable?.graph?.retain() };
    this.#internal = internal;
    if (!internal) adopt(this);
  }

  get rank(): number {
    return this.shape.length;
  }
  get size(): number {
    return sizeOf(this.shape);
  }

  /** The storage; throws where the tensor was disposed or its values were not kept for backward. */
  get storage(): Storage {
    const { storage } = this.holds;
    if (storage !== undefined) return storage;
    const what = `tensor ${formatShape(this.shape)}`;
    throw new Error(
      this.disposed
        ? `${what} was disposed: return it from its scope, or keep() it`
        : `${what} was not kept for the backward pass: its op's row must say so in "keeps"`,
    );
  }

  get view(): View {
    const { shape, strides, offset, dtype } = this;
    return { buffer: this.storage.buffer, dtype, shape, strides, offset };
  }

  /** A second handle on the same values and the same place in the graph, owned by the caller. */
  alias(options: { values: boolean } = { values: true }): Tensor {
    const storage = options.values ? this.storage : undefined;
    return new Tensor(this, this.device, storage, this.variable, true);
  }

  /** Marks a leaf: backward() will fill its `grad`. Returns this tensor. */
  requireGrad(): this {
    requireGrad(this);
    return this;
  }

  /** d loss / d this leaf, summed over all backward() calls; set to undefined to start anew. */
  get grad(): Tensor | undefined {
    return this.variable?.grad;
  }
  set grad(value: Tensor | undefined) {
    if (this.variable === undefined) throw new Error("grad: call requireGrad() on the leaf first");
    if (this.variable.grad !== value) this.variable.grad?.dispose();
    this.variable.grad = value;
  }

  /** Adds d this / d leaf to `grad` of every leaf under this scalar, then frees the graph. */
  backward(options?: GradientOptions): void {
    backward(this, options);
  }

  /** The same values, outside of the graph: no gradient flows through. */
  detach(): Tensor {
    return new Tensor(this, this.device, this.storage, undefined);
  }

  dispose(): void {
    if (this.disposed) return;
    if (!this.#internal) {
      unwatch(this);
      if (this.variable?.graph === undefined) this.variable?.grad?.dispose();
    }
    this.disposed = true;
    letGo(this.holds);
  }
  [Symbol.dispose](): void {
    this.dispose();
  }

  /** A row-major copy of the values. On a GPU use `await data()`. */
  dataSync(): TypedArray {
    return this.device.readSync(this.view);
  }
  data(): Promise<TypedArray> {
    return this.device.read(this.view);
  }

  /** The value of a tensor with one element. */
  item(): number {
    if (this.size !== 1) {
      throw new Error(`item: the tensor has shape ${formatShape(this.shape)}, not one element`);
    }
    return this.dataSync()[0]!;
  }

  /** Nested arrays of the values, for reading and tests. */
  toArray(): unknown {
    const flat = this.dataSync();
    const nest = (axis: number, from: number, length: number): unknown => {
      if (axis === this.rank) return flat[from];
      const n = this.shape[axis]!;
      return Array.from({ length: n }, (_, i) =>
        nest(axis + 1, from + i * (length / n), length / n),
      );
    };
    return nest(0, 0, flat.length);
  }

  toString(): string {
    const values = this.disposed ? "disposed" : JSON.stringify(this.toArray());
    const text = values.length > 200 ? `${values.slice(0, 200)}…` : values;
    return `Tensor ${this.dtype} ${formatShape(this.shape)} on ${this.device.name}: ${text}`;
  }
}
