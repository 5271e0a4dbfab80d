/** The commands of rl/ in processes of their own, under the runtime that runs the test. */

import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";

/** A world and a model that are pre-trained in a moment. */
export const smallRun: readonly string[] = [
  ...["--world.entities", "24", "--world.relations", "2", "--world.answers", "6"],
  ...["--world.qa-share", "0.3", "--world.qa-entity-share", "0.3"],
  ...["--model.hidden-size", "16", "--model.layers", "1", "--model.heads", "2"],
  ...["--model.key-value-heads", "1", "--model.intermediate-size", "32"],
  ...["--pretrain.steps", "20", "--pretrain.warmup", "2", "--pretrain.batch", "8"],
];

/** Arguments of process.execPath that run a script of rl/. */
export function commandLine(script: string, args: readonly string[]): string[] {
  const deno = process.versions.deno ? ["run", "-A"] : [];
  return [...deno, fileURLToPath(new URL(`../../rl/${script}`, import.meta.url)), ...args];
}

/** Runs it in a folder to its end; what it printed on both streams. */
export function runCommand(
  folder: string,
  script: string,
  args: readonly string[],
): { code: number | null; text: string } {
  const options = { cwd: folder, encoding: "utf8", timeout: 100_000 } as const;
  const line = commandLine(script, args);
  const { status, stdout, stderr } = spawnSync(process.execPath, line, options);
  return { code: status, text: stdout + stderr };
}
