/** C6: does reciting a statement before the answer help, and how much beside RL and voting? */

import { thoughtAnswers } from "../eval/think.ts";
import { sampledBallots, voteCurve } from "../eval/vote.ts";
import { seedsOf } from "../rl/config.ts";
import { runMain } from "../rl/user_error.ts";
import type { Experiment } from "./claim.ts";
import type { Lab } from "./lab.ts";
import { reproduce } from "./main.ts";
import { withBase } from "./models.ts";
import {
  differenceOf,
  gainOf,
  meanOf,
  type Pooled,
  pointOf,
  poolRuns,
  ratioOfGains,
} from "./pooled.ts";
import { quantityText } from "./report/model.ts";
import type { LabRun } from "./runs.ts";
import { oneSeed, runsOf, type Scale } from "./scale.ts";

const runs = (scale: Scale) => runsOf(oneSeed(scale), "think", { method: "grpo" });
const BUDGET = 32;
const STEP = 5_000_000;

interface Thought {
  readonly id: number;
  readonly correct: boolean;
  readonly answered: boolean;
  readonly voice: "reliable" | "unreliable" | null;
  /** The chance that the majority of 32 samples without a thought is right. */
  readonly vote: number;
}

export const experiment: Experiment = {
  id: "c06_think",
  title: "Reciting first",
  question: "Does the base model answer better if it recites what it has read before it answers?",
  claims: ["C6"],
  cautions: [
    "The thought here is one recited sentence, in either voice: an analogue of a chain of thought, " +
      "not reasoning. It helps as far as what is recited is a reliable source's sentence; half of the " +
      "thoughts that the model read are, which is a setting of this world. Where thoughts are as " +
      "unreliable as answers, reciting loses.",
    "What was tried: greedily the likelier of the two voices is recited, and half and half tips " +
      "to one side. In a small model it tips to the reliable one, and reciting gains 43 % of " +
      "what GRPO gains (seed 101, experiments/LOG.md); the table says where it tips here.",
    "With answers of one token a vote is the mode, which is the greedy answer but for noise.",
  ],
  runs,
  async analyse(lab) {
    const own = runs(lab.scale).map((settings) => lab.run(settings));
    const thoughts = await thoughtsOf(lab, own);
    const trained = poolRuns(own);
    const thought = trained.map((row) => ({
      ...row,
      after: Number(thoughts.get(row.key)!.correct),
    }));
    const voted = trained.map((row) => ({ ...row, after: thoughts.get(row.key)!.vote }));
    const gain = gainOf(
      { id: "think.gain", label: "reciting first minus greedy, before" },
      thought,
    );
    const vote = differenceOf(
      { id: "think.vote", label: `reciting first minus a vote of ${BUDGET}` },
      thought,
      voted,
    );
    const share = ratioOfGains(
      { id: "think.share", label: "gain of reciting as a share of GRPO's" },
      thought,
      trained,
    );
    const all = [...thoughts.values()];
    const voices = (["reliable", "unreliable", null] as const).map((voice) => {
      const some = all.filter((one) => one.voice === voice);
      const right = some.filter(({ correct }) => correct).length;
      return [voice ?? "neither", `${some.length}`, percentOf(right, some.length)];
    });
    const bars: [string, readonly Pooled[]][] = [
      ["greedy", trained.map((row) => ({ ...row, after: row.before }))],
      [`vote of ${BUDGET}`, voted],
      ["recite first", thought],
      ["GRPO", trained],
    ];
    return {
      sentences: [gain, vote, share].map((q) => `${q.label}: ${quantityText(q)}.`),
      quantities: [gain, vote, share],
      tables: [
        {
          title: "Whose words were recited, and whether the answer behind them was right",
          columns: ["voice", "questions", "right"].map((title, i) => ({
            title,
            ...(i > 0 && { align: "right" as const }),
          })),
          rows: voices,
        },
      ],
      figures: [
        {
          ...{ kind: "bars", name: "think", title: "What helps without training, beside training" },
          ...{ y: "right answers, %", groups: bars.map(([name]) => name) },
          caption:
            "Held-out accuracy of the base model, greedily, by a vote over samples, and with a recited " +
            "statement before the answer; and of GRPO's weights, greedily.",
          series: [
            {
              name: "accuracy",
              values: bars.map(([, rows], x) => {
                return pointOf(
                  meanOf({ id: "", label: "" }, rows, (row) => row.after),
                  x,
                );
              }),
            },
          ],
        },
      ],
    };
  },
};

const percentOf = (part: number, whole: number): string =>
  whole === 0 ? "" : `${((100 * part) / whole).toFixed(1)} %`;

async function thoughtsOf(lab: Lab, runs: readonly LabRun[]): Promise<Map<string, Thought>> {
  const all = new Map<string, Thought>();
  for (const run of runs) {
    const { world } = run.summary.seeds;
    const found = await lab.piece<Thought[]>("thoughts", { run: run.hash, BUDGET }, () =>
      withBase(run, async (asked) => {
        const answers = await thoughtAnswers(asked);
        const { temperature } = run.config.train;
        const seed = seedsOf(run.config).rl;
        const options = { samples: 4 * BUDGET, temperature, seed, step: STEP };
        const ballots = await sampledBallots(asked, options);
        return asked.questions.map(({ id }, i) => {
          const { correct, answered, voice } = answers[i]!;
          const [vote] = voteCurve([ballots[i]!], { budgets: [BUDGET], seed: id });
          return { id, correct, answered, voice, vote: vote!.value };
        });
      }),
    );
    for (const thought of found) all.set(`${world}:${thought.id}`, thought);
  }
  return all;
}

if (import.meta.main) await runMain(() => reproduce([experiment], process.argv.slice(2)));
