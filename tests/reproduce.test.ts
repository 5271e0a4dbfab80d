/** The reproduction from end to end at the smallest size: runs, findings, verdicts, the report. */

import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { experiments } from "../experiments/all.ts";
import { outcomeOf, type Quantity, readPaper, readRules, verdictOf } from "../experiments/claim.ts";
import { reproduce } from "../experiments/main.ts";
import { resolved } from "../experiments/runs.ts";
import { full, merged, quick, type Scale, worldKinds } from "../experiments/scale.ts";
import { settingsOf, wordsOf } from "../experiments/study.ts";
import type { PartialConfig } from "../rl/presets.ts";

const folder = mkdtempSync(join(tmpdir(), "anamnesis-reproduce-"));
after(() => rmSync(folder, { recursive: true, force: true }));

const small: PartialConfig = {
  world: { entities: 40, relations: 2, answers: 6, qaShare: 0.3, qaEntityShare: 0.3 },
  model: {
    ...{ hiddenSize: 16, layers: 1, heads: 2, keyValueHeads: 1 },
    intermediateSize: 32,
  },
  pretrain: { steps: 150, warmup: 5, batch: 16, learningRate: 1e-2 },
  train: { steps: 2, questionsPerStep: 4, groupSize: 4 },
  optimizer: { warmup: 0 },
  evaluate: { every: 1, accessibilitySamples: 8, passAtKSamples: 256 },
};
const special: Partial<Scale["kinds"]> = {
  unknowable: { world: { unknowableShare: 0.6 }, evaluate: { curves: true } },
  names: { world: { answerTokens: 2, aliases: 1 } },
  think: { world: { thinkShare: 0.5 } },
  benchmarks: { world: { entities: 96, questionSets: "four" } },
  leak: { world: { questionWordings: 2, leakShare: 0.3 } },
};
const tiny: Scale = {
  ...{ name: "quick", worlds: [1], seeds: [1], others: [1] },
  kinds: Object.fromEntries(
    worldKinds.map((kind) => [kind, merged(small, special[kind] ?? {})]),
  ) as Scale["kinds"],
  variants: [
    { name: "one", settings: {} },
    { name: "another", settings: { model: { intermediateSize: 48 } } },
  ],
  larger: { name: "larger", settings: { model: { hiddenSize: 32 } } },
};

test("every claim has a rule, and every rule's claim an experiment or a place to be named", () => {
  const claims = readPaper().claims.map(({ id }) => id);
  assert.deepEqual(
    claims,
    Array.from({ length: 18 }, (_, i) => `C${i + 1}`),
  );
  const rules = readRules();
  for (const claim of claims) assert.ok(claim in rules, `${claim} has a rule`);
  for (const { claims: own } of experiments) {
    for (const claim of own) assert.ok(claim in rules, `${claim} has a rule`);
  }
});

describe("a rule", () => {
  const quantity = (low: number | null, high: number | null): Quantity => ({
    ...{ id: "q", label: "", unit: "points", estimate: 0, low, high, basis: "" },
  });
  const outcome = (is: "above" | "below" | "within", bounds: number[], q: Quantity) =>
    outcomeOf({ quantity: "q", is, bounds, because: "" }, q);

  test("needs the whole interval on its side", () => {
    assert.equal(outcome("above", [0], quantity(0.1, 2)), "yes");
    assert.equal(outcome("above", [0], quantity(0, 2)), "inconclusive");
    assert.equal(outcome("above", [0], quantity(-2, 0)), "no");
    assert.equal(outcome("below", [5], quantity(1, 4.9)), "yes");
    assert.equal(outcome("below", [5], quantity(5, 9)), "no");
    assert.equal(outcome("below", [5], quantity(4, 6)), "inconclusive");
    assert.equal(outcome("within", [-3, 3], quantity(-2.9, 2.9)), "yes");
    assert.equal(outcome("within", [-3, 3], quantity(-3.1, 2)), "inconclusive");
    assert.equal(outcome("within", [-3, 3], quantity(3, 9)), "no");
    assert.equal(outcome("above", [0], quantity(null, null)), "inconclusive");
    assert.throws(() =>
      outcomeOf({ quantity: "q", is: "above", bounds: [0], because: "" }, undefined),
    );
  });

  test("one no decides, all yes are needed", () => {
    const rule = (bounds: number[]) => ({
      ...{ quantity: "q", is: "above" as const, bounds, because: "" },
    });
    const q = [quantity(1, 2)];
    assert.equal(verdictOf([rule([0]), rule([0.5])], q), "yes");
    assert.equal(verdictOf([rule([0]), rule([1.5])], q), "inconclusive");
    assert.equal(verdictOf([rule([0]), rule([1.5]), rule([3])], q), "no");
  });
});

test("all settings of both scales hold together", () => {
  for (const scale of [quick, full]) {
    for (const one of settingsOf(experiments, scale)) resolved(one);
  }
});

test("what was left open is asked of other worlds, and says so; in a quick run it is one and the same", () => {
  const again = experiments.filter((one) => one.again);
  assert.ok(again.length > 0);
  for (const one of again) {
    const seeds = settingsOf([one], full).map(({ seeds }) => [seeds?.world, seeds?.rl]);
    assert.ok(seeds.every(([world, rl]) => full.others.includes(world!) && rl === 1));
    assert.deepEqual([...new Set(seeds.map(([world]) => world))], full.others);
    assert.ok(full.others.every((world) => !full.worlds.includes(world)));
    assert.match(wordsOf(one, full).cautions.at(-1)!, /Asked twice/);
    assert.deepEqual(wordsOf(one, quick).cautions, one.cautions);
  }
});

const MINUTES = 60_000;

// Some forty processes one after the other, two at a time: more than the runners allow a test.
test("runs, judges, reports; a second time it runs nothing and says the same", {
  timeout: 6 * MINUTES,
}, async () => {
  const out = join(folder, "out");
  const here = process.cwd();
  process.chdir(folder);
  const lines: string[] = [];
  const { log } = console;
  console.log = (text: string) => lines.push(text);
  const scales = { quick: tiny, full: tiny };
  try {
    await reproduce(experiments, ["--quick", "--out", out], scales);
    const first = readFileSync(join(out, "report.json"), "utf8");
    assert.ok(lines.some((line) => /^\[\d+\/\d+\] \w{12} .*: done/.test(line)));
    lines.length = 0;
    await reproduce(experiments, ["--quick", "--out", out], scales);
    assert.ok(!lines.some((line) => line.includes(": done")), "nothing ran again");
    assert.ok(readFileSync(join(out, "report.json"), "utf8") === first, "the same report");
    // A report outlives its runs, and one experiment's report does not lose the others'.
    renameSync(join(out, "runs"), join(out, "away"));
    const rows = readFileSync(join(out, "runs.jsonl"), "utf8");
    await reproduce(experiments, ["--quick", "--report", "--only", "c10", "--out", out], scales);
    const one = experiments.filter(({ id }) => id === "c10_repair");
    await reproduce(one, ["--quick", "--report", "--out", out], scales);
    assert.ok(readFileSync(join(out, "report.json"), "utf8") === first, "the same report");
    assert.equal(readFileSync(join(out, "runs.jsonl"), "utf8"), rows);
    const hashes = rows
      .trim()
      .split("\n")
      .map((row) => JSON.parse(row).hash);
    const told = JSON.parse(first).studies.flatMap(({ runs }: { runs: string[] }) => runs);
    assert.deepEqual(hashes, [...new Set(told)].sort());
    renameSync(join(out, "away"), join(out, "runs"));
    // What was found with other settings is not told any more.
    const changed = { ...tiny, worlds: [2], others: [2] };
    await reproduce(experiments, ["--quick", "--report", "--out", out], {
      ...{ quick: changed, full: changed },
    });
    const empty = JSON.parse(readFileSync(join(out, "report.json"), "utf8"));
    assert.equal(empty.studies.length, 0);
    assert.equal(empty.missing.length, experiments.length);
    assert.match(readFileSync(join(out, "report.md"), "utf8"), /Not run yet at this scale: /);
    await reproduce(experiments, ["--quick", "--report", "--out", out], scales);
    assert.ok(readFileSync(join(out, "report.json"), "utf8") === first, "the same report");
  } finally {
    console.log = log;
    process.chdir(here);
  }
  const page = readFileSync(join(out, "report.html"), "utf8");
  const report = JSON.parse(readFileSync(join(out, "report.json"), "utf8"));
  for (const { id, title } of experiments) {
    assert.ok(page.includes(`<section id="${id}">`), title);
  }
  const bad = /.{0,60}(NaN|undefined points|\[object|<script|https?:\/\/(?!www\.w3\.org)).{0,60}/;
  assert.equal(bad.exec(page)?.[0], undefined);
  for (const { finding } of report.studies) {
    for (const { name } of finding.figures)
      assert.ok(statSync(join(out, `${name}.svg`)).size > 999);
  }
  for (const { runs } of report.studies) {
    for (const hash of runs) assert.ok(existsSync(join(out, "runs", hash, "summary.json")));
  }
  for (const { verdict } of report.lines) assert.match(verdict, /^(yes|no|inconclusive)$/);
});
