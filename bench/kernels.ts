/** The emitted kernels: all by file with their sizes, or some of them as WebAssembly text. */
// bun run bench/kernels.ts            every kernel, grouped by the file that emits it
// bun run bench/kernels.ts f32_rope   one kernel; also by prefix ("f32_matmul"), by pattern
//                                     ("*_vjp") and by op ("gelu": every kernel of that op)

import { parseArgs } from "node:util";
import { ModuleBuilder } from "../tensor/device/wasm/assembler.ts";
import { WasmDevice } from "../tensor/device/wasm/device.ts";
import { emitElementwise, isExpressed } from "../tensor/device/wasm/elementwise.ts";
import type { WasmKernel } from "../tensor/device/wasm/kernel.ts";
import { type Definition, isMissing } from "../tensor/op.ts";
import { ops } from "../tensor/ops/mod.ts";
import { captured, factsOf, type KernelFacts, type Tile } from "./kernel_facts.ts";

const definitions: readonly Definition[] = Object.values(ops).map((op) => op.definition);

/** Emits what an op adds to a module of its own. */
function emitOp(definition: Definition): void {
  if (isExpressed(definition)) emitElementwise(new ModuleBuilder(), definition);
  else if ("wasm" in definition && !isMissing(definition.wasm)) {
    (definition.wasm as WasmKernel).emit?.(new ModuleBuilder());
  }
}

/** The kernels of each op, and all of the device: its module's, then those made on first use. */
function collect() {
  const byOp = new Map(
    definitions.map((definition) => {
      return [definition.name, captured(() => emitOp(definition)).flatMap(factsOf)];
    }),
  );
  // Besides its own module, the device times candidates for the matrix product in small ones.
  const modules = captured(() => void new WasmDevice({ threads: 1 }));
  const module = modules.sort((a, b) => b.families.size - a.families.size)[0]!;
  const all = new Map(factsOf(module).map((kernel) => [kernel.name, kernel]));
  for (const kernel of [...byOp.values()].flat()) {
    if (!all.has(kernel.name)) all.set(kernel.name, kernel);
  }
  return { byOp, all: [...all.values()], moduleBytes: module.builder.bytes().length };
}

type Kernels = ReturnType<typeof collect>;

/** Kernels that a name, an op, a pattern with * and ?, or a prefix (f32_ may be left out) means. */
function find({ byOp, all }: Kernels, wanted: string): readonly KernelFacts[] {
  const exact = all.filter(({ name }) => name === wanted);
  if (exact.length > 0) return exact;
  const ofOp = byOp.get(wanted) ?? [];
  if (ofOp.length > 0) return ofOp;
  const escaped = wanted.replace(/[.+^${}()|[\]\\]/g, "\\$&");
  const pattern = /[*?]/.test(wanted)
    ? new RegExp(`^${escaped.replaceAll("*", ".*").replaceAll("?", ".")}$`)
    : new RegExp(`^([a-z]+\\d+_)?${escaped}`);
  const matching = all.filter(({ name }) => pattern.test(name));
  if (matching.length > 0) return matching;
  throw new Error(`no kernel and no op "${wanted}"; near it: ${near(wanted, byOp, all)}`);
}

/** The five names with the fewest edits between them and `wanted`. */
function near(wanted: string, byOp: Kernels["byOp"], all: Kernels["all"]): string {
  const names = [...new Set([...byOp.keys(), ...all.map(({ name }) => name)])];
  const distance = (name: string) =>
    Math.min(edits(wanted, name), edits(wanted, name.replace(/^[a-z]+\d+_/, "")));
  const sorted = names.map((name) => ({ name, far: distance(name) }));
  sorted.sort((a, b) => a.far - b.far);
  return sorted
    .slice(0, 5)
    .map(({ name }) => name)
    .join(", ");
}

/** Levenshtein distance. */
function edits(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (const [i, letter] of [...a].entries()) {
    const next = [i + 1];
    for (let j = 1; j <= b.length; j++) {
      const swap = row[j - 1]! + (letter.toLowerCase() === b[j - 1]!.toLowerCase() ? 0 : 1);
      next.push(Math.min(swap, row[j]! + 1, next[j - 1]! + 1));
    }
    row = next;
  }
  return row[b.length]!;
}

const tileText = (tile: Tile | undefined) => (tile ? `${tile.rows} x ${tile.columns}` : "");

function print(kernel: KernelFacts): void {
  const { name, family, bytes, tile, parameters, locals, calls, wat } = kernel;
  const counts = Object.entries(locals).map(([type, count]) => `${count} ${type}`);
  console.log(`${name}: ${family}, ${bytes} bytes of code`);
  if (tile) console.log(`  register tile ${tileText(tile)} (rows x columns)`);
  console.log(`  ${parameters} parameters, locals: ${counts.join(", ") || "none"}`);
  if (calls.length > 0) console.log(`  calls ${calls.join(", ")}`);
  console.log(`\n${wat}\n`);
}

function list({ all, moduleBytes }: Kernels): void {
  for (const [family, kernels] of Map.groupBy(all, (kernel) => kernel.family)) {
    const total = kernels.reduce((sum, { bytes }) => sum + bytes, 0);
    console.log(`${family}: ${kernels.length} kernels, ${total} bytes`);
    for (const { name, bytes, tile, locals } of kernels) {
      const vectors = locals.v128 === undefined ? "" : `${locals.v128} v128`;
      const cells = [String(bytes).padStart(7), vectors.padStart(9), tileText(tile).padStart(8)];
      console.log(`  ${name.padEnd(34)}${cells.join("")}`);
    }
  }
  console.log(`\n${all.length} kernels; the module has ${moduleBytes} bytes`);
}

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});
if (options.help) {
  console.log("bench/kernels.ts [NAME, PREFIX, PATTERN or OP]... [--json]");
  process.exit(0);
}
const kernels = collect();
try {
  const found = positionals.flatMap((name) => find(kernels, name));
  if (options.json) {
    const chosen = positionals.length > 0 ? found : kernels.all;
    const { moduleBytes } = kernels;
    console.log(JSON.stringify({ bench: "kernels", moduleBytes, kernels: chosen }));
  } else if (positionals.length > 0) found.forEach(print);
  else list(kernels);
} catch (error) {
  console.error((error as Error).message);
  process.exitCode = 1;
}
