/** The README's library example runs as printed, and prints what its comments say. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";
import { ops } from "../tensor/mod.ts";

test("the README's twenty lines run", () => {
  const readme = readFileSync(new URL("../README.md", import.meta.url), "utf8");
  const code = /```ts\n([\s\S]*?)```/.exec(readme)?.[1];
  assert.ok(code !== undefined, "README.md has no ts block");
  const folder = mkdtempSync(join(tmpdir(), "anamnesis-readme-"));
  try {
    const library = new URL("../tensor/mod.ts", import.meta.url).href;
    const file = join(folder, "example.mjs");
    writeFileSync(file, code.replace("anamnesis/tensor", library));
    const deno = process.versions.deno ? ["run", "-A"] : [];
    const { status, stdout, stderr } = spawnSync(
      process.execPath,
      [...deno, process.versions.deno ? pathToFileURL(file).href : file],
      { encoding: "utf8", timeout: 60_000 },
    );
    assert.equal(status, 0, stderr);
    const text = stdout.replace(/\s+/g, "");
    const count = `${Object.keys(ops).length}ops,eachdeclaredonce`;
    for (const expected of ["[[11,12]]", "[3,12]", "[6,12]", count]) {
      assert.ok(text.includes(expected), `${expected} is not in ${stdout}`);
    }
    assert.match(text, /\[\[(2\.0|1\.99)\d*\],\[(-1\.0|-0\.99)\d*\]\]/);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
