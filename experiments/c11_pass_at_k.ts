/** C11, C12: does RL make a small k do what a large k did, and does it add answers or move them? */

import { passAtK } from "../eval/pass_at_k.ts";
import { runMain } from "../rl/user_error.ts";
import type { Experiment } from "./claim.ts";
import { reproduce } from "./main.ts";
import { grpo, methodRuns } from "./methods.ts";
import { estimate, meanOf, type Pooled, poolRuns } from "./pooled.ts";
import { quantityText } from "./report/model.ts";
import type { HeldOut } from "./runs.ts";
import type { Scale } from "./scale.ts";

const runs = (scale: Scale) => methodRuns(scale, "voices", grpo);

export const experiment: Experiment = {
  id: "c11_pass_at_k",
  title: "pass@k before and after",
  question: "Is what RL makes the model say already among its samples before?",
  claims: ["C11", "C12"],
  runs,
  async analyse(lab) {
    const own = runs(lab.scale).map((settings) => lab.run(settings));
    const { passAtKSamples: n, passAtK: ks } = own[0]!.config.evaluate;
    const rowsAt = (beforeK: number, afterK: number): Pooled[] =>
      poolRuns(own, {
        before: ({ passesBefore }: HeldOut) => passAtK(n, passesBefore, beforeK),
        after: ({ passesAfter }: HeldOut) => passAtK(n, passesAfter, afterK),
      });
    const shift = estimate(
      { id: "pass.shift", label: "pass@2 after minus pass@16 before", unit: "points" },
      rowsAt(16, 2).map(gain),
      ([mean]) => 100 * mean!,
    );
    const [narrow, wide] = [rowsAt(1, 1), rowsAt(n, n)];
    const closing = estimate(
      { id: "pass.closing", label: `gap at k = ${n} over the gap at 1`, unit: "ratio" },
      narrow.map((row, i) => ({
        ...gain(row),
        values: [...gain(row).values, ...gain(wide[i]!).values],
      })),
      ([one, all]) => all! / one!,
    );
    const repaired = poolRuns(own).filter((row) => row.before === 0 && row.after > 0.5);
    const known = meanOf(
      { id: "pass.known", label: "repaired questions with a right answer among 128 before" },
      repaired,
      ({ question }) => Number(question.accessible > 0),
    );
    const share = { ...known, unit: "ratio" as const };
    const scaled = [share.estimate, share.low, share.high].map((x) =>
      x === null ? null : x / 100,
    );
    const knownShare = { ...share, estimate: scaled[0]!, low: scaled[1]!, high: scaled[2]! };
    return {
      sentences: [shift, closing, knownShare].map((q) => `${q.label}: ${quantityText(q)}.`),
      quantities: [shift, closing, knownShare],
      tables: [],
      figures: [
        {
          ...{
            kind: "lines",
            name: "pass-at-k",
            title: "pass@k before and after GRPO",
            logX: true,
          },
          ...{ x: "k samples", y: "a right answer among k, %" },
          caption:
            "Held-out questions with at least one right answer among k samples, at the rollouts' " +
            "settings. Where the curves meet at the right, training moved probability onto answers " +
            "that were there; a gap that stays would be new knowledge, or new access to it.",
          series: (["before", "after"] as const).map((when) => ({
            name: when,
            points: ks.map((k) => {
              const found = meanOf({ id: "", label: "" }, rowsAt(k, k), (row) => row[when]);
              return { x: k, y: found.estimate!, low: found.low!, high: found.high! };
            }),
          })),
        },
      ],
      cautions: [
        "Which k equals which depends on how strongly the world suppresses its facts. What was " +
          "available of the paper gives these numbers at second hand.",
      ],
    };
  },
};

const gain = ({ world, entity, before, after }: Pooled) => ({
  ...{ world, entity },
  values: [after - before],
});

if (import.meta.main) await runMain(() => reproduce([experiment], process.argv.slice(2)));
