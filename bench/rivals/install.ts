/** The rivals' exact versions, and their installation into a folder of their own that git ignores. */
// They are no dependencies of this project: only `npm run bench:rivals` ever installs them.

import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("../../", import.meta.url));
export const folder = join(root, ".rivals");

export const VERSIONS = {
  "@jax-js/jax": "0.1.25",
  "@tensorflow/tfjs": "4.22.0",
  "@tensorflow/tfjs-backend-wasm": "4.22.0",
  "onnxruntime-node": "1.30.0",
  "onnxruntime-web": "1.30.0",
} as const;
export type RivalPackage = keyof typeof VERSIONS;

/** The version that is installed, or undefined. */
export function installedVersion(name: RivalPackage): string | undefined {
  const file = join(folder, "node_modules", name, "package.json");
  if (!existsSync(file)) return undefined;
  return (JSON.parse(readFileSync(file, "utf8")) as { version: string }).version;
}

/** Packages that are absent or of another version. */
export const missingPackages = (): RivalPackage[] =>
  (Object.keys(VERSIONS) as RivalPackage[]).filter((name) => {
    return installedVersion(name) !== VERSIONS[name];
  });

/** Installs what is missing with npm; what could not be installed stays in missingPackages(). */
export function install(): void {
  const wanted = missingPackages();
  if (wanted.length === 0) return;
  mkdirSync(folder, { recursive: true });
  const manifest = join(folder, "package.json");
  const allowed = { "onnxruntime-node": true };
  writeFileSync(manifest, `${JSON.stringify({ private: true, allowScripts: allowed })}\n`);
  const all = Object.entries(VERSIONS).map(([name, version]) => `${name}@${version}`);
  console.log(`installing into .rivals/: ${all.join(", ")}`);
  // Without this, onnxruntime-node downloads CUDA libraries that nothing here uses.
  const env = { ...process.env, ONNXRUNTIME_NODE_INSTALL_CUDA: "skip" };
  const flags = [
    "--no-package-lock",
    "--no-audit",
    "--no-fund",
    "--loglevel=error",
    "--save-exact",
  ];
  const options = { cwd: folder, env, stdio: "inherit" } as const;
  const { status } = spawnSync("npm", ["install", ...flags, ...all], options);
  if (status !== 0) console.log(`npm install ended with ${status}`);
  // A module in that folder resolves the packages beside it.
  writeFileSync(join(folder, "load.mjs"), "export const load = (name) => import(name);\n");
}

if (import.meta.main) {
  install();
  const left = missingPackages();
  console.log(left.length === 0 ? "all rivals are installed" : `not installed: ${left.join(", ")}`);
}
