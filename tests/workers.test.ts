/** Worker threads that fail or die, arguments that reach them, and processes that simply end. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { createMachine } from "../tensor/device/wasm/machine.ts";
import { type FaultyPool, faultyPool } from "./support/faulty_pool.ts";

/** Every one of a job's indices is computed once. */
function assertComplete({ counts, run }: FaultyPool): void {
  for (const total of [1, 2, 3, 64, 1000]) {
    counts.fill(0);
    run("count_slowly", [1000], total);
    counts.subarray(0, total + 1).forEach((count, i) => {
      assert.equal(count, i < total ? 1 : 0, `index ${i} of ${total}`);
    });
  }
}

describe("a worker whose thread ends in the middle of a kernel", () => {
  const faults = {
    "by process.exit": "process.exit(3);",
    "and runs no exit handler": 'process.removeAllListeners("exit"); process.exit(0);',
    "by an error outside of the kernel": 'throw new Error("planted");',
  };
  for (const [how, fault] of Object.entries(faults)) {
    test(`${how} is an error of the caller; the other threads go on`, () => {
      const threads = faultyPool(3, fault);
      assert.equal(threads.pool.ready, 2);
      assertComplete(threads);
      const expected = /^kernel "count_slowly" failed on worker \d: its thread ended before/;
      const first = threads.loseWorker();
      assert.match(first.message, expected);
      assert.match(first.message, /from now on there are 2 threads$/);
      assert.equal(threads.pool.ready, 1);
      assertComplete(threads);
      const second = threads.loseWorker();
      assert.match(second.message, expected);
      assert.match(second.message, /from now on there is 1 thread$/);
      assert.equal(threads.pool.ready, 0);
      assertComplete(threads);
    });
  }
});

test("a worker that takes seconds is waited for: only an ended thread is an error", () => {
  const threads = faultyPool(2);
  threads.runSlowly(800);
  assertComplete(threads);
  assert.equal(threads.pool.ready, 1);
  threads.runSlowly(800);
});

test("i32 and f32 arguments reach a kernel on every thread as they were given", () => {
  const { run, memory, free } = faultyPool(3);
  const [floats, ints] = [new Float32Array(memory.buffer), new Int32Array(memory.buffer)];
  const float = fc.float({ noNaN: true });
  const numbers = fc.tuple(float, fc.integer({ min: -(2 ** 31), max: 2 ** 32 - 1 }), float);
  fc.assert(
    fc.property(numbers, fc.integer({ min: 1, max: 400 }), ([x, n, y], total) => {
      run("note_arguments", [free, x, n, y], total);
      for (let at = free / 4; at < free / 4 + 4 * total; at += 4) {
        assert.deepEqual(
          [floats[at], ints[at + 1], floats[at + 2]],
          [x, n | 0, Math.fround(2 * y)],
        );
      }
    }),
    { seed: 20260, numRuns: 60 },
  );
});

test("a call that does not fit its kernel is refused before it runs", () => {
  const machine = createMachine(
    [
      (m) => {
        m.function("two", { a: "i32", b: "f32", begin: "i32", end: "i32" }, () => {});
        m.function("no_range", { a: "i32", b: "i32" }, () => {});
      },
    ],
    { threads: 1 },
  );
  const shares = { grain: 1, work: 1 };
  machine.parallel("two", [1, 2], 8, shares);
  for (const args of [[], [1], [1, 2, 3]]) {
    const expected = new RegExp(`kernel "two" takes 2 arguments, got ${args.length}`);
    assert.throws(() => machine.parallel("two", args, 8, shares), expected);
  }
  assert.throws(() => machine.parallel("no_range", [], 8, shares), /"no_range" takes no range/);
  assert.throws(() => machine.parallel("absent", [], 8, shares), /no kernel "absent"/);
  machine.call("no_range", 1, 2);
});

describe("a process ends by itself", () => {
  const child = fileURLToPath(new URL("./children/library.ts", import.meta.url));
  const command = "Deno" in globalThis ? ["run", "--quiet", "-A", child] : [child];
  const modes = {
    import: "that only imports the library",
    compute: "whose workers have computed",
    slow: "that has asked whether its workers live",
    lost: "that has lost a worker",
  };
  for (const [mode, what] of Object.entries(modes)) {
    test(what, () => {
      const result = spawnSync(process.execPath, [...command, mode], { timeout: 30_000 });
      const output = `${result.stdout}${result.stderr}`;
      assert.equal(result.status, 0, `status ${result.status} ${result.signal}: ${output}`);
      assert.match(output, /end of the program/);
    });
  }
});
