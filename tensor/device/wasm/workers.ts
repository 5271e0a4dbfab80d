/** Threads that run kernels side by side: jobs and results pass through Atomics on shared memory. */
import { Worker } from "node:worker_threads";

/**
 * Layout of the control area, in 32-bit words. Each worker has two cache lines of its own:
 * JOB (number of the job to do; the worker sleeps on it), KERNEL, ARGUMENTS (their count), BEGIN
 * and END on the first; DONE (number of the job done; the caller sleeps on it), STATE and ERROR
 * (length of the error's text) on the second. Arguments (f64) and texts follow.
 */
const LAYOUT = {
  STRIDE: 32,
  JOB: 0,
  KERNEL: 1,
  ARGUMENTS: 2,
  BEGIN: 3,
  END: 4,
  DONE: 16,
  STATE: 17,
  ERROR: 18,
  VALUES: 32 * 64,
  TEXTS: 32 * 64 + 128,
  TEXT_BYTES: 256,
  /** A worker waits this long for the next job before it sleeps: waking costs about 25 us. */
  SPIN_MS: 0.05,
  STARTING: 0,
  SPINNING: 1,
  ASLEEP: 2,
  FAILED: 3,
} as const;
const { STRIDE, JOB, DONE, STATE, ERROR, VALUES, TEXTS, TEXT_BYTES } = LAYOUT;

/** Bytes of the control area. */
export const CONTROL_BYTES = 4 * TEXTS + 64 * TEXT_BYTES;
const MAXIMUM_ARGUMENTS = 64;

/**
 * A worker's program. A source string needs no file permission (Deno) and survives bundlers. Its
 * parameter L is LAYOUT.
 */
const SOURCE = `import("node:worker_threads").then(async ({ workerData }) => {
  const { module, memory, scratch, control, slot, L } = workerData;
  const words = new Int32Array(memory.buffer, control);
  const values = new Float64Array(memory.buffer, control + 4 * L.VALUES, 64);
  const base = slot * L.STRIDE;
  const pause = Atomics.pause ?? (() => {});
  let kernels;
  try {
    const env = { memory, scratch: new WebAssembly.Global({ value: "i32" }, scratch) };
    const { exports } = new WebAssembly.Instance(module, { env });
    kernels = WebAssembly.Module.exports(module).map(({ name }) => exports[name]);
  } catch {
    Atomics.store(words, base + L.STATE, L.FAILED);
    return;
  }
  const report = (error) => {
    const text = new TextEncoder().encode(String(error?.message ?? error)).slice(0, L.TEXT_BYTES);
    const at = control + 4 * L.TEXTS + slot * L.TEXT_BYTES;
    new Uint8Array(memory.buffer, at, L.TEXT_BYTES).set(text);
    Atomics.store(words, base + L.ERROR, text.length || 1);
  };
  const waitForJob = (done) => {
    Atomics.store(words, base + L.STATE, L.SPINNING);
    const until = performance.now() + L.SPIN_MS;
    do {
      for (let turn = 0; turn < 64; turn++) {
        const job = Atomics.load(words, base + L.JOB);
        if (job !== done) return job;
        pause();
      }
    } while (performance.now() < until);
    Atomics.store(words, base + L.STATE, L.ASLEEP);
    let job = done;
    while (job === done) {
      Atomics.wait(words, base + L.JOB, done);
      job = Atomics.load(words, base + L.JOB);
    }
    return job;
  };
  for (let job = 0; ; ) {
    job = waitForJob(job);
    const args = Array.from(values.subarray(0, words[base + L.ARGUMENTS]));
    try {
      kernels[words[base + L.KERNEL]](...args, words[base + L.BEGIN], words[base + L.END]);
    } catch (error) {
      report(error);
    }
    Atomics.store(words, base + L.DONE, job);
    Atomics.notify(words, base + L.DONE);
  }
});`;

/** Work, in nanoseconds, that repays handing a share to a worker that spins, or that sleeps. */
const WORTH_SPINNING = 4_000;
const WORTH_WAKING = 60_000;
/** Work that repays starting the workers, which takes 15 to 60 ms (but not of the caller's time). */
const WORTH_STARTING = 200_000;

export interface PoolOptions {
  readonly module: WebAssembly.Module;
  readonly memory: WebAssembly.Memory;
  /** Address of CONTROL_BYTES zeroed bytes, a multiple of 64. */
  readonly control: number;
  /** All threads, the caller's included. */
  readonly threads: number;
  /** Address of the private scratch memory of thread 1, 2, ... */
  readonly scratch: (thread: number) => number;
}

type Kernel = (...args: number[]) => unknown;

export class WorkerPool {
  private readonly options: PoolOptions;
  private readonly words: Int32Array;
  private readonly values: Float64Array;
  private started: Worker[] | undefined;
  private job = 0;

  constructor(options: PoolOptions) {
    this.options = options;
    const { buffer } = options.memory;
    this.words = new Int32Array(buffer, options.control, CONTROL_BYTES / 4);
    this.values = new Float64Array(buffer, options.control + 4 * VALUES, MAXIMUM_ARGUMENTS);
  }

  /** Workers that wait for jobs. They report within 15 to 60 ms of `start`, without the event loop. */
  get ready(): number {
    let count = 0;
    for (let slot = 0; slot < (this.started?.length ?? 0); slot++) {
      const state = Atomics.load(this.words, slot * STRIDE + STATE);
      if (state === LAYOUT.SPINNING || state === LAYOUT.ASLEEP) count++;
    }
    return count;
  }

  /** Starts the workers, once; returns at once. A runtime that cannot start any stays at one thread. */
  start(): void {
    if (this.started !== undefined) return;
    this.started = [];
    const { module, memory, control, threads, scratch } = this.options;
    for (let slot = 0; slot < threads - 1; slot++) {
      const workerData = { module, memory, control, slot, scratch: scratch(slot + 1), L: LAYOUT };
      try {
        const worker = new Worker(SOURCE, { eval: true, workerData });
        worker.on("error", () => Atomics.store(this.words, slot * STRIDE + STATE, LAYOUT.FAILED));
        worker.unref();
        this.started.push(worker);
      } catch {
        return;
      }
    }
  }

  /**
   * Calls `kernel(...args, begin, end)` so that the ranges cover [0, total) once, cut at multiples
   * of `grain`, on as many threads as `work` nanoseconds repay. Returns when all are done. An error
   * on any thread is thrown here, after the others have ended.
   */
  run(
    name: string,
    index: number,
    kernel: Kernel,
    args: readonly number[],
    total: number,
    { grain, work }: { grain: number; work: number },
  ): void {
    const chunks = Math.ceil(total / grain);
    const helpers = work < WORTH_SPINNING || chunks < 2 ? [] : this.helpers(work, chunks - 1);
    if (helpers.length === 0) return void kernel(...args, 0, total);
    if (args.length > MAXIMUM_ARGUMENTS) {
      throw new RangeError(`${name}: ${args.length} arguments, at most ${MAXIMUM_ARGUMENTS}`);
    }
    this.values.set(args);
    this.job = (this.job + 1) | 0;
    const shares = helpers.length + 1;
    const cut = (share: number) => Math.min(total, Math.floor((chunks * share) / shares) * grain);
    for (let share = 1; share < shares; share++) {
      this.post(helpers[share - 1]!, index, args.length, cut(share), cut(share + 1));
    }
    let failure: unknown;
    try {
      kernel(...args, 0, cut(1));
    } catch (error) {
      failure = error;
    }
    for (const slot of helpers) failure = this.finish(slot, name) ?? failure;
    if (failure !== undefined) throw failure;
  }

  /** Slots of the workers that take part. */
  private helpers(work: number, most: number): number[] {
    if (this.started === undefined && work >= WORTH_STARTING) this.start();
    const chosen: number[] = [];
    for (let slot = 0; slot < (this.started?.length ?? 0) && chosen.length < most; slot++) {
      const state = Atomics.load(this.words, slot * STRIDE + STATE);
      const worth = (chosen.length + 1) * (state === LAYOUT.ASLEEP ? WORTH_WAKING : WORTH_SPINNING);
      if ((state === LAYOUT.SPINNING || state === LAYOUT.ASLEEP) && work >= worth)
        chosen.push(slot);
    }
    return chosen;
  }

  private post(slot: number, kernel: number, count: number, begin: number, end: number): void {
    const { words } = this;
    const base = slot * STRIDE;
    words[base + LAYOUT.KERNEL] = kernel;
    words[base + LAYOUT.ARGUMENTS] = count;
    words[base + LAYOUT.BEGIN] = begin;
    words[base + LAYOUT.END] = end;
    words[base + ERROR] = 0;
    Atomics.store(words, base + JOB, this.job);
    Atomics.notify(words, base + JOB);
  }

  /** Waits until a worker has done its share; its error, if it had one. */
  private finish(slot: number, name: string): Error | undefined {
    const { words } = this;
    const base = slot * STRIDE;
    const until = performance.now() + LAYOUT.SPIN_MS;
    for (let turn = 0; ; turn++) {
      const done = Atomics.load(words, base + DONE);
      if (done === this.job) break;
      if (turn % 64 === 63 && performance.now() > until) Atomics.wait(words, base + DONE, done);
    }
    const length = Atomics.load(words, base + ERROR);
    if (length === 0) return undefined;
    const { memory, control } = this.options;
    const at = control + 4 * TEXTS + slot * TEXT_BYTES;
    // TextDecoder refuses shared memory, so the bytes are copied.
    const text = new TextDecoder().decode(new Uint8Array(memory.buffer, at, length).slice());
    return new Error(`kernel "${name}" failed on worker ${slot + 1}: ${text}`);
  }
}
