/** A pool of workers that die when told to: a fault is added to the program that they run. */
import { f32, i32, ModuleBuilder, scratch } from "../../tensor/device/wasm/assembler.ts";
import { DISPATCH, emitDispatch } from "../../tensor/device/wasm/dispatch.ts";
import { CONTROL_BYTES, LAYOUT, WORKER } from "../../tensor/device/wasm/worker_program.ts";
import { type PoolOptions, WorkerPool } from "../../tensor/device/wasm/workers.ts";

const CONTROL = 65536;
const COUNTS = CONTROL + Math.ceil(CONTROL_BYTES / 65536) * 65536;
const SCRATCH = COUNTS + 65536;
/** The line of worker 0, which is the caller: free for the number of deaths to come. */
const DEATHS = LAYOUT.STATES;

/** Two kernels: one that takes long and counts its calls, one that notes what it was given. */
function emitKernels(m: ModuleBuilder): void {
  const busy = { turns: "i32", begin: "i32", end: "i32" } as const;
  m.function("count_slowly", busy, (f, { turns, begin, end }) => {
    const [i, turn] = [f.local("i32", undefined, "i"), f.local("i32", undefined, "turn")];
    f.for(i, begin, end, 1, () => {
      const turnsNow = f.local("i32", i32.shrU(turns, i32.mul(i32.gtU(i, 0), 6)), "turnsNow");
      // Some nanoseconds a turn, which no engine can leave out.
      f.for(turn, 0, turnsNow, 1, () => f.store("f32", scratch, f32.sqrt(f32.load(scratch))));
      const at = f.local("i32", i32.add(i32.shl(i, 2), COUNTS), "at");
      f.store("i32", at, i32.add(i32.load(at), 1));
    });
  });
  const mixed = { to: "i32", x: "f32", n: "i32", y: "f32", begin: "i32", end: "i32" } as const;
  m.function("note_arguments", mixed, (f, { to, x, n, y, begin, end }) => {
    const at = f.local("i32", undefined, "at");
    f.for(at, i32.add(to, i32.shl(begin, 4)), i32.add(to, i32.shl(end, 4)), 16, () => {
      f.store("f32", at, x);
      f.store("i32", at, n, 4);
      f.store("f32", at, f32.mul(y, 2), 8);
    });
  });
}

export interface FaultyPool {
  readonly pool: WorkerPool;
  readonly memory: WebAssembly.Memory;
  /** How often count_slowly was called for each index. */
  readonly counts: Int32Array;
  /** Address of free memory. */
  readonly free: number;
  run(kernel: string, args: readonly number[], total: number, grain?: number): void;
  /** Runs jobs while a worker is to die, until one ends with an error, and gives that back. */
  loseWorker(): Error;
  /** Runs a job of two, the first of which takes at least this long. */
  runSlowly(milliseconds: number): void;
}

/** Starts a pool and waits for it. `fault` runs in the worker that is to die, before it reports. */
export function faultyPool(threads: number, fault = ""): FaultyPool {
  const m = new ModuleBuilder();
  emitKernels(m);
  const find = emitDispatch(m);
  const module = new WebAssembly.Module(m.bytes());
  const memory = new WebAssembly.Memory({ initial: 16, maximum: 65536, shared: true });
  const own = new WebAssembly.Global({ value: "i32" }, SCRATCH);
  const { exports } = new WebAssembly.Instance(module, { env: { memory, scratch: own } });
  const program = `const { add } = Atomics;
    Atomics.add = (words, index, value) => {
      if (index === ${LAYOUT.DONE} && Atomics.sub(words, ${DEATHS}, 1) > 0) { ${fault} }
      return add(words, index, value);
    };
    ${WORKER}`;
  const pool = new WorkerPool({
    ...{ module, memory, threads, program, control: CONTROL },
    ...{
      scratch: (thread) => SCRATCH + 256 * thread,
      run: exports[DISPATCH] as PoolOptions["run"],
    },
  });
  const words = new Int32Array(memory.buffer, CONTROL, LAYOUT.TEXT);
  const run: FaultyPool["run"] = (kernel, args, total, grain = 1) =>
    pool.run(find(kernel), args, total, { grain, work: 1e9 });
  pool.start();
  const until = performance.now() + 10_000;
  while (pool.ready < threads - 1 && performance.now() < until) Atomics.wait(words, DEATHS, 0, 1);
  const counts = new Int32Array(memory.buffer, COUNTS, 4096);
  let turns = 2e7;
  return {
    ...{ pool, memory, counts, run, free: SCRATCH + 65536 },
    loseWorker() {
      Atomics.store(words, DEATHS, 1);
      const end = performance.now() + 20_000;
      while (performance.now() < end) {
        try {
          run("count_slowly", [1e7], 64);
        } catch (error) {
          return error as Error;
        }
      }
      throw new Error("no worker took a chunk in 20 seconds");
    },
    runSlowly(milliseconds) {
      for (; turns < 2 ** 32; turns *= 2) {
        const start = performance.now();
        run("count_slowly", [turns], 2);
        if (performance.now() - start >= milliseconds) return;
      }
      throw new Error(`4 billion turns take less than ${milliseconds} ms`);
    },
  };
}
