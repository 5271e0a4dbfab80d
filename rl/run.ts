/** The run folder: settings, logs, checkpoints, summary and report, new or resumed. */
import { readFileSync, statSync } from "node:fs";
import { basename, join } from "node:path";
import { temporaryPath, writeDurably } from "../model/files.ts";
import {
  bestCheckpoint,
  type Checkpoint,
  type CheckpointInfo,
  latestCheckpoint,
  readCheckpoint,
  repairCheckpoints,
  writeCheckpoint,
} from "./checkpoints.ts";
import {
  codeOf,
  fileError,
  makeFolder,
  namesIn,
  removeQuietly,
  writeAtomic,
  writeJson,
} from "./files.ts";
import { configHash, differences, differenceText } from "./hash.ts";
import { JsonLines } from "./json_lines.ts";
import { lockFolder } from "./lock.ts";
import { UserError } from "./user_error.ts";

/** What config.json in a run folder holds. */
export interface StoredConfig {
  readonly hash: string;
  readonly started: string;
  readonly runtime: Runtime;
  readonly config: Record<string, unknown>;
}

export interface Runtime {
  readonly name: "bun" | "deno" | "node";
  readonly version: string;
  readonly platform: string;
  readonly arch: string;
}

/** A run folder in use. Close it, or declare it with `using`. */
export class Run<Config extends object = object> {
  readonly dir: string;
  readonly config: Config;
  readonly hash: string;
  /** A row per step of training. */
  readonly metrics: JsonLines;
  /** A row per fact: how well it was recalled before and after. */
  readonly ledger: JsonLines;
  /** Samples of what the policy said and what it was paid for. */
  readonly rollouts: JsonLines;
  readonly checkpoints: string;
  readonly #unlock: () => void;

  constructor(dir: string, config: Config) {
    this.#unlock = lockFolder(dir);
    this.dir = dir;
    this.config = config;
    this.hash = configHash(config);
    this.metrics = new JsonLines(join(dir, "metrics.jsonl"));
    this.ledger = new JsonLines(join(dir, "ledger.jsonl"));
    this.rollouts = new JsonLines(join(dir, "rollouts.jsonl"));
    this.checkpoints = join(dir, "checkpoints");
  }

  writeSummary(summary: object): void {
    writeJson(join(this.dir, "summary.json"), summary);
  }

  writeReport(markdown: string): void {
    writeAtomic(join(this.dir, "report.md"), markdown.endsWith("\n") ? markdown : `${markdown}\n`);
  }

  /**
   * Saves a checkpoint; the logs reach the disk first, so that it never outlives its own rows.
   * `score` is a validation score (larger is better), never one of the test half.
   */
  saveCheckpoint(
    step: number,
    contents: Readonly<Record<string, Uint8Array>>,
    options: { score?: number | null; keep?: number } = {},
  ): CheckpointInfo {
    const logs = Object.fromEntries(this.#logs().map((log) => [basename(log.path), log.sync()]));
    return writeCheckpoint(this.checkpoints, step, contents, { ...options, logs });
  }

  /** The verified checkpoint of the highest step, or null if there is none. */
  latest(): Checkpoint | null {
    const info = latestCheckpoint(this.checkpoints);
    return info && readCheckpoint(info.path);
  }

  /** The verified checkpoint of the highest score, or null if none has one. */
  best(): Checkpoint | null {
    const info = bestCheckpoint(this.checkpoints);
    return info && readCheckpoint(info.path);
  }

  /**
   * Drops all rows that were logged after `checkpoint` was saved (every row for null), so that a
   * resumed run repeats none.
   */
  rewind(checkpoint: CheckpointInfo | null): void {
    for (const log of this.#logs()) log.rewind(checkpoint?.logs[basename(log.path)] ?? 0);
  }

  close(): void {
    for (const log of this.#logs()) log.close();
    this.#unlock();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #logs(): JsonLines[] {
    return [this.metrics, this.ledger, this.rollouts];
  }
}

export interface NewRun<Config> {
  readonly config: Config;
  /** Folder of the run; by default a new one, see `defaultDir`. */
  readonly dir?: string | null;
  readonly now?: Date;
}

/**
 * Makes a run folder and writes config.json. Throws a UserError if the folder holds
 * anything, which stays as it is, or cannot be written.
 */
export function createRun<Config extends object>({
  config,
  dir = null,
  now = new Date(),
}: NewRun<Config>): Run<Config> {
  const path = dir ?? defaultDir(config, now);
  if (isFile(path)) throw new UserError(`${path} is a file; choose another folder with --out`);
  // What a kill before config.json leaves (lock, temporary files, a sweep's log) is no run yet. A
  // lock whose holder is alive is refused below, where the folder is locked.
  if (namesIn(path).some((name) => !/^(lock\.json|log\.txt)$|\.tmp-[\w-]+$/.test(name))) {
    throw new UserError(
      `the folder ${path} is not empty; choose another with --out, ` +
        `or continue the run in it with --resume ${path}`,
    );
  }
  makeFolder(path);
  checkWritable(path);
  const run = new Run(path, config);
  removeTemporary(path);
  const stored = { hash: run.hash, started: now.toISOString(), runtime: runtime(), config };
  writeJson(join(path, "config.json"), stored);
  return run;
}

/** Opens a run folder to continue it; the form with `config` insists that it is the stored one. */
export function openRun(dir: string): Run<Record<string, unknown>>;
export function openRun<Config extends object>(dir: string, config: Config): Run<Config>;
export function openRun(dir: string, config?: object): Run {
  const stored =
    config === undefined
      ? readRunConfig(dir)
      : requireSettings(
          dir,
          config,
          "leave these flags out to resume it, or start a new run with --out",
        );
  checkWritable(dir);
  const run = new Run(dir, config ?? stored.config);
  removeTemporary(dir);
  repairCheckpoints(join(dir, "checkpoints"));
  return run;
}

/** The run folder's config.json; a UserError that ends with `remedy` where its settings are others. */
export function requireSettings(dir: string, config: object, remedy: string): StoredConfig {
  const stored = readRunConfig(dir);
  if (configHash(config) === stored.hash) return stored;
  const changes = differences(stored.config, config).map((item) => `  ${differenceText(item)}`);
  throw new UserError(
    `${dir} is a run with other settings (its own -> yours):\n${changes.join("\n")}\n${remedy}`,
  );
}

/** Reads config.json of a run folder; throws a UserError if it is missing, broken or edited. */
export function readRunConfig(dir: string): StoredConfig {
  const path = join(dir, "config.json");
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    if (codeOf(error) !== "ENOENT") throw fileError(error, `cannot read ${path}`);
    throw new UserError(`${dir} is no run folder: ${path} is missing`);
  }
  let stored: Partial<StoredConfig> | null;
  try {
    stored = JSON.parse(text);
  } catch {
    throw new UserError(`${path} is not JSON; the run cannot be resumed`);
  }
  const config: unknown = stored?.config;
  if (typeof config !== "object" || config === null || typeof stored?.hash !== "string") {
    throw new UserError(`${path} is not a run's config.json: it has no "config" and "hash"`);
  }
  if (configHash(config) !== stored.hash) {
    throw new UserError(
      `${path} was edited: its settings do not match its hash; a run's settings are fixed, ` +
        `start another with --config ${path}`,
    );
  }
  return stored as StoredConfig;
}

/** "runs/2026-10-03-141503-smoke-1", with "-2", "-3", … where that is taken. */
export function defaultDir(config: object, now: Date = new Date(), root = "runs"): string {
  const { preset = "run", seed = 0 } = config as { preset?: unknown; seed?: unknown };
  const [date, time] = now.toISOString().split("T");
  const name = `${date}-${time!.slice(0, 8).replaceAll(":", "")}-${preset}-${seed}`;
  const taken = isFile(root) ? [] : namesIn(root);
  let unique = name;
  for (let i = 2; taken.includes(unique); i++) unique = `${name}-${i}`;
  return join(root, unique);
}

/** The JavaScript runtime and machine that this process runs on. */
export function runtime(): Runtime {
  const { versions, platform, arch } = process;
  const name = versions.bun ? "bun" : versions.deno ? "deno" : "node";
  return { name, version: versions[name] ?? "unknown", platform, arch };
}

/** What a killed process was about to write. */
function removeTemporary(dir: string): void {
  for (const name of namesIn(dir)) if (/\.tmp-\d+$/.test(name)) removeQuietly(join(dir, name));
}

/** Permission bits do not tell (read-only mounts, quotas, root), so this writes a file. */
function checkWritable(dir: string): void {
  const probe = temporaryPath(join(dir, "probe"));
  try {
    writeDurably(probe, []);
    removeQuietly(probe);
  } catch (error) {
    throw fileError(error, `the run folder ${dir} cannot be written`);
  }
}

function isFile(path: string): boolean {
  try {
    return statSync(path).isFile();
  } catch {
    return false;
  }
}
