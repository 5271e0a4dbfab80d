/** Threads that run kernels side by side: jobs pass through Atomics on shared memory. */

import type { MessagePort } from "node:worker_threads";
import { builtin } from "../../runtime.ts";
import type { Dispatched } from "./dispatch.ts";
import { LAYOUT, SHARED, STATE, WATCHER, WORKER } from "./worker_program.ts";

export { CONTROL_BYTES } from "./worker_program.ts";

/** Work, in nanoseconds, that repays handing chunks to a worker that spins, or that sleeps. */
const WORTH_SHARING = 4_000;
const WORTH_WAKING = 50_000;
/** Work that repays starting the workers, which takes 15 to 60 ms (not of the caller's time). */
const WORTH_STARTING = 200_000;
/** More chunks than threads even out their speeds; fewer cost less. */
const CHUNKS_PER_THREAD = 4;
/** Milliseconds without an end of the workers' chunks after which the caller asks if they live. */
const DOUBT_MS = 500;

const threadsModule = builtin<typeof import("node:worker_threads")>("worker_threads");
const MASK = (1 << LAYOUT.CHUNK_BITS) - 1;
const pause = (Atomics as { pause?: () => void }).pause ?? (() => {});

export interface PoolOptions {
  readonly module: WebAssembly.Module;
  readonly memory: WebAssembly.Memory;
  /** Address of CONTROL_BYTES zeroed bytes, a multiple of 64. */
  readonly control: number;
  /** All threads, the caller's included. */
  readonly threads: number;
  /** Address of the private scratch memory of thread 1, 2, ... */
  readonly scratch: (thread: number) => number;
  /** The module's run_kernel on this thread: see dispatch.ts. */
  readonly run: (kernel: number, args: number, begin: number, end: number) => void;
  /** What the workers run; tests add faults to it. */
  readonly program?: string;
}

/** How a job may be cut (at multiples of `grain`), and about how many nanoseconds it takes. */
export interface Sharing {
  readonly grain: number;
  readonly work: number;
}

export class WorkerPool {
  /** Jobs that were worth handing to ready workers; how often those that sleep were to be woken. */
  jobs = 0;
  wakes = 0;
  private readonly options: PoolOptions;
  private readonly words: Int32Array;
  private readonly floats: Float32Array;
  /** This side of the workers' ports; the watcher's once there is one. */
  private ports: [worker: number, port: MessagePort][] = [];
  private started = false;
  private watched = false;
  private job = 0;
  /** Work done since sleeping workers were last woken. */
  private unshared = 0;

  constructor(options: PoolOptions) {
    this.options = options;
    const { memory, control } = options;
    this.words = new Int32Array(memory.buffer, control, LAYOUT.TEXT);
    this.floats = new Float32Array(memory.buffer, control, LAYOUT.TEXT);
  }

  /** Workers at work or waiting for it. They report 15 to 60 ms after `start`, on their own. */
  get ready(): number {
    return Atomics.load(this.words, LAYOUT.READY);
  }

  /** Starts the workers, once; returns at once. Where none can start, one thread does it all. */
  start(): void {
    if (this.started || threadsModule === undefined) return;
    this.started = true;
    const { module, memory, control, threads, scratch, program = WORKER } = this.options;
    for (let worker = 1; worker < threads; worker++) {
      const { port1: port, port2: other } = new threadsModule.MessageChannel();
      const data = { module, memory, control, worker, port, scratch: scratch(worker), ...SHARED };
      // One that fails to start never reports ready, so no job depends on it.
      if (!startThread(program, data, [port])) return;
      other.unref();
      this.ports.push([worker, other]);
    }
  }

  /**
   * Calls `kernel(...args, begin, end)` for ranges that cover [0, total) once, cut at multiples of
   * `grain`, on all threads where `work` repays it. Returns when all have ended. An error on any
   * thread is thrown here, after that; so is the end of a worker's thread in the middle of its work
   * (whatever ended it), after which the other threads go on.
   */
  run(kernel: Dispatched, args: readonly number[], total: number, { grain, work }: Sharing): void {
    if (work >= WORTH_STARTING) this.start();
    this.writeArguments(kernel, args);
    const { ready } = this;
    const grains = Math.ceil(total / grain);
    const worthwhile = Math.ceil(work / WORTH_SHARING);
    const chunks = Math.min(grains, worthwhile, CHUNKS_PER_THREAD * (ready + 1));
    if (chunks < 2 || ready === 0 || !this.worthPosting(work, ready)) {
      this.options.run(kernel.index, this.argumentsAt, 0, total);
      return;
    }
    const { words } = this;
    words[LAYOUT.KERNEL] = kernel.index;
    words[LAYOUT.CHUNKS] = chunks;
    words[LAYOUT.GRAINS] = grains;
    words[LAYOUT.GRAIN] = grain;
    words[LAYOUT.TOTAL] = total;
    this.post(chunks);
    this.help(kernel, chunks);
    if (Atomics.load(words, LAYOUT.ERROR_WORKER) !== 0) this.rethrow(kernel);
  }

  private get argumentsAt(): number {
    return this.options.control + 4 * LAYOUT.ARGUMENTS;
  }

  private writeArguments({ name, types }: Dispatched, args: readonly number[]): void {
    const { words, floats } = this;
    if (args.length !== types.length) {
      throw new TypeError(`kernel "${name}" takes ${types.length} arguments, got ${args.length}`);
    }
    for (let i = 0; i < args.length; i++) {
      const target = types[i] === "f32" ? floats : words;
      target[LAYOUT.ARGUMENTS + i] = args[i]!;
    }
  }

  /** Whether a worker is awake, or to be woken: for small jobs that follow each other, together. */
  private worthPosting(work: number, ready: number): boolean {
    const { words } = this;
    this.jobs++;
    this.unshared += work;
    if (this.unshared < WORTH_WAKING) return Atomics.load(words, LAYOUT.SLEEPERS) < ready;
    return true;
  }

  /** Opens all chunks but the last one, which the caller itself starts with. */
  private post(chunks: number): void {
    const { words } = this;
    words[LAYOUT.DONE] = 0;
    words[LAYOUT.ERROR_WORKER] = 0;
    this.job++;
    Atomics.store(words, LAYOUT.CLAIM, (this.job << LAYOUT.CHUNK_BITS) | (chunks - 1));
    if (this.unshared < WORTH_WAKING) return;
    this.unshared = 0;
    this.wakes++;
    if (Atomics.load(words, LAYOUT.SLEEPERS) > 0) Atomics.notify(words, LAYOUT.CLAIM);
  }

  /** The caller's part: chunks until none is left to claim, then waiting for those of others. */
  private help(kernel: Dispatched, chunks: number): void {
    const { argumentsAt } = this;
    const { run } = this.options;
    let failure: unknown;
    let own = 0;
    for (let left = chunks; left > 0; left = this.claim()) {
      own++;
      try {
        run(kernel.index, argumentsAt, this.cut(left - 1), this.cut(left));
      } catch (error) {
        failure ??= error;
      }
    }
    this.finish(kernel, chunks - own);
    if (failure !== undefined) throw failed(kernel, "the calling thread", failure);
  }

  /** Where a chunk begins, and the one before it ends. */
  private cut(chunk: number): number {
    const { words } = this;
    const grains = Math.floor((words[LAYOUT.GRAINS]! * chunk) / words[LAYOUT.CHUNKS]!);
    return Math.min(words[LAYOUT.TOTAL]!, grains * words[LAYOUT.GRAIN]!);
  }

  /** The number of a chunk, counted from 1; 0 when none is left. */
  private claim(): number {
    const { words } = this;
    for (;;) {
      const claim = Atomics.load(words, LAYOUT.CLAIM);
      const left = claim & MASK;
      if (left === 0) return 0;
      if (Atomics.compareExchange(words, LAYOUT.CLAIM, claim, claim - 1) === claim) return left;
    }
  }

  /** Waits until the chunks that workers claimed have ended. */
  private finish(kernel: Dispatched, chunks: number): void {
    const { words } = this;
    if (Atomics.load(words, LAYOUT.DONE) === chunks) return;
    const until = performance.now() + LAYOUT.SPIN_MS;
    for (let turn = 1; ; turn++) {
      if (Atomics.load(words, LAYOUT.DONE) === chunks) return;
      pause();
      if (turn % 64 !== 0 || performance.now() < until) continue;
      this.throwIfLost(kernel, chunks);
      this.sleep(chunks);
    }
  }

  /** Sleeps until a worker ends a chunk or its thread; when that takes long, asks for the latter. */
  private sleep(chunks: number): void {
    const { words } = this;
    Atomics.store(words, LAYOUT.CALLER_SLEEPS, 1);
    const done = Atomics.load(words, LAYOUT.DONE);
    const late =
      done !== chunks && Atomics.wait(words, LAYOUT.DONE, done, DOUBT_MS) === "timed-out";
    Atomics.store(words, LAYOUT.CALLER_SLEEPS, 0);
    if (late) this.watch();
  }

  /** Starts the thread that is told which workers' threads have ended, even before it started. */
  private watch(): void {
    if (this.watched) return;
    this.watched = true;
    const { memory, control } = this.options;
    const { ports } = this;
    const transfer = ports.map(([, port]) => port);
    startThread(WATCHER, { memory, control, ports, ...SHARED }, transfer);
    this.ports = [];
  }

  /** A chunk is lost when one is missing though every worker is idle, or gone. */
  private throwIfLost(kernel: Dispatched, chunks: number): void {
    const { words } = this;
    let gone = 0;
    for (let worker = 1; worker < this.options.threads; worker++) {
      const state = Atomics.load(words, LAYOUT.STATES + worker * LAYOUT.STATE_WORDS);
      if (state === STATE.BUSY) return;
      if (state === STATE.GONE) gone = worker;
    }
    if (gone === 0 || Atomics.load(words, LAYOUT.DONE) === chunks) return;
    const left = this.ready + 1;
    throw failed(
      kernel,
      `worker ${gone}`,
      `its thread ended before its share of the work did, so the result is incomplete; ` +
        `from now on there ${left === 1 ? "is 1 thread" : `are ${left} threads`}`,
    );
  }

  private rethrow(kernel: Dispatched): never {
    const { words } = this;
    const { memory, control } = this.options;
    const worker = Atomics.exchange(words, LAYOUT.ERROR_WORKER, 0);
    const length = Atomics.load(words, LAYOUT.ERROR);
    // TextDecoder refuses shared memory, so the bytes are copied.
    const bytes = new Uint8Array(memory.buffer, control + 4 * LAYOUT.TEXT, length).slice();
    throw failed(kernel, `worker ${worker}`, new TextDecoder().decode(bytes));
  }
}

/** Starts a thread that does not keep the process alive; false where none can be had. */
function startThread(program: string, workerData: object, transferList: MessagePort[]): boolean {
  try {
    const thread = new threadsModule!.Worker(program, { eval: true, workerData, transferList });
    thread.on("error", () => {});
    thread.unref();
    return true;
  } catch {
    return false;
  }
}

function failed({ name }: Dispatched, where: string, cause: unknown): Error {
  return new Error(`kernel "${name}" failed on ${where}: ${cause}`, { cause });
}
