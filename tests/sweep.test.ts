/** Sweeps and comparisons: the runs of a grid, a whole sweep, going on with it, two runs compared. */

import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { meanInterval } from "../eval/statistics.ts";
import { trainShape } from "../rl/config.ts";
import { fieldsOf } from "../rl/fields.ts";
import { axesOf, plan, pointsOf } from "../rl/grid.ts";
import { resolveConfig } from "../rl/resolve.ts";
import { createRun } from "../rl/run.ts";
import { runCommand, smallRun } from "./support/command.ts";

const folder = mkdtempSync(join(tmpdir(), "anamnesis-sweep-"));
after(() => rmSync(folder, { recursive: true, force: true }));
const fields = fieldsOf(trainShape);

const command = (script: string, ...args: string[]) => runCommand(folder, script, args);

describe("a grid", () => {
  test("is every combination, times the seeds, each with a folder of its own", () => {
    const axes = axesOf(
      ["method=grpo,ppo optimizer.learningRate=1e-4,3e-4", "clipNorm=1"],
      [...fields.filter(({ key }) => key !== "pretrain.clipNorm")],
    );
    const runs = plan(axes, [1, 2, 3], "seeds.rl");
    assert.equal(pointsOf(axes).length, 4);
    assert.equal(runs.length, 12);
    assert.equal(new Set(runs.map((run) => run.folder)).size, 12);
    assert.deepEqual(runs[4]!.settings, {
      method: "grpo",
      optimizer: { learningRate: 3e-4, clipNorm: 1 },
      seeds: { rl: 2 },
    });
    assert.equal(runs[4]!.folder, "method=grpo,learningRate=3e-4,clipNorm=1,seed=2");
    assert.deepEqual(plan([], [1], "seed")[0]!.settings, { seed: 1 });
  });

  const wrong: [string, string[], RegExp][] = [
    ["an unknown setting", ["learnigRate=1"], /no such setting; did you mean/],
    [
      "an ambiguous one",
      ["learningRate=1"],
      /write pretrain.learningRate or warmStart.learningRate or/,
    ],
    ["no values", ["method="], /no values; write method=A,B/],
    ["a setting named twice", ["seed=1", "seed=2"], /names seed twice/],
  ];
  for (const [name, texts, message] of wrong) {
    test(`refuses ${name}`, () => assert.throws(() => axesOf(texts, fields), message));
  }
});

test("a grid over the seed that the sweep itself sets is refused, over another it is not", () => {
  const axes = axesOf(["seeds.rl=5,6"], fields);
  assert.throws(() => plan(axes, [1], "seeds.rl"), /--grid seeds\.rl: --seeds sets it/);
  assert.equal(new Set(plan(axes, [1], "seed").map(({ settings }) => settings)).size, 2);
});

test("the mean's interval is Student's", () => {
  const { mean, half } = meanInterval([1, 2, 3, 4]);
  assert.equal(mean, 2.5);
  assert.ok(Math.abs(half! - 2.0542602567) < 1e-9); // t(.975, 3) = 3.1824463
  assert.deepEqual(meanInterval([7]), { mean: 7, half: null });
  assert.throws(() => meanInterval([]), /no values/);
});

const small = [
  ...smallRun,
  ...["--train.steps", "3", "--optimizer.warmup", "1", "--train.questions-per-step", "4"],
  ...["--train.group-size", "4", "--evaluate.accessibility-samples", "4"],
  ...["--evaluate.pass-at-k-samples", "4", "--evaluate.pass-at-k", "1,4"],
];

describe("a sweep", () => {
  const out = join(folder, "sweep");
  const args = ["--grid", "method=grpo,sft", "--seeds", "2", "--jobs", "2", "--out", out];

  test("runs everything once, in a table; a second time nothing; then runs are compared", () => {
    const first = command("sweep.ts", ...args, "--", ...small);
    assert.equal(first.code, 0, first.text);
    assert.match(first.text, /\[4\/4\]/);
    const table = readFileSync(join(out, "sweep.md"), "utf8");
    for (const row of ["method=grpo", "method=sft"]) assert.match(table, new RegExp(`${row} \\|`));
    assert.match(table, /±/);
    assert.equal((first.text.match(/: done/g) ?? []).length, 4);
    const again = command("sweep.ts", ...args, "--", ...small);
    assert.equal(again.code, 0, again.text);
    assert.doesNotMatch(again.text, /: done/);

    const dirs = ["method=grpo,seed=1", "method=sft,seed=1"].map((name) => join(out, name));
    const plot = join(folder, "plot.svg");
    const compared = command("compare.ts", ...dirs, "--plot", plot);
    assert.equal(compared.code, 0, compared.text);
    assert.match(compared.text, /method=sft,seed=1: method: "grpo" -> "sft"/);
    assert.match(compared.text, /McNemar[\s\S]*method=sft,seed=1 +\d+ +\S+ \[/);
    assert.match(readFileSync(plot, "utf8"), /^<svg[\s\S]*validation\/accuracy/);
    const unknown = command("compare.ts", ...dirs, "--metric", "lose", "--plot", plot);
    assert.equal(unknown.code, 2);
    assert.match(unknown.text, /no run has the metric lose; there are step, /);
  });

  test("does not take another sweep's run for its own, ended or begun", () => {
    const dir = join(folder, "taken", "method=sft,seed=1");
    const resolved = resolveConfig([...small, "--method", "sft", "--seeds.rl", "1"]);
    if (resolved.help !== null) throw new Error("help was not asked for");
    createRun({ dir, config: resolved.config }).close();
    const grid = ["--grid", "method=sft", "--out", join(folder, "taken")];
    const common = [...small, "--train.steps", "2"];
    for (const ended of [false, true]) {
      if (ended) writeFileSync(join(dir, "summary.json"), "{}");
      const { code, text } = command("sweep.ts", ...grid, "--", ...common);
      assert.equal(code, 2, text);
      assert.match(text, /method=sft,seed=1 is a run with other settings/);
      assert.match(text, /train\.steps: 3 -> 2\nchoose another folder for this sweep with --out/);
    }
    const own = command("sweep.ts", ...grid, "--dry-run", "--", ...small);
    assert.match(own.text, /--resume \S+method=sft,seed=1/);
  });

  test("a run that fails is told, with its reason; the others are run", () => {
    const bad = command("sweep.ts", ...args.slice(0, -1), join(folder, "bad"), "--", "--sede", "1");
    assert.equal(bad.code, 2);
    assert.match(bad.text, /unknown flag --sede/);
    assert.ok(!existsSync(join(folder, "bad")), "wrong settings are refused before any run");
    assert.match(command("sweep.ts", "--jobs", "0").text, /--jobs is "0"; expected a whole number/);
    assert.match(command("compare.ts", out).text, /at least two run folders/);
  });
});
