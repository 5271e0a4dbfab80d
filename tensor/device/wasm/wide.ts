/** 256-bit vectors: asks the engine to join pairs of 128-bit operations, where it can. */

import { architecture, builtin, versions } from "../../runtime.ts";

/**
 * Switches joining on for kernels that are compiled from now on. V8 calls the pass revectorization;
 * it is experimental, holds for the whole process, and is part of Node from version 24 on. Returns
 * why it cannot be had, or undefined; whether it works is for a trial of the kernels to tell.
 */
export function joinVectors(): string | undefined {
  if (versions.bun !== undefined) return "Bun's engine has 128-bit vectors only";
  if (versions.deno !== undefined) return "Deno's V8 is built without the joining of vectors";
  const v8 = builtin<typeof import("node:v8")>("v8");
  if (versions.node === undefined || v8 === undefined) return "a browser's engine is not told";
  if (Number.parseInt(versions.node, 10) < 24) return `Node ${versions.node} is older than 24`;
  if (architecture !== "x64") return `this processor (${architecture}) has 128-bit vectors only`;
  v8.setFlagsFromString("--experimental-wasm-revectorize");
  return undefined;
}
