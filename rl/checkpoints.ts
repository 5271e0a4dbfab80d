/** Checkpoint folders: written whole or not at all, verified by checksum, the best ones kept. */
import { readFileSync, renameSync } from "node:fs";
import { basename, join } from "node:path";
import { z } from "zod";
import { syncFolder, writeDurably } from "../model/files.ts";
import { codeOf, fileError, makeFolder, namesIn, removeQuietly } from "./files.ts";
import { sha256 } from "./hash.ts";
import { UserError } from "./user_error.ts";

const fileName = z
  .string()
  .regex(/^[\w.-]+$/)
  .refine((name) => !name.startsWith("."));
const manifestSchema = z.object({
  step: z.int().min(0),
  score: z.number().nullable(),
  logs: z.record(fileName, z.int().min(0)),
  files: z.record(
    fileName,
    z.object({ bytes: z.int().min(0), sha256: z.string().regex(/^[0-9a-f]{64}$/) }),
  ),
});

/** What manifest.json says of a checkpoint. */
export interface CheckpointInfo {
  readonly path: string;
  readonly step: number;
  /** Validation score, larger is better; null where none was measured. */
  readonly score: number | null;
  /** Length in bytes that each log of the run had when the checkpoint was saved. */
  readonly logs: Readonly<Record<string, number>>;
  readonly files: Readonly<Record<string, { readonly bytes: number; readonly sha256: string }>>;
}

export interface Checkpoint extends CheckpointInfo {
  readonly contents: Readonly<Record<string, Uint8Array>>;
}

export interface CheckpointOptions {
  readonly score?: number | null;
  readonly logs?: Readonly<Record<string, number>>;
  /** How many of the newest stay beside the best; all by default. */
  readonly keep?: number;
}

const temporaryPrefix = ".writing-";
const replacedPrefix = ".replaced-";

/** "step-000120" */
export const checkpointName = (step: number): string => `step-${String(step).padStart(6, "0")}`;

/**
 * Writes a checkpoint as a folder of `contents` and a manifest.json with their SHA-256, under
 * another name until it is whole. A checkpoint of the same step is replaced. Then removes all but
 * the `keep` newest and the best.
 */
export function writeCheckpoint(
  folder: string,
  step: number,
  contents: Readonly<Record<string, Uint8Array>>,
  { score = null, logs = {}, keep = Number.POSITIVE_INFINITY }: CheckpointOptions = {},
): CheckpointInfo {
  const name = checkpointName(step);
  const path = join(folder, name);
  const temporary = join(folder, `${temporaryPrefix}${name}`);
  const replaced = join(folder, `${replacedPrefix}${name}`);
  const files = Object.fromEntries(
    Object.entries(contents).map(([file, data]) => [
      fileName.parse(file),
      { bytes: data.length, sha256: sha256(data) },
    ]),
  );
  const manifest = manifestSchema.parse({ step, score, logs, files });
  makeFolder(folder);
  try {
    removeQuietly(temporary);
    makeFolder(temporary);
    for (const [file, data] of Object.entries(contents))
      writeDurably(join(temporary, file), [data]);
    writeDurably(join(temporary, "manifest.json"), [`${JSON.stringify(manifest, null, 2)}\n`]);
    syncFolder(temporary);
    if (namesIn(folder).includes(name)) renameSync(path, replaced);
    renameSync(temporary, path);
    syncFolder(folder);
    removeQuietly(replaced);
  } catch (error) {
    removeQuietly(temporary);
    throw fileError(error, `cannot write the checkpoint ${path}`);
  }
  prune(folder, keep);
  return { path, ...manifest };
}

/** Ends what a kill left half-done: unfinished folders go, one that was being replaced returns. */
export function repairCheckpoints(folder: string): void {
  const names = namesIn(folder);
  for (const name of names) {
    if (name.startsWith(temporaryPrefix)) removeQuietly(join(folder, name));
    if (!name.startsWith(replacedPrefix)) continue;
    const original = name.slice(replacedPrefix.length);
    if (names.includes(original)) removeQuietly(join(folder, name));
    else renameSync(join(folder, name), join(folder, original));
  }
}

/** The checkpoint of the highest step, or null. Throws a UserError if its manifest is broken. */
export function latestCheckpoint(folder: string): CheckpointInfo | null {
  const path = stepFolders(folder).at(-1);
  return path === undefined ? null : readManifest(path);
}

/** The checkpoint of the highest score, the earliest of equals, or null if none has a score. */
export function bestCheckpoint(folder: string): CheckpointInfo | null {
  return best(stepFolders(folder).map(readManifest));
}

/** Reads a checkpoint folder and verifies every file; the UserError names the file that is bad. */
export function readCheckpoint(path: string): Checkpoint {
  const info = readManifest(path);
  const contents: Record<string, Uint8Array> = {};
  for (const [file, { bytes, sha256: sum }] of Object.entries(info.files)) {
    const data = readPart(join(path, file), `checkpoint ${path}`);
    if (data.length !== bytes) {
      throw new UserError(
        `${join(path, file)} has ${data.length} bytes, its manifest says ${bytes}; ${remedy}`,
      );
    }
    if (sha256(data) !== sum) {
      throw new UserError(`${join(path, file)} does not match its checksum; ${remedy}`);
    }
    contents[file] = data;
  }
  return { ...info, contents };
}

const remedy = "the file is damaged: delete this checkpoint's folder to go on from an older one";

function readManifest(path: string): CheckpointInfo {
  const manifestPath = join(path, "manifest.json");
  const bytes = readPart(manifestPath, `checkpoint ${path}`);
  let manifest: unknown;
  try {
    manifest = JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    throw new UserError(`${manifestPath} is not JSON; ${remedy}`);
  }
  const result = manifestSchema.safeParse(manifest);
  if (result.success) return { path, ...result.data };
  const where = result.error.issues[0]!.path.join(".") || "its outermost value";
  throw new UserError(`${manifestPath} is not a manifest (${where}); ${remedy}`);
}

function readPart(path: string, whole: string): Uint8Array {
  try {
    return new Uint8Array(readFileSync(path));
  } catch (error) {
    if (codeOf(error) === "ENOENT") throw new UserError(`${whole}: ${path} is missing; ${remedy}`);
    throw fileError(error, `cannot read ${path}`);
  }
}

function best(checkpoints: readonly CheckpointInfo[]): CheckpointInfo | null {
  let leader: CheckpointInfo | null = null;
  for (const checkpoint of checkpoints) {
    const score = checkpoint.score ?? Number.NEGATIVE_INFINITY;
    if (score > (leader?.score ?? Number.NEGATIVE_INFINITY)) leader = checkpoint;
  }
  return leader;
}

/**
 * All but the `keep` newest and the best go. A checkpoint that cannot be read is left for the user to
 * see, not removed.
 */
export function prune(folder: string, keep: number, remove = removeQuietly): void {
  const old = stepFolders(folder).slice(0, -Math.max(1, keep));
  const leader = best(stepFolders(folder).flatMap(readable));
  for (const { path } of old.flatMap(readable)) {
    if (path === leader?.path) continue;
    // A kill in the middle leaves a folder that repairCheckpoints knows, not one without a manifest.
    const aside = join(folder, `${temporaryPrefix}${basename(path)}`);
    try {
      renameSync(path, aside);
    } catch (error) {
      if (codeOf(error) === null) throw error;
      continue; // as a failed removal: an old checkpoint more does no harm
    }
    remove(aside);
  }
}

function readable(path: string): CheckpointInfo[] {
  try {
    return [readManifest(path)];
  } catch (error) {
    if (error instanceof UserError) return [];
    throw error;
  }
}

/** Paths of the checkpoints, by step. */
function stepFolders(folder: string): string[] {
  const stepOf = (name: string) => Number(name.slice("step-".length));
  return namesIn(folder)
    .filter((name) => /^step-\d+$/.test(name))
    .sort((a, b) => stepOf(a) - stepOf(b))
    .map((name) => join(folder, name));
}
