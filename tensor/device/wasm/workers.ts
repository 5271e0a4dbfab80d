/** Threads that run kernels side by side: jobs pass through Atomics on shared memory. */
import { Worker } from "node:worker_threads";

/**
 * Layout of the control area, in 32-bit words; what different threads write lies on different cache
 * lines. A job is cut into chunks, which the caller and the workers claim one by one, so a worker
 * that wakes late or is delayed by the system holds up one chunk at most, and never a whole share.
 */
const LAYOUT = {
  /** Job number << CHUNK_BITS | next chunk to claim; all ones in the low bits: closed. */
  CLAIM: 0,
  CHUNK_BITS: 12,
  /** Chunks that have ended. The caller sleeps on it. */
  DONE: 16,
  /** Counts jobs. Workers sleep on it. */
  WAKE: 32,
  SLEEPERS: 48,
  READY: 49,
  /** Bytes of the text of the first error, and the worker that had it. */
  ERROR: 64,
  ERROR_WORKER: 65,
  /** The job: chunks, kernel, count of arguments, grains, elements a grain and in total. */
  CHUNKS: 80,
  KERNEL: 81,
  ARGUMENTS: 82,
  GRAINS: 83,
  GRAIN: 84,
  TOTAL: 85,
  /** Arguments, as f64. */
  VALUES: 128,
  MAXIMUM_ARGUMENTS: 64,
  TEXT: 256,
  TEXT_BYTES: 1024,
  /** A worker waits this long for the next job before it sleeps: waking costs about 25 us. */
  SPIN_MS: 0.05,
} as const;

/** Bytes of the control area. */
export const CONTROL_BYTES = 4 * LAYOUT.TEXT + LAYOUT.TEXT_BYTES;

/**
 * A worker's program. A source string needs no file permission (Deno) and survives bundlers. L is
 * LAYOUT. What is read after a successful claim belongs to the claimed job, which cannot end before
 * the claimed chunk has.
 */
const SOURCE = `import("node:worker_threads").then(({ workerData }) => {
  const { module, memory, scratch, control, worker, L } = workerData;
  const words = new Int32Array(memory.buffer, control, L.TEXT);
  const values = new Float64Array(memory.buffer, control + 4 * L.VALUES, L.MAXIMUM_ARGUMENTS);
  const mask = (1 << L.CHUNK_BITS) - 1;
  const pause = Atomics.pause ?? (() => {});
  const env = { memory, scratch: new WebAssembly.Global({ value: "i32" }, scratch) };
  const { exports } = new WebAssembly.Instance(module, { env });
  const kernels = WebAssembly.Module.exports(module).map(({ name }) => exports[name]);
  const report = (error) => {
    if (Atomics.compareExchange(words, L.ERROR_WORKER, 0, worker) !== 0) return;
    const text = new TextEncoder().encode(String(error?.message ?? error)).slice(0, L.TEXT_BYTES);
    new Uint8Array(memory.buffer, control + 4 * L.TEXT, L.TEXT_BYTES).set(text);
    Atomics.store(words, L.ERROR, text.length);
  };
  const cut = (chunk) => {
    const grains = Math.floor((words[L.GRAINS] * chunk) / words[L.CHUNKS]);
    return Math.min(words[L.TOTAL], grains * words[L.GRAIN]);
  };
  const runChunks = () => {
    for (;;) {
      const claim = Atomics.load(words, L.CLAIM);
      const chunk = claim & mask;
      if (chunk >= Atomics.load(words, L.CHUNKS)) return;
      if (Atomics.compareExchange(words, L.CLAIM, claim, claim + 1) !== claim) continue;
      try {
        const args = Array.from(values.subarray(0, words[L.ARGUMENTS]));
        kernels[words[L.KERNEL]](...args, cut(chunk), cut(chunk + 1));
      } catch (error) {
        report(error);
      }
      const chunks = words[L.CHUNKS];
      if (Atomics.add(words, L.DONE, 1) + 1 === chunks) Atomics.notify(words, L.DONE);
    }
  };
  const waitForJob = (last) => {
    const until = performance.now() + L.SPIN_MS;
    do {
      for (let turn = 0; turn < 64; turn++) {
        if (Atomics.load(words, L.WAKE) !== last) return;
        pause();
      }
    } while (performance.now() < until);
    Atomics.add(words, L.SLEEPERS, 1);
    Atomics.wait(words, L.WAKE, last);
    Atomics.sub(words, L.SLEEPERS, 1);
  };
  Atomics.add(words, L.READY, 1);
  for (;;) {
    const job = Atomics.load(words, L.WAKE);
    runChunks();
    waitForJob(job);
  }
}, () => {});`;

/** Work, in nanoseconds, that repays handing chunks to a worker that spins, or that sleeps. */
const WORTH_SHARING = 4_000;
const WORTH_WAKING = 50_000;
/** Work that repays starting the workers, which takes 15 to 60 ms (not of the caller's time). */
const WORTH_STARTING = 200_000;
/** More chunks than threads even out their speeds; fewer cost less. */
const CHUNKS_PER_THREAD = 4;

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

/** A kernel to be called as run(...args, begin, end); index: its place in the module's exports. */
export interface Kernel {
  readonly name: string;
  readonly index: number;
  readonly run: (...args: number[]) => unknown;
}

/** How a job may be cut (at multiples of `grain`), and about how many nanoseconds it takes. */
export interface Sharing {
  readonly grain: number;
  readonly work: number;
}

export class WorkerPool {
  private readonly options: PoolOptions;
  private readonly words: Int32Array;
  private readonly values: Float64Array;
  private started = false;
  private job = 0;
  /** Work done since sleeping workers were last woken. */
  private unshared = 0;

  constructor(options: PoolOptions) {
    this.options = options;
    const { memory, control } = options;
    this.words = new Int32Array(memory.buffer, control, LAYOUT.TEXT);
    const values = control + 4 * LAYOUT.VALUES;
    this.values = new Float64Array(memory.buffer, values, LAYOUT.MAXIMUM_ARGUMENTS);
  }

  /** Workers at work or waiting for it. They report 15 to 60 ms after `start`, on their own. */
  get ready(): number {
    return Atomics.load(this.words, LAYOUT.READY);
  }

  /** Starts the workers, once; returns at once. Where none can start, one thread does it all. */
  start(): void {
    if (this.started) return;
    this.started = true;
    const { module, memory, control, threads, scratch } = this.options;
    for (let worker = 1; worker < threads; worker++) {
      const workerData = { module, memory, control, worker, scratch: scratch(worker), L: LAYOUT };
      try {
        const thread = new Worker(SOURCE, { eval: true, workerData });
        // One that fails to start never reports ready, so no job depends on it.
        thread.on("error", () => {});
        thread.unref();
      } catch {
        return;
      }
    }
  }

  /**
   * Calls `kernel(...args, begin, end)` for ranges that cover [0, total) once, cut at multiples of
   * `grain`, on all threads where `work` repays it. Returns when all have ended. An error on any
   * thread is thrown here, after that.
   */
  run(kernel: Kernel, args: readonly number[], total: number, { grain, work }: Sharing): void {
    if (work >= WORTH_STARTING) this.start();
    const grains = Math.ceil(total / grain);
    const worthwhile = Math.ceil(work / WORTH_SHARING);
    const chunks = Math.min(grains, worthwhile, CHUNKS_PER_THREAD * (this.ready + 1));
    if (chunks < 2 || this.ready === 0) {
      kernel.run(...args, 0, total);
      return;
    }
    this.post(kernel, args, [chunks, kernel.index, args.length, grains, grain, total], work);
    const failure = this.help(kernel, args, total, { chunks, grains, grain });
    this.finish(chunks);
    if (failure !== undefined) throw failed(kernel, "the calling thread", failure);
    const worker = this.words[LAYOUT.ERROR_WORKER];
    if (worker !== 0) throw failed(kernel, `worker ${worker}`, this.errorText());
  }

  private post({ name }: Kernel, args: readonly number[], job: readonly number[], work: number) {
    const { words } = this;
    if (args.length > LAYOUT.MAXIMUM_ARGUMENTS) {
      throw new RangeError(
        `${name}: ${args.length} arguments, at most ${LAYOUT.MAXIMUM_ARGUMENTS}`,
      );
    }
    // Closed first: a worker that saw the last job's claim must not match it with the new chunks.
    Atomics.store(words, LAYOUT.CLAIM, -1);
    this.values.set(args);
    words.set(job, LAYOUT.CHUNKS);
    words[LAYOUT.ERROR_WORKER] = 0;
    Atomics.store(words, LAYOUT.DONE, 0);
    this.job++;
    Atomics.store(words, LAYOUT.CLAIM, this.job << LAYOUT.CHUNK_BITS);
    Atomics.add(words, LAYOUT.WAKE, 1);
    this.unshared += work;
    // Small jobs that follow each other are worth waking for together.
    if (this.unshared < WORTH_WAKING) return;
    this.unshared = 0;
    if (Atomics.load(words, LAYOUT.SLEEPERS) > 0) Atomics.notify(words, LAYOUT.WAKE);
  }

  /** The caller's part: chunks, until none is left to claim. */
  private help(
    { run }: Kernel,
    args: readonly number[],
    total: number,
    { chunks, grains, grain }: { chunks: number; grains: number; grain: number },
  ): unknown {
    const { words } = this;
    const first = this.job << LAYOUT.CHUNK_BITS;
    const cut = (chunk: number) => Math.min(total, Math.floor((grains * chunk) / chunks) * grain);
    let failure: unknown;
    for (;;) {
      const chunk = Atomics.load(words, LAYOUT.CLAIM) - first;
      if (chunk >= chunks) return failure;
      if (
        Atomics.compareExchange(words, LAYOUT.CLAIM, first + chunk, first + chunk + 1) - first !==
        chunk
      ) {
        continue;
      }
      try {
        run(...args, cut(chunk), cut(chunk + 1));
      } catch (error) {
        failure ??= error;
      }
      Atomics.add(words, LAYOUT.DONE, 1);
    }
  }

  /** Waits until the chunks that workers claimed have ended. */
  private finish(chunks: number): void {
    const { words } = this;
    const until = performance.now() + LAYOUT.SPIN_MS;
    for (let turn = 1; ; turn++) {
      const done = Atomics.load(words, LAYOUT.DONE);
      if (done === chunks) return;
      if (turn % 64 === 0 && performance.now() > until) Atomics.wait(words, LAYOUT.DONE, done);
    }
  }

  private errorText(): string {
    const { memory, control } = this.options;
    const length = Atomics.load(this.words, LAYOUT.ERROR);
    // TextDecoder refuses shared memory, so the bytes are copied.
    const bytes = new Uint8Array(memory.buffer, control + 4 * LAYOUT.TEXT, length).slice();
    return new TextDecoder().decode(bytes);
  }
}

function failed({ name }: Kernel, where: string, cause: unknown): Error {
  return new Error(`kernel "${name}" failed on ${where}: ${cause}`, { cause });
}
