/** C10: are failed questions repaired the more often, the more often their answer was sampled before? */

import { accessibilityBins, repairByAccessibility } from "../eval/accessibility.ts";
import { newcombe } from "../eval/statistics.ts";
import { percent } from "../rl/table.ts";
import { runMain } from "../rl/user_error.ts";
import type { Experiment, Quantity } from "./claim.ts";
import { reproduce } from "./main.ts";
import { grpo, methodRuns } from "./methods.ts";
import { unknown } from "./pooled.ts";
import { quantityText } from "./report/model.ts";
import { oneSeed, type Scale } from "./scale.ts";

const runs = (scale: Scale) => methodRuns(scale, "voices", grpo);
/** Bins that the paper gives a number for: [label here, the paper's percent]. */
const PAPER: Readonly<Record<string, number>> = { "0": 9.5, "9-16": 52, "≥65": 84 };

export const experiment: Experiment = {
  id: "c10_repair",
  title: "Repair by accessibility",
  question: "Does the repair rate of failed questions rise with right answers among 128 before?",
  claims: ["C10"],
  runs,
  async analyse(lab) {
    // One RL seed in each world: questions must count once for Wilson's and the trend's sake.
    const first = runs(oneSeed(lab.scale));
    const heldOut = first.flatMap((settings) => lab.run(settings).heldOut);
    const samples = lab.run(first[0]!).config.evaluate.accessibilitySamples;
    const { rows, trend } = repairByAccessibility(
      heldOut.map(({ accessible, correctBefore, correctAfter }) => ({
        accessibleCount: accessible,
        greedyBefore: correctBefore,
        greedyAfter: correctAfter,
      })),
      samples,
    );
    const failed = rows.reduce((sum, { n }) => sum + n, 0);
    const basis = `${failed} questions that failed before, in ${lab.scale.worlds.length} world(s)`;
    const z: Quantity = {
      ...{ id: "repair.trend", label: "Cochran-Armitage z of the trend", unit: "number" },
      ...{ estimate: trend.z, low: trend.z, high: trend.z, basis },
    };
    const [zero, middle] = ["0", "9-16"].map((label) =>
      rows.find(({ bin }) => bin.label === label),
    );
    const what = { id: "repair.contrast", label: "repair at 9-16 of 128 minus at 0" };
    const contrast = difference(what, zero, middle);
    return {
      sentences: [
        `${z.label}: ${quantityText(z)}; ${contrast.label}: ${quantityText(contrast)}.`,
        `Of ${samples} samples before training, those that chose the bins are others than those ` +
          "behind any other number.",
      ],
      quantities: [z, contrast],
      tables: [
        {
          title: "Repaired, by right answers among 128 samples before",
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
        },
      ],
      figures: [
        {
          ...{ kind: "lines", name: "repair", title: "Repair rate by accessibility before" },
          caption:
            "Share of the questions that failed before and are right after, by how many of 128 " +
            "samples were right before. Bins with fewer than 20 questions have wide intervals. The " +
            "paper's points are those that its text gives (at 0: the middle of 6-13 %).",
          ...{ x: "right answers among 128 before training", y: "repaired, %" },
          series: [
            {
              name: "here",
              points: rows.flatMap(({ bin, rate, interval }) =>
                rate === null ? [] : [{ x: bin.label, y: 100 * rate, ...scaled(interval) }],
              ),
            },
            {
              ...{ name: "the paper's text", dashed: true },
              points: accessibilityBins(samples).flatMap(({ label }) =>
                label in PAPER ? [{ x: label, y: PAPER[label]! }] : [],
              ),
            },
          ],
        },
      ],
      cautions: [
        "With answers of one token a fact above 50 % is right greedily, so the upper bins hold few " +
          "failures; and here the lowest bin mixes suppressed with absent facts, as in the paper, but " +
          "the mixture is this world's choice.",
      ],
    };
  },
};

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
