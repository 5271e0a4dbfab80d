/** C3: how do accuracy on training labels and on held-out facts move while each method trains? */

import { runMain } from "../rl/user_error.ts";
import type { Experiment, Quantity } from "./claim.ts";
import { meanCurve } from "./curve.ts";
import type { Lab } from "./lab.ts";
import { reproduce } from "./main.ts";
import { type Compared, dpo, grpo, methodRuns, rft, sft } from "./methods.ts";
import { differenceOf, estimate, pool, ratioOfGains } from "./pooled.ts";
import type { Lines } from "./report/figures.ts";
import { quantityText } from "./report/model.ts";
import { oneSeed, type Scale } from "./scale.ts";

const METHODS = [grpo, rft, sft, dpo];
/** One seed in each world: curves of several would lie upon each other. */
const runsFor = (scale: Scale, method: Compared) =>
  methodRuns(oneSeed(scale), "unknowable", method);
const runs = (scale: Scale) => METHODS.flatMap((method) => runsFor(scale, method));

const last = { after: ({ correctLast }: { correctLast: boolean }) => Number(correctLast) };

export const experiment: Experiment = {
  id: "c03_dynamics",
  title: "Training dynamics",
  question: "Who learns the training labels, and who gains on facts that were not trained on?",
  claims: ["C3"],
  cautions: [
    "60 % of the training labels were replaced by unknowable ones in this world; with true labels SFT and DPO " +
      "nearly tie with GRPO (Methods side by side).",
    "The held-out curve is looked at after the fact: weights are chosen on validation questions.",
  ],
  runs,
  async analyse(lab) {
    const rowsOf = (method: Compared) => pool(lab, runsFor(lab.scale, method), last);
    const share = (method: Compared, id: string) =>
      ratioOfGains(
        { id, label: `${method.name}'s gain at its last step, as a share of GRPO's` },
        rowsOf(method),
        rowsOf(grpo),
      );
    const chosen = pool(lab, runsFor(lab.scale, grpo));
    const quantities = [
      share(sft, "dynamics.sft-share"),
      share(dpo, "dynamics.dpo-share"),
      share(rft, "dynamics.rft-share"),
      trainGain(lab, sft, "dynamics.sft-train"),
      differenceOf(
        { id: "dynamics.grpo-kept", label: "GRPO's last weights minus its chosen ones" },
        rowsOf(grpo),
        chosen,
      ),
    ];
    return {
      sentences: quantities.map((q) => `${q.label}: ${quantityText(q)}.`),
      quantities,
      tables: [],
      figures: [
        curves(lab, "heldout/accuracy", "dynamics-heldout", "Held-out accuracy over training"),
        curves(lab, "train/accuracy", "dynamics-train", "Accuracy on the training labels"),
      ],
    };
  },
};

/** Accuracy on the training labels, after minus before, by training question. */
function trainGain(lab: Lab, method: Compared, id: string): Quantity {
  const rows = runsFor(lab.scale, method).flatMap((settings) => {
    const { trained, summary } = lab.run(settings);
    const { world } = summary.seeds;
    return trained.map(({ entity, correctBefore, correctLast }) => ({
      ...{ world, entity: 1_000_000 * world + entity },
      values: [Number(correctLast) - Number(correctBefore)],
    }));
  });
  const label = `${method.name}'s gain on its training labels at its last step`;
  return estimate({ id, label, unit: "points" }, rows, ([mean]) => 100 * mean!);
}

function curves(lab: Lab, metric: string, name: string, title: string): Lines {
  return {
    ...{ kind: "lines", name, title, x: "step", y: "right answers, %" },
    caption:
      "Greedy accuracy at each validation, mean over worlds. Two thirds of the training labels can't be " +
      "known, so whoever approaches 100 % on them has learned them by heart.",
    series: METHODS.map((method) => {
      const runs = runsFor(lab.scale, method).map((settings) => lab.run(settings));
      return { name: method.name, points: meanCurve(runs, metric) };
    }),
  };
}

if (import.meta.main) await runMain(() => reproduce([experiment], process.argv.slice(2)));
