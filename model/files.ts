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
import { fileError, UserError } from "./errors.ts";

/** Where a file's bytes are put until they are all on disk. */
export const temporaryPath = (path: string): string => `${path}.tmp-${process.pid}`;

/**
 * Replaces the file at `path` by the parts, one behind the other: a temporary file beside it,
 * fsync, rename. A crash leaves the old file or the new one, never a part of it. Throws what the
 * file system throws; the old file is then as it was.
 */
export function replaceFile(path: string, parts: Iterable<Uint8Array | string>): void {
  const temporary = temporaryPath(path);
  try {
    writeDurably(temporary, parts);
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true, recursive: true });
    throw error;
  }
  syncFolder(dirname(path));
}

/** replaceFile, whose errors say in plain words which file could not be written, and why. */
export function writeAtomic(path: string, parts: Iterable<Uint8Array | string>): void {
  try {
    replaceFile(path, parts);
  } catch (error) {
    throw error instanceof UserError ? error : fileError(error, `cannot write ${path}`);
  }
}

/** A file to be written; its parts are made one at a time. */
export interface FileParts {
  readonly path: string;
  readonly parts: () => Iterable<Uint8Array> | AsyncIterable<Uint8Array>;
  /** A file that would be read in place of this one: removed before this one takes its place. */
  readonly instead?: string;
}

/**
 * Replaces several files, in their order, each of them after all are on disk beside their places: a
 * failure before that leaves every old file as it was. Throws a UserError that names the file.
 */
export async function writeAllAtomic(files: readonly FileParts[]): Promise<void> {
  let path = "";
  try {
    for (const file of files) {
      path = file.path;
      await writeStream(temporaryPath(path), file.parts());
    }
    for (const file of files) {
      path = file.path;
      if (file.instead !== undefined) rmSync(file.instead, { force: true });
      renameSync(temporaryPath(path), path);
    }
  } catch (error) {
    for (const file of files) rmSync(temporaryPath(file.path), { force: true });
    throw isFileSystemError(error) ? fileError(error, `cannot write ${path}`) : error;
  }
  for (const folder of new Set(files.map((file) => dirname(file.path)))) syncFolder(folder);
}

const isFileSystemError = (error: unknown): boolean =>
  typeof (error as NodeJS.ErrnoException).syscall === "string";

async function writeStream(
  path: string,
  parts: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
): Promise<void> {
  const file = openSync(path, "w");
  try {
    for await (const part of parts) writeAll(file, part);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

/** Writes all parts and waits for the disk. */
export function writeDurably(path: string, parts: Iterable<Uint8Array | string>): void {
  const file = openSync(path, "w");
  try {
    for (const part of parts) writeAll(file, part);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

/** Writes all bytes at the file's position; one call of writeSync may stop early. */
export function writeAll(file: number, part: Uint8Array | string): void {
  const bytes = typeof part === "string" ? new TextEncoder().encode(part) : part;
  for (let at = 0; at < bytes.length; ) at += writeSync(file, bytes, at, bytes.length - at);
}

/** Makes renames in a folder durable. Windows can't open folders, and needs no such step. */
export function syncFolder(folder: string): void {
  if (process.platform === "win32") return;
  const handle = openSync(folder, "r");
  try {
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
}

/** The text of a file in UTF-8; a UserError where it can't be read. */
export function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw fileError(error, `cannot read ${path}`);
  }
}

/** The JSON value in a file; a UserError where it is missing or not JSON. */
export function readJson(path: string): unknown {
  const text = readText(path);
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new UserError(`${path} is not JSON: ${(cause as Error).message}`, { cause });
  }
}

/** `value` as indented JSON in UTF-8. */
export const jsonBytes = (value: unknown): Uint8Array =>
  new TextEncoder().encode(`${JSON.stringify(value, null, 2)}\n`);
