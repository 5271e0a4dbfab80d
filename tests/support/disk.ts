/** Scratch folders, refusals and child processes for tests that touch the disk. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";
import { UserError } from "../../rl/user_error.ts";

/** Asserts that `action` throws a UserError whose message matches all of `messages`. */
export const refuses = (action: () => unknown, ...messages: RegExp[]): void =>
  assert.throws(action, (error) => {
    assert.ok(error instanceof UserError, `not a UserError: ${error}`);
    for (const message of messages) assert.match(error.message, message);
    return true;
  });

/** Every file below a folder with its content. */
export const contentOf = (dir: string) =>
  Object.fromEntries(
    (fs.readdirSync(dir, { recursive: true }) as string[])
      .filter((name) => fs.statSync(join(dir, name)).isFile())
      .map((name) => [name, fs.readFileSync(join(dir, name), "utf8")]),
  );

/** A folder for one test file, removed when its tests have run. */
export function scratchFolder() {
  const path = fs.mkdtempSync(join(tmpdir(), "anamnesis-test-"));
  after(() => fs.rmSync(path, { recursive: true, force: true }));
  let counter = 0;
  /** A path in the folder that does not exist. */
  const fresh = () => join(path, `fresh-${counter++}`);
  /** Starts a script on this repository's modules under the runtime that runs the tests. */
  const script = (source: string): ChildProcess => {
    const file = `${fresh()}.ts`;
    const rl = new URL("../../rl", import.meta.url).href;
    fs.writeFileSync(file, source.replaceAll("RL/", `${rl}/`));
    const deno = ["run", "-A", "--no-check", "--node-modules-dir=manual"];
    return spawn(process.execPath, [...(process.versions.deno ? deno : []), file], {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, NO_COLOR: "1" },
    });
  };
  return { path, fresh, script };
}

/** Waits for a child to end; its exit code and all that it wrote. */
export async function ended(child: ChildProcess) {
  const text = { out: "", err: "" };
  child.stdout?.on("data", (data) => {
    text.out += data;
  });
  child.stderr?.on("data", (data) => {
    text.err += data;
  });
  const code = await new Promise<number | null>((resolve) => child.on("close", resolve));
  return { code, ...text };
}
