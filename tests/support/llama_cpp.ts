/** Asks llama.cpp, in a process of Node, what it makes of GGUF files. */

import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { folder, missingPackages } from "../../scripts/llama_cpp.ts";
import { root } from "../../scripts/tree.ts";
import type { Answer, Request } from "../children/llama_cpp.ts";

/** A Node that runs TypeScript: from 22.18 on. */
function nodeProgram(): string | undefined {
  const own = process.versions.bun || process.versions.deno ? [] : [process.execPath];
  const candidates = [...own, join(root, ".runtimes/node_modules/.bin/node"), "node"];
  return candidates.find((path) => {
    if (path !== "node" && !existsSync(path)) return false;
    const { stdout } = spawnSync(path, ["--version"], { encoding: "utf8" });
    const [major = 0, minor = 0] = (stdout ?? "").replace("v", "").split(".").map(Number);
    return major > 22 || (major === 22 && minor >= 18);
  });
}

const node = nodeProgram();

/** Why llama.cpp can't be asked; undefined where it can. */
export function llamaMissing(): string | undefined {
  if (missingPackages().length > 0) {
    return "llama.cpp is not installed (bun run scripts/llama_cpp.ts)";
  }
  return node === undefined
    ? "llama.cpp runs under Node 22.18 or later, and there is none"
    : undefined;
}

/** Its answers, one for each request. */
export function askLlama(requests: readonly Request[]): Answer[] {
  const script = fileURLToPath(new URL("../children/llama_cpp.ts", import.meta.url));
  const { stdout, stderr, status } = spawnSync(node!, [script, folder], {
    ...{ input: JSON.stringify(requests), encoding: "utf8", maxBuffer: 1 << 28, timeout: 110_000 },
  });
  const answers = stdout.split("\n").filter(Boolean);
  if (status !== 0 || answers.length !== requests.length) {
    throw new Error(`llama.cpp answered ${answers.length} of ${requests.length}: ${stderr}`);
  }
  return answers.map((line) => JSON.parse(line) as Answer);
}
