/** O1 to O3: what must not move: absent facts, the null world, a random reward. */

import { runMain } from "../rl/user_error.ts";
import type { Experiment } from "./claim.ts";
import type { Lab } from "./lab.ts";
import { reproduce } from "./main.ts";
import { grpo, methodRuns, random } from "./methods.ts";
import { gainOf, meanOf, type PoolOptions, pointOf, pool } from "./pooled.ts";
import { quantityText } from "./report/model.ts";
import { oneSeed, type Scale } from "./scale.ts";

const normal = (scale: Scale) => methodRuns(scale, "voices", grpo);
const control = (scale: Scale) => methodRuns(oneSeed(scale), "null", grpo);
const chance = (scale: Scale) => methodRuns(scale, "voices", random);

/** The last step's weights: whether validation keeps the base model must not hide a movement. */
const last: PoolOptions = { after: ({ correctLast }) => Number(correctLast) };
const absent: PoolOptions = { where: ({ status }) => status === "absent" };

export const experiment: Experiment = {
  id: "o1_controls",
  title: "Controls: where there must be no gain",
  question: "Do absent facts, the null world and a random reward stay where they were?",
  claims: ["O1", "O2", "O3"],
  cautions: [
    "A null world is not perfectly flat: the truth remains the rarer of two claims, and a base " +
      "model that has not quite finished learning to answer gains by finishing that lesson.",
  ],
  runs: (scale) => [...normal(scale), ...control(scale), ...chance(scale)],
  async analyse(lab) {
    const { scale } = lab;
    const gain = (id: string, label: string, rows: ReturnType<typeof pool>) =>
      gainOf({ id, label }, rows);
    const controls = [
      gain("leak.absent", "gain on absent facts", pool(lab, normal(scale), absent)),
      gain(
        "leak.null",
        "gain in the null world, last step's weights",
        pool(lab, control(scale), last),
      ),
      gain(
        "leak.random",
        "gain with a random reward, last step's weights",
        pool(lab, chance(scale), last),
      ),
    ];
    const kept = [
      gain("leak.null-chosen", "gain in the null world, chosen weights", pool(lab, control(scale))),
      gain(
        "leak.random-chosen",
        "gain with a random reward, chosen weights",
        pool(lab, chance(scale)),
      ),
    ];
    const trained = learned(lab);
    const groups = [
      { name: "absent facts", rows: pool(lab, normal(scale), absent) },
      { name: "null world", rows: pool(lab, control(scale), last) },
      { name: "random reward", rows: pool(lab, chance(scale), last) },
      { name: "GRPO", rows: pool(lab, normal(scale)) },
    ];
    return {
      sentences: [...controls.map((q) => `${q.label}: ${quantityText(q)}.`), trained],
      quantities: [...controls, ...kept],
      tables: [],
      figures: [
        {
          ...{ kind: "bars", name: "controls", title: "Controls beside the real thing" },
          ...{ y: "right answers, %", groups: groups.map(({ name }) => name) },
          caption:
            "Held-out accuracy before and after. In the null world the same words tell nothing about " +
            "truth; there and under the random reward the last step's weights are shown.",
          series: (["before", "after"] as const).map((when) => ({
            name: when,
            values: groups.map(({ rows }, x) => {
              return pointOf(
                meanOf({ id: "", label: "" }, rows, (r) => r[when]),
                x,
              );
            }),
          })),
        },
      ],
    };
  },
};

/** The null world's training questions: learned by heart, which is the point of the control. */
function learned(lab: Lab): string {
  const runs = control(lab.scale).map((settings) => lab.run(settings));
  const reward = runs.map(({ metrics }) => {
    const rows = metrics.filter((row) => typeof row.reward === "number");
    const mean = (some: typeof rows) =>
      some.reduce((sum, row) => sum + (row.reward as number), 0) / some.length;
    return { first: mean(rows.slice(0, 5)), last: mean(rows.slice(-5)) };
  });
  const mean = (of: (one: (typeof reward)[number]) => number) =>
    ((100 * reward.reduce((sum, one) => sum + of(one), 0)) / reward.length).toFixed(0);
  return (
    `The null world's training questions are learned by heart all the same: ` +
    `${mean(({ first }) => first)} -> ${mean(({ last }) => last)} % of their answers are rewarded.`
  );
}

if (import.meta.main) await runMain(() => reproduce([experiment], process.argv.slice(2)));
