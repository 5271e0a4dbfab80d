/** Checkpoint folders: whole or absent, verified, pruned to the newest and the best. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import fc from "fast-check";
import {
  bestCheckpoint,
  latestCheckpoint,
  prune,
  readCheckpoint,
  repairCheckpoints,
  writeCheckpoint,
} from "../rl/checkpoints.ts";
import { contentOf, refuses, scratchFolder } from "./support/disk.ts";

const { fresh } = scratchFolder();

const bytes = (text: string) => new TextEncoder().encode(text);

describe("checkpoints", () => {
  const files = {
    "model.safetensors": bytes("weights"),
    "state.json": bytes("{}"),
    empty: bytes(""),
  };

  test("come back byte for byte", () => {
    const folder = fresh();
    fc.assert(
      fc.property(
        fc.dictionary(
          fc.stringMatching(/^[a-z][a-z0-9._-]{0,10}$/).filter((name) => name !== "manifest.json"),
          fc.uint8Array(),
          { noNullPrototype: true },
        ),
        fc.nat(2_000_000),
        (contents, step) => {
          const { path } = writeCheckpoint(folder, step, contents, { score: 0.5 });
          const read = readCheckpoint(path);
          assert.deepEqual(Object.keys(read.contents).sort(), Object.keys(contents).sort());
          for (const [name, data] of Object.entries(contents)) {
            assert.deepEqual([...read.contents[name]!], [...data]);
          }
          assert.equal(read.step, step);
          fs.rmSync(path, { recursive: true });
        },
      ),
      { seed: 1, numRuns: 30 },
    );
  });

  test("latest is the highest step, best the earliest of the highest score", () => {
    const folder = fresh();
    assert.equal(latestCheckpoint(folder), null);
    assert.equal(bestCheckpoint(folder), null);
    writeCheckpoint(folder, 1, files);
    assert.equal(bestCheckpoint(folder), null);
    const scores = [0.2, 0.5, 0.5, 0.3];
    for (const [i, score] of scores.entries())
      writeCheckpoint(folder, 10 * i + 10, files, { score });
    writeCheckpoint(folder, 1_000_000, files);
    assert.equal(latestCheckpoint(folder)!.step, 1_000_000);
    assert.equal(bestCheckpoint(folder)!.step, 20);
    assert.match(bestCheckpoint(folder)!.path, /step-000020$/);
  });

  test("only the newest and the best are kept", () => {
    const folder = fresh();
    for (const [i, score] of [0.1, 0.9, 0.3, 0.2, 0.4].entries()) {
      writeCheckpoint(folder, i, files, { score, keep: 2 });
    }
    assert.deepEqual(fs.readdirSync(folder).sort(), ["step-000001", "step-000003", "step-000004"]);
  });

  const damages: [name: string, damage: (path: string) => void, message: RegExp][] = [
    [
      "a flipped bit",
      (path) => fs.writeFileSync(join(path, "model.safetensors"), "weighTs"),
      /model.safetensors does not match its checksum/,
    ],
    [
      "a truncated file",
      (path) => fs.truncateSync(join(path, "model.safetensors"), 3),
      /model.safetensors has 3 bytes, its manifest says 7/,
    ],
    ["a missing file", (path) => fs.rmSync(join(path, "state.json")), /state.json is missing/],
    [
      "a missing manifest",
      (path) => fs.rmSync(join(path, "manifest.json")),
      /manifest.json is missing/,
    ],
    [
      "a torn manifest",
      (path) => fs.truncateSync(join(path, "manifest.json"), 20),
      /manifest.json is not JSON/,
    ],
    [
      "another manifest",
      (path) => fs.writeFileSync(join(path, "manifest.json"), '{"step":"4"}'),
      /is not a manifest \(step\)/,
    ],
    [
      "a manifest that names a file elsewhere",
      (path) => {
        const manifest = JSON.parse(fs.readFileSync(join(path, "manifest.json"), "utf8"));
        manifest.files["../../secret"] = manifest.files.empty;
        fs.writeFileSync(join(path, "manifest.json"), JSON.stringify(manifest));
      },
      /is not a manifest \(files.*secret\)/,
    ],
  ];
  for (const [name, damage, message] of damages) {
    test(`${name} is found, and the file named`, () => {
      const { path } = writeCheckpoint(fresh(), 4, files);
      readCheckpoint(path);
      damage(path);
      refuses(() => readCheckpoint(path), message, /delete this checkpoint's folder to go on/);
    });
  }

  test("a failed write leaves the older checkpoint of the same step", () => {
    const folder = fresh();
    const { path } = writeCheckpoint(folder, 4, files);
    const before = contentOf(folder);
    // A name with a slash would leave the folder; an over-long one fails while the files are written.
    assert.throws(() => writeCheckpoint(folder, 4, { "../x": bytes("") }));
    refuses(
      () => writeCheckpoint(folder, 4, { a: bytes("1"), ["b".repeat(300)]: bytes("2") }),
      /cannot write the checkpoint .*step-000004/,
    );
    assert.deepEqual(contentOf(folder), before);
    assert.deepEqual(fs.readdirSync(folder), ["step-000004"]);
    readCheckpoint(path);
    writeCheckpoint(folder, 4, { other: bytes("new") });
    assert.deepEqual(Object.keys(readCheckpoint(path).contents), ["other"]);
    assert.deepEqual(fs.readdirSync(folder), ["step-000004"]);
  });

  test("what a kill left is repaired", () => {
    const folder = fresh();
    writeCheckpoint(folder, 1, files);
    writeCheckpoint(folder, 2, files);
    fs.mkdirSync(join(folder, ".writing-step-000003"));
    fs.renameSync(join(folder, "step-000002"), join(folder, ".replaced-step-000002"));
    fs.cpSync(join(folder, "step-000001"), join(folder, ".replaced-step-000001"), {
      recursive: true,
    });
    assert.equal(latestCheckpoint(folder)!.step, 1, "unfinished folders are no checkpoints");
    repairCheckpoints(folder);
    assert.deepEqual(fs.readdirSync(folder).sort(), ["step-000001", "step-000002"]);
    readCheckpoint(latestCheckpoint(folder)!.path);
  });

  test("a kill while old ones are removed leaves none that can't be read", () => {
    const folder = fresh();
    for (const step of [1, 2, 3]) writeCheckpoint(folder, step, files, { score: step });
    const killed = (path: string) => {
      fs.rmSync(join(path, "manifest.json"));
      throw new Error("killed");
    };
    assert.throws(() => prune(folder, 1, killed), /killed/);
    assert.equal(bestCheckpoint(folder)!.step, 3);
    repairCheckpoints(folder);
    assert.deepEqual(fs.readdirSync(folder).sort(), ["step-000002", "step-000003"]);
  });
});
