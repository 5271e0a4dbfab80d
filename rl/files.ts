/** Files that are whole or absent: atomic writes, and file-system errors in plain words. */
import { mkdirSync, readdirSync, rmSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { replaceFile } from "../model/files.ts";
import { UserError } from "./user_error.ts";

/** `replaceFile` with errors that say what to do in a run. */
export function writeAtomic(path: string, data: Uint8Array | string): void {
  try {
    replaceFile(path, [data]);
  } catch (error) {
    throw fileError(error, `cannot write ${path}`);
  }
}

/** Writes `value` as indented JSON, atomically. NaN and infinities become text, never null. */
export function writeJson(path: string, value: unknown): void {
  writeAtomic(path, `${JSON.stringify(value, jsonReplacer, 2)}\n`);
}

/** Makes a folder with its parents, if it is not there. */
export function makeFolder(path: string, make: (path: string) => void = mkdirSync): void {
  try {
    makeWithParents(path, make);
  } catch (error) {
    throw fileError(error, `cannot create the folder ${path}`);
  }
}

/** Not mkdirSync's `recursive`: where the system answers ENOENT (/proc), Node 24 never returns. */
function makeWithParents(path: string, make: (path: string) => void): void {
  const isThere = () => statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
  if (isThere()) return;
  if (dirname(path) !== path) makeWithParents(dirname(path), make);
  try {
    make(path);
  } catch (error) {
    // Another process may have made it since: runs of a pool begin at the same time.
    if (codeOf(error) !== "EEXIST" || !isThere()) throw error;
  }
}

/** The names in a folder; none if it does not exist. */
export function namesIn(path: string): string[] {
  try {
    return readdirSync(path);
  } catch (error) {
    if (codeOf(error) === "ENOENT") return [];
    throw fileError(error, `cannot list ${path}`);
  }
}

const reasons: Readonly<Record<string, string>> = {
  ENOSPC: "the disk is full; free some space, or choose another folder with --out",
  EDQUOT: "the disk quota is used up; free some space, or choose another folder with --out",
  EACCES: "permission denied; make it writable, or choose another folder with --out",
  EPERM: "permission denied; make it writable, or choose another folder with --out",
  EROFS: "the file system is read-only; choose another folder with --out",
  ENOTDIR: "a part of the path is a file, not a folder; choose another folder with --out",
  EEXIST: "a file of that name is in the way; move it, or choose another folder with --out",
  EISDIR: "a folder of that name is in the way; move it, or choose another folder with --out",
  ENOENT: "there is no such file or folder",
  EMFILE: "too many open files",
};

/** A UserError that says what failed, why, and what to do; other errors pass through unchanged. */
export function fileError(error: unknown, what: string): unknown {
  const code = codeOf(error);
  if (code === null) return error;
  return new UserError(`${what}: ${reasons[code] ?? (error as Error).message} (${code})`);
}

/** The system's code of a file error, such as ENOSPC; null for any other error. */
export function codeOf(error: unknown): string | null {
  const code = (error as { code?: unknown } | null)?.code;
  return error instanceof Error && typeof code === "string" && /^E[A-Z0-9]+$/.test(code)
    ? code
    : null;
}

/**
 * Removes a file or a folder with all that is in it, if it can: a failed clean-up must not hide the
 * error that made it necessary.
 */
export function removeQuietly(path: string): void {
  try {
    rmSync(path, { recursive: true, force: true });
  } catch (error) {
    if (codeOf(error) === null) throw error;
  }
}

/** For JSON.stringify: NaN and infinities as text, typed arrays as arrays. */
export function jsonReplacer(_key: string, value: unknown): unknown {
  if (typeof value === "number" && !Number.isFinite(value)) return String(value);
  if (ArrayBuffer.isView(value) && !(value instanceof DataView)) {
    return Array.from(value as Float32Array);
  }
  return value;
}
