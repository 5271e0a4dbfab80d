/** Run folders, logs and atomic files: what survives kills and bad disks. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import fc from "fast-check";
import { temporaryPath } from "../model/files.ts";
import { makeFolder, writeAtomic, writeJson } from "../rl/files.ts";
import { configHash } from "../rl/hash.ts";
import { JsonLines } from "../rl/json_lines.ts";
import { presetConfig } from "../rl/resolve.ts";
import { createRun, defaultDir, openRun, readRunConfig } from "../rl/run.ts";
import { contentOf, refuses, scratchFolder } from "./support/disk.ts";

const { fresh, script } = scratchFolder();

const config = presetConfig("smoke");
const bytes = (text: string) => new TextEncoder().encode(text);

describe("a new run", () => {
  test("writes config.json with settings, hash and runtime", () => {
    const dir = join(fresh(), "deep", "er");
    using run = createRun({ dir, config, now: new Date("2026-10-03T14:15:03Z") });
    const stored = readRunConfig(dir);
    assert.deepEqual(stored.config, config);
    assert.equal(stored.hash, configHash(config));
    assert.equal(stored.started, "2026-10-03T14:15:03.000Z");
    assert.match(`${stored.runtime.name} ${stored.runtime.version}`, /^(bun|deno|node) \d+\.\d+/);
    assert.deepEqual(fs.readdirSync(dir).toSorted(), ["config.json", "lock.json"]);
    run.close();
    assert.deepEqual(fs.readdirSync(dir), ["config.json"], "the lock is gone with its holder");
    assert.equal(run.hash, stored.hash);
  });

  test("refuses a folder that holds anything, and leaves it as it was", () => {
    const dir = fresh();
    fs.mkdirSync(dir);
    fs.writeFileSync(join(dir, "thesis.txt"), "years of work");
    refuses(() => createRun({ dir, config }), /is not empty; .*--out.*--resume/);
    assert.deepEqual(contentOf(dir), { "thesis.txt": "years of work" });
  });

  test("takes an empty folder", () => {
    const dir = fresh();
    fs.mkdirSync(dir);
    createRun({ dir, config }).close();
    assert.ok(fs.existsSync(join(dir, "config.json")));
  });

  test("takes what a kill before config.json left, but not a live lock's folder", () => {
    const dir = fresh();
    fs.mkdirSync(dir);
    const lock = join(dir, "lock.json");
    for (const name of ["log.txt", "probe.tmp-123", "config.json.tmp-123"]) {
      fs.writeFileSync(join(dir, name), "half");
    }
    fs.writeFileSync(lock, JSON.stringify({ pid: 1, host: "another machine" }));
    refuses(() => createRun({ dir, config }), /in use by process 1 on another machine/);
    fs.writeFileSync(lock, JSON.stringify({ pid: 4_000_000, host: hostname() }));
    createRun({ dir, config }).close();
    assert.deepEqual(fs.readdirSync(dir).sort(), ["config.json", "log.txt"]);
  });

  // A parent that is a file stops even the superuser, whom permission bits do not.
  test("refuses an unwritable folder and says what to do", () => {
    const file = fresh();
    fs.writeFileSync(file, "a file");
    refuses(() => createRun({ dir: file, config }), /is a file; choose another folder with --out/);
    refuses(() => createRun({ dir: join(file, "run"), config }), /not a folder; .*--out/);
    assert.equal(fs.readFileSync(file, "utf8"), "a file");
    if (process.platform === "linux") {
      refuses(() => createRun({ dir: "/proc/anamnesis", config }), /\/proc\/anamnesis.*E[A-Z]+/);
    }
  });

  test("names its folder by date, preset and seed, never one that exists", () => {
    const base = fresh();
    const now = new Date("2026-10-03T14:15:03Z");
    assert.equal(defaultDir(config, now, base), join(base, "2026-10-03-141503-smoke-1"));
    fs.mkdirSync(join(base, "2026-10-03-141503-smoke-1"), { recursive: true });
    assert.equal(defaultDir(config, now, base), join(base, "2026-10-03-141503-smoke-1-2"));
  });

  test("writes summary.json and report.md", () => {
    const dir = fresh();
    using run = createRun({ dir, config });
    run.writeSummary({ preset: "smoke", p: Number.NaN, list: new Float32Array([0.5, 1]) });
    run.writeReport("# Run");
    const summary = JSON.parse(fs.readFileSync(join(dir, "summary.json"), "utf8"));
    assert.deepEqual(summary, { preset: "smoke", p: "NaN", list: [0.5, 1] });
    assert.equal(fs.readFileSync(join(dir, "report.md"), "utf8"), "# Run\n");
  });
});

describe("resuming", () => {
  test("with other settings is refused, old and new values shown, nothing changed", () => {
    const dir = fresh();
    createRun({ dir, config }).close();
    const before = contentOf(dir);
    const other = { ...config, seed: 7, train: { ...config.train, steps: 240 } };
    const [seed, steps] = [/^ {2}seed: 1 -> 7$/m, /^ {2}train.steps: 120 -> 240$/m];
    refuses(() => openRun(dir, other), /run with other settings/, seed, steps);
    assert.deepEqual(contentOf(dir), before);
    for (const mine of [structuredClone(config), undefined]) {
      using run = mine === undefined ? openRun(dir) : openRun(dir, mine);
      assert.deepEqual(run.config, config);
    }
  });

  test("a folder without, with a broken, or with an edited config.json", () => {
    const dir = fresh();
    refuses(() => openRun(dir), /is no run folder: .*config.json is missing/);
    assert.ok(!fs.existsSync(dir));
    createRun({ dir, config }).close();
    const path = join(dir, "config.json");
    const text = fs.readFileSync(path, "utf8");
    fs.writeFileSync(path, text.slice(0, 50));
    refuses(() => openRun(dir), /config.json is not JSON/);
    fs.writeFileSync(path, "{}");
    refuses(() => openRun(dir), /is not a run's config.json/);
    fs.writeFileSync(path, text.replace('"steps": 120', '"steps": 121'));
    refuses(() => openRun(dir), /config.json was edited/);
  });

  test("drops torn lines and rows after the checkpoint, so that nothing repeats", () => {
    const dir = fresh();
    {
      using run = createRun({ dir, config });
      run.metrics.append({ stage: "pretrain", step: 1200 });
      for (let step = 1; step <= 4; step++) run.metrics.append({ step, reward: step / 10 });
      run.rollouts.append({ step: 4, text: "é\n" });
      run.saveCheckpoint(4, { "model.bin": bytes("weights") });
      run.metrics.append({ step: 5 }, { step: 6 });
      run.rollouts.append({ step: 5 });
      run.ledger.append({ fact: 1 });
    }
    fs.appendFileSync(join(dir, "metrics.jsonl"), '{"step":7,"rew');
    using run = openRun(dir, config);
    const checkpoint = run.latest()!;
    assert.equal(checkpoint.step, 4);
    assert.equal(run.metrics.rows().length, 7, "a torn line is no row");
    run.rewind(checkpoint);
    run.metrics.append({ step: 5 });
    assert.deepEqual(
      run.metrics.rows().map((row) => row.step),
      [1200, 1, 2, 3, 4, 5],
    );
    assert.deepEqual(run.rollouts.rows(), [{ step: 4, text: "é\n" }]);
    assert.deepEqual(run.ledger.rows(), []);
    run.rewind(null);
    assert.deepEqual(run.metrics.rows(), []);
  });

  test("a log that lost lines, or with a foreign line, is refused", () => {
    const dir = fresh();
    using run = createRun({ dir, config });
    run.metrics.append({ step: 1 }, { step: 2 });
    const path = run.metrics.path;
    run.saveCheckpoint(2, {});
    const checkpoint = run.latest()!;
    fs.writeFileSync(path, '{"step":1}\n');
    refuses(() => run.rewind(checkpoint), /metrics.jsonl no longer starts with the 22 bytes/);
    fs.writeFileSync(path, '{"step":1}\n{"step":2,"more":1}\n');
    refuses(() => run.rewind(checkpoint), /was edited or lost lines/);
    fs.writeFileSync(path, '{"step":1}\nnot JSON\n{"step":3}\n');
    refuses(() => run.metrics.rows(), /metrics.jsonl line 2 is not a JSON object/);
  });

  test("removes the temporary files of a killed process", () => {
    const dir = fresh();
    createRun({ dir, config }).close();
    fs.writeFileSync(join(dir, "summary.json.tmp-99999"), "{");
    openRun(dir, config).close();
    assert.deepEqual(fs.readdirSync(dir), ["config.json"]);
  });
});

describe("logs", () => {
  test("any row comes back, NaN as text", () => {
    const log = new JsonLines(fresh());
    fc.assert(
      fc.property(fc.array(fc.dictionary(fc.string(), fc.jsonValue())), (rows) => {
        const before = log.rows().length;
        log.append(...(rows as Record<string, unknown>[]));
        assert.deepEqual(log.rows().slice(before), JSON.parse(JSON.stringify(rows)));
      }),
      { seed: 1, numRuns: 30 },
    );
    const end = log.sync();
    log.append({ loss: Number.NaN, gradNorm: Number.POSITIVE_INFINITY });
    assert.deepEqual(log.rows().at(-1), { loss: "NaN", gradNorm: "Infinity" });
    log.rewind(end);
    assert.equal(log.sync(), end);
    log.close();
  });

  test("a killed writer loses nothing that append returned from", async () => {
    const path = fresh();
    const child = script(`
      import { JsonLines } from "RL/json_lines.ts";
      const log = new JsonLines(${JSON.stringify(path)});
      for (let step = 0; step < 30_000; step++) {
        log.append({ step, filler: "x".repeat(step % 300) });
        if (step % 500 === 0) console.log(step);
      }
      for (;;);`);
    const last = await new Promise<number>((resolve) => {
      let text = "";
      child.stdout!.on("data", (data) => {
        text += data;
        const steps = text.split("\n").slice(0, -1).map(Number);
        if (steps.length >= 5) resolve(steps.at(-1)!);
      });
    });
    child.kill("SIGKILL");
    await new Promise((resolve) => child.on("close", resolve));
    const rows = new JsonLines(path).rows();
    assert.ok(rows.length > last, `${rows.length} rows, step ${last} was logged`);
    for (const [i, row] of rows.entries()) assert.equal(row.step, i);
  });

  test("a folder in the way is a UserError", () => {
    const path = fresh();
    fs.mkdirSync(path);
    refuses(() => new JsonLines(path).append({ step: 1 }), /cannot write .*folder of that name/);
  });
});

describe("atomic files", () => {
  test("a failed write leaves the old file and no temporary one", () => {
    const dir = fresh();
    fs.mkdirSync(dir);
    const path = join(dir, "summary.json");
    writeJson(path, { old: true });
    const old = contentOf(dir);
    fs.mkdirSync(join(temporaryPath(path), "in the way"), { recursive: true });
    refuses(() => writeJson(path, { old: false }), /cannot write .*summary.json: a folder of that/);
    assert.deepEqual(contentOf(dir), old);
    writeJson(path, { old: false });
    assert.deepEqual(contentOf(dir), { "summary.json": '{\n  "old": false\n}\n' });
  });

  test("a folder that another process makes at the same moment is no obstacle, a file is one", () => {
    const dir = fresh();
    let others = 0;
    makeFolder(join(dir, "runs", "one"), (path) => {
      others++;
      fs.mkdirSync(path); // the other one
      fs.mkdirSync(path);
    });
    assert.ok(fs.statSync(join(dir, "runs", "one")).isDirectory());
    assert.equal(others, 3);
    fs.writeFileSync(join(dir, "file"), "");
    refuses(() => makeFolder(join(dir, "file")), /a file of that name is in the way/);
  });

  test("a full disk is named and leaves the old file", (context) => {
    if (!fs.existsSync("/dev/full")) return context.skip("this system has no /dev/full");
    const dir = fresh();
    fs.mkdirSync(dir);
    const path = join(dir, "report.md");
    writeAtomic(path, "old");
    fs.symlinkSync("/dev/full", temporaryPath(path));
    refuses(() => writeAtomic(path, "new"), /report.md: the disk is full; free some.*ENOSPC/);
    assert.deepEqual(contentOf(dir), { "report.md": "old" });
    assert.ok(fs.existsSync("/dev/full"));
  });

  test("a folder as target, and a parent that is a file", () => {
    const dir = fresh();
    fs.mkdirSync(join(dir, "target", "x"), { recursive: true });
    fs.writeFileSync(join(dir, "file"), "");
    refuses(() => writeAtomic(join(dir, "target"), "new"), /cannot write .*target/);
    refuses(() => writeAtomic(join(dir, "file", "new"), "new"), /is a file, not a folder/);
    assert.deepEqual(fs.readdirSync(dir).sort(), ["file", "target"]);
  });

  test("a value that JSON cannot hold fails before the old file is touched", () => {
    const path = fresh();
    writeJson(path, 1);
    assert.throws(() => writeJson(path, { big: 1n }), TypeError);
    assert.equal(fs.readFileSync(path, "utf8"), "1\n");
  });
});
