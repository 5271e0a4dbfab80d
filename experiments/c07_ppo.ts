/** C7: does PPO reach what GRPO reaches? A test of equivalence, with a margin set before. */

import { runMain } from "../rl/user_error.ts";
import type { Experiment } from "./claim.ts";
import { reproduce } from "./main.ts";
import { grpo, methodRuns, ppo } from "./methods.ts";
import { differenceOf, pool, spreadText } from "./pooled.ts";
import { quantityText } from "./report/model.ts";
import type { Scale } from "./scale.ts";

const runs = (scale: Scale) =>
  [grpo, ppo].flatMap((method) => methodRuns(scale, "unknowable", method));

export const experiment: Experiment = {
  id: "c07_ppo",
  title: "PPO and GRPO",
  question: "Is PPO's held-out accuracy within 3 points of GRPO's at equal numbers of rollouts?",
  claims: ["C7"],
  cautions: [
    "No significant difference would not be equivalence: the whole interval has to lie within " +
      "±3 points, which needs more questions than one small world has.",
  ],
  runs,
  async analyse(lab) {
    const rowsOf = (method: typeof ppo) => pool(lab, methodRuns(lab.scale, "unknowable", method));
    const [theirs, ours] = [rowsOf(ppo), rowsOf(grpo)];
    // Two one-sided tests at 5 % are a 90 % interval inside the margin.
    const difference = differenceOf(
      { id: "ppo.difference", label: "PPO minus GRPO (90 % interval)", level: 0.9 },
      theirs,
      ours,
    );
    return {
      sentences: [
        `PPO minus GRPO: ${quantityText(difference)}, a 90 % interval.`,
        `By world, PPO ${spreadText(theirs, (r) => r.after)}; GRPO ${spreadText(ours, (r) => r.after)} %.`,
      ],
      quantities: [difference],
      tables: [],
      figures: [],
    };
  },
};

if (import.meta.main) await runMain(() => reproduce([experiment], process.argv.slice(2)));
