/** Installs node-llama-cpp into .llama/, which git ignores: tests compare with llama.cpp itself. */
// 90 MB with the prebuilt program for this machine's CPU: too much for every `npm ci`.

import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "./tree.ts";

export const folder = join(root, ".llama");
const VERSION = "3.22.1";
const PLATFORMS: Readonly<Record<string, string>> = {
  ...{ "linux-x64": "linux-x64", "linux-arm64": "linux-arm64", "win32-x64": "win-x64" },
  ...{ "win32-arm64": "win-arm64", "darwin-x64": "mac-x64", "darwin-arm64": "mac-arm64-metal" },
};
const platform = PLATFORMS[`${process.platform}-${process.arch}`];
/** Beside it, an independent reader of the files' metadata. */
const packages = {
  "node-llama-cpp": VERSION,
  [`@node-llama-cpp/${platform}`]: VERSION,
  "@huggingface/gguf": "0.4.6",
};

/** Packages that are absent or of another version. */
export const missingPackages = (): string[] =>
  Object.entries(packages).flatMap(([name, version]) => {
    const path = join(folder, "node_modules", name, "package.json");
    const found = existsSync(path) && JSON.parse(readFileSync(path, "utf8")).version === version;
    return found ? [] : [`${name}@${version}`];
  });

function install(): void {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "package.json"), '{ "private": true }\n');
  const all = Object.entries(packages).map(([name, version]) => `${name}@${version}`);
  // Its optional dependencies are builds for GPUs, its install script looks for a compiler.
  const flags = ["--omit=optional", "--ignore-scripts", "--no-audit", "--no-fund"];
  const quiet = ["--no-package-lock", "--loglevel=error"];
  const options = { cwd: folder, stdio: "inherit", shell: process.platform === "win32" } as const;
  spawnSync("npm", ["install", ...flags, ...quiet, ...all], options);
}

if (import.meta.main) {
  if (platform === undefined) {
    console.error(`error: node-llama-cpp has no program for ${process.platform} ${process.arch}`);
    process.exitCode = 2;
  } else {
    if (missingPackages().length > 0) install();
    const left = missingPackages();
    console.log(left.length === 0 ? "llama.cpp is installed" : `not installed: ${left.join(", ")}`);
    process.exitCode = left.length === 0 ? 0 : 1;
  }
}
