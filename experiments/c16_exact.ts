/** C16: what does an exact-match reward gain where an answer has several names? */

import { runMain } from "../rl/user_error.ts";
import type { Experiment } from "./claim.ts";
import { meanCurve } from "./curve.ts";
import type { Lab } from "./lab.ts";
import { reproduce } from "./main.ts";
import { grpo, methodRuns } from "./methods.ts";
import { gainOf, pool, ratioOfGains } from "./pooled.ts";
import type { Lines } from "./report/figures.ts";
import { quantityText } from "./report/model.ts";
import { oneSeed, type Scale } from "./scale.ts";

const REWARDS = ["alias", "exact"] as const;
type Name = (typeof REWARDS)[number];
const LABELS = { alias: "any name counts", exact: "the gold text alone counts" } as const;

const rewardRuns = (scale: Scale, reward: Name) =>
  methodRuns(oneSeed(scale), "names", grpo, { reward });
const runs = (scale: Scale) => REWARDS.flatMap((reward) => rewardRuns(scale, reward));

export const experiment: Experiment = {
  id: "c16_exact",
  title: "Exact match as the reward",
  question: "Does paying only the gold text gain less than paying every name of the answer?",
  claims: ["C16"],
  again: true,
  cautions: [
    "What makes exact match fail is that the gold form can't be foreseen: each fact's is one of " +
      "four names at random. Where it can be learned, exact match catches up.",
  ],
  runs,
  async analyse(lab) {
    // Every name counts in the evaluation of both.
    const [alias, exact] = REWARDS.map((reward) => pool(lab, rewardRuns(lab.scale, reward)));
    const share = ratioOfGains(
      { id: "exact.share", label: "exact match's gain as a share of the alias judge's" },
      exact!,
      alias!,
    );
    const gains = REWARDS.map((reward, i) =>
      gainOf({ id: `exact.${reward}`, label: `gain, ${LABELS[reward]}` }, [alias!, exact!][i]!),
    );
    const sparse = REWARDS.map((reward) => {
      const rows = rewardRuns(lab.scale, reward).flatMap((s) => lab.run(s).metrics);
      const first = rows.filter(({ step }) => (step as number) >= 0 && (step as number) < 5);
      const mean = (name: string) =>
        first.reduce((sum, row) => sum + (row[name] as number), 0) / first.length;
      return (
        `in the first five steps, where ${LABELS[reward]}, ` +
        `${(100 * mean("reward")).toFixed(1)} % of the answers are paid and ` +
        `${(100 * mean("frac_reward_zero_std")).toFixed(0)} % of the groups teach nothing`
      );
    });
    return {
      sentences: [`${share.label}: ${quantityText(share)}.`, `Sparsity: ${sparse.join("; ")}.`],
      quantities: [share, ...gains],
      tables: [],
      figures: [figure(lab)],
    };
  },
};

function figure(lab: Lab): Lines {
  return {
    ...{ kind: "lines", name: "exact", title: "Validation accuracy under either reward" },
    ...{ x: "step", y: "right answers (any name), %" },
    caption: "Validation questions, every name of the answer counted as right, mean over worlds.",
    series: REWARDS.map((reward) => {
      const runs = rewardRuns(lab.scale, reward).map((settings) => lab.run(settings));
      return { name: LABELS[reward], points: meanCurve(runs, "validation/accuracy") };
    }),
  };
}

if (import.meta.main) await runMain(() => reproduce([experiment], process.argv.slice(2)));
