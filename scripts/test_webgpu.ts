/** The tests of the webgpu device on Bun, Node and Deno, each file in a process of its own. */
// Question: do the WGSL kernels agree with f64 on this machine's GPU? Where there is none, Chromium's
// software GPU is taken (Debian: chromium-common, libvulkan1); without it every test is skipped, in
// so many words, and with --need-gpu that is a failure.

import { spawnSync } from "node:child_process";
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
/** What each runner prints of its sums. */
const PASSED = /^\s*(\d+) pass$|^ℹ pass (\d+)$|\| (\d+) passed(?: \((\d+) steps\))?/m;

let [passed, failed, skipped] = [0, options["need-gpu"] && lavapipe === undefined ? 1 : 0, 0];
for (const [name, command] of Object.entries(RUNTIMES)) {
  if (options.only !== undefined && options.only !== name) continue;
  for (const file of files) {
    if (file === NODE_ONLY && name !== "node") continue;
    if (name === OWN && file === NOT_OWN) continue;
    if (file === NOT_DENO && (name === "deno" || name === OWN)) continue;
    const driver = name === OWN ? { VK_ICD_FILENAMES: `${drivers}/${lavapipe}` } : {};
    const started = performance.now();
    const [exe, ...args] = [...command, `./${folder}/${file}`];
    const limits = { timeout: 600_000, maxBuffer: 1 << 28 };
    const run = spawnSync(exe!, args, {
      cwd: root,
      env: { ...env, ...driver },
      encoding: "utf8",
      ...limits,
    });
    const output = `${run.stdout}${run.stderr}`;
    const without = Number(/SKIPPED (\d+) tests without a GPU/.exec(output)?.[1] ?? 0);
    const sums = PASSED.exec(output)?.slice(1).filter(Boolean).map(Number) ?? [];
    const count = Math.max(0, ...sums);
    const strayed = name === OWN && without === 0 && !output.includes("through navigator.gpu");
    if (strayed) console.log(`${file}: Deno's own WebGPU was not taken`);
    const missing = options["need-gpu"] && without > 0;
    const wrong = run.status !== 0 || count === 0 || strayed || missing;
    const seconds = ((performance.now() - started) / 1000).toFixed(0);
    if (wrong) console.log(output.slice(-6000));
    const told = without > 0 ? `, ${without} skipped: no GPU` : "";
    console.log(
      `${wrong ? "FAILED" : "ok"}  ${file} on ${name}: ${count} passed${told} (${seconds} s)`,
    );
    passed += count;
    failed += wrong ? 1 : 0;
    skipped += without;
  }
}

/** Whole programs, on Node: the same greedy answers on both devices; the benchmark on small shapes. */
const PROGRAMS = [
  ["experiments/devices.ts", "--preset", "smoke", "--pretrain.steps", "300"],
  ["bench/gpu.ts", "--quick"],
];
if (skipped === 0 && (options.only ?? "node") === "node") {
  for (const args of PROGRAMS) {
    const run = spawnSync(program("node"), args, { cwd: root, env, encoding: "utf8" });
    const ok = run.status === 0;
    if (!ok) console.log(`${run.stdout}${run.stderr}`.slice(-6000));
    const told = /^.* agree: .*$/m.exec(run.stdout)?.[0];
    console.log(`${ok ? "ok" : "FAILED"}  ${args.join(" ")} on node${told ? `: ${told}` : ""}`);
    if (ok) passed++;
    else failed++;
  }
}
console.log(`webgpu: ${passed} passed, ${failed} failed, ${skipped} skipped for want of a GPU`);
process.exitCode = failed > 0 ? 1 : 0;
