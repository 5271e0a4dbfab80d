/** Runs that are killed at any moment go on to the same bits; a folder has one process at a time. */

import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import {
  existsSync,
  linkSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { latestCheckpoint, readCheckpoint } from "../rl/checkpoints.ts";
import { lockFolder, lockName } from "../rl/lock.ts";
import { commandLine, runCommand, smallRun } from "./support/command.ts";

const folder = mkdtempSync(join(tmpdir(), "anamnesis-kill-"));
after(() => rmSync(folder, { recursive: true, force: true }));
const small = [
  ...smallRun,
  ...["--train.steps", "10", "--optimizer.warmup", "1", "--train.questions-per-step", "8"],
  ...["--train.group-size", "4", "--evaluate.every", "5", "--checkpoint.every", "1"],
  ...["--checkpoint.keep", "99", "--evaluate.accessibility-samples", "4"],
  ...["--evaluate.pass-at-k-samples", "4", "--evaluate.pass-at-k", "1,4"],
];

const run = (...args: string[]) => runCommand(folder, "train.ts", args);

const rowsOf = (dir: string, log: string): Record<string, unknown>[] => {
  const path = join(dir, log);
  if (!existsSync(path)) return [];
  const lines = readFileSync(path, "utf8").split("\n").slice(0, -1);
  // What a clock wrote is no part of a run's bits.
  return lines.map((line) => ({ ...JSON.parse(line), step_time: 0 }));
};

/** Kills the run with SIGKILL once its metrics have `rows` rows. False: it ended before that. */
async function killAt(dir: string, rows: number, args: readonly string[]): Promise<boolean> {
  const child: ChildProcess = spawn(process.execPath, commandLine("train.ts", args), {
    cwd: folder,
    stdio: "ignore",
  });
  const ended = new Promise<"ended">((done) => child.on("close", () => done("ended")));
  for (;;) {
    if (rowsOf(dir, "metrics.jsonl").length >= rows) break;
    const pause = new Promise<"waited">((done) => setTimeout(() => done("waited"), 2));
    if ((await Promise.race([ended, pause])) === "ended") return false;
  }
  child.kill("SIGKILL");
  await ended;
  return !existsSync(join(dir, "summary.json"));
}

const METHODS: readonly (readonly string[])[] = [
  ["--method", "grpo"],
  ["--method", "ppo", "--train.epochs", "2", "--train.mini-batches", "2"],
  ["--method", "sft"],
  ["--method", "dpo"],
  ["--method", "rft"],
];

describe("kill -9", () => {
  for (const method of METHODS) {
    test(`${method.join(" ")}: ten steps straight equal five, a kill and five more`, async () => {
      const straight = join(folder, `straight-${method[1]}`);
      const whole = run(...small, ...method, "--out", straight);
      assert.equal(whole.code, 0, whole.text);
      let killed = 0;
      // At a validation (after step 5), in the middle of a pass, and before the first step.
      for (const rows of [6, 8, 1]) {
        const dir = join(folder, `killed-${method[1]}-${rows}`);
        if (await killAt(dir, rows, [...small, ...method, "--out", dir])) killed++;
        if (existsSync(join(dir, "summary.json"))) continue; // too fast to be killed
        const resumed = run("--resume", dir);
        assert.equal(resumed.code, 0, resumed.text);
        const [a, b] = [straight, dir].map(
          (path) => readCheckpoint(latestCheckpoint(join(path, "checkpoints"))!.path).contents,
        );
        assert.deepEqual(Object.keys(a!), Object.keys(b!));
        for (const [file, bytes] of Object.entries(a!)) {
          assert.ok(Buffer.from(bytes).equals(Buffer.from(b![file]!)), `${file} differs`);
        }
        for (const log of ["metrics.jsonl", "rollouts.jsonl", "ledger.jsonl"]) {
          assert.deepEqual(rowsOf(dir, log), rowsOf(straight, log), log);
        }
        const heldout = (path: string) =>
          JSON.parse(readFileSync(join(path, "summary.json"), "utf8")).heldout;
        assert.deepEqual(heldout(dir), heldout(straight));
      }
      assert.ok(killed > 0, "no run was killed before its end");
    });
  }
});

describe("a run folder's lock", () => {
  const dir = join(folder, "locked");

  test("refuses a second process, names the first, and goes with it", async () => {
    const slow = [...small, "--train.steps", "100000", "--out", dir];
    const first = spawn(process.execPath, commandLine("train.ts", slow), {
      cwd: folder,
      stdio: "ignore",
    });
    const ended = new Promise((done) => first.on("close", done));
    while (rowsOf(dir, "metrics.jsonl").length < 2)
      await new Promise((done) => setTimeout(done, 5));
    const second = run("--resume", dir);
    assert.equal(second.code, 2, second.text);
    assert.match(second.text, new RegExp(`in use by process ${first.pid}; wait for it`));
    first.kill("SIGKILL");
    await ended;
    lockFolder(dir)(); // the dead process's lock is taken over, and given back
    assert.ok(!existsSync(join(dir, lockName)));
  });

  test("a lock of another machine counts, a torn one does not", () => {
    const path = join(dir, lockName);
    writeFileSync(path, JSON.stringify({ pid: 1, host: `not-${hostname()}` }));
    assert.throws(() => lockFolder(dir), /in use by process 1 on not-/);
    writeFileSync(path, '{"pid": 1');
    const release = lockFolder(dir);
    assert.throws(() => lockFolder(dir), /in use by process/);
    release();
    release(); // twice is once
    assert.ok(!existsSync(path));
  });

  test("is whole from its first moment, also where a file system has no links", () => {
    const own = mkdtempSync(join(folder, "links-"));
    const path = join(own, lockName);
    lockFolder(own, (from, to) => {
      assert.ok(!existsSync(to));
      assert.equal(JSON.parse(readFileSync(from, "utf8")).pid, process.pid);
      linkSync(from, to);
    })();
    const noLinks = () => {
      throw Object.assign(new Error("not permitted"), { code: "EPERM" });
    };
    writeFileSync(path, JSON.stringify({ pid: 4_000_000, host: hostname() })); // dead
    const release = lockFolder(own, noLinks);
    assert.throws(() => lockFolder(own, noLinks), /in use by process/);
    release();
    assert.deepEqual(readdirSync(own), []);
  });

  test("that another process took over in the same moment stays that process's", () => {
    const own = mkdtempSync(join(folder, "race-"));
    const path = join(own, lockName);
    const theirs = JSON.stringify({ pid: 1, host: `not-${hostname()}` });
    writeFileSync(path, JSON.stringify({ pid: 4_000_000, host: hostname() }));
    // Asked whether the dead holder is alive, the other process has just been faster.
    const { kill } = process;
    process.kill = () => {
      writeFileSync(path, theirs);
      throw Object.assign(new Error("no such process"), { code: "ESRCH" });
    };
    try {
      assert.throws(() => lockFolder(own), /in use by process 1 on not-/);
    } finally {
      process.kill = kill;
    }
    assert.equal(readFileSync(path, "utf8"), theirs);
    assert.deepEqual(readdirSync(own), [lockName]);
  });
});
