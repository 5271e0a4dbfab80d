/** The table of a sweep: what validation says of each combination, and what the held-out half does. */

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { meanInterval } from "../eval/statistics.ts";
import { duration, type Table } from "../eval/table.ts";
import type { PlannedRun } from "./grid.ts";

interface RunSummary {
  readonly seconds: number;
  readonly chosenStep: number;
  readonly validationAccuracy: { readonly base: number; readonly best: number };
  readonly heldout: {
    readonly before: number;
    readonly after: number;
    readonly lastStep: number;
    readonly fixed: number;
    readonly broken: number;
  };
  readonly train: { readonly before: number; readonly after: number };
}

function summaryOf(out: string, { folder }: PlannedRun): RunSummary | undefined {
  const path = join(out, folder, "summary.json");
  return existsSync(path) ? (JSON.parse(readFileSync(path, "utf8")) as RunSummary) : undefined;
}

/** "84.3 ± 1.2": mean and half the 95 % interval of the seeds; one seed has no interval. */
function spread(values: readonly number[]): string {
  const { mean, half } = meanInterval(values.map((x) => 100 * x));
  return half === null ? mean.toFixed(1) : `${mean.toFixed(1)} ± ${half.toFixed(1)}`;
}

/**
 * One row a combination, in the order of the grid. The star marks the best mean of the validation
 * questions: the one to choose, whatever the held-out columns say.
 */
export function sweepTable(out: string, runs: readonly PlannedRun[]): Table {
  const names = [...new Set(runs.map(({ point }) => point.name))];
  const rows = names.map((name) => {
    const own = runs.filter(({ point }) => point.name === name);
    return { name, planned: own.length, done: own.flatMap((run) => summaryOf(out, run) ?? []) };
  });
  const score = ({ done }: (typeof rows)[number]) =>
    done.reduce((sum, run) => sum + run.validationAccuracy.best, 0) / Math.max(1, done.length);
  const best = Math.max(...rows.map(score));
  const right = { align: "right" } as const;
  return {
    title: "Percent; mean ± half of the 95 % interval over seeds",
    columns: [
      { title: "" },
      { title: "runs", ...right },
      { title: "validation", ...right },
      { title: "held-out before", ...right },
      { title: "after", ...right },
      { title: "last step", ...right },
      { title: "repaired / broken", ...right },
      { title: "trained on", ...right },
      { title: "time a run", ...right },
    ],
    rows: rows.map((row) => {
      const { name, planned, done } = row;
      if (done.length === 0) return [name, `0/${planned}`, "", "", "", "", "", "", ""];
      const of = (pick: (run: RunSummary) => number) => spread(done.map(pick));
      const total = (pick: (run: RunSummary) => number) =>
        done.reduce((sum, run) => sum + pick(run), 0);
      return [
        name,
        done.length === planned ? `${planned}` : `${done.length}/${planned}`,
        `${score(row) === best ? "* " : ""}${of((run) => run.validationAccuracy.best)}`,
        of(({ heldout }) => heldout.before),
        of(({ heldout }) => heldout.after),
        of(({ heldout }) => heldout.lastStep),
        `${total(({ heldout }) => heldout.fixed)} / ${total(({ heldout }) => heldout.broken)}`,
        of(({ train }) => train.after),
        duration(total(({ seconds }) => seconds) / done.length),
      ];
    }),
  };
}
