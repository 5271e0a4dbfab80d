/** The wasm device: SIMD kernels assembled at start-up, one shared memory, worker threads. */

import { bytesOf, type DType } from "../../dtype.ts";
import { halfBits } from "../../half.ts";
import { type Definition, isMissing, type KernelCall } from "../../op.ts";
import { ops } from "../../ops/mod.ts";
import { broadcastStrides, isContiguous, rowMajor, type Shape, sizeOf } from "../../shape.ts";
import { operandShape } from "../../signature.ts";
import type { Buffer, Device, View } from "../device.ts";
import { emitElementwise, isExpressed, runElementwise } from "./elementwise.ts";
import { emitGemm } from "./gemm.ts";
import { emitHalves, hasHalves, widened, withHalves } from "./halves.ts";
import type { WasmKernel } from "./kernel.ts";
import { address, emitLaunch, packTo } from "./launch.ts";
import { createMachine, type Emitter, type Machine, type MachineOptions } from "./machine.ts";

const definitions: readonly Definition[] = Object.values(ops).map((op) => op.definition);

const kernelOf = (definition: Definition): WasmKernel | undefined =>
  "wasm" in definition && !isMissing(definition.wasm) ? (definition.wasm as WasmKernel) : undefined;

type Launch = (call: KernelCall) => void;

export interface WasmOptions extends MachineOptions {
  /** "f16": models keep weights and activations in two bytes wherever products read them. */
  readonly storage?: "f32" | "f16";
}

export class WasmDevice implements Device {
  readonly name = "wasm";
  readonly readsSync = true;
  readonly storage: "f32" | "f16";
  readonly machine: Machine;
  readonly #launches = new Map<Definition, Launch>();

  constructor(options: WasmOptions = {}) {
    this.storage = options.storage ?? "f32";
    const own = definitions.map(
      (definition): Emitter =>
        (m) => {
          if (isExpressed(definition)) emitElementwise(m, definition);
          else kernelOf(definition)?.emit?.(m);
        },
    );
    this.machine = createMachine([emitLaunch, emitGemm, emitHalves, ...own], options);
  }

  get liveBuffers(): number {
    return this.machine.arena.live;
  }
  get liveBytes(): number {
    return this.machine.arena.liveBytes;
  }
  get peakBytes(): number {
    return this.machine.arena.peakBytes;
  }

  allocate(elements: number, dtype: DType): Buffer {
    const memory = this.machine.arena.allocate(Math.max(elements, 1) * bytesOf(dtype));
    return { memory, elements, dtype };
  }

  free(buffer: Buffer): void {
    this.machine.arena.free(buffer.memory as number);
  }

  write({ memory, dtype }: Buffer, values: ArrayLike<number>): void {
    if (dtype === "f16") {
      const halves = new Uint16Array(this.machine.memory.buffer, memory as number, values.length);
      for (let i = 0; i < values.length; i++) halves[i] = halfBits(values[i]!);
      return;
    }
    const target = dtype === "f32" ? this.machine.f32 : this.machine.i32;
    target.set(values, (memory as number) / 4);
  }

  readSync(view: View): Float32Array | Int32Array {
    if (view.dtype === "f16") {
      const wide = widened(this.machine, view);
      try {
        return this.readSync(wide);
      } finally {
        this.machine.arena.free(wide.memory);
      }
    }
    const size = sizeOf(view.shape);
    return this.#withPacked(view, (at) => {
      const source = view.dtype === "f32" ? this.machine.f32 : this.machine.i32;
      // slice() of a shared view stays shared; a copy of one's own is wanted.
      const copy = view.dtype === "f32" ? new Float32Array(size) : new Int32Array(size);
      copy.set(source.subarray(at / 4, at / 4 + size));
      return copy;
    });
  }

  async read(view: View): Promise<Float32Array | Int32Array> {
    return this.readSync(view);
  }

  supports(definition: Definition): boolean {
    return isExpressed(definition) || kernelOf(definition) !== undefined;
  }

  run(definition: Definition, call: KernelCall): void {
    let launch = this.#launches.get(definition);
    if (launch === undefined) {
      launch = this.#launchOf(definition);
      this.#launches.set(definition, launch);
    }
    if (hasHalves(call)) withHalves(this.machine, call, launch);
    else launch(call);
  }

  #launchOf(definition: Definition): Launch {
    const kernel = kernelOf(definition);
    if (isExpressed(definition)) return (call) => runElementwise(this.machine, definition, call);
    if (kernel?.strided) return (call) => kernel.run(this.machine, call);
    if (kernel !== undefined) return (call) => this.#runPacked(kernel, definition, call);
    const { missing } = (definition as { wasm: { missing: string } }).wasm;
    throw new Error(`${definition.name}: no kernel on the wasm device (${missing})`);
  }

  /** Runs a kernel that reads packed memory only; copies of strided inputs are freed behind it. */
  #runPacked(kernel: WasmKernel, definition: Definition, call: KernelCall): void {
    const temporary: number[] = [];
    try {
      const inputs = call.inputs.map((view, i) =>
        this.#pack(view, operandShape(definition.shape, call, i), temporary),
      );
      kernel.run(this.machine, { ...call, inputs });
    } finally {
      for (const memory of temporary) this.machine.arena.free(memory);
    }
  }

  /** The view itself where it lies packed in this shape, else a packed copy. */
  #pack(view: View, shape: Shape, temporary: number[]): View {
    const strides = broadcastStrides(view.shape, view.strides, shape);
    if (isContiguous(shape, strides)) return { ...view, shape, strides };
    const memory = this.machine.arena.allocate(sizeOf(shape) * 4);
    temporary.push(memory);
    packTo(this.machine, { ...view, shape, strides }, memory);
    const buffer = { memory, elements: sizeOf(shape), dtype: view.dtype };
    return { buffer, dtype: view.dtype, shape, strides: rowMajor(shape), offset: 0 };
  }

  #withPacked<T>(view: View, use: (address: number) => T): T {
    if (isContiguous(view.shape, view.strides)) return use(address(view));
    const memory = this.machine.arena.allocate(sizeOf(view.shape) * 4);
    try {
      packTo(this.machine, view, memory);
      return use(memory);
    } finally {
      this.machine.arena.free(memory);
    }
  }
}
