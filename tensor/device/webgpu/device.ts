/** The webgpu device: WGSL kernels in batches of commands, pooled buffers, reads that wait. */

import { bytesOf, type DType, isReal } from "../../dtype.ts";
import { halfBits } from "../../half.ts";
import { type Definition, isMissing, type KernelCall } from "../../op.ts";
import { broadcastStrides, isContiguous, rowMajor, sizeOf } from "../../shape.ts";
import { operandShape } from "../../signature.ts";
import type { Buffer, Device, View } from "../device.ts";
import { copy } from "./copy.ts";
import { awaited } from "./dawn.ts";
import { isExpressed, runElementwise } from "./elementwise.ts";
import { Failures } from "./failures.ts";
import type { Gpu } from "./gpu.ts";
import type { Launcher, Products, WgslKernel } from "./kernel.ts";
import { Pool, type Pooled } from "./pool.ts";
import { CommandQueue } from "./queue.ts";

const kernelOf = (definition: Definition): WgslKernel | undefined =>
  "wgsl" in definition && !isMissing(definition.wgsl) ? (definition.wgsl as WgslKernel) : undefined;

const pooledOf = ({ buffer }: View): Pooled => buffer.memory as Pooled;

/** What the description says of subgroups. */
function subgroupLine(size: number | undefined, { subgroups = "rows", refused }: Choice): string {
  if (size === undefined) return "no subgroups";
  if (subgroups === false) return `subgroups are not used${refused ? `: ${refused}` : ""}`;
  const what = subgroups === true ? "sums and thin products" : "sums";
  return `${what} by subgroups of ${size} or more`;
}

/** Bytes of whole words for so many elements, at least one. */
const wordsFor = (elements: number, dtype: DType): number =>
  4 * Math.ceil((bytesOf(dtype) * Math.max(1, elements)) / 4);

/** What `values` are in memory, in whole words. */
function bytesToWrite(values: ArrayLike<number>, dtype: DType): ArrayBufferView<ArrayBuffer> {
  if (dtype === "f32") return Float32Array.from(values);
  if (dtype !== "f16") return Int32Array.from(values);
  const halves = new Uint16Array(wordsFor(values.length, dtype) / 2);
  for (let i = 0; i < values.length; i++) halves[i] = halfBits(values[i]!);
  return halves;
}

/** "matmul [2,3] [3,4]" */
const describe = ({ name }: Definition, { inputs }: KernelCall): string =>
  [name, ...inputs.map(({ shape }) => `[${shape.join()}]`)].join(" ");

/** What is left open by the adapter: how products are computed, and what models store. */
export interface Choice {
  readonly products?: Products;
  readonly storage?: "f32" | "f16";
  /** What uses the adapter's subgroups; see GpuOptions. */
  readonly subgroups?: boolean | "rows";
  /** Why nothing uses them, though the adapter has them. */
  readonly refused?: string;
}

export class WebGpuDevice implements Device {
  readonly name = "webgpu";
  readonly readsSync = false;
  /** What models keep weights and activations in. */
  readonly storage: "f32" | "f16";
  /** What kind of GPU this is, by adapter, driver and features. */
  readonly description: string;
  /** What matrix products compute with. */
  readonly products: Products;
  liveBuffers = 0;
  liveBytes = 0;
  peakBytes = 0;
  /** Threads of a subgroup, at least, where programs use them. */
  readonly subgroups: number | undefined;
  /** Whether products of few rows use them too. */
  readonly thinProducts: boolean;
  readonly #gpu: GPUDevice;
  readonly #pool: Pool;
  readonly #queue: CommandQueue;
  readonly #staging = new Map<number, GPUBuffer[]>();
  readonly #failures: Failures;

  constructor(gpu: Gpu, choice: Choice = {}) {
    const { device, name, provider, features, subgroupSize } = gpu;
    const { products = "f32", storage = "f32", subgroups = "rows" } = choice;
    this.subgroups = subgroups === false ? undefined : subgroupSize;
    this.thinProducts = subgroups === true && this.subgroups !== undefined;
    this.products = products;
    this.storage = storage;
    this.#gpu = device;
    this.#failures = new Failures(device);
    this.#pool = new Pool(device, this.#failures);
    this.#queue = new CommandQueue(device, this.#failures);
    const { maxStorageBufferBindingSize: binding, maxComputeInvocationsPerWorkgroup: threads } =
      device.limits;
    const through = provider === "dawn" ? "Dawn" : "navigator.gpu";
    const having = features.length === 0 ? "no optional features" : features.join(", ");
    this.description = [
      `${name} through ${through}`,
      having,
      `arrays up to ${Math.floor(binding / 2 ** 20)} MiB, ${threads} threads a workgroup`,
      subgroupLine(subgroupSize, choice),
      ...(products === "f16" ? ["f16 products on tiles"] : []),
      ...(products === "subgroup-matrix" ? ["f16 products on subgroup matrices"] : []),
      ...(storage === "f16" ? ["weights and activations stored in f16"] : []),
    ].join("; ");
    // Dawn in a process keeps it alive, and busy, for whoever waits for the loss of a device.
    if (provider === "own") device.lost.then((info) => this.#failures.lose(info));
    // Deno's own GPU corrupts the heap of a process that ends before its device.
    if (provider === "own") globalThis.process?.on?.("exit", () => device.destroy());
  }

  /** Dispatches so far, programs compiled, most arrays of one, bytes of buffers in use or kept. */
  get counts(): { dispatched: number; programs: number; mostArrays: number; pooledBytes: number } {
    const { dispatched, programs } = this.#queue;
    const { size, mostArrays } = programs;
    return { dispatched, programs: size, mostArrays, pooledBytes: this.#pool.held };
  }

  allocate(elements: number, dtype: DType): Buffer {
    const memory = this.#pool.take(wordsFor(elements, dtype));
    this.liveBuffers++;
    this.liveBytes += bytesOf(dtype) * elements;
    this.peakBytes = Math.max(this.peakBytes, this.liveBytes);
    return { memory, elements, dtype };
  }

  /** Commands run in their order, so memory can be taken again while they still use it. */
  free({ memory, elements, dtype }: Buffer): void {
    this.liveBuffers--;
    this.liveBytes -= bytesOf(dtype) * elements;
    this.#pool.give(memory as Pooled);
  }

  write(buffer: Buffer, values: ArrayLike<number>): void {
    this.#failures.check();
    if (values.length === 0) return;
    this.#queue.write(buffer.memory as Pooled, bytesToWrite(values, buffer.dtype));
  }

  readSync(): never {
    throw new Error("webgpu: values arrive later; use `await tensor.data()`, not dataSync or item");
  }

  async read(view: View): Promise<Float32Array | Int32Array> {
    this.#failures.check();
    const size = sizeOf(view.shape);
    const type = isReal(view.dtype) ? Float32Array : Int32Array;
    if (size === 0) return new type(0);
    const bytes = 4 * size;
    const staging = this.#takeStaging(bytes);
    this.#withTemporaries((gpu) => {
      const packed = gpu.packed(view.dtype === "f16" ? gpu.widened(view) : view);
      this.#queue.copyOut(pooledOf(packed), 4 * packed.offset, staging, bytes);
    });
    try {
      await awaited(staging.mapAsync(1, 0, bytes));
    } catch (error) {
      await this.#failures.settle();
      this.#failures.check();
      const never = new Promise<undefined>((resolve) => setTimeout(resolve, 1000, undefined));
      const info = await awaited(Promise.race([this.#gpu.lost, never]));
      if (info !== undefined) this.#failures.lose(info);
      this.#failures.check();
      throw new Error(`webgpu: reading ${bytes} bytes failed: ${error}`);
    }
    await this.#failures.settle();
    const values = new type(staging.getMappedRange(0, bytes).slice(0));
    staging.unmap();
    this.#staging.get(staging.size)!.push(staging);
    this.#failures.check();
    return values;
  }

  supports(definition: Definition): boolean {
    return isExpressed(definition) || kernelOf(definition) !== undefined;
  }

  run(definition: Definition, call: KernelCall): void {
    this.#failures.check();
    this.#failures.doing = () => describe(definition, call);
    if (isExpressed(definition)) {
      this.#withTemporaries((gpu) => runElementwise(gpu, definition, call));
      return;
    }
    const kernel = kernelOf(definition);
    if (kernel === undefined) {
      const { missing } = (definition as unknown as { wgsl: { missing: string } }).wgsl;
      throw new Error(`${definition.name}: no kernel on the webgpu device (${missing})`);
    }
    this.#withTemporaries((gpu) => {
      const packed = (view: View, i: number) => {
        const shape = operandShape(definition.shape, call, i);
        return gpu.packed({
          ...view,
          shape,
          strides: broadcastStrides(view.shape, view.strides, shape),
        });
      };
      const read = kernel.halves ? call.inputs : call.inputs.map(gpu.widened);
      const inputs = kernel.strided ? read : read.map(packed);
      kernel.run(gpu, { ...call, inputs });
    });
  }

  /** Runs programs of one's own: for benchmarks and probes. */
  launch(body: (gpu: Launcher) => void): void {
    this.#failures.check();
    this.#withTemporaries(body);
  }

  /**
   * Runs `body` and waits until the GPU has done what it asked for: seconds on the GPU by its own
   * time stamps (undefined where the adapter has none) and seconds on the clock.
   */
  async timed(body: () => void): Promise<{ gpu: number | undefined; wall: number }> {
    const stamped = this.#gpu.features.has("timestamp-query");
    await this.idle();
    if (stamped) this.#queue.startTimer();
    const start = performance.now();
    body();
    await this.idle();
    const wall = (performance.now() - start) / 1000;
    if (!stamped) return { gpu: undefined, wall };
    const { buffer, nanoseconds } = this.#queue.stopTimer();
    await awaited(buffer.mapAsync(1));
    return { gpu: nanoseconds() / 1e9, wall };
  }

  /** Sends all commands and waits until the GPU has run them. */
  async idle(): Promise<void> {
    this.#queue.submit();
    await awaited(this.#gpu.queue.onSubmittedWorkDone());
    await this.#failures.settle();
    this.#failures.check();
  }

  /** Ends the device; nothing can be done with its tensors any more. */
  destroy(): void {
    this.#gpu.destroy();
  }

  #withTemporaries(body: (gpu: Launcher) => void): void {
    const taken: Pooled[] = [];
    const temporary = (elements: number, dtype: DType = "f32"): View => {
      const memory = this.#pool.take(wordsFor(elements, dtype));
      taken.push(memory);
      const buffer = { memory, elements, dtype };
      return { buffer, dtype, shape: [elements], strides: [1], offset: 0 };
    };
    const copied = (view: View, dtype: DType): View => {
      const memory = temporary(sizeOf(view.shape), dtype);
      const target = { ...memory, shape: view.shape, strides: rowMajor(view.shape) };
      copy(gpu, view, target);
      return target;
    };
    const gpu: Launcher = {
      products: this.products,
      subgroups: this.subgroups,
      thinProducts: this.thinProducts,
      dispatch: (program) => this.#queue.dispatch(program),
      temporary,
      packed: (view) => (isContiguous(view.shape, view.strides) ? view : copied(view, view.dtype)),
      widened: (view) => (view.dtype === "f16" ? copied(view, "f32") : view),
    };
    try {
      body(gpu);
    } finally {
      for (const memory of taken) this.#pool.give(memory);
    }
  }

  #takeStaging(bytes: number): GPUBuffer {
    let size = 256;
    while (size < bytes) size *= 2;
    const kept = this.#staging.get(size);
    if (kept === undefined) this.#staging.set(size, []);
    return (
      kept?.pop() ??
      this.#failures.watch("out-of-memory", `out of memory: ${size} bytes to read`, () =>
        this.#gpu.createBuffer({ size, usage: 0x1 | 0x8 }),
      )
    );
  }
}
