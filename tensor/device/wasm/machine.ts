/** The machine under the wasm device: one module of kernels, one memory, its arena and threads. */

import { builtin, environment } from "../../runtime.ts";
import { Arena } from "./arena.ts";
import { CONSTANTS_END, ModuleBuilder } from "./assembler.ts";
import { DISPATCH, emitDispatch } from "./dispatch.ts";
import { type Choice, chooseProfile, type ProfileOptions } from "./profile.ts";
import type { Profile } from "./tile.ts";
import { CONTROL_BYTES, type PoolOptions, WorkerPool } from "./workers.ts";

export interface MachineOptions extends ProfileOptions {
  /** Threads, the caller's included; default ANAMNESIS_THREADS, else one per core, at most 8. */
  readonly threads?: number;
}

/** Each thread's scratch memory (the address is the assembler's `scratch`). */
export const SCRATCH_BYTES = 4 << 20;

const CONTROL = CONSTANTS_END;
const SCRATCH = Math.ceil((CONTROL + CONTROL_BYTES) / 65536) * 65536;
const MAXIMUM_THREADS = 64;

export interface Machine {
  readonly memory: WebAssembly.Memory;
  readonly arena: Arena;
  readonly threads: number;
  /** How its GEMM kernels are generated, and why they are not wide where that was asked for. */
  readonly choice: Choice;
  /** Views of the whole memory, renewed when it grows: element index = address / 4. */
  readonly f32: Float32Array;
  readonly i32: Int32Array;
  readonly u32: Uint32Array;
  readonly u8: Uint8Array;
  /** Runs a kernel on this thread. */
  call(kernel: string, ...args: number[]): number;
  /**
   * Runs `kernel(...args, begin, end)` over [0, total), cut at multiples of `grain` and shared
   * among the threads when `work` (about the nanoseconds that one thread needs) repays it.
   */
  parallel(
    kernel: string,
    args: readonly number[],
    total: number,
    options: { readonly grain: number; readonly work: number },
  ): void;
  /** Jobs that were worth handing to ready workers so far, and wake-ups of sleeping workers. */
  readonly handedOut: { readonly jobs: number; readonly wakes: number };
  /** Starts the workers and waits for them, at most `timeout` ms; how many threads are ready. */
  warmUp(timeout?: number): number;
  /** The kernels in the WebAssembly text format: all, or one by name. */
  wat(kernel?: string): string;
}

function threadCount(option: number | undefined): number {
  const variable = environment.ANAMNESIS_THREADS;
  // A browser's page runs kernels on its own thread.
  const cores = builtin<typeof import("node:os")>("os")?.availableParallelism() ?? 1;
  const count =
    option ?? (variable === undefined || variable === "" ? Math.min(cores, 8) : Number(variable));
  if (Number.isInteger(count) && count >= 1 && count <= MAXIMUM_THREADS) return count;
  const source = option === undefined ? "ANAMNESIS_THREADS" : "threads";
  throw new RangeError(
    `${source} is ${option ?? variable}: expected a whole number, 1 to ${MAXIMUM_THREADS}`,
  );
}

/** Adds functions to a machine's module. */
export type Emitter = (m: ModuleBuilder, profile: Profile) => void;

/** Assembles and compiles the kernels that the emitters define, and sets up memory and threads. */
export function createMachine(emitters: readonly Emitter[], options: MachineOptions = {}): Machine {
  const threads = threadCount(options.threads);
  const choice = chooseProfile(options);
  const builder = new ModuleBuilder();
  for (const emit of emitters) emit(builder, choice.profile);
  const find = emitDispatch(builder);
  const module = new WebAssembly.Module(builder.bytes());
  const start = SCRATCH + threads * SCRATCH_BYTES;
  const initial = Math.ceil(start / 65536) + 16;
  const memory = new WebAssembly.Memory({ initial, maximum: 65536, shared: true });
  const scratchOf = (thread: number) => SCRATCH + thread * SCRATCH_BYTES;
  const scratch = new WebAssembly.Global({ value: "i32" }, scratchOf(0));
  const { exports } = new WebAssembly.Instance(module, { env: { memory, scratch } });
  const run = exports[DISPATCH] as PoolOptions["run"];
  const control = CONTROL;
  const pool = new WorkerPool({ module, memory, control, threads, scratch: scratchOf, run });
  const viewAll = () => ({
    f32: new Float32Array(memory.buffer),
    i32: new Int32Array(memory.buffer),
    u32: new Uint32Array(memory.buffer),
    u8: new Uint8Array(memory.buffer),
  });
  let views = viewAll();
  const arena = new Arena(memory, start, () => {
    views = viewAll();
  });
  return {
    memory,
    arena,
    threads,
    choice,
    get f32() {
      return views.f32;
    },
    get i32() {
      return views.i32;
    },
    get u32() {
      return views.u32;
    },
    get u8() {
      return views.u8;
    },
    get handedOut() {
      return { jobs: pool.jobs, wakes: pool.wakes };
    },
    call(kernel, ...args) {
      const run = exports[kernel] as ((...args: number[]) => number) | undefined;
      if (run === undefined) throw new Error(`no kernel "${kernel}" in this machine's module`);
      return run(...args);
    },
    parallel(kernel, args, total, shares) {
      if (total === 0) return;
      pool.run(find(kernel), args, total, shares);
    },
    warmUp(timeout = 1000) {
      pool.start();
      const until = performance.now() + timeout;
      const pause = new Int32Array(new SharedArrayBuffer(4));
      while (pool.ready < threads - 1 && performance.now() < until) Atomics.wait(pause, 0, 0, 1);
      return pool.ready + 1;
    },
    wat: (kernel) => builder.wat(kernel),
  };
}
