/** Logs of one JSON object per line that survive a kill and can be wound back to a checkpoint. */
import { closeSync, fsyncSync, ftruncateSync, openSync, readFileSync, statSync } from "node:fs";
import { writeAll } from "../model/files.ts";
import { codeOf, fileError, jsonReplacer } from "./files.ts";
import { UserError } from "./user_error.ts";

/** One line of a log. */
export type Row = Readonly<Record<string, unknown>>;

/** An append-only log; the file appears with its first row. */
export class JsonLines {
  readonly path: string;
  #file: number | null = null;

  constructor(path: string) {
    this.path = path;
  }

  /** Hands rows to the system at once: a killed process loses none (a power cut may: `sync`). */
  append(...rows: readonly Row[]): void {
    if (rows.length === 0) return;
    const text = rows.map((row) => `${JSON.stringify(row, jsonReplacer)}\n`).join("");
    this.#attempt(() => {
      this.#file ??= openSync(this.path, "a");
      writeAll(this.#file, text);
    });
  }

  /** Waits until the disk holds every row, and returns the file's length in bytes. */
  sync(): number {
    const file = this.#file;
    if (file !== null) this.#attempt(() => fsyncSync(file));
    return statSync(this.path, { throwIfNoEntry: false })?.size ?? 0;
  }

  close(): void {
    const file = this.#file;
    this.#file = null;
    if (file !== null) this.#attempt(() => closeSync(file));
  }

  /** All rows; a last line that a kill cut short is left out. */
  rows(): Row[] {
    const lines = new TextDecoder().decode(readIfThere(this.path)).split("\n");
    const whole = lines.slice(0, -1);
    return whole.map((line, i) => {
      const row = parseObject(line);
      if (row !== null) return row;
      throw new UserError(`${this.path} line ${i + 1} is not a JSON object; remove the line`);
    });
  }

  /**
   * Cuts the file back to `length` bytes, an earlier result of `sync`: whole and torn lines beyond
   * it go. Throws a UserError if the file has lost lines since, or `length` is inside a line.
   */
  rewind(length: number): void {
    this.close();
    const bytes = readIfThere(this.path);
    if (length > 0 && bytes[length - 1] !== 10) {
      throw new UserError(
        `${this.path} no longer starts with the ${length} bytes that it had at the checkpoint; ` +
          "it was edited or lost lines, so the run cannot be resumed",
      );
    }
    if (bytes.length === length) return;
    this.#attempt(() => {
      const file = openSync(this.path, "r+");
      try {
        ftruncateSync(file, length);
        fsyncSync(file);
      } finally {
        closeSync(file);
      }
    });
  }

  #attempt(action: () => void): void {
    try {
      action();
    } catch (error) {
      throw fileError(error, `cannot write ${this.path}`);
    }
  }
}

function readIfThere(path: string): Uint8Array {
  try {
    return readFileSync(path);
  } catch (error) {
    if (codeOf(error) === "ENOENT") return new Uint8Array();
    throw fileError(error, `cannot read ${path}`);
  }
}

function parseObject(line: string): Row | null {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === "object" && value !== null ? (value as Row) : null;
  } catch {
    return null;
  }
}
