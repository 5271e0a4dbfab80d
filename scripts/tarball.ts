/** The npm package of the present sources, packed once for the tests of all runtimes. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import * as fs from "node:fs";
import { join } from "node:path";
import { root, sources } from "./tree.ts";

/** Path of the tarball: built where nobody has built it yet, which two at a time must not. */
export function tarball(): string {
  const hash = createHash("sha256");
  const settings = ["package.json", "tsconfig.json", "tsconfig.build.json"];
  for (const path of [...settings, ...["tensor", "model", "eval", "rl"].flatMap(sources)]) {
    hash.update(path).update(fs.readFileSync(join(root, path)));
  }
  const folder = join(root, "node_modules/.cache/anamnesis");
  const kept = join(folder, `package-${hash.digest("hex").slice(0, 16)}.tgz`);
  if (fs.existsSync(kept)) return kept;
  fs.rmSync(folder, { recursive: true, force: true });
  fs.mkdirSync(folder, { recursive: true });
  const options = { cwd: root, encoding: "utf8" } as const;
  const packed = spawnSync("npm", ["pack", "--silent", "--pack-destination", folder], options);
  assert.equal(packed.status, 0, `npm pack: ${packed.stdout}${packed.stderr}`);
  const [made] = fs.readdirSync(folder);
  fs.renameSync(join(folder, made!), kept);
  return kept;
}

if (import.meta.main) console.log(tarball());
