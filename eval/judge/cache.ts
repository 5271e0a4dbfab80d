/** Verdicts on disk, so that nothing is asked twice and a run can be repeated without its judge. */

import { createHash } from "node:crypto";
import { closeSync, mkdirSync, openSync, readFileSync } from "node:fs";
import { dirname } from "node:path";
import { fileError } from "../../model/errors.ts";
import { writeAll } from "../../model/files.ts";
import type { Message } from "../engines/openai.ts";
import { type Grade, grades } from "./prompt.ts";

export interface StoredVerdict {
  readonly grade: Grade;
  readonly reason: string;
}

/** SHA-256 of the model's name and the rendered prompt: what decides a verdict. */
export function verdictKey(model: string, messages: readonly Message[]): string {
  const text = JSON.stringify([model, messages.map(({ role, content }) => [role, content])]);
  return createHash("sha256").update(text).digest("hex");
}

/**
 * An append-only file of one JSON object a line. A line that a kill cut short is passed over, and the
 * next one begins on a line of its own. Of two lines with one key the first counts, so that a
 * verdict never changes. Several processes may append at once.
 */
export class VerdictCache {
  readonly path: string;
  readonly #known = new Map<string, StoredVerdict>();
  /** Lines that could not be read: cut short, or edited. */
  readonly broken: number;
  #file: number | undefined;
  #newline: boolean;

  constructor(path: string) {
    this.path = path;
    const text = textIn(path);
    const lines = text.split("\n").filter((line) => line.trim() !== "");
    for (const line of lines) {
      const row = rowOf(line);
      if (row && !this.#known.has(row.key)) this.#known.set(row.key, row.verdict);
    }
    this.broken = lines.filter((line) => rowOf(line) === undefined).length;
    this.#newline = text !== "" && !text.endsWith("\n");
  }

  get size(): number {
    return this.#known.size;
  }

  get(key: string): StoredVerdict | undefined {
    return this.#known.get(key);
  }

  /** Stores a verdict, at once; `about` is for readers of the file. */
  set(key: string, verdict: StoredVerdict, about: Readonly<Record<string, unknown>>): void {
    if (this.#known.has(key)) return;
    this.#known.set(key, verdict);
    const { grade, reason } = verdict;
    const line = `${JSON.stringify({ key, verdict: grade, reason, ...about })}\n`;
    try {
      if (this.#file === undefined) {
        mkdirSync(dirname(this.path), { recursive: true });
        this.#file = openSync(this.path, "a");
      }
      writeAll(this.#file, this.#newline ? `\n${line}` : line);
      this.#newline = false;
    } catch (error) {
      throw fileError(error, `cannot write ${this.path}`);
    }
  }

  close(): void {
    const file = this.#file;
    this.#file = undefined;
    if (file !== undefined) closeSync(file);
  }
}

function textIn(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return "";
    throw fileError(error, `cannot read ${path}`);
  }
}

function rowOf(line: string): { key: string; verdict: StoredVerdict } | undefined {
  try {
    const { key, verdict, reason } = JSON.parse(line) as Record<string, unknown>;
    const grade = grades.find((one) => one === verdict);
    if (typeof key !== "string" || grade === undefined) return undefined;
    return { key, verdict: { grade, reason: typeof reason === "string" ? reason : "" } };
  } catch {
    return undefined;
  }
}
