/** C17: how far can a judge with known errors be trusted, before and after training against it? */

import { aliasJudge } from "../eval/judge/alias.ts";
import { type JudgedOutput, judgeReliability, type Rate } from "../eval/judge/reliability.ts";
import { percent } from "../eval/table.ts";
import { buildWorld } from "../eval/worlds/presets.ts";
import { worldOf } from "../rl/config.ts";
import { rewardOf } from "../rl/reward.ts";
import { runMain } from "../rl/user_error.ts";
import { randomStream } from "../tensor/random.ts";
import type { Experiment, Quantity } from "./claim.ts";
import { reproduce } from "./main.ts";
import { gainOf, pool, poolRuns } from "./pooled.ts";
import { quantityText } from "./report/model.ts";
import type { HeldOut, LabRun } from "./runs.ts";
import { oneSeed, runsOf, type Scale } from "./scale.ts";

/** Error rates near what the paper reports of its judge: hardly a false positive, some misses. */
const NOISE = { falsePositive: 0.02, falseNegative: 0.08 };
/** Outputs that the paper had people judge, half of them before and half after training. */
const STUDY = 200;

const runs = (scale: Scale) =>
  runsOf(oneSeed(scale), "voices", {
    ...{ method: "grpo", reward: "noisy", rewardNoise: NOISE },
  });

export const experiment: Experiment = {
  id: "c17_judge",
  title: "A judge that errs",
  question: "Does training against a judge with known error rates make its verdicts worse?",
  claims: ["C17"],
  cautions: [
    "There is no language model to judge here: the judge is the true one with errors at set " +
      "rates, so this tests the study and the training, not a semantic judge. On 200 outputs its " +
      "rates come with intervals of several points, and so do the paper's.",
    "With error rates that stay what they are, agreement falls as more answers are right, for right " +
      "ones are missed more often than wrong ones are paid.",
  ],
  runs,
  async analyse(lab) {
    const own = runs(lab.scale).map((settings) => judged(lab.run(settings)));
    const outputs = own.flatMap((one) => one.outputs);
    const change = gainOf(
      { id: "judge.change", label: "agreement, after minus before" },
      own.flatMap(({ agreement }) => agreement),
    );
    const { overall, before, after } = judgeReliability(outputs);
    // At random, for ids are ranks of popularity.
    const draw = randomStream({ seed: 1, purpose: "judged outputs" });
    const shuffled = draw.shuffle(outputs);
    const some = (stage: JudgedOutput["stage"]) =>
      shuffled.filter((output) => output.stage === stage).slice(0, STUDY / 2);
    const study = judgeReliability([...some("before"), ...some("after")]);
    const quantities = [
      quantity("judge.agreement", "agreement with the truth", overall.agreement),
      quantity(
        "judge.false-positives",
        "false positives among wrong outputs",
        overall.falsePositives,
      ),
      quantity("judge.wrongly-paid", "wrong ones among paid outputs, after", after.wronglyPaid),
      gainOf(
        { id: "judge.gain", label: "gain of training against it" },
        pool(lab, runs(lab.scale)),
      ),
      change,
    ];
    const row = (name: string, one: typeof overall) => [
      name,
      `${one.judged}`,
      ...[one.agreement, one.falsePositives, one.falseNegatives].map(rateText),
      one.kappa.kappa === null ? "n/a" : one.kappa.kappa.toFixed(2),
    ];
    return {
      sentences: quantities.map((q) => `${q.label}: ${quantityText(q)}.`),
      quantities,
      tables: [
        {
          title: `The judge (set: ${percent(NOISE.falsePositive)} false positives, ${percent(NOISE.falseNegative)} misses) against the truth`,
          columns: ["outputs", "n", "agreement", "false positives", "misses", "kappa"].map(
            (title, i) => ({ title, ...(i > 0 && { align: "right" as const }) }),
          ),
          rows: [
            row("all, before", before),
            row("all, after", after),
            row(`${STUDY} as in the paper`, study.overall),
            row("  of these before", study.before),
            row("  of these after", study.after),
          ],
        },
      ],
      figures: [],
    };
  },
};

/** Every held-out answer of a run, judged by the truth and by the judge that paid for it. */
function judged(run: LabRun) {
  const judge = rewardOf(run.config);
  const questions = new Map(
    buildWorld(worldOf(run.config))
      .questions("test")
      .map((question) => [question.id, question]),
  );
  const judgeOf = ({ id }: HeldOut, stage: JudgedOutput["stage"], text: string): JudgedOutput => {
    const question = questions.get(id)!;
    return {
      stage,
      truth: aliasJudge(question, text).correct,
      verdict: judge(question, text, { step: 0, row: 0 }).correct,
    };
  };
  const before = (row: HeldOut) => judgeOf(row, "before", row.greedyBefore);
  const after = (row: HeldOut) => judgeOf(row, "after", row.greedyAfter);
  const agrees = ({ truth, verdict }: JudgedOutput) => Number(truth === verdict);
  return {
    outputs: run.heldOut.flatMap((row) => [before(row), after(row)]),
    agreement: poolRuns([run], {
      before: (row) => agrees(before(row)),
      after: (row) => agrees(after(row)),
    }),
  };
}

const rateText = ({ rate, low, high }: Rate): string =>
  rate === null ? "n/a" : percent({ value: rate, low, high });

const quantity = (id: string, label: string, { rate, low, high, trials }: Rate): Quantity => ({
  ...{ id, label, unit: "ratio", basis: `${trials} outputs` },
  ...(rate === null ? { estimate: null, low: null, high: null } : { estimate: rate, low, high }),
});

if (import.meta.main) await runMain(() => reproduce([experiment], process.argv.slice(2)));
