/** The tests of the webgpu device on Bun, Node and Deno, each file in a process of its own. */
// Question: do the WGSL kernels agree with f64 on this machine's GPU? Where there is none, Chromium's
// software GPU is taken (Debian: chromium-common, libvulkan1); without it every test is skipped, in
// so many words, and with --need-gpu that is a failure.

import { spawn } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";

const { values: options } = parseArgs({
  options: {
    "need-gpu": { type: "boolean", default: false },
    only: { type: "string" },
    help: { type: "boolean", default: false },
  },
});
if (options.help) {
  console.log("scripts/test_webgpu.ts [--need-gpu] [--only bun|node|deno|deno-own]");
  process.exit(0);
}

const root = join(import.meta.dirname, "..");
const folder = "tests/webgpu";
/** The page's server takes types out of source text, which is Node's to do. */
const NODE_ONLY = "browser.gpu.ts";
/** Asks for Dawn's ways and Dawn's errors. */
const NOT_OWN = "device.gpu.ts";
/** Dawn beside Deno's own GPU: see the file. */
const NOT_DENO = "matrices.gpu.ts";
const files = readdirSync(join(root, folder)).filter((name) => name.endsWith(".gpu.ts"));

/** Chromium's software GPU, for whoever has set no driver. */
const SOFTWARE = "/usr/lib/chromium/vk_swiftshader_icd.json";
const env = { XDG_RUNTIME_DIR: "/tmp", ...process.env, NO_COLOR: "1" };
if (existsSync(SOFTWARE) && !("VK_ICD_FILENAMES" in process.env)) {
  Object.assign(env, { VK_ICD_FILENAMES: SOFTWARE });
}

/** The runtime that CI installed, else the one on the PATH. */
const program = (name: string): string =>
  [".runtimes/node_modules/.bin", "node_modules/.bin"]
    .map((path) => join(root, path, name))
    .find((path) => existsSync(path)) ?? name;

const deno = [program("deno"), "test", "-A", "--no-check"];
const RUNTIMES: Record<string, readonly string[]> = {
  bun: [program("bun"), "test", "--timeout", "240000"],
  node: [program("node"), "--test", "--test-timeout=240000"],
  deno,
};

/** Deno's own WebGPU: another compiler of WGSL, here over Mesa's software driver. */
const OWN = "deno-own";
const drivers = "/usr/share/vulkan/icd.d";
const lavapipe = (existsSync(drivers) ? readdirSync(drivers) : []).find((name) =>
  /^lvp_icd.*\.json$/.test(name),
);
if (lavapipe !== undefined) RUNTIMES[OWN] = [...deno, "--unstable-webgpu"];
else console.log("SKIPPED Deno's own WebGPU: no software driver (Debian: mesa-vulkan-drivers)");
const FEWER_TRIES = { ANAMNESIS_PROPERTY_RUNS: "4" };
/** What each runner prints of its sums. */
const PASSED = /^\s*(\d+) pass$|^ℹ pass (\d+)$|\| (\d+) passed(?: \((\d+) steps\))?/m;

let [passed, failed, skipped] = [0, options["need-gpu"] && lavapipe === undefined ? 1 : 0, 0];

/** What a command printed, and whether it ended well in ten minutes. */
function execute(
  [exe, ...args]: readonly string[],
  more: Readonly<Record<string, string>>,
): Promise<{ ok: boolean; output: string; seconds: string }> {
  const started = performance.now();
  return new Promise((resolve) => {
    const stdio: ["ignore", "pipe", "pipe"] = ["ignore", "pipe", "pipe"];
    const child = spawn(exe!, args, {
      cwd: root,
      env: { ...env, ...more },
      stdio,
      timeout: 600_000,
    });
    const parts: Buffer[] = [];
    for (const stream of [child.stdout, child.stderr])
      stream.on("data", (part) => parts.push(part));
    const end = (ok: boolean, problem = "") => {
      const seconds = ((performance.now() - started) / 1000).toFixed(0);
      resolve({ ok, output: `${Buffer.concat(parts)}${problem}`, seconds });
    };
    child.on("error", (error) => end(false, error.message));
    child.on("close", (code) => end(code === 0));
  });
}

async function testFile(name: string, file: string): Promise<void> {
  const driver = name === OWN ? { VK_ICD_FILENAMES: `${drivers}/${lavapipe}` } : {};
  // Node and Deno run the same Dawn as Bun: there fewer tries of each property do.
  const tries = name === "node" || name === "deno" ? FEWER_TRIES : {};
  const command = [...RUNTIMES[name]!, `./${folder}/${file}`];
  const { ok, output, seconds } = await execute(command, { ...tries, ...driver });
  const without = Number(/SKIPPED (\d+) tests without a GPU/.exec(output)?.[1] ?? 0);
  const sums = PASSED.exec(output)?.slice(1).filter(Boolean).map(Number) ?? [];
  const count = Math.max(0, ...sums);
  const strayed = name === OWN && without === 0 && !output.includes("through navigator.gpu");
  if (strayed) console.log(`${file}: Deno's own WebGPU was not taken`);
  const missing = options["need-gpu"] && without > 0;
  const wrong = !ok || count === 0 || strayed || missing;
  if (wrong) console.log(output.slice(-6000));
  const told = without > 0 ? `, ${without} skipped: no GPU` : "";
  console.log(
    `${wrong ? "FAILED" : "ok"}  ${file} on ${name}: ${count} passed${told} (${seconds} s)`,
  );
  passed += count;
  failed += wrong ? 1 : 0;
  skipped += without;
}

const tasks = Object.keys(RUNTIMES)
  .filter((name) => options.only === undefined || options.only === name)
  .flatMap((name) => files.map((file) => ({ name, file })))
  .filter(({ name, file }) => {
    if (file === NODE_ONLY) return name === "node";
    if (name === OWN && file === NOT_OWN) return false;
    return !(file === NOT_DENO && (name === "deno" || name === OWN));
  });
// Two at a time: a file leaves most of a second core idle.
const worker = async (): Promise<void> => {
  for (let task = tasks.shift(); task !== undefined; task = tasks.shift()) {
    await testFile(task.name, task.file);
  }
};
await Promise.all([worker(), worker()]);

/** Whole programs, on Node: the same greedy answers on both devices; the benchmark on small shapes. */
const PROGRAMS = [
  ["experiments/devices.ts", "--preset", "smoke", "--pretrain.steps", "300"],
  ["bench/gpu.ts", "--quick"],
];
if (skipped === 0 && (options.only ?? "node") === "node") {
  for (const args of PROGRAMS) {
    const { ok, output, seconds } = await execute([program("node"), ...args], {});
    if (!ok) console.log(output.slice(-6000));
    const told = /^.* agree: .*$/m.exec(output)?.[0];
    const sum = `on node${told ? `: ${told}` : ""} (${seconds} s)`;
    console.log(`${ok ? "ok" : "FAILED"}  ${args.join(" ")} ${sum}`);
    if (ok) passed++;
    else failed++;
  }
}
console.log(`webgpu: ${passed} passed, ${failed} failed, ${skipped} skipped for want of a GPU`);
process.exitCode = failed > 0 ? 1 : 0;
