/** What is said of emitted kernels is true of them: register tiles, files, sizes, near names. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { captured, factsOf, type KernelFacts } from "../bench/kernel_facts.ts";
import { ModuleBuilder, v128 } from "../tensor/device/wasm/assembler.ts";
import { WasmDevice } from "../tensor/device/wasm/device.ts";
import { emitThinRows } from "../tensor/device/wasm/thin_rows.ts";
import { multiplyAdd } from "../tensor/device/wasm/tile.ts";

const tileOf = ({ tile }: KernelFacts) => tile && [tile.rows, tile.columns];

/** Facts of kernels that `emit` adds to a module. */
const facts = (emit: (m: ModuleBuilder) => void) =>
  captured(() => emit(new ModuleBuilder())).flatMap(factsOf);

describe("a register tile", () => {
  test("is the one in the name of each block of the matrix product", () => {
    const all = captured(() => void new WasmDevice({ threads: 1 })).flatMap(factsOf);
    const named = all.filter(({ name }) => /^f32_matmul_(rows|columns)_\d+x\d+$/.test(name));
    assert.ok(named.length >= 12, `${named.length} blocks`);
    for (const kernel of named) {
      const wanted = kernel.name
        .match(/\d+x\d+$/)![0]
        .split("x")
        .map(Number);
      assert.deepEqual(tileOf(kernel), wanted, kernel.name);
    }
  });
  test("counts rows whose factors were loaded before the loop", () => {
    const tiles = (fma: boolean, most: number) =>
      Array.from({ length: most }, (_, i) =>
        tileOf(facts((m) => void emitThinRows(m, i + 1, { fma }))[0]!),
      );
    assert.deepEqual(tiles(false, 5), [
      [1, 32],
      [2, 8],
      [3, 4],
      [4, 8],
      [5, 8],
    ]);
    assert.deepEqual(tiles(true, 6), [
      [1, 16],
      [2, 8],
      [3, 4],
      [4, 8],
      [5, 8],
      [6, 8],
    ]);
  });
  test("is not claimed of sums that are no outer product", () => {
    const [kernel] = facts((m) => {
      m.function("f32_two_products", { x: "i32", y: "i32" }, (f, { x, y }) => {
        for (const at of [0, 16]) {
          const sum = f.local("v128", v128.load(y, at));
          f.set(sum, multiplyAdd({ fma: true }, v128.load(x, at), v128.load(y, at), sum));
          f.store("v128", y, sum, at);
        }
      });
    });
    assert.equal(kernel!.tile, undefined);
  });
});

test("every kernel of the device names its file, its bytes and its text", () => {
  const modules = captured(() => void new WasmDevice({ threads: 1 }));
  for (const kernel of modules.flatMap(factsOf)) {
    assert.match(kernel.family, /^tensor\/(device\/wasm|ops)\/.*\.ts$/, kernel.name);
    assert.ok(kernel.bytes > 0 && kernel.wat.startsWith(`(func $${kernel.name} `), kernel.name);
  }
});

describe("the command", () => {
  const file = fileURLToPath(new URL("../bench/kernels.ts", import.meta.url));
  const run = (...names: string[]) => {
    const flags = process.versions.deno ? ["run", "-A", "--no-check"] : [];
    return spawnSync(process.execPath, [...flags, file, ...names], { encoding: "utf8" });
  };
  test("prints a kernel by its name and the kernels of an op", () => {
    const { stdout, status, stderr } = run("f32_zero", "swiGlu");
    assert.equal(status, 0, stderr);
    assert.match(stdout, /^f32_zero: tensor\/device\/wasm\/copy\.ts, \d+ bytes of code$/m);
    assert.match(stdout, /^\(func \$f32_zero /m);
    assert.match(stdout, /^\(func \$f32_swiGlu /m);
  });
  test("answers an unknown name with those nearest to it", () => {
    const { stdout, stderr, status } = run("f32_swiGlo");
    assert.deepEqual([stdout, status], ["", 1]);
    assert.match(stderr, /^no kernel and no op "f32_swiGlo"; near it: f32_swiGlu, /m);
  });
});
