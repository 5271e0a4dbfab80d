/** Plants known faults in a copy of the repository and shows which tests catch each of them. */
// Question: would these tests notice? Every fault of tests/faults/faults.ts is planted alone, the
// tests of tensor/ and of sampling (for losses: the golden suite) run with few random cases, and a
// fault that no test notices is a failure.

import { spawnSync } from "node:child_process";
import {
  cpSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { parseArgs } from "node:util";
import { type Fault, faults } from "../tests/faults/faults.ts";

const { values: options } = parseArgs({
  options: {
    runs: { type: "string", default: "10" },
    only: { type: "string" },
    show: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});
if (options.help) {
  console.log("scripts/plant_faults.ts [--runs N] [--only TEXT] [--show]");
  console.log("  --runs N     random cases for each property; default 10");
  console.log("  --only TEXT  only faults whose description or file contains TEXT");
  console.log("  --show       print the first failure with its shrunk counterexample");
  process.exit(0);
}

const root = dirname(import.meta.dirname);
const COPIED = ["tensor", "model", "eval", "rl", "tests", "package.json", "tsconfig.json"];
/** The tests of tensor/, without those that only take long, and of sampling. */
const FILES = [
  ...["ops", "laws", "attention_laws", "gradient_traps", "autograd", "scope"],
  ...["random", "math", "attention", "row_kernels", "layout", "gemm_thin", "log_prob", "sample"],
];
/** The golden suite, for faults in rl/. */
const GOLDEN = ["golden_policy", "golden_ppo", "golden_answers"];
const filesFor = ({ file }: Fault): readonly string[] => (file.startsWith("rl/") ? GOLDEN : FILES);
const PATIENCE = 180_000;

interface Outcome {
  readonly failed: readonly string[];
  readonly output: string;
  readonly ended: boolean;
}

function runTests(folder: string, names: readonly string[]): Outcome {
  const bun = join(root, "node_modules", ".bin", "bun");
  const files = names.map((name) => join("tests", `${name}.test.ts`));
  const env = { ...process.env, ANAMNESIS_PROPERTY_RUNS: options.runs, NO_COLOR: "1" };
  const { stdout, stderr, status } = spawnSync(bun, ["test", "--timeout", "60000", ...files], {
    ...{ cwd: folder, env, encoding: "utf8", timeout: PATIENCE, maxBuffer: 2 ** 28 },
  });
  const output = `${stdout}${stderr}`;
  const found = output.matchAll(/^\(fail\) (.*?)(?: \[[\d.]+m?s\])?$/gm);
  return {
    failed: [...new Set([...found].map(([, name]) => name!))],
    output,
    ended: status !== null,
  };
}

/** The repository's sources without `node_modules`, which is linked. */
function copyRepository(): string {
  const folder = mkdtempSync(join(tmpdir(), "anamnesis-faults-"));
  const present = new Set(readdirSync(root));
  for (const name of COPIED) {
    if (present.has(name)) cpSync(join(root, name), join(folder, name), { recursive: true });
  }
  symlinkSync(join(root, "node_modules"), join(folder, "node_modules"));
  return folder;
}

/** Runs `body` while the fault is in the copy. */
function planted<T>(folder: string, { file, find, replace }: Fault, body: () => T): T {
  const path = join(folder, file);
  const source = readFileSync(path, "utf8");
  const places = source.split(find).length - 1;
  if (places !== 1) {
    throw new Error(`${file} has ${places} places with "${find}", expected 1: renew the fault`);
  }
  writeFileSync(
    path,
    source.replace(find, () => replace),
  );
  try {
    return body();
  } finally {
    writeFileSync(path, source);
  }
}

/** From the first failure's counterexample or message to the line that names the test. */
function firstFailure(output: string): string {
  const lines = output.slice(0, output.search(/^\(fail\)/m)).split("\n");
  const from = lines.findIndex((line) => /Counterexample|^\w*Error/.test(line));
  const told = lines.slice(Math.max(from, 0)).filter((line) => !/^\s+at |^\s*\d+ \|/.test(line));
  return told.slice(0, 12).join("\n").slice(0, 1500);
}

/** Tests of the op that the fault names come before those that only use it. */
function ownFirst({ what }: Fault, failed: readonly string[]): string[] {
  const op = what.match(/`(\w+)`/)?.[1];
  const isOwn = (name: string) => Number(name.startsWith(`${op} > `));
  return failed.toSorted((a, b) => isOwn(b) - isOwn(a));
}

const chosen = faults.filter(({ file, what }) => `${file} ${what}`.includes(options.only ?? ""));
const folder = copyRepository();
let missed = 0;
try {
  const clean = runTests(folder, [...new Set(chosen.flatMap(filesFor))]);
  if (clean.failed.length > 0 || !clean.ended) {
    throw new Error(`without any fault tests fail: ${clean.failed.join("; ") || clean.output}`);
  }
  console.log("| fault | file | caught by | and |\n| --- | --- | --- | --- |");
  for (const fault of chosen) {
    const { failed, output, ended } = planted(folder, fault, () =>
      runTests(folder, filesFor(fault)),
    );
    const [first, ...others] = ownFirst(fault, failed);
    if (first === undefined && ended) missed++;
    const caught = first ?? (ended ? "**nothing**" : `no end within ${PATIENCE / 1000} s`);
    console.log(`| ${fault.what} | ${fault.file} | ${caught} | ${others.length} more |`);
    if (options.show && first !== undefined) console.log(`\n${firstFailure(output)}\n`);
  }
  console.log(`\n${chosen.length - missed} of ${chosen.length} faults were caught.`);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
process.exitCode = missed === 0 && chosen.length > 0 ? 0 : 1;
