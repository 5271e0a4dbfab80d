/** O5: is the gain there in a model several times as large? One world, one seed. */

import { runMain } from "../rl/user_error.ts";
import { statusBars, statusTable } from "./by_status.ts";
import type { Experiment } from "./claim.ts";
import { reproduce } from "./main.ts";
import { gainOf, meanOf, pool } from "./pooled.ts";
import { quantityText } from "./report/model.ts";
import { oneSeed, runsOf, type Scale } from "./scale.ts";

/** Beside the sizes of C9, whose intervals are paid for by their number. */
const runs = (scale: Scale) =>
  runsOf({ ...oneSeed(scale), worlds: scale.worlds.slice(0, 1) }, "voices", {
    ...{ method: "grpo", ...scale.larger.settings },
  });

export const experiment: Experiment = {
  id: "o5_larger",
  title: "A larger model",
  question: "Is the gain there in the largest model that was tried?",
  claims: ["O5"],
  cautions: [
    "One world and one seed. The larger model reads the same documents for as many steps, at half the " +
      "rate of learning in the full reproduction.",
  ],
  runs,
  async analyse(lab) {
    const settings = runs(lab.scale);
    const rows = pool(lab, settings);
    const { params } = lab.run(settings[0]!).summary;
    const gain = gainOf({ id: "larger.gain", label: `gain, ${lab.scale.larger.name}` }, rows);
    const stored = meanOf(
      { id: "larger.stored", label: "ceiling: right after a reliable source's sentence" },
      rows,
      ({ question }) => Number(question.stored),
    );
    const before = meanOf({ id: "larger.before", label: "before" }, rows, (row) => row.before);
    const after = meanOf({ id: "larger.after", label: "after" }, rows, (row) => row.after);
    return {
      sentences: [
        `${lab.scale.larger.name} (${params.toLocaleString("en-US")} parameters): ` +
          `${quantityText(before)} of the answers are right before and ${quantityText(after)} after ` +
          `training on other people, where the ceiling is ${quantityText(stored)}: ${quantityText(gain)}.`,
      ],
      quantities: [gain, before, after, stored],
      tables: [statusTable(rows)],
      figures: [statusBars(rows, { name: "larger", title: "The largest model, before and after" })],
    };
  },
};

if (import.meta.main) await runMain(() => reproduce([experiment], process.argv.slice(2)));
