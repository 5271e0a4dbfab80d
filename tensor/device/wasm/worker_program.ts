/** What a worker thread runs, and the words of shared memory through which jobs pass. */
import { DISPATCH, MAXIMUM_ARGUMENTS } from "./dispatch.ts";

/** What a worker is: the values of its word at STATES. */
export const STATE = { STARTING: 0, IDLE: 1, BUSY: 2, GONE: 3 } as const;

/**
 * Layout of the control area, in 32-bit words; what different threads write lies on different cache
 * lines. A job is cut into chunks, which the caller and the workers claim one by one, so a worker
 * that wakes late or is delayed by the system holds up one chunk at most, and never a whole share.
 */
export const LAYOUT = {
  /** Job number << CHUNK_BITS | chunks left to claim. Workers sleep on it. */
  CLAIM: 0,
  CHUNK_BITS: 12,
  /** Chunks that workers have ended. The caller sleeps on it. */
  DONE: 16,
  /** 1 while the caller sleeps: only then is it woken, which is not free. */
  CALLER_SLEEPS: 32,
  /** Workers that sleep; workers that have started and live. */
  SLEEPERS: 48,
  READY: 49,
  /** Bytes of the text of the first error, and the worker that had it. */
  ERROR: 64,
  ERROR_WORKER: 65,
  /** The job: kernel, chunks, grains, elements a grain and in total, arguments. */
  KERNEL: 80,
  CHUNKS: 81,
  GRAINS: 82,
  GRAIN: 83,
  TOTAL: 84,
  ARGUMENTS: 96,
  /** One cache line for each worker. */
  STATES: 96 + MAXIMUM_ARGUMENTS,
  STATE_WORDS: 16,
  MAXIMUM_WORKERS: 64,
  TEXT: 96 + MAXIMUM_ARGUMENTS + 16 * 64,
  TEXT_BYTES: 1024,
  /** A worker waits this long for the next job before it sleeps: waking costs about 25 us. */
  SPIN_MS: 0.05,
} as const;

/** Bytes of the control area. */
export const CONTROL_BYTES = 4 * LAYOUT.TEXT + LAYOUT.TEXT_BYTES;

/** The data that every program below is started with, besides its own. */
export const SHARED = { L: LAYOUT, STATE } as const;

/**
 * A worker's program. A source string needs no file permission (Deno) and survives bundlers. What
 * is read after a successful claim belongs to the claimed job, which cannot end before the claimed
 * chunk has. BUSY is set before the first claim and cleared after the last chunk, so a thread that
 * ends in between leaves it set. The port says nothing: it closes when the thread ends.
 */
export const WORKER = `import("node:worker_threads").then(({ workerData }) => {
  const { module, memory, scratch, control, worker, L, STATE } = workerData;
  globalThis.keptOpen = workerData.port;
  const words = new Int32Array(memory.buffer, control, L.TEXT);
  const state = L.STATES + worker * L.STATE_WORDS;
  const mask = (1 << L.CHUNK_BITS) - 1;
  const args = control + 4 * L.ARGUMENTS;
  const pause = Atomics.pause ?? (() => {});
  const env = { memory, scratch: new WebAssembly.Global({ value: "i32" }, scratch) };
  const run = new WebAssembly.Instance(module, { env }).exports.${DISPATCH};
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
    Atomics.store(words, state, STATE.BUSY);
    for (;;) {
      const claim = Atomics.load(words, L.CLAIM);
      const left = claim & mask;
      if (left === 0) break;
      if (Atomics.compareExchange(words, L.CLAIM, claim, claim - 1) !== claim) continue;
      try {
        run(words[L.KERNEL], args, cut(left - 1), cut(left));
      } catch (error) {
        report(error);
      }
      Atomics.add(words, L.DONE, 1);
      if (Atomics.load(words, L.CALLER_SLEEPS) !== 0) Atomics.notify(words, L.DONE);
    }
    Atomics.store(words, state, STATE.IDLE);
  };
  const waitForJob = () => {
    const until = performance.now() + L.SPIN_MS;
    let claim;
    do {
      for (let turn = 0; turn < 64; turn++) {
        claim = Atomics.load(words, L.CLAIM);
        if ((claim & mask) !== 0) return;
        pause();
      }
    } while (performance.now() < until);
    Atomics.add(words, L.SLEEPERS, 1);
    Atomics.wait(words, L.CLAIM, claim);
    Atomics.sub(words, L.SLEEPERS, 1);
  };
  Atomics.store(words, state, STATE.IDLE);
  Atomics.add(words, L.READY, 1);
  for (;;) {
    waitForJob();
    runChunks();
  }
}, () => {});`;

/**
 * The watcher's program: it holds the other ends of the workers' ports, and notes which threads
 * have ended. The caller cannot: it sleeps in Atomics.wait, where no event reaches it.
 */
export const WATCHER = `import("node:worker_threads").then(({ workerData }) => {
  const { memory, control, ports, L, STATE } = workerData;
  const words = new Int32Array(memory.buffer, control, L.TEXT);
  for (const [worker, port] of ports) {
    port.on("close", () => {
      const before = Atomics.exchange(words, L.STATES + worker * L.STATE_WORDS, STATE.GONE);
      if (before === STATE.IDLE || before === STATE.BUSY) Atomics.sub(words, L.READY, 1);
      Atomics.notify(words, L.DONE);
    });
    port.on("message", () => {});
  }
}, () => {});`;
