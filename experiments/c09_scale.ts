/** C9: does the gain hold over sizes, families and a mixture of experts? */

import { percent } from "../eval/table.ts";
import { runMain } from "../rl/user_error.ts";
import type { Experiment } from "./claim.ts";
import { reproduce } from "./main.ts";
import { gainOf, meanOf, pointOf, pool } from "./pooled.ts";
import { quantityText } from "./report/model.ts";
import { oneSeed, runsOf, type Scale, type Variant } from "./scale.ts";

/** One world and one seed for each: the question is whether any of them lacks the gain. */
const variantRuns = (scale: Scale, { settings }: Variant) =>
  runsOf({ ...oneSeed(scale), worlds: scale.worlds.slice(0, 1) }, "voices", {
    method: "grpo",
    ...settings,
  });
const runs = (scale: Scale) => scale.variants.flatMap((variant) => variantRuns(scale, variant));

export const experiment: Experiment = {
  id: "c09_scale",
  title: "Sizes, families, a mixture of experts",
  question: "Does every size and architecture gain on facts that were not trained on?",
  claims: ["C9"],
  cautions: [
    "A ladder of a few million parameters (and one of ten, in its own section) says nothing about 72 billion; a small model that has " +
      "stored less has less to unlock.",
  ],
  runs,
  async analyse(lab) {
    const { variants } = lab.scale;
    const rows = variants.map((variant) => pool(lab, variantRuns(lab.scale, variant)));
    const gain = (i: number, level = 0.95) =>
      gainOf(
        { id: `scale.${variants[i]!.name}`, label: `gain, ${variants[i]!.name}`, level },
        rows[i]!,
      );
    // Bonferroni: all of n are above 0 where each interval of level 1 - 0.05/n is.
    const corrected = variants.map((_, i) => gain(i, 1 - 0.05 / variants.length));
    const least = corrected.reduce((a, b) => ((b.low ?? 0) < (a.low ?? 0) ? b : a));
    const params = variants.map(
      (variant) => lab.run(variantRuns(lab.scale, variant)[0]!).summary.params,
    );
    const gains = variants.map((_, i) => gain(i));
    return {
      sentences: [
        `The gain with the lowest bound, ${least.label}: ${quantityText(least)} ` +
          `(an interval that ${variants.length} looks are paid for).`,
      ],
      quantities: [
        {
          ...least,
          id: "scale.least",
          label: `lowest bound of ${variants.length}: ${least.label}`,
        },
        ...gains,
      ],
      tables: [
        {
          title: "The same world and training, other models",
          columns: ["model", "parameters", "stored", "before", "after", "gain"].map((title, i) => ({
            title,
            ...(i > 0 && { align: "right" as const }),
          })),
          rows: variants.map(({ name }, i) => {
            const mean = (of: Parameters<typeof meanOf>[2]) =>
              percent(rows[i]!.reduce((sum, row) => sum + of(row), 0) / rows[i]!.length);
            return [
              ...[name, params[i]!.toLocaleString("en-US")],
              mean(({ question }) => Number(question.stored)),
              ...[mean((row) => row.before), mean((row) => row.after)],
              quantityText(gains[i]!),
            ];
          }),
        },
      ],
      figures: [
        {
          ...{ kind: "bars", name: "scale", title: "Held-out accuracy before and after, by model" },
          ...{ y: "right answers, %", groups: variants.map(({ name }) => name) },
          caption:
            "One world, one seed. All models read the same documents for the same number of steps.",
          series: (["before", "after"] as const).map((when) => ({
            name: when,
            values: rows.map((own, x) => {
              return pointOf(
                meanOf({ id: "", label: "" }, own, (row) => row[when]),
                x,
              );
            }),
          })),
        },
      ],
    };
  },
};

if (import.meta.main) await runMain(() => reproduce([experiment], process.argv.slice(2)));
