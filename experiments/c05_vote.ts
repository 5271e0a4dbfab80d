/** C5: does a majority vote over samples reach what RL reaches? Budgets of 1 to 256. */

import { sampledBallots, voteBudgets, voteCurve } from "../eval/vote.ts";
import { seedsOf } from "../rl/config.ts";
import { runMain } from "../rl/user_error.ts";
import type { Experiment } from "./claim.ts";
import type { Lab } from "./lab.ts";
import { reproduce } from "./main.ts";
import { namesRuns } from "./methods.ts";
import { withBase, withChosen } from "./models.ts";
import { gainOf, meanOf, type Pooled, poolRuns, ratioOfGains } from "./pooled.ts";
import { quantityText } from "./report/model.ts";
import type { LabRun } from "./runs.ts";

/** Answers of several words under several names: with one token a vote is the greedy answer. */
const runs = namesRuns;
const BUDGET = 32;
const SAMPLES = 256;
/** A step that no other measurement of a made-up world draws its samples from. */
const STEP = 4_000_000;

/** By question: the chance that the majority of `budget` samples is right. */
interface Votes {
  readonly id: number;
  readonly byBudget: readonly number[];
}

export const experiment: Experiment = {
  id: "c05_vote",
  title: "Majority voting",
  question: "How much of RL's gain does a vote over 32 samples of the base model give?",
  claims: ["C5"],
  again: true,
  cautions: [
    "An answer with four names splits its votes among them, in this world as among real aliases; " +
      "the myth's names split alike.",
  ],
  runs,
  async analyse(lab) {
    const own = runs(lab.scale).map((settings) => lab.run(settings));
    const before = await votesOf(lab, own, "before");
    const after = await votesOf(lab, own, "after");
    const greedy = poolRuns(own);
    const at = (votes: Map<string, Votes>, budget: number, start = greedy): Pooled[] =>
      start.map((row) => {
        const i = voteBudgets.indexOf(budget);
        return { ...row, after: votes.get(row.key)!.byBudget[i]! };
      });
    const voted = at(before, BUDGET);
    const share = ratioOfGains(
      { id: "vote.share", label: `gain of a vote of ${BUDGET} as a share of GRPO's` },
      voted,
      greedy,
    );
    const gain = gainOf(
      { id: "vote.gain", label: `vote of ${BUDGET} minus greedy, before` },
      voted,
    );
    const rl = gainOf({ id: "vote.grpo", label: "GRPO's gain, greedy" }, greedy);
    const curve = (votes: Map<string, Votes>) =>
      voteBudgets.map((budget) => {
        const found = meanOf({ id: "", label: "" }, at(votes, budget), (row) => row.after);
        return { x: budget, y: found.estimate!, low: found.low!, high: found.high! };
      });
    const level = (of: (row: Pooled) => number) =>
      voteBudgets.map((x) => ({
        x,
        y: meanOf({ id: "", label: "" }, greedy, of).estimate!,
      }));
    return {
      sentences: [gain, rl, share].map((q) => `${q.label}: ${quantityText(q)}.`),
      quantities: [share, gain, rl],
      tables: [],
      figures: [
        {
          ...{ kind: "lines", name: "vote", title: "Majority vote by number of samples" },
          ...{ x: "samples voted on", y: "right answers, %", logX: true },
          caption:
            "Accuracy of the most frequent answer of n samples, before and after GRPO, beside greedy " +
            "decoding (dashed). Equal answers are told by their normalised text.",
          series: [
            { name: "vote, before", points: curve(before) },
            { name: "vote, after", points: curve(after) },
            { name: "greedy, before", points: level((row) => row.before), dashed: true },
            { name: "greedy, after", points: level((row) => row.after), dashed: true },
          ],
        },
      ],
    };
  },
};

async function votesOf(
  lab: Lab,
  runs: readonly LabRun[],
  when: "before" | "after",
): Promise<Map<string, Votes>> {
  const all = new Map<string, Votes>();
  for (const run of runs) {
    const { world } = run.summary.seeds;
    const key = { run: run.hash, samples: SAMPLES };
    const found = await lab.piece<Votes[]>(`votes-${when}`, key, () =>
      (when === "before" ? withBase : withChosen)(run, async (asked) => {
        const { temperature } = run.config.train;
        const options = { samples: SAMPLES, temperature, seed: seedsOf(run.config).rl, step: STEP };
        const ballots = await sampledBallots(asked, options);
        return asked.questions.map(({ id }, i) => ({
          id,
          byBudget: voteCurve([ballots[i]!], { seed: id }).map(({ value }) => value),
        }));
      }),
    );
    for (const votes of found) all.set(`${world}:${votes.id}`, votes);
  }
  return all;
}

if (import.meta.main) await runMain(() => reproduce([experiment], process.argv.slice(2)));
