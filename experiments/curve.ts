/** A metric of several runs over the steps of training, as the points of a curve. */

import type { Point } from "./report/figures.ts";
import type { LabRun } from "./runs.ts";

/** Mean over the runs of a metric in [0, 1], in percent, by number of steps taken. */
export function meanCurve(runs: readonly LabRun[], metric: string): Point[] {
  const rows = runs.flatMap(({ metrics }) =>
    metrics.filter((row) => typeof row[metric] === "number"),
  );
  const bySteps = Map.groupBy(rows, (row) => (row.step as number) + 1);
  return [...bySteps].map(([x, own]) => ({
    x,
    y: (100 * own.reduce((sum, row) => sum + (row[metric] as number), 0)) / own.length,
  }));
}
