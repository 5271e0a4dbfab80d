/** What was answered so far, on disk: a measurement that was stopped asks nothing twice. */

import { closeSync, existsSync, mkdirSync, openSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileError, UserError } from "../../model/errors.ts";
import { jsonBytes, readJson, writeAll, writeAtomic } from "../../model/files.ts";
import type { Answers, Said } from "./respond.ts";

/** What decides the answers, by name; values are compared as JSON. */
export type Settings = Readonly<Record<string, unknown>>;

interface Row extends Answers {
  readonly id: string;
}

/** Answers by the question's id, in a folder; each is on disk as soon as it is added. */
export interface AnswerStore extends Disposable {
  readonly known: ReadonlyMap<string, Answers>;
  add(id: string, answers: Answers): void;
}

const SETTINGS = "settings.json";
const ANSWERS = "answers.jsonl";

/**
 * Opens the folder, made if it is not there. A UserError where it holds answers that other settings
 * gave (with what differs), or anything that is no measurement.
 */
export function openStore(folder: string, settings: Settings): AnswerStore {
  const path = join(folder, SETTINGS);
  if (existsSync(path)) requireSame(readJson(path) as Settings, settings, folder);
  else begin(folder, path, settings);
  const answers = join(folder, ANSWERS);
  const text = existsSync(answers) ? readFileSync(answers, "utf8") : "";
  const known = new Map<string, Answers>();
  for (const line of text.split("\n")) {
    const row = rowOf(line);
    if (row !== undefined && !known.has(row.id)) known.set(row.id, row);
  }
  // A line that a kill cut short stays, and the next one begins on a line of its own.
  let newline = text !== "" && !text.endsWith("\n");
  let file: number | undefined;
  return {
    known,
    add(id, { greedy, samples, thought }) {
      const row: Row = { id, greedy, samples, ...(thought && { thought }) };
      try {
        file ??= openSync(answers, "a");
        writeAll(file, `${newline ? "\n" : ""}${JSON.stringify(row)}\n`);
      } catch (error) {
        throw fileError(error, `cannot write ${answers}`);
      }
      newline = false;
      known.set(id, row);
    },
    [Symbol.dispose]() {
      if (file !== undefined) closeSync(file);
    },
  };
}

function begin(folder: string, path: string, settings: Settings): void {
  try {
    if (existsSync(folder) && readdirSync(folder).length > 0) {
      throw new UserError(`${folder} holds other files, no measurement; choose another --out`);
    }
    mkdirSync(folder, { recursive: true });
  } catch (error) {
    throw error instanceof UserError ? error : fileError(error, `cannot create ${folder}`);
  }
  writeAtomic(path, [jsonBytes(settings)]);
}

function requireSame(stored: Settings, settings: Settings, folder: string): void {
  const names = [...new Set([...Object.keys(stored), ...Object.keys(settings)])];
  const changed = names.filter((name) => {
    return JSON.stringify(stored[name]) !== JSON.stringify(settings[name]);
  });
  if (changed.length === 0) return;
  const text = (value: unknown) => JSON.stringify(value) ?? "none";
  const lines = changed.map((name) => `${name} ${text(stored[name])} -> ${text(settings[name])}`);
  throw new UserError(
    `${folder} holds answers that other settings gave (${lines.join(", ")}); choose another --out`,
  );
}

function rowOf(line: string): Row | undefined {
  try {
    const row = JSON.parse(line) as Row;
    const isSaid = (said: Said | undefined) => typeof said?.text === "string";
    const whole = typeof row.id === "string" && isSaid(row.greedy) && row.samples.every(isSaid);
    return whole ? row : undefined;
  } catch {
    return undefined;
  }
}
