/** O4: unlocked or acquired? What the world's books say of the facts that were repaired. */

import { wilson } from "../eval/statistics.ts";
import { percent } from "../eval/table.ts";
import { runMain } from "../rl/user_error.ts";
import type { Experiment, Quantity } from "./claim.ts";
import { reproduce } from "./main.ts";
import { grpo, methodRuns } from "./methods.ts";
import { estimate, meanOf, type Pooled, pool, unknown } from "./pooled.ts";
import { quantityText } from "./report/model.ts";
import type { Scale } from "./scale.ts";

const runs = (scale: Scale) => methodRuns(scale, "voices", grpo);
const STATUS = ["stored", "suppressed", "absent"] as const;

export const experiment: Experiment = {
  id: "o4_ledger",
  title: "Unlocked, not acquired",
  question: "Were the repaired facts in the model before, by the world's own books?",
  claims: ["O4"],
  cautions: [
    "The books are the world's, not the model's: a suppressed fact that the model never stored " +
      "counts as suppressed. The ceiling says how many it stored.",
  ],
  runs,
  async analyse(lab) {
    const rows = pool(lab, runs(lab.scale));
    const repaired = rows.filter((row) => row.before === 0 && row.after > 0.5);
    const zero = rows.filter((row) => row.before === 0 && row.question.accessible === 0);
    const ceiling = meanOf(
      { id: "ledger.ceiling", label: "ceiling: right after a reliable source's sentence" },
      rows,
      ({ question }) => Number(question.stored),
    );
    const closed = gapClosed(rows);
    const moved = estimate(
      { id: "ledger.mass", label: "probability moved onto right answers, a fact", unit: "points" },
      rows.map(({ world, entity, question }) => ({
        ...{ world, entity },
        values: [question.probabilityAfter - question.probabilityBefore],
      })),
      ([mean]) => 100 * mean!,
    );
    const share = of(repaired, "suppressed", "ledger.suppressed", "repaired facts: suppressed");
    const known = of(repaired, "absent", "ledger.absent", "repaired facts: absent");
    const failed = rows.filter((row) => row.before === 0);
    const base = of(failed, "suppressed", "ledger.failed", "failed facts: suppressed");
    const zeros = of(zero, "suppressed", "ledger.zero", "failed facts at 0 of 128: suppressed");
    return {
      sentences: [
        `Of ${repaired.length} repaired facts a share of ${quantityText(share)} was suppressed and ` +
          `${quantityText(known)} absent; among all ${failed.length} that failed, which repair at random ` +
          `would draw from, ${quantityText(base)} are suppressed.`,
        `Of the ${zero.length} failed facts without a right answer among 128 samples ` +
          `${quantityText(zeros)} are suppressed, by the books; the rest is nearly all absent.`,
        `${closed.label}: ${quantityText(closed)}.`,
        `${moved.label}: ${quantityText(moved)}.`,
      ],
      quantities: [share, known, base, zeros, ceiling, closed, moved],
      tables: [
        {
          title: "Probability of a right answer to a held-out question, by status",
          columns: ["fact", "questions", "before", "after"].map((title, i) => ({
            title,
            ...(i > 0 && { align: "right" as const }),
          })),
          rows: STATUS.map((status) => {
            const own = rows.filter(({ question }) => question.status === status);
            const mean = (f: (row: Pooled) => number) =>
              percent(own.reduce((sum, row) => sum + f(row), 0) / own.length);
            return [
              ...[status, `${own.length}`],
              mean(({ question }) => question.probabilityBefore),
              mean(({ question }) => question.probabilityAfter),
            ];
          }),
        },
      ],
      figures: [
        {
          ...{
            kind: "bars",
            name: "ledger",
            title: "Facts by status: failed, at 0 of 128, repaired",
          },
          ...{ y: "facts", groups: [...STATUS] },
          caption:
            "Held-out facts that failed before; those of them without a right answer among 128 " +
            "samples; and those that are right after training on other people.",
          series: [
            { name: "failed before", rows: rows.filter((row) => row.before === 0) },
            { name: "of these 0 of 128", rows: zero },
            { name: "repaired", rows: repaired },
          ].map(({ name, rows: own }) => ({
            name,
            values: STATUS.map((status, x) => ({
              x,
              y: own.filter(({ question }) => question.status === status).length,
            })),
          })),
        },
      ],
    };
  },
};

/** Share of some facts that have a status, with Wilson's interval. */
function of(
  rows: readonly Pooled[],
  status: (typeof STATUS)[number],
  id: string,
  label: string,
): Quantity {
  const n = rows.length;
  if (n === 0) return unknown({ id, label }, "ratio", "no such fact");
  const found = rows.filter(({ question }) => question.status === status).length;
  const { low, high } = wilson(found, n);
  return { id, label, unit: "ratio", estimate: found / n, low, high, basis: `${n} facts` };
}

/** How much of the way from before to the ceiling was gone. */
const gapClosed = (rows: readonly Pooled[]): Quantity =>
  estimate(
    {
      id: "ledger.closed",
      label: "share of the gap to that ceiling that was closed",
      unit: "ratio",
    },
    rows.map(({ world, entity, question, before, after }) => ({
      ...{ world, entity },
      values: [after - before, Number(question.stored) - before],
    })),
    ([gain, gap]) => gain! / gap!,
  );

if (import.meta.main) await runMain(() => reproduce([experiment], process.argv.slice(2)));
