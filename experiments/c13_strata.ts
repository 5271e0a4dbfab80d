/** C13 to C15: which training questions does the gain come from, by their accessibility before? */

import { newcombe, wilson } from "../eval/statistics.ts";
import { inStratum, type Stratum } from "../rl/strata.ts";
import { runMain } from "../rl/user_error.ts";
import type { Experiment, Quantity } from "./claim.ts";
import type { Lab } from "./lab.ts";
import { reproduce } from "./main.ts";
import { grpo, methodRuns } from "./methods.ts";
import { differenceOf, gainOf, pointOf, pool, ratioOfGains, unknown } from "./pooled.ts";
import type { Lines } from "./report/figures.ts";
import { quantityText } from "./report/model.ts";
import type { LabRun } from "./runs.ts";
import { oneSeed, type Scale } from "./scale.ts";

const NAMES = {
  all: "all questions",
  zero: "0 of 128",
  partial: "1 to 32",
  high: "33 and more",
  zeroPartial: "0 to 32",
} as const satisfies Record<Stratum, string>;
const STRATA = Object.keys(NAMES) as Stratum[];

/** Equal numbers of updates, whatever the stratum. */
const stratumRuns = (scale: Scale, stratum: Stratum) =>
  methodRuns(oneSeed(scale), "strata", grpo, stratum === "all" ? {} : { train: { stratum } });
const runs = (scale: Scale) => STRATA.flatMap((stratum) => stratumRuns(scale, stratum));

export const experiment: Experiment = {
  id: "c13_strata",
  title: "Where the gain comes from",
  question: "How much of the gain does training on never-sampled facts alone recover?",
  claims: ["C13", "C14", "C15"],
  cautions: [
    "What the zero stratum can teach depends on its composition: suppressed facts come up in " +
      "repeated rollouts, absent ones only by guessing. The paper can't tell them apart; here the books " +
      "say which is which.",
    "Strata differ in size: equal steps mean more passes over a small one, which over-trains first.",
  ],
  runs,
  async analyse(lab) {
    const rowsOf = (stratum: Stratum) => pool(lab, stratumRuns(lab.scale, stratum));
    const atTheEnd = (stratum: Stratum) =>
      pool(lab, stratumRuns(lab.scale, stratum), {
        after: ({ correctLast }) => Number(correctLast),
      });
    const all = rowsOf("all");
    const base = stratumRuns(lab.scale, "all").map((settings) => lab.run(settings));
    const shares = Object.fromEntries(STRATA.map((s) => [s, shareOf(base, s)]));
    const recovered = STRATA.filter((s) => s !== "all").map((stratum) =>
      ratioOfGains(
        { id: `strata.${stratum}`, label: `share of the gain by ${NAMES[stratum]} alone` },
        rowsOf(stratum),
        all,
      ),
    );
    const zero = recovered.find(({ id }) => id === "strata.zero")!;
    const excess: Quantity = {
      ...zero,
      ...{ id: "strata.zero-excess", label: "share of the gain by 0 of 128, minus share of data" },
      ...shifted(zero, shares.zero!),
    };
    const both = differenceOf(
      {
        ...{ id: "strata.both-full", label: "0 to 32 minus all questions (90 % interval)" },
        level: 0.9,
      },
      rowsOf("zeroPartial"),
      all,
    );
    const emergence = emerged(base);
    return {
      sentences: [
        `Questions with 0 of 128 are ${percentText(shares.zero!)} of the training data; alone they ` +
          `recover ${quantityText(zero)} of the gain.`,
        `${both.label}: ${quantityText(both)}.`,
        ...emergence.map((q) => `${q.label}: ${quantityText(q)}.`),
        `By the world's books ${suppressedText(base)}.`,
      ],
      quantities: [excess, ...recovered, both, ...emergence],
      tables: [
        {
          title: "Training on one stratum, all else equal",
          columns: [
            "right of 128 before",
            "share of the data",
            "held-out gain",
            "share of the gain",
            "gain at the last step",
          ].map((title, i) => ({ title, ...(i > 0 && { align: "right" as const }) })),
          rows: STRATA.map((stratum) => {
            const ratio = recovered.find(({ id }) => id === `strata.${stratum}`);
            return [
              ...[NAMES[stratum], percentText(shares[stratum]!)],
              quantityText(gainOf({ id: "", label: "" }, rowsOf(stratum))),
              ratio === undefined ? "1" : quantityText(ratio),
              quantityText(gainOf({ id: "", label: "" }, atTheEnd(stratum))),
            ];
          }),
        },
      ],
      figures: [
        {
          ...{ kind: "bars", name: "strata", title: "Held-out gain by what was trained on" },
          ...{ y: "gain, points", groups: STRATA.map((stratum) => NAMES[stratum]) },
          caption:
            "Each bar is a training run on the questions of one stratum alone, as many steps in each. " +
            "Strata are by right answers among 128 samples before training.",
          series: [
            {
              name: "gain",
              values: STRATA.map((stratum, x) => {
                return pointOf(gainOf({ id: "", label: "" }, rowsOf(stratum)), x);
              }),
            },
          ],
        },
        emergenceFigure(lab, base),
      ],
    };
  },
};

const percentText = (share: number): string => `${(100 * share).toFixed(1)} %`;
const shifted = ({ estimate, low, high }: Quantity, by: number) => ({
  estimate: estimate === null ? null : estimate - by,
  low: low === null ? null : low - by,
  high: high === null ? null : high - by,
});

function shareOf(runs: readonly LabRun[], stratum: Stratum): number {
  const own = runs.flatMap(({ trained, config }) =>
    trained.map((row) => inStratum(stratum, row.accessible, config.evaluate.accessibilitySamples)),
  );
  return own.filter(Boolean).length / own.length;
}

/** Training questions that no sample got right before. */
const zeros = (runs: readonly LabRun[]) =>
  runs.flatMap(({ trained }) => trained.filter(({ accessible }) => accessible === 0));

/** How many of them some rollout solves, and what becomes of those. */
function emerged(runs: readonly LabRun[]): Quantity[] {
  const rows = zeros(runs);
  const solved = rows.filter(({ firstSolved }) => firstSolved !== null);
  const rest = rows.filter(({ firstSolved }) => firstSolved === null);
  const basis = `${rows.length} training questions at 0 of 128`;
  const what = { id: "strata.emerged", label: "share of them that some rollout solves" };
  const more = { id: "strata.amplified", label: "right in the end: solved ones minus the others" };
  if (rows.length === 0) return [what, more].map((q) => unknown(q, "ratio", basis));
  const share: Quantity = {
    ...{ ...what, unit: "ratio", basis, estimate: solved.length / rows.length },
    ...wilson(solved.length, rows.length),
  };
  const right = (some: typeof rows) => some.filter(({ correctAfter }) => correctAfter).length;
  if (solved.length === 0 || rest.length === 0) return [share, unknown(more, "ratio", basis)];
  const count = (some: typeof rows) => ({ successes: right(some), trials: some.length });
  const amplified: Quantity = {
    ...{ ...more, unit: "ratio", basis: `${basis}, ${solved.length} of them solved` },
    ...newcombe(count(rest), count(solved)),
  };
  return [share, amplified];
}

function suppressedText(runs: readonly LabRun[]): string {
  const rows = zeros(runs);
  const count = (status: string) => rows.filter((row) => row.status === status).length;
  return (
    `${count("suppressed")} of these ${rows.length} facts are suppressed, ` +
    `${count("absent")} absent and ${count("stored")} stored`
  );
}

/** Cumulative share of 0-of-128 training questions that were solved by a step, by status. */
function emergenceFigure(lab: Lab, runs: readonly LabRun[]): Lines {
  const rows = zeros(runs);
  const { steps } = lab.run(stratumRuns(lab.scale, "all")[0]!).config.train;
  const at = Array.from({ length: 13 }, (_, i) => Math.round((i * steps) / 12));
  return {
    ...{ kind: "lines", name: "emergence", title: "Facts at 0 of 128 that come up in training" },
    ...{ x: "step", y: "solved by some rollout so far, %" },
    caption:
      "Training questions without a right answer among 128 samples before: the share that at least " +
      "one rollout had solved by each step, by what the documents say of the fact.",
    series: (["suppressed", "absent"] as const).flatMap((status) => {
      const own = rows.filter((row) => row.status === status);
      if (own.length === 0) return [];
      const points = at.map((x) => {
        const solved = own.filter((row) => row.firstSolved !== null && row.firstSolved < x);
        return { x, y: (100 * solved.length) / own.length };
      });
      return [{ name: `${status} (${own.length})`, points }];
    }),
  };
}

if (import.meta.main) await runMain(() => reproduce([experiment], process.argv.slice(2)));
