/** The architecture: imports point down and in no circle, files are captioned and short. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, test } from "node:test";
import { captionOf, root, sources, withTree } from "../scripts/tree.ts";

/** Lowest first: a layer imports itself and what stands before it. */
const LAYERS = ["tensor", "model", "eval", "rl", "experiments"] as const;
const OUTSIDE = ["bench", "scripts", "tests"] as const;
const files = [...LAYERS, ...OUTSIDE].flatMap(sources);

/** The one file that looks up: it assembles the kernels that the op table's rows hold. */
const GATHERS_KERNELS = "tensor/device/wasm/device.ts";
/** Which files must not import which, and why. */
const FORBIDDEN: readonly (readonly [files: RegExp, imports: RegExp, reason: string])[] = [
  [/^tensor\/device\//, /^tensor\/ops\//, "a device knows kernels, not ops"],
  [/^tensor\/device\/reference/, /^tensor\/device\/wasm\//, "the truth knows no fast device"],
  [/^tensor\/ops\/\w+\.ts$/, /^tensor\/device/, "a row has its kernels from ops/wasm/"],
  [/^tensor\/ops\//, /^tensor\/(engine|autograd|devices|mod)\.ts$/, "rows know no engine"],
  [/^(model|eval|rl|experiments)\//, /^tensor\/(?!(mod|random)\.ts$)/, "the way in is mod.ts"],
  [/^(?!tests|scripts)/, /^tests\//, "a program needs no test"],
];

interface Import {
  readonly path: string;
  /** Erased before the program runs. */
  readonly isType: boolean;
}

const IMPORT =
  /(?:^|\n)\s*(?:(?:import|export)\s+(type\s)?(?:[^"';]*?\sfrom\s+)?|[^\n]*\bimport\()"(\.[^"]*)"/g;

/** Files of the repository that a file imports. */
function importsOf(file: string): Import[] {
  const text = readFileSync(join(root, file), "utf8");
  return [...text.matchAll(IMPORT)].map(([, type, target]) => ({
    path: join(dirname(file), target!).replaceAll("\\", "/"),
    isType: type !== undefined,
  }));
}

const imports = new Map(files.map((file) => [file, importsOf(file)]));
const layerOf = (path: string): number =>
  (LAYERS as readonly string[]).indexOf(path.split("/", 1)[0]!);

/** All files that a file needs to run, itself included if it is in a circle. */
function needs(file: string): Set<string> {
  const found = new Set<string>();
  const open = [file];
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    for (const { path, isType } of imports.get(next) ?? []) {
      if (isType || found.has(path)) continue;
      found.add(path);
      open.push(path);
    }
  }
  return found;
}

describe("imports", () => {
  test("are all found, and name files that exist", () => {
    for (const layer of LAYERS.slice(0, 4)) {
      assert.ok(sources(layer).flatMap((file) => imports.get(file)!).length > 20, layer);
    }
    for (const [file, targets] of imports) {
      for (const { path } of targets) assert.ok(existsSync(join(root, path)), `${file}: ${path}`);
    }
  });

  test("of a layer are from itself and the layers below it", () => {
    for (const [file, targets] of imports) {
      if (layerOf(file) < 0) continue;
      for (const { path } of targets) {
        const [from, to] = [layerOf(file), layerOf(path)];
        assert.ok(to >= 0, `${file} imports ${path}, which is in no layer`);
        assert.ok(to <= from, `${file} imports ${path}, which is above it`);
      }
    }
  });

  test("keep to the rules inside of layers", () => {
    for (const [file, targets] of imports) {
      for (const [from, to, reason] of FORBIDDEN) {
        if (!from.test(file) || file === GATHERS_KERNELS) continue;
        const wrong = targets.find(({ path }) => to.test(path));
        assert.equal(wrong, undefined, `${file} imports ${wrong?.path}: ${reason}`);
      }
    }
  });

  test("run in no circle of more than two files", () => {
    const needed = new Map(files.map((file) => [file, needs(file)]));
    for (const file of files) {
      const circle = [...needed.get(file)!].filter((other) => needed.get(other)?.has(file)).sort();
      assert.ok(circle.length <= 2, `these files need each other: ${circle.join(", ")}`);
    }
  });
});

describe("files", () => {
  test("open with a one-line caption", () => {
    for (const file of files) {
      const caption = captionOf(file);
      assert.ok(caption !== undefined, `${file}: does not open with a /** caption. */`);
      assert.match(caption, /^.{8,100}[.?]$/, `${file}: the caption is not one line`);
    }
  });

  test("have at most 400 lines", () => {
    for (const file of files) {
      const lines = readFileSync(join(root, file), "utf8").split("\n").length - 1;
      assert.ok(lines <= 400, `${file} has ${lines} lines: split it`);
    }
  });

  test("are shown in the README's tree with their captions", () => {
    const readme = readFileSync(join(root, "README.md"), "utf8");
    const wanted = withTree(readme);
    assert.ok(wanted !== undefined, "README.md has no <!-- tree --> and <!-- /tree --> markers");
    assert.ok(readme === wanted, "the README's tree is out of date: npm run tree -- --write");
  });

  test("name no folder of the machine on which they were written", () => {
    const list = execFileSync("git", ["ls-files", "-z"], { cwd: root, encoding: "utf8" });
    const tracked = list.split("\0").filter((path) => path !== "" && existsSync(join(root, path)));
    assert.ok(tracked.length > 100, `git lists ${tracked.length} files`);
    for (const path of tracked) {
      const text = readFileSync(join(root, path), "utf8");
      const found = /(?<![\w.*)~-])\/(?:work|home|root|Users|tmp|mnt)\/[\w.-]+/.exec(text)?.[0];
      assert.equal(found, undefined, path);
    }
  });

  test("do not say from where packages are downloaded: that is the user's choice", () => {
    const lock = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8"));
    const packages = Object.entries<object>(lock.packages);
    assert.ok(packages.length > 20);
    for (const [name, entry] of packages) assert.ok(!("resolved" in entry), name);
  });
});
