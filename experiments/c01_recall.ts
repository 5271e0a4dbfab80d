/** C1: does reinforcement on some facts raise recall of others? Before and after, by status. */

import { mcnemarFromCounts } from "../eval/statistics.ts";
import { pValue } from "../eval/table.ts";
import { runMain } from "../rl/user_error.ts";
import { statusBars, statusTable } from "./by_status.ts";
import type { Experiment, Quantity } from "./claim.ts";
import { reproduce } from "./main.ts";
import { estimate, gainOf, meanOf, type Pooled, pool, spreadText } from "./pooled.ts";
import { quantityText } from "./report/model.ts";
import { runsOf, type Scale } from "./scale.ts";

const runs = (scale: Scale) => runsOf(scale, "voices", { method: "grpo" });

export const experiment: Experiment = {
  id: "c01_recall",
  title: "Recall of facts that were not trained on",
  question: "Does GRPO on some people's facts raise greedy accuracy on other people's?",
  claims: ["C1"],
  cautions: [
    "The size of the gain is a choice of the world (the share of reliable documents), its existence " +
      "is not: the paper's models start at other rates and gain less.",
  ],
  runs,
  async analyse(lab) {
    const rows = pool(lab, runs(lab.scale));
    const gain = gainOf({ id: "recall.gain", label: "held-out gain of GRPO" }, rows);
    const before = meanOf({ id: "recall.before", label: "before" }, rows, (row) => row.before);
    const after = meanOf({ id: "recall.after", label: "after" }, rows, (row) => row.after);
    const relative = relativeGain(rows);
    const stored = meanOf(
      { id: "recall.stored", label: "ceiling: right after a reliable source's sentence" },
      rows,
      ({ question }) => Number(question.stored),
    );
    const { fixed, broken, p } = changes(rows);
    const examples = rows
      .filter((row) => row.before === 0 && row.after === 1)
      .slice(0, 6)
      .map(({ question }) => question);
    return {
      sentences: [
        `Before training the model goes on rightly after a reliable source's sentence for ` +
          `${quantityText(stored)} of the held-out facts, and answers ${quantityText(before)} of the ` +
          `questions rightly; after training on other people ` +
          `${quantityText(after)}: ${quantityText(gain)}, ${quantityText(relative)} relative.`,
        `${fixed} questions were repaired and ${broken} broken (McNemar ${pValue(p)}).`,
        `By world: ${spreadText(rows, (row) => row.after - row.before)} points.`,
      ],
      quantities: [gain, relative, before, after, stored],
      tables: [
        statusTable(rows),
        {
          title: "Some repaired questions",
          columns: ["question", "before", "after"].map((title) => ({ title })),
          rows: examples.map((q) => [q.question, q.greedyBefore, q.greedyAfter]),
        },
      ],
      figures: [
        statusBars(rows, { name: "recall", title: "Held-out accuracy before and after GRPO" }),
      ],
    };
  },
};

/** Gain over accuracy before, resampled together. */
function relativeGain(rows: readonly Pooled[]): Quantity {
  const sums = rows.map(({ world, entity, before, after }) => {
    return { world, entity, values: [before, after] };
  });
  const what = { id: "recall.relative", label: "relative gain", unit: "percent" } as const;
  return estimate(what, sums, ([before, after]) => 100 * (after! / before! - 1));
}

/** Repaired and broken questions: right in most of the seeds, against before. */
function changes(rows: readonly Pooled[]) {
  const count = (of: (row: Pooled) => boolean) => rows.filter(of).length;
  const fixed = count((row) => row.before === 0 && row.after > 0.5);
  const broken = count((row) => row.before === 1 && row.after < 0.5);
  return mcnemarFromCounts(fixed, broken);
}

if (import.meta.main) await runMain(() => reproduce([experiment], process.argv.slice(2)));
