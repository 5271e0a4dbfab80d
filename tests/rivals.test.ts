/** The judgement of the rivals benchmark: what counts as agreement, and what follows from times. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { disagreement } from "../bench/rivals/agreement.ts";
import { historyLine, markdown } from "../bench/rivals/report.ts";
import {
  expectations,
  groupOf,
  merged,
  type Results,
  type Row,
  ratios,
} from "../bench/rivals/results.ts";
import { CHECKED_ROWS, type GemmTask, type Task } from "../bench/rivals/tasks.ts";
import { type Metered as Process, Usage } from "../bench/rivals/usage.ts";

const gemm = (m: number, k: number, n: number): GemmTask => {
  return { kind: "gemm", m, k, n, transpose: "NN" };
};

test("numbers agree up to rounding of the largest one", () => {
  const expected = [100, -3, 0.01];
  assert.equal(disagreement(gemm(4, 4, 4), expected, [100.05, -3.05, 0.06]), undefined);
  assert.match(disagreement(gemm(4, 4, 4), expected, [100, -3.2, 0])!, /number 1 is -3.2000/);
  assert.match(disagreement(gemm(4, 4, 4), expected, [100, -3])!, /2 numbers .* expected 3/);
  assert.match(disagreement(gemm(4, 4, 4), [1], [Number.NaN])!, /number 0 is NaN/);
});

test("greedy completions may part in a quarter of the rows", () => {
  const task = { kind: "decode" } as Task;
  const expected = Array.from({ length: CHECKED_ROWS * 5 }, (_, i) => i);
  const found = expected.slice();
  found[3] = found[8] = -1;
  assert.equal(disagreement(task, expected, found), undefined);
  found[14] = -1;
  assert.match(disagreement(task, expected, found)!, /5 of 8 greedy completions/);
});

const row = (part: Row["part"], group: string, ms: Row["ms"], more: Partial<Row> = {}): Row => {
  return { part, group, label: group, ms, cannot: {}, ...more };
};

test("tasks fall into the group of their sizes", () => {
  assert.equal(groupOf(gemm(64, 64, 64)), "square products");
  assert.equal(groupOf(gemm(509, 509, 509)), "products where tiles don't fit");
  assert.equal(groupOf(gemm(1, 1024, 1024)), "products where tiles don't fit");
  assert.equal(groupOf(gemm(2048, 256, 256)), "other products");
});

const rows = [
  row("gemm", "square products", { ours: 2, jax: 4, wide: 1, openblas: 1 }, { flops: 5e7 }),
  row("gemm", "square products", { ours: 2, jax: 16 }, { flops: 5e7 }),
  row("gemm", "other products", { ours: 1, wide: 0.5, openblas: 2 }, { flops: 5e7 }),
  row("step", "training step", { ours: 10, wide: 5, pytorch: 8 }, { width: 64 }),
  row("step", "training step", { ours: 10, wide: 5, pytorch: 6 }, { width: 256 }),
];

test("ratios are of rows that both have; expectations follow from them", () => {
  assert.deepEqual(ratios(rows, "jax"), [2, 8]);
  assert.deepEqual(ratios(rows, "openblas", "wide"), [1, 4]);
  const found = new Map(expectations(rows).map((one) => [one.text, one.found]));
  const close = (text: RegExp, value: number | undefined) => {
    const key = [...found.keys()].find((name) => text.test(name))!;
    const got = found.get(key);
    if (value === undefined || got === undefined) assert.equal(got, value, key);
    else assert.ok(Math.abs(got - value) < 1e-12, `${key}: ${got}`);
  };
  close(/^jax-js, square/, 4);
  close(/^jax-js, the product/, 8);
  close(/^jax-js, training/, undefined);
  close(/^PyTorch, training step up to/, 0.8);
  close(/^PyTorch, training step above/, 0.6);
  close(/^PyTorch.*--wide/, 1.2);
  close(/^OpenBLAS/, 2);
});

const MEASURED = { date: "2020-01-01", commit: "abc", load: 0.1, strangers: 0 };
const results = (own: readonly Row[], ids: readonly string[]): Results => ({
  ...{ ...MEASURED, cpu: "a CPU", cores: 2, absent: {} },
  participants: ids.map((id) => ({ id, name: id.toUpperCase(), version: "1", threads: 2 })),
  parts: Object.fromEntries(own.map(({ part }) => [part, MEASURED])),
  rows: own,
});

test("a run of some parts replaces these in the earlier one", () => {
  const steps = rows.filter(({ part }) => part === "step");
  const again = [row("step", "training step", { ours: 9 }, { width: 64 })];
  const all = merged(results(rows, ["ours", "jax"]), results(again, ["ours", "pytorch"]));
  assert.deepEqual(all.rows, [...rows.filter((one) => !steps.includes(one)), ...again]);
  assert.deepEqual(
    all.participants.map(({ id }) => id),
    ["ours", "pytorch", "jax"],
  );
});

test("a run of some parts keeps the dates of the others, and most of what kept cores busy", () => {
  const busy = (timed: number, idle: number) => ({ busy: { timed, idle } });
  const who = { id: "jax", name: "JAX", version: "1", threads: 2 };
  const old = { ...results(rows, []), participants: [{ ...who, ...busy(1.9, 0) }] };
  const later = { date: "2020-02-02", commit: "def", load: 2, strangers: 0.5 };
  const now: Results = {
    ...results([row("step", "training step", { ours: 9, jax: 18 }, { width: 64 })], []),
    ...{ ...later, parts: { step: later }, participants: [{ ...who, ...busy(1.2, 0.1) }] },
  };
  const all = merged(old, now);
  assert.deepEqual(all.parts, { gemm: MEASURED, step: later });
  assert.deepEqual(all.participants, [{ ...who, ...busy(1.9, 0.1) }]);
  assert.match(
    markdown(all),
    /JAX: 1, 2 threads; 1.9 cores busy when timed, 0.10 when others were/,
  );
  assert.match(markdown(all), /GFLOP\/s\n\nCommit abc, 2020-01-01, load average 0.1 at the start/);
  // The history has no second line for what an earlier commit did.
  assert.deepEqual(JSON.parse(historyLine(all)).ratios, { "training step": { jax: 2 } });
});

test("one library in two runtimes is one column", () => {
  const text = markdown(results(rows, ["ours", "jax", "jax", "pytorch"]));
  assert.match(text, /\| {2}\| JAX \| PYTORCH \|\n/);
  assert.equal(text.match(/- JAX: 1, 2 threads/g)!.length, 2);
});

test("cores are counted apart for who is timed and for who should sleep", async () => {
  const process = (perTurn: number | undefined) => {
    let used = 0;
    const cpuMs = () => {
      if (perTurn === undefined) return undefined;
      used += perTurn;
      return used;
    };
    return { cpuMs };
  };
  const [active, sleeper, spinner, unknown] = [1, 0, 1000, undefined].map(process) as [
    Process,
    Process,
    Process,
    Process,
  ];
  const usage = new Usage<Process>();
  const all = [active, sleeper, spinner, unknown];
  for (const one of all) {
    assert.equal(usage.of(one), undefined);
    await usage.during(one, all, () => new Promise((resolve) => setTimeout(resolve, 5)));
  }
  assert.ok(usage.of(active)!.timed > 0);
  assert.deepEqual(usage.of(sleeper), { timed: 0, idle: 0 });
  assert.ok(usage.of(spinner)!.idle > usage.of(active)!.idle);
  assert.equal(usage.of(unknown), undefined);
});

test("the page says what was reached, by how much, and what was not timed", () => {
  const refused = row("step", "training step", { ours: 3 }, { cannot: { jax: "has no such op" } });
  const text = markdown(results([...rows, refused], ["ours", "jax", "pytorch"]));
  assert.match(
    text,
    /\| jax-js, square products \(geometric mean\) \| 1.7 x \| 4.00 x \| reached \|/,
  );
  assert.match(text, /up to width 128 \(worst size\) \| 1 x \| 0.80 x \| not reached/);
  assert.match(text, /tfjs-wasm, square products .* \| 1.7 x \| {2}\| not measured/);
  assert.match(text, /- JAX: has no such op \(training step\)/);
  const history = JSON.parse(historyLine(results(rows, ["ours", "jax"])));
  assert.deepEqual(history.ratios["square products"], { jax: 4 });
});
