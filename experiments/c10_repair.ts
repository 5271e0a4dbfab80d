/** C10: are failed questions repaired the more often, the more often their answer was sampled before? */

import { accessibilityBins, repairByAccessibility } from "../eval/accessibility.ts";
import { newcombe } from "../eval/statistics.ts";
import { percent, type Table } from "../eval/table.ts";
import { runMain } from "../rl/user_error.ts";
import type { Experiment, Quantity } from "./claim.ts";
import type { Lab } from "./lab.ts";
import { reproduce } from "./main.ts";
import { grpo, methodRuns, namesRuns } from "./methods.ts";
import { unknown } from "./pooled.ts";
import type { Lines } from "./report/figures.ts";
import { quantityText } from "./report/model.ts";
import { oneSeed, type Scale } from "./scale.ts";

/** One RL seed in each world: questions must count once for Wilson's and the trend's sake. */
const WORLDS = {
  voices: {
    name: "answers of one word",
    suffix: "",
    runs: (scale: Scale) => methodRuns(oneSeed(scale), "voices", grpo),
  },
  names: { name: "answers of two words, four names", suffix: ".names", runs: namesRuns },
} as const;
type World = (typeof WORLDS)[keyof typeof WORLDS];
const ALL: readonly World[] = Object.values(WORLDS);

/** Bins that the paper gives a number for: [label here, the paper's percent]. */
const PAPER: Readonly<Record<string, number>> = { "0": 9.5, "9-16": 52, "≥65": 84 };

export const experiment: Experiment = {
  id: "c10_repair",
  title: "Repair by accessibility",
  question: "Does the repair rate of failed questions rise with right answers among 128 before?",
  claims: ["C10"],
  cautions: [
    "With answers of one word a fact above 50 % is right greedily, so the upper bins hold few " +
      "failures; answers of several words and names fill them. The lowest bin mixes suppressed " +
      "with absent facts, as in the paper, but the mixture is this world's choice.",
  ],
  runs: (scale) => ALL.flatMap((world) => world.runs(scale)),
  async analyse(lab) {
    const found = ALL.map((world) => repairIn(lab, world));
    const quantities = found.flatMap(({ trend, contrast }) => [trend, contrast]);
    const { samples } = found[0]!;
    return {
      sentences: [
        ...found.map(
          ({ world, trend, contrast }) =>
            `${sentenceCase(world.name)}: ${quantityText(trend)} is Cochran-Armitage's z of the ` +
            `trend; repair at 9-16 of 128 minus at 0: ${quantityText(contrast)}.`,
        ),
        `Of ${samples} samples before training, those that chose the bins are others than those ` +
          "behind any other number.",
      ],
      quantities,
      tables: found.map(table),
      figures: [figure(found)],
    };
  },
};

type Found = ReturnType<typeof repairIn>;

function repairIn(lab: Lab, world: World) {
  const own = world.runs(lab.scale).map((settings) => lab.run(settings));
  const samples = own[0]!.config.evaluate.accessibilitySamples;
  const { rows, trend } = repairByAccessibility(
    own
      .flatMap(({ heldOut }) => heldOut)
      .map(({ accessible, correctBefore, correctAfter }) => ({
        accessibleCount: accessible,
        greedyBefore: correctBefore,
        greedyAfter: correctAfter,
      })),
    samples,
  );
  const failed = rows.reduce((sum, { n }) => sum + n, 0);
  const basis = `${failed} questions that failed before, in ${own.length} world(s)`;
  const z: Quantity = {
    ...{ id: `repair.trend${world.suffix}`, unit: "number", basis },
    ...{ label: `Cochran-Armitage z of the trend, ${world.name}` },
    // z's own 95 % interval, so that a trend that chance could make is open rather than refuted.
    ...{ estimate: trend.z, low: trend.z - 1.96, high: trend.z + 1.96 },
  };
  const [zero, middle] = ["0", "9-16"].map((label) => rows.find(({ bin }) => bin.label === label));
  const label = `repair at 9-16 of 128 minus at 0, ${world.name}`;
  const contrast = difference({ id: `repair.contrast${world.suffix}`, label }, zero, middle);
  return { world, samples, rows, trend: z, contrast };
}

const table = ({ world, rows }: Found): Table => ({
  title: `Repaired, by right answers among 128 samples before: ${world.name}`,
  columns: ["of 128", "failed before", "repaired", "the paper"].map((title, i) => ({
    title,
    ...(i > 0 && { align: "right" as const }),
  })),
  rows: rows.map(({ bin, n, rate, interval, few }) => [
    bin.label,
    `${n}${few ? " (few)" : ""}`,
    rate === null ? "" : percent({ value: rate, ...interval }),
    bin.label in PAPER ? (bin.label === "0" ? "6-13 %" : `${PAPER[bin.label]} %`) : "",
  ]),
});

const figure = (found: readonly Found[]): Lines => ({
  ...{ kind: "lines", name: "repair", title: "Repair rate by accessibility before" },
  caption:
    "Share of the questions that failed before and are right after, by how many of 128 samples " +
    "were right before. Bins with fewer than 20 questions have wide intervals. The paper's points " +
    "are those that its text gives (at 0: the middle of 6-13 %).",
  ...{ x: "right answers among 128 before training", y: "repaired, %" },
  series: [
    ...found.map(({ world, rows }) => ({
      name: world.name,
      points: rows.flatMap(({ bin, rate, interval }) =>
        rate === null ? [] : [{ x: bin.label, y: 100 * rate, ...scaled(interval) }],
      ),
    })),
    {
      ...{ name: "the paper's text", dashed: true },
      points: accessibilityBins(found[0]!.samples).flatMap(({ label }) =>
        label in PAPER ? [{ x: label, y: PAPER[label]! }] : [],
      ),
    },
  ],
});

const sentenceCase = (text: string): string => text[0]!.toUpperCase() + text.slice(1);

const scaled = ({ low, high }: { low: number; high: number }) => ({
  low: 100 * low,
  high: 100 * high,
});

type Row = { readonly n: number; readonly repaired: number };
function difference(
  what: { id: string; label: string },
  zero: Row | undefined,
  middle: Row | undefined,
): Quantity {
  if (!zero?.n || !middle?.n) return unknown(what, "points", "one of the bins is empty");
  const count = ({ repaired, n }: Row) => ({ successes: repaired, trials: n });
  const found = newcombe(count(zero), count(middle));
  const basis = `${zero.n} questions at 0, ${middle.n} at 9-16; Newcombe's interval`;
  const estimate = found.estimate === null ? null : 100 * found.estimate;
  return { ...what, unit: "points", estimate, ...scaled(found), basis };
}

if (import.meta.main) await runMain(() => reproduce([experiment], process.argv.slice(2)));
