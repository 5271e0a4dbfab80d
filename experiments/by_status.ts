/** Accuracy before and after by what a world's documents say of a fact: as a table, as bars. */

import { percent, type Table } from "../eval/table.ts";
import { meanOf, type Pooled, pointOf } from "./pooled.ts";
import type { Bars } from "./report/figures.ts";

const STATUS = ["stored", "suppressed", "absent"] as const;
const WHEN = ["before", "after"] as const;

const of = (rows: readonly Pooled[], status: (typeof STATUS)[number]) =>
  rows.filter(({ question }) => question.status === status);

export const statusTable = (rows: readonly Pooled[]): Table => ({
  title: "By what the world's documents say of the fact",
  columns: [
    { title: "fact" },
    ...["questions", ...WHEN].map((title) => ({ title, align: "right" as const })),
  ],
  rows: STATUS.map((status) => {
    const own = of(rows, status);
    const mean = (when: (typeof WHEN)[number]) =>
      percent(own.reduce((sum, row) => sum + row[when], 0) / own.length);
    return [status, `${own.length}`, ...WHEN.map(mean)];
  }),
});

export const statusBars = (
  rows: readonly Pooled[],
  { name, title }: { readonly name: string; readonly title: string },
): Bars => ({
  ...{ kind: "bars", name, title },
  caption:
    "Greedy accuracy by what the documents say of a fact. What is suppressed becomes sayable; what is " +
    "absent stays unknown. Whiskers: 95 % intervals over worlds and entities.",
  y: "right answers, %",
  groups: ["all", ...STATUS],
  series: WHEN.map((when) => ({
    name: when,
    values: [rows, ...STATUS.map((status) => of(rows, status))].map((own, x) =>
      pointOf(
        meanOf({ id: "", label: "" }, own, (row) => row[when]),
        x,
      ),
    ),
  })),
});
