/** The npm package as a user has it: packed, unpacked elsewhere, imported by this runtime. */

import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { dirname, join } from "node:path";
import { describe, test } from "node:test";
import { tarball } from "../scripts/tarball.ts";
import { root } from "../scripts/tree.ts";
import { scratchFolder } from "./support/disk.ts";

const manifest = JSON.parse(fs.readFileSync(join(root, "package.json"), "utf8")) as {
  readonly dependencies: Readonly<Record<string, string>>;
};
const { fresh } = scratchFolder();

/** A project whose node_modules has the unpacked package and links to what the package needs. */
function project(): string {
  const folder = fresh();
  const modules = join(folder, "node_modules");
  fs.mkdirSync(modules, { recursive: true });
  execFileSync("tar", ["-xzf", tarball(), "-C", modules]);
  fs.renameSync(join(modules, "package"), join(modules, "anamnesis"));
  for (const name of Object.keys(manifest.dependencies)) {
    fs.mkdirSync(dirname(join(modules, name)), { recursive: true });
    fs.symlinkSync(join(root, "node_modules", name), join(modules, name), "dir");
  }
  const user = { type: "module", dependencies: { anamnesis: "*" } };
  fs.writeFileSync(join(folder, "package.json"), JSON.stringify(user));
  return folder;
}

const DENO = ["run", "-A", "--no-check", "--no-lock", "--node-modules-dir=manual"];

/** What a program in `folder` prints, under the runtime that runs this test. */
function run(folder: string, source: string): string {
  fs.writeFileSync(join(folder, "program.js"), source);
  const args = [...(process.versions.deno ? DENO : []), "program.js"];
  const env = { ...process.env, NO_COLOR: "1" };
  const options = { cwd: folder, encoding: "utf8", timeout: 30_000, env } as const;
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, args, options);
  assert.equal(signal, null, `the program did not end by itself\n${stdout}${stderr}`);
  assert.equal(status, 0, `${stdout}${stderr}`);
  return stdout;
}

describe("the packed package", () => {
  const folder = project();
  const installed = join(folder, "node_modules/anamnesis");

  test("computes on two threads, and its program ends", () => {
    const source = `import { grad, setDevice, tensor } from "anamnesis/tensor";
const device = await setDevice("wasm", { threads: 2 });
const ready = device.machine.warmUp(10_000);
const square = tensor(Float32Array.from({ length: 300 * 300 }, (_, i) => i % 7), [300, 300]);
const product = square.matmul(square.transpose()).dataSync();
const [slope] = grad((x) => x.mul(x).sum())(tensor([1, 2, 3]));
const shares = tensor([[0, Math.log(3)]]).softmax().toArray();
console.log(JSON.stringify({ ready, corner: product[0], slope: slope.toArray(), shares }));`;
    const { ready, corner, slope, shares } = JSON.parse(run(folder, source));
    const expected = Array.from({ length: 300 }, (_, i) => (i % 7) ** 2).reduce((a, b) => a + b);
    assert.equal(ready, 2, "threads");
    assert.equal(corner, expected);
    assert.deepEqual(slope, [2, 4, 6]);
    for (const [i, share] of [0.25, 0.75].entries()) {
      assert.ok(Math.abs(shares[0][i] - share) < 1e-6, `softmax: ${shares}`);
    }
  });

  test("runs the README's example of library use", () => {
    const readme = fs.readFileSync(join(root, "README.md"), "utf8");
    const [, example] = /```ts\n(import [\s\S]*?from "anamnesis\/tensor";[\s\S]*?)```/.exec(
      readme,
    )!;
    const lines = run(folder, example!).trimEnd().split("\n");
    assert.match(lines.at(-1)!, /^\d+ ops/);
  });

  test("opens each module of model/ and eval/ by its name", () => {
    const names = ["model/checkpoint", "model/sample", "eval/statistics", "eval/worlds/presets"];
    const imports = names.map((name) => `await import("anamnesis/${name}")`);
    const program = `console.log([${imports.join(", ")}].map((m) => Object.keys(m).length).join())`;
    for (const count of run(folder, program).split(",")) assert.ok(Number(count) > 0);
  });

  test("has types that a strict program compiles against", () => {
    const program = `import { grad, ops, type Tensor, tensor } from "anamnesis/tensor";
const x: Tensor = tensor([[1, 2]]).matmul(tensor([[1], [2]])).softmax();
export const slope: Tensor = grad((y: Tensor) => y.sum())(x)[0]!;
// @ts-expect-error: softmax takes no text
ops.softmax("x");`;
    fs.writeFileSync(join(folder, "program.ts"), program);
    const compiler = join(root, "node_modules/typescript/bin/tsc");
    const flags = "--noEmit --strict --target esnext --module nodenext program.ts".split(" ");
    const { status, stdout } = spawnSync("node", [compiler, ...flags], {
      cwd: folder,
      encoding: "utf8",
    });
    assert.equal(status, 0, stdout);
  });

  test("holds what its users need and nothing of ours", () => {
    const names = fs.readdirSync(installed).sort();
    const wanted = [
      "LICENSE",
      "README.md",
      "dist",
      "eval",
      "model",
      "package.json",
      "rl",
      "tensor",
    ];
    assert.deepEqual(names, wanted);
    const size = fs.statSync(tarball()).size;
    assert.ok(size < 1.5e6, `the tarball has ${size} bytes`);
  });
});
