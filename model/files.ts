/** Files that are whole or absent: atomic writes, and reads whose errors name the file. */

import {
  closeSync,
  fsyncSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from "node:fs";
import { dirname } from "node:path";
import { fileError, InputError } from "./errors.ts";

/**
 * Replaces the file at `path` by the parts, one behind the other: a temporary file beside it,
 * fsync, rename. A crash leaves the old file or the new one, never a part of it.
 */
export function writeAtomic(path: string, parts: Iterable<Uint8Array | string>): void {
  const temporary = `${path}.tmp-${process.pid}`;
  try {
    const file = openSync(temporary, "w");
    try {
      for (const part of parts) writeAll(file, part);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(temporary, path);
    syncFolder(dirname(path));
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error instanceof InputError ? error : fileError(error, `cannot write ${path}`);
  }
}

function writeAll(file: number, part: Uint8Array | string): void {
  const bytes = typeof part === "string" ? new TextEncoder().encode(part) : part;
  // One call may write less than asked.
  for (let at = 0; at < bytes.length; ) at += writeSync(file, bytes, at, bytes.length - at);
}

/** Makes a rename durable. Windows can't open folders, and needs no such step. */
function syncFolder(folder: string): void {
  if (process.platform === "win32") return;
  const handle = openSync(folder, "r");
  try {
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
}

/** The JSON value in a file; an InputError where it is missing or not JSON. */
export function readJson(path: string): unknown {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    throw fileError(error, `cannot read ${path}`);
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new InputError(`${path} is not JSON: ${(cause as Error).message}`, { cause });
  }
}

/** `value` as indented JSON in UTF-8. */
export const jsonBytes = (value: unknown): Uint8Array =>
  new TextEncoder().encode(`${JSON.stringify(value, null, 2)}\n`);
