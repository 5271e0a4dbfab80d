/** What a user sees: progress, tables, errors of the command, and what signals do. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import * as table from "../eval/table.ts";
import { onInterrupt } from "../rl/interrupt.ts";
import { Progress, progressLine } from "../rl/progress.ts";
import { ended, scratchFolder } from "./support/disk.ts";

const { fresh, script } = scratchFolder();

class FakeOutput {
  text = "";
  readonly isTTY: boolean;
  constructor(isTTY: boolean) {
    this.isTTY = isTTY;
  }
  write(text: string) {
    this.text += text;
    return true;
  }
}

describe("progress", () => {
  test("a line says what, how far, how fast, how long", () => {
    const options = { unit: "tok", perStep: 2112 };
    assert.equal(
      progressLine("pretrain", 400, 1200, 68.7, { loss: 1.23449 }, options),
      "pretrain 400/1200 loss 1.234 12.3k tok/s eta 2m17s",
    );
    assert.equal(progressLine("grpo", 120, 120, 59.6), "grpo 120/120 in 1m00s");
    assert.equal(progressLine("grpo", 0, 120, 0), "grpo 0/120");
    const resumed = progressLine("grpo", 110, 120, 10, {}, { from: 100 });
    assert.equal(resumed, "grpo 110/120 eta 10s", "the rate counts only the resumed steps");
  });

  test("in a pipe: a line every few seconds and one at the end, no control characters", () => {
    const output = new FakeOutput(false);
    let clock = 0;
    using progress = new Progress({ output, everySeconds: 5, now: () => clock });
    const stage = progress.stage("pretrain", 20);
    for (let step = 1; step <= 20; step++) {
      clock += 1000;
      stage.update(step, { loss: 1 / step });
    }
    progress.print("a note");
    stage.finish({ loss: 0.05 });
    assert.deepEqual(output.text.split("\n"), [
      "pretrain 5/20 loss 0.2 eta 15s",
      "pretrain 10/20 loss 0.1 eta 10s",
      "pretrain 15/20 loss 0.06667 eta 5s",
      "pretrain 20/20 loss 0.05 in 20s",
      "a note",
      "pretrain 20/20 loss 0.05 in 20s",
      "",
    ]);
    assert.deepEqual(progress.seconds, { pretrain: 20 });
  });

  test("on a terminal: a bar, notes above it, cursor and wrapping left alone", () => {
    const output = new FakeOutput(true);
    using progress = new Progress({ output });
    const stage = progress.stage("grpo", 4);
    stage.update(2, { reward: 0.25 });
    progress.print("a note");
    stage.finish({ reward: 0.5 });
    assert.match(output.text, /a note\n/);
    assert.match(output.text, /█{24} grpo 4\/4 reward 0.5 in 0s/);
    for (const code of ["\u001b[?25l", "\u001b[?7l"]) assert.ok(!output.text.includes(code));
  });

  test("an error closes the bar, keeps its time, and lets the process end", async () => {
    const { code, err } = await ended(
      script(`
        import { Progress } from "RL/progress.ts";
        const output = { isTTY: true, write: () => true };
        const progress = new Progress({ output });
        function work() {
          using stage = progress.stage("grpo", 10);
          stage.update(3);
          throw new Error("lost");
        }
        try { work(); } catch (error) { console.error(error.message, Object.keys(progress.seconds)); }
        await progress.time("save", () => {});
        console.error(Object.keys(progress.seconds).join("+"));`),
    );
    assert.equal(code, 0);
    assert.match(err, /lost/);
    assert.match(err, /grpo\+save/);
  });

  test("a second stage ends the first; an ended stage writes no more", () => {
    const output = new FakeOutput(false);
    let clock = 0;
    const progress = new Progress({ output, now: () => clock });
    const first = progress.stage("one", 10);
    clock = 2000;
    const second = progress.stage("two", 10);
    first.finish();
    first.update(5);
    clock = 3000;
    second[Symbol.dispose]();
    assert.equal(output.text, "");
    assert.deepEqual(progress.seconds, { one: 2, two: 1 });
  });
});

describe("numbers and tables", () => {
  test("known texts", () => {
    assert.equal(table.percent({ value: 0.28, low: 0.251, high: 0.3119 }), "28.0 % [25.1, 31.2]");
    assert.equal(table.percent(1), "100.0 %");
    assert.equal(table.percent(Number.NaN), "n/a");
    assert.equal(table.points(0.3184), "+31.8 points");
    assert.equal(table.points(-0.0001), "±0.0 points");
    assert.equal(table.points(-0.05), "-5.0 points");
    assert.equal(table.pValue(4.04e-95), "p = 4.0e-95");
    assert.equal(table.pValue(0.0123), "p = 0.012");
    assert.equal(table.pValue(0), "p < 1e-300");
    assert.equal(table.count(1234567), "1,234,567");
    assert.equal(table.count(999), "999");
    assert.deepEqual([1.23456, 12.3456, 0.00005, 123456.7, 3, 1e-7].map(table.short), [
      "1.235",
      "12.35",
      "0.00005",
      "123457",
      "3",
      "1e-7",
    ]);
    assert.deepEqual([12, 999.7, 12345, 5.3e6].map(table.compact), [
      "12",
      "1.00k",
      "12.3k",
      "5.30M",
    ]);
    assert.deepEqual([0.421, 35.2, 59.7, 125, 11220].map(table.duration), [
      "0.42 s",
      "35 s",
      "1 min 00 s",
      "2 min 05 s",
      "3 h 07 min",
    ]);
  });

  test("columns align by what is seen, accents included; Markdown escapes its bars", () => {
    const rows = [
      ["Brasi\u0301lia", "1"],
      ["a|b", "100"],
    ];
    const cities: table.Table = {
      title: "Cities",
      columns: [{ title: "name" }, { title: "n", align: "right" }],
      rows,
    };
    assert.deepEqual(table.textTable(cities).normalize("NFC").split("\n"), [
      "Cities",
      "",
      "name        n",
      "────────  ───",
      "Brasília    1",
      "a|b       100",
    ]);
    assert.deepEqual(table.markdownTable(cities).split("\n").slice(2), [
      "| name | n |",
      "| --- | ---: |",
      "| Brasi\u0301lia | 1 |",
      "| a\\|b | 100 |",
    ]);
    const ragged = { columns: cities.columns, rows: [["only one"]] };
    assert.throws(() => table.textTable(ragged), /row 0 has 1 cells for 2 columns/);
  });

  test("every line of a table has its columns at the same place", () => {
    const cell = fc.string({ unit: fc.constantFrom("a", "é", "█", "1", "x") });
    fc.assert(
      fc.property(fc.array(fc.tuple(cell, cell)), (rows) => {
        const columns = [{ title: "left" }, { title: "right", align: "right" as const }];
        const lines = table.textTable({ columns, rows }).split("\n");
        assert.equal(lines.length, rows.length + 2);
        const widths = new Set(
          lines.filter((_, i) => i < 2 || rows[i - 2]![1] !== "").map((line) => line.length),
        );
        assert.equal(widths.size, 1);
      }),
      { seed: 2 },
    );
  });

  test("bars and curves", () => {
    assert.equal(table.bar(0.5, 4), "██  ");
    assert.equal(table.bar(0.3125, 2), "▋ ");
    assert.equal(table.bar(7, 2), "██");
    assert.equal(table.bar(Number.NaN, 2), "  ");
    assert.equal(table.sparkline([0, 1, 2, 3, 4, 5, 6, 7]), "▁▂▃▄▅▆▇█");
    assert.equal(table.sparkline([0.5, Number.NaN, 0.5]), "▅ ▅");
    assert.equal(table.sparkline([0, 0.5], [0, 1]), "▁▅");
    assert.equal(table.sparkline([]), "");
  });
});

describe("the command", () => {
  test("a user's mistake: message on stderr, exit code 2, no stack, nothing written", async () => {
    const { code, out, err } = await ended(
      script(`
        import { resolveConfig } from "RL/resolve.ts";
        import { runMain } from "RL/user_error.ts";
        import { mkdirSync, readdirSync } from "node:fs";
        const dir = ${JSON.stringify(fresh())};
        mkdirSync(dir);
        process.chdir(dir);
        process.on("exit", () => console.log("written:", readdirSync(dir).length));
        await runMain(() => { resolveConfig(["--sede", "3"]); console.log("went on"); });`),
    );
    assert.equal(code, 2);
    assert.equal(out, "written: 0\n");
    assert.equal(
      err,
      "error: unknown flag --sede; did you mean --seed?\n--help lists every flag.\n",
    );
  });

  test("a fault of the program keeps its stack", async () => {
    const { code, err } = await ended(
      script(`
        import { runMain } from "RL/user_error.ts";
        await runMain(async () => { throw new TypeError("a fault"); });`),
    );
    assert.notEqual(code, 0);
    assert.match(err, /a fault/);
    assert.match(err, /\.ts:\d+/);
  });

  test("the first signal is a request, the second ends the process with 130", async () => {
    for (const signal of ["SIGINT", "SIGTERM"] as const) {
      const child = script(`
        import { onInterrupt } from "RL/interrupt.ts";
        const interrupt = onInterrupt();
        interrupt.saves = ${signal === "SIGINT"};
        console.log("ready", interrupt.requested);
        while (!(await interrupt.check())) { const end = Date.now() + 5; while (Date.now() < end); }
        console.log("requested");
        for (;;) { const end = Date.now() + 5; while (Date.now() < end); await interrupt.check(); }`);
      // Deno's child.kill sends only one signal in a life.
      child.stdout!.on("data", () => process.kill(child.pid!, signal));
      const { code, out, err } = await ended(child);
      assert.equal(out, "ready false\nrequested\n");
      const then =
        signal === "SIGINT" ? "saving a checkpoint" : "going on to where it can be stopped";
      assert.equal(err, `${then}; press again to quit at once\n`);
      assert.equal(code, 130);
    }
  });

  test("a disposed interrupt leaves no listener", () => {
    const before = process.listenerCount("SIGINT");
    {
      using interrupt = onInterrupt({ print: () => {} });
      assert.equal(process.listenerCount("SIGINT"), before + 1);
      assert.equal(interrupt.requested, false);
    }
    assert.equal(process.listenerCount("SIGINT"), before);
  });
});
