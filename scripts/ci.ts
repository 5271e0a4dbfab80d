/** Every check on every runtime, and one closing line with the sum. Started by .ci/run. */
// Bun runs the property tests in full; Node and Deno run all tests with fewer tries of each
// property. Each check that is no test (types, a training run, …) counts as one test.

import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { missingPackages } from "./llama_cpp.ts";
import { root } from "./tree.ts";

/** Tests that read the assets folder: those skipped where it is absent. Grows with such tests. */
const NEED_ASSETS = 32;
/** Tests that ask llama.cpp, which scripts/llama_cpp.ts installs; two of them read assets too. */
const NEED_LLAMA = 18;
const NEED_BOTH = 2;
/** Tests that run Python, and those that also need its YAML (tests/export*.test.ts). */
const NEED_PYTHON = 2;
const NEED_YAML = 1;
const FEWER_TRIES = { ANAMNESIS_PROPERTY_RUNS: "8" };
const LIMIT_MS = 30 * 60_000;

interface Count {
  passed: number;
  failed: number;
  skipped: number;
}
interface Runtime {
  readonly name: string;
  /** The program, and what comes before the path of a script. */
  readonly run: readonly string[];
  /** Runs all tests and writes a JUnit report to `path`. */
  readonly test: (path: string) => readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

const bin = (name: string): string => join(root, ".runtimes/node_modules/.bin", name);
const bun = join(root, "node_modules/.bin/bun");
const bunRuntime: Runtime = {
  name: "Bun",
  run: [bun, "run"],
  test: (path) =>
    `${bun} test --timeout 120000 --reporter=junit --reporter-outfile=${path} tests`.split(" "),
};
const nodeRuntime: Runtime = {
  name: "Node",
  run: [bin("node")],
  test: (path) => [
    ...[bin("node"), "--test", "--test-timeout=120000"],
    ...["--test-reporter=spec", "--test-reporter-destination=stdout"],
    ...["--test-reporter=junit", `--test-reporter-destination=${path}`, "tests/*.test.ts"],
  ],
  env: FEWER_TRIES,
};
const denoRuntime: Runtime = {
  name: "Deno",
  run: [bin("deno"), "run", "-A"],
  test: (path) => [bin("deno"), "test", "-A", `--junit-path=${path}`, "tests"],
  env: FEWER_TRIES,
};
const runtimes = [bunRuntime, nodeRuntime, denoRuntime];

async function inTurn<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  for (const item of items) results.push(await work(item));
  return results;
}

const total: Count = { passed: 0, failed: 0, skipped: 0 };
const scratch = mkdtempSync(join(tmpdir(), "anamnesis-ci-"));

/** Runs a command to its end, or kills it at the limit. */
async function execute(
  command: readonly string[],
  env: Readonly<Record<string, string>> = {},
  cwd = root,
): Promise<{ ok: boolean; output: string; seconds: number }> {
  const started = performance.now();
  const child = spawn(command[0]!, command.slice(1), {
    cwd,
    env: { ...process.env, NO_COLOR: "1", ...env },
    stdio: ["ignore", "pipe", "pipe"],
    timeout: LIMIT_MS,
  });
  const parts: string[] = [];
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => parts.push(text));
  }
  const status = await new Promise<number | null>((resolve) => {
    child.on("close", resolve);
    child.on("error", (error) => {
      parts.push(`\n${error.message}`);
      resolve(null);
    });
  });
  const seconds = (performance.now() - started) / 1000;
  return { ok: status === 0, output: parts.join(""), seconds };
}

/** A line of the report; what a failed check printed stands above its line. */
function report(name: string, seconds: number, count: Count, output: string): void {
  const isPass = /^\s*(\(pass\)|✔|.* \.\.\. ok \(|running \d+ test)/;
  if (count.failed > 0) {
    console.log(
      output
        .split("\n")
        .filter((line) => !isPass.test(line))
        .join("\n")
        .trimEnd(),
    );
  }
  const { passed, failed, skipped } = count;
  const counts = `passed ${passed}, failed ${failed}, skipped ${skipped}`;
  console.log(`${failed > 0 ? "FAILED" : "ok"}  ${name}: ${counts} (${seconds.toFixed(0)} s)`);
  total.passed += passed;
  total.failed += failed;
  total.skipped += skipped;
}

/** A check that counts as one test. `judge` says what is wrong with the output, if anything. */
async function check(
  name: string,
  command: readonly string[],
  { cwd = root, judge = () => undefined as string | undefined } = {} as {
    cwd?: string;
    judge?: (output: string) => string | undefined;
  },
): Promise<void> {
  const { ok, output, seconds } = await execute(command, {}, cwd);
  const wrong = ok ? judge(output) : `${command.join(" ")}: not ended well`;
  const count = { passed: wrong ? 0 : 1, failed: wrong ? 1 : 0, skipped: 0 };
  report(name, seconds, count, `${output}\n${wrong}`);
}

/** The test cases of a JUnit report. A case that has cases of its own is a group, not a test. */
function countCases(xml: string): Count {
  const cases = [...xml.matchAll(/<testcase name="([^"]*)"[^>]*?(?:\/>|>([\s\S]*?)<\/testcase>)/g)];
  const groups = new Set<string>();
  for (const [, name] of cases) {
    const steps = name!.split(" &gt; ");
    for (let n = 1; n < steps.length; n++) groups.add(steps.slice(0, n).join(" &gt; "));
  }
  const count: Count = { passed: 0, failed: 0, skipped: 0 };
  for (const [, name, body = ""] of cases) {
    // Node reports a file without any test as a passed test of the file's name.
    if (groups.has(name!) || (name!.endsWith(".test.ts") && body === "")) continue;
    if (/<(failure|error)\b/.test(body)) count.failed++;
    else if (/<skipped\b/.test(body)) count.skipped++;
    else count.passed++;
  }
  return count;
}

/** All tests on one runtime, no more skipped than expected; returns how many there are. */
async function suite({ name, test, env }: Runtime, expected: number): Promise<number> {
  const path = join(scratch, `${name}.xml`);
  const { ok, output, seconds } = await execute(test(path), env);
  const count = countCases(existsSync(path) ? readFileSync(path, "utf8") : "");
  const reasons = [...output.matchAll(/^skipped (\d+) tests?: .*$/gm)];
  for (const [reason, tests] of reasons) {
    console.log(`${name} ${reason}`);
    count.skipped += Number(tests);
  }
  const tests = count.passed + count.failed + count.skipped;
  const wrong = [
    !ok && count.failed === 0 ? "the run ended badly, though no test failed" : "",
    count.passed === 0 ? "no test passed" : "",
    count.skipped !== expected ? `${expected} skipped tests were expected` : "",
  ].filter((text) => text !== "");
  count.failed += wrong.length;
  report(`tests on ${name}`, seconds, count, [output, ...wrong].join("\n"));
  return tests;
}

/** A whole run at the smallest size: it ends, and its summary has what a reader looks for. */
async function trainingRun({ name, run }: Runtime): Promise<void> {
  const folder = mkdtempSync(join(scratch, "run-"));
  const sizes = {
    ...{ "model.layers": 1, "model.hidden-size": 16, "model.intermediate-size": 32 },
    ...{ "world.entities": 60, "world.answers": 8, "pretrain.batch": 8 },
    ...{ "pretrain.steps": 30, "pretrain.warmup": 5, "train.steps": 2, "optimizer.warmup": 0 },
    ...{ "train.questions-per-step": 8, "train.group-size": 4 },
    ...{ "evaluate.accessibility-samples": 8, "evaluate.pass-at-k-samples": 8 },
    ...{ "evaluate.pass-at-k": "1,8", "evaluate.every": 1, out: join(folder, "run") },
  };
  const flags = Object.entries(sizes).flatMap(([key, value]) => [`--${key}`, String(value)]);
  await check(`a training run on ${name}`, [...run, join(root, "rl/train.ts"), ...flags], {
    cwd: folder,
    judge: () => {
      const summary = JSON.parse(readFileSync(join(folder, "run/summary.json"), "utf8"));
      const { n, before, after } = summary.heldout;
      const fine = n > 0 && [before, after].every((share) => share >= 0 && share <= 1);
      return fine ? undefined : `summary.json: held-out ${n}, ${before}, ${after}`;
    },
  });
}

const assets = resolve(root, process.env.ANAMNESIS_ASSETS ?? "../shared", "models");
const llama = missingPackages().length === 0;
const imports = (name: string): boolean =>
  spawnSync("python3", ["-c", `import ${name}`]).status === 0;
const skipped =
  (llama ? 0 : NEED_LLAMA) +
  (existsSync(assets) ? 0 : NEED_ASSETS + (llama ? NEED_BOTH : 0)) +
  (imports("sys") ? 0 : NEED_PYTHON) +
  (imports("yaml") ? 0 : NEED_YAML);

await check("format and lint", ["npm", "run", "--silent", "lint"]);
await check("types", ["npm", "run", "--silent", "types"]);
// Before the tests, which take it from where this leaves it.
await check("npm pack", [bun, "run", "scripts/tarball.ts"]);
// A suite keeps about one core busy: Bun's, with all tries, goes beside the two others.
const [onBun, others] = await Promise.all([
  suite(bunRuntime, skipped),
  inTurn([nodeRuntime, denoRuntime], (runtime) => suite(runtime, skipped)),
]);
if (others.some((tests) => tests !== onBun)) {
  const count = { passed: 0, failed: 1, skipped: 0 };
  report("as many tests on each runtime", 0, count, `Bun ${onBun}, Node and Deno ${others}`);
}
await inTurn(runtimes, trainingRun);
const gpu = process.env.ANAMNESIS_NO_GPU === undefined ? ["--need-gpu"] : [];
await check("the webgpu device on all three", [bun, "run", "scripts/test_webgpu.ts", ...gpu], {
  judge: (output) => {
    console.log(output.trimEnd());
    return undefined;
  },
});
await check("matrix products on Bun", [bun, "run", "bench/gemm.ts", "--quick", "--json"], {
  judge: (output) => {
    const { peakGflops, rows } = JSON.parse(output.slice(output.indexOf("{")));
    const rates = (rows as { gflops: number }[]).map(({ gflops }) => gflops);
    const fine = rates.length > 0 && rates.every((rate) => rate > 0) && Math.max(...rates) > 1;
    return fine && peakGflops > 1 ? undefined : `peak ${peakGflops}, rates ${rates.join(" ")}`;
  },
});

rmSync(scratch, { recursive: true, force: true });
const { passed, failed } = total;
console.log(
  `${passed} passed, ${failed} failed${total.skipped > 0 ? `, ${total.skipped} skipped` : ""}`,
);
process.exitCode = failed > 0 ? 1 : 0;
