/** What an earlier report found is kept where its runs are those that would be made now. */

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { writeAtomic } from "../rl/files.ts";
import type { PartialConfig } from "../rl/presets.ts";
import { UserError } from "../rl/user_error.ts";
import type { Experiment } from "./claim.ts";
import type { Lab } from "./lab.ts";
import type { Report, Study } from "./report/model.ts";
import { resolved } from "./runs.ts";
import type { Scale } from "./scale.ts";
import { hashesOf, wordsOf } from "./study.ts";

const REPORT = "report.json";
const RUNS = "runs.jsonl";

/** A run behind the report, so that a number can be traced to settings and made again. */
export interface RunRecord {
  /** Its folder's name. */
  readonly hash: string;
  /** Flags of rl/train.ts that make it. */
  readonly flags: string;
  /** Held-out questions, and the shares that are stored and said, in [0, 1]. */
  readonly questions: number;
  readonly stored: number | null;
  readonly before: number;
  readonly after: number;
  readonly lastStep: number;
}

/** The report that another `--only`, or another day, made in `out`; null: none of this scale. */
export function earlierReport(out: string, scale: Scale): Report | null {
  const path = join(out, REPORT);
  if (!existsSync(path)) return null;
  const report = parsed<Report>(readFileSync(path, "utf8"), path);
  return report.scale === scale.name ? report : null;
}

/**
 * Its studies, by experiment, but for those whose settings have changed since. What no run decides
 * is told in today's words.
 */
export function keptStudies(
  earlier: Report | null,
  experiments: readonly Experiment[],
  scale: Scale,
): Map<string, Study> {
  const kept = (earlier?.studies ?? []).flatMap((study) => {
    const own = experiments.find(({ id }) => id === study.id);
    if (own === undefined) return [study];
    const isSame = `${[...study.runs].sort()}` === `${hashesOf(own, scale).sort()}`;
    return isSame ? [{ ...study, ...wordsOf(own, scale) }] : [];
  });
  return new Map(kept.map((study) => [study.id, study]));
}

/** Writes a line for each run behind `studies`: those read now, and those that stood there. */
export function writeRuns(
  out: string,
  lab: Lab,
  settings: readonly PartialConfig[],
  studies: readonly Study[],
): void {
  const path = join(out, RUNS);
  const before = existsSync(path)
    ? readFileSync(path, "utf8")
        .split("\n")
        .filter(Boolean)
        .map((line) => parsed<RunRecord>(line, path))
    : [];
  const records = new Map(before.map((record) => [record.hash, record]));
  for (const one of settings) {
    const { hash, summary } = lab.run(one);
    const { n, stored, before, after, lastStep } = summary.heldout;
    records.set(hash, {
      ...{ hash, flags: resolved(one).flags.join(" "), questions: n },
      ...{ stored: stored?.value ?? null, before, after, lastStep },
    });
  }
  const wanted = new Set(studies.flatMap(({ runs }) => runs));
  const lines = [...records.values()]
    .filter(({ hash }) => wanted.has(hash))
    .sort((a, b) => (a.hash < b.hash ? -1 : 1))
    .map((record) => JSON.stringify(record));
  writeAtomic(path, lines.map((line) => `${line}\n`).join(""));
}

function parsed<T>(text: string, path: string): T {
  try {
    return JSON.parse(text) as T;
  } catch (cause) {
    throw new UserError(`${path} is not what a report wrote; move it away`, { cause });
  }
}
