/** An engine as its exports see it: a program that a script launches, Python beside a reward server. */

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";
import { aliasJudge } from "../../eval/judge/alias.ts";
import { ruleAsync } from "../../eval/judge/llm.ts";
import { listen, type RewardServerOptions, rewardServer } from "../../rl/reward_server.ts";

/** The words that a launch script hands to its engine: a program of that name prints them. */
export function launched(out: string, program: string, ...more: readonly string[]): string[] {
  const bin = join(out, "bin");
  fs.mkdirSync(bin, { recursive: true });
  fs.writeFileSync(join(bin, program), "#!/bin/sh\nprintf '%s\\0' \"$@\"\n", { mode: 0o755 });
  const script = join(out, "launch.sh");
  assert.equal(spawnSync("bash", ["-n", script]).status, 0);
  const env = { ...process.env, PATH: `${bin}:${process.env.PATH}`, GPUS: "2" };
  const { status, stdout, stderr } = spawnSync("bash", [script, ...more], {
    env,
    encoding: "utf8",
  });
  assert.equal(status, 0, stderr);
  return stdout.split("\0").slice(0, -1);
}

/** A reward server that listens, until the test is over. */
export async function serving(changes: Partial<RewardServerOptions> = {}) {
  const server = rewardServer({
    ...{ judge: ruleAsync(aliasJudge), name: "alias", mostBytes: 100_000, questions: new Map() },
    ...changes,
  });
  const url = `${await listen(server, 0, "127.0.0.1")}/reward`;
  const close = async () => {
    server.closeAllConnections?.();
    await new Promise((resolve) => server.close(resolve));
  };
  return { url, [Symbol.asyncDispose]: close };
}

/** Runs lines of Python beside an export's reward.py; what they print as JSON, or the error's text. */
export async function inPython(out: string, source: string, env: Record<string, string>) {
  const child = spawn("python3", ["-c", `import json, reward\n${source}`], {
    cwd: out,
    env: { ...process.env, ANAMNESIS_RETRY_SECONDS: "0.01", PYTHONDONTWRITEBYTECODE: "1", ...env },
  });
  let [printed, problem] = ["", ""];
  child.stdout.on("data", (text) => {
    printed += text;
  });
  child.stderr.on("data", (text) => {
    problem += text;
  });
  await new Promise((resolve) => child.on("close", resolve));
  return printed === "" ? problem : JSON.parse(printed);
}
