/** C11, C12: does RL make a small k do what a large k did, and does it add answers or move them? */

import { passAtK } from "../eval/pass_at_k.ts";
import { runMain } from "../rl/user_error.ts";
import type { Experiment, Quantity } from "./claim.ts";
import type { Lab } from "./lab.ts";
import { reproduce } from "./main.ts";
import { grpo, methodRuns, namesRuns } from "./methods.ts";
import { estimate, meanOf, type Pooled, poolRuns } from "./pooled.ts";
import type { Lines } from "./report/figures.ts";
import { quantityText } from "./report/model.ts";
import type { HeldOut } from "./runs.ts";
import type { Scale } from "./scale.ts";

const WORLDS = [
  {
    name: "answers of one word",
    suffix: "",
    figure: "pass-at-k",
    runs: (scale: Scale) => methodRuns(scale, "voices", grpo),
  },
  {
    name: "answers of two words, four names",
    suffix: ".names",
    figure: "pass-at-k-names",
    runs: namesRuns,
  },
] as const;

export const experiment: Experiment = {
  id: "c11_pass_at_k",
  title: "pass@k before and after",
  question: "Is what RL makes the model say already among its samples before?",
  claims: ["C11", "C12"],
  cautions: [
    "Which k equals which depends on how strongly the world suppresses its facts. What was " +
      "available of the paper gives these numbers at second hand.",
  ],
  runs: (scale) => WORLDS.flatMap(({ runs }) => runs(scale)),
  async analyse(lab) {
    const found = WORLDS.map((world) => passIn(lab, world));
    const quantities = found.flatMap((one) => one.quantities);
    return {
      sentences: quantities.map((q) => `${q.label}: ${quantityText(q)}.`),
      quantities,
      tables: [],
      figures: found.map(({ figure }) => figure),
    };
  },
};

function passIn(lab: Lab, { name, suffix, figure, runs }: (typeof WORLDS)[number]) {
  const own = runs(lab.scale).map((settings) => lab.run(settings));
  const { passAtKSamples: n, passAtK: ks } = own[0]!.config.evaluate;
  const rowsAt = (beforeK: number, afterK: number): Pooled[] =>
    poolRuns(own, {
      before: ({ passesBefore }: HeldOut) => passAtK(n, passesBefore, beforeK),
      after: ({ passesAfter }: HeldOut) => passAtK(n, passesAfter, afterK),
    });
  const what = (id: string, label: string) => ({
    id: `${id}${suffix}`,
    label: `${label}, ${name}`,
  });
  const shift = estimate(
    { ...what("pass.shift", "pass@2 after minus pass@16 before"), unit: "points" },
    rowsAt(16, 2).map(gain),
    ([mean]) => 100 * mean!,
  );
  const [narrow, wide] = [rowsAt(1, 1), rowsAt(n, n)];
  const closing = estimate(
    { ...what("pass.closing", `gap at k = ${n} over the gap at 1`), unit: "ratio" },
    narrow.map((row, i) => ({
      ...gain(row),
      values: [...gain(row).values, ...gain(wide[i]!).values],
    })),
    ([one, all]) => all! / one!,
  );
  const failed = poolRuns(own).filter((row) => row.before === 0);
  const repaired = failed.filter((row) => row.after > 0.5);
  const known = (id: string, label: string, some: readonly Pooled[]): Quantity => {
    const found = meanOf(what(id, label), some, ({ question }) => Number(question.accessible > 0));
    const [value, low, high] = [found.estimate, found.low, found.high].map((x) =>
      x === null ? null : x / 100,
    );
    return { ...found, unit: "ratio", estimate: value!, low: low!, high: high! };
  };
  const shares = [
    known("pass.known", "repaired questions with a right answer among 128 before", repaired),
    known("pass.failed", "all questions that failed with one, beside them", failed),
  ];
  const lines: Lines = {
    ...{ kind: "lines", name: figure, logX: true },
    title: `pass@k before and after GRPO: ${name}`,
    ...{ x: "k samples", y: "a right answer among k, %" },
    caption:
      "Held-out questions with at least one right answer among k samples, at the rollouts' " +
      "settings. Where the curves meet at the right, training moved probability onto answers " +
      "that were there; a gap that stays would be new knowledge, or new access to it.",
    series: (["before", "after"] as const).map((when) => ({
      name: when,
      points: ks.map((k) => {
        const mean = meanOf({ id: "", label: "" }, rowsAt(k, k), (row) => row[when]);
        return { x: k, y: mean.estimate!, low: mean.low!, high: mean.high! };
      }),
    })),
  };
  return { quantities: [shift, closing, ...shares], figure: lines };
}

const gain = ({ world, entity, before, after }: Pooled) => ({
  ...{ world, entity },
  values: [after - before],
});

if (import.meta.main) await runMain(() => reproduce([experiment], process.argv.slice(2)));
