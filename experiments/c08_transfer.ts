/** C4, C8: four question sets after four benchmarks. Does training on one help the others? */

import { buildWorld } from "../eval/worlds/presets.ts";
import type { QuestionSet } from "../eval/worlds/world.ts";
import { worldOf } from "../rl/config.ts";
import { runMain } from "../rl/user_error.ts";
import type { Experiment, Quantity } from "./claim.ts";
import { removedFrom } from "./disjoint.ts";
import type { Lab } from "./lab.ts";
import { reproduce } from "./main.ts";
import { type Compared, dpo, grpo, methodRuns, rft, sft } from "./methods.ts";
import { estimate, gainOf, meanOf, type Pooled, pool } from "./pooled.ts";
import { quantityText } from "./report/model.ts";
import { oneSeed, type Scale } from "./scale.ts";

const SETS = ["asked", "trivia", "tail", "frontier"] as const satisfies readonly QuestionSet[];
const NAMES: Readonly<Record<QuestionSet, string>> = {
  asked: "Asked (NQ)",
  trivia: "Trivia (TriviaQA)",
  tail: "Tail (PopQA)",
  frontier: "Frontier (SimpleQA)",
};

/** Trained on one set, tested on all four. */
const trainedOn = (scale: Scale, set: QuestionSet, method: Compared = grpo) =>
  methodRuns(oneSeed(scale), "benchmarks", method, {
    train: { questionSet: set },
  });
const OTHERS = [rft, sft, dpo];
const runs = (scale: Scale) => [
  ...SETS.flatMap((set) => trainedOn(scale, set)),
  ...OTHERS.flatMap((method) => trainedOn(scale, "frontier", method)),
];

export const experiment: Experiment = {
  id: "c08_transfer",
  title: "Transfer between question sets",
  question:
    "Does training on one question set raise the others, and does any method help Frontier?",
  claims: ["C4", "C8"],
  cautions: [
    "These are the last step's weights: one set's validation questions are too few to choose by.",
    "The rule asks for the least of six gains with an interval that six looks are paid for: few " +
      "worlds make it wide however large the gains are (the heat map has all of them).",
    "The four sets share the world's two voices, which is what transfers; real benchmarks differ " +
      "in more than wording and popularity.",
  ],
  runs,
  async analyse(lab) {
    const rowsOf = (train: QuestionSet, test: QuestionSet, method = grpo): Pooled[] =>
      pool(lab, trainedOn(lab.scale, train, method), {
        where: ({ set }) => set === test,
        after: ({ correctLast }) => Number(correctLast),
      });
    const cell = (train: QuestionSet, test: QuestionSet, level = 0.95) =>
      gainOf(
        {
          ...{ id: `transfer.${train}-${test}`, level },
          label: `trained on ${NAMES[train]}, asked ${NAMES[test]}`,
        },
        rowsOf(train, test),
      );
    const known = SETS.filter((set) => set !== "frontier");
    const pairs = known.flatMap((train) =>
      known.filter((test) => test !== train).map((test) => [train, test] as const),
    );
    // Bonferroni: the least of six is above 0 where each interval of level 1 - 0.05/6 is.
    const corrected = pairs.map(([train, test]) => cell(train, test, 1 - 0.05 / pairs.length));
    const least = corrected.reduce((a, b) => ((b.low ?? 0) < (a.low ?? 0) ? b : a));
    const listed = (some: readonly (readonly [QuestionSet, QuestionSet])[]): string =>
      some.map(([train, test]) => quantityText(cell(train, test))).join(", ");
    const frontier = SETS.map((set) => rowsOf(set, "frontier"));
    const share = shareOf(rowsOf("frontier", "frontier"), rowsOf("asked", "asked"));
    const methods = [grpo, ...OTHERS].map((method) =>
      gainOf(
        { id: `frontier.${method.name}`, label: `${method.name} trained on and asked Frontier` },
        rowsOf("frontier", "frontier", method),
      ),
    );
    const base = SETS.map((set, i) =>
      meanOf(
        { id: `transfer.base-${set}`, label: `${NAMES[set]} before` },
        i === 3 ? frontier[3]! : rowsOf(set, set),
        (row) => row.before,
      ),
    );
    return {
      sentences: [
        `Before training: ${base.map((q) => `${q.label} ${quantityText(q)}`).join("; ")}.`,
        `The transfer with the lowest bound, ${least.label}: ${quantityText(least)} (an interval that ` +
          `${pairs.length} looks are paid for).`,
        `Training on Frontier and asking the others: ${listed(known.map((set) => ["frontier", set]))}; ` +
          `the other way round: ${listed(known.map((set) => [set, "frontier"]))}.`,
        `${share.label}: ${quantityText(share)}.`,
        await sharedText(lab),
      ],
      quantities: [
        { ...least, id: "transfer.least", label: `lowest bound of six transfers: ${least.label}` },
        share,
        ...methods,
        ...base,
      ],
      tables: [
        {
          title: "Frontier, by the method that was trained on it",
          columns: [
            { title: "method" },
            { title: "gain on Frontier", align: "right" },
            { title: "of" },
          ],
          rows: methods.map((q, i) => [[grpo, ...OTHERS][i]!.name, quantityText(q), q.basis]),
        },
      ],
      figures: [
        {
          ...{ kind: "heat", name: "transfer", title: "Held-out gain, in points" },
          ...{ x: "asked", y: "trained on", unit: "points" },
          ...{ columns: SETS.map((set) => NAMES[set]), rows: SETS.map((set) => NAMES[set]) },
          caption:
            "Each row is trained on one question set, each column asked about another's held-out facts. " +
            "Frontier's facts are those that the documents hardly state or never do: its column stays low, " +
            "and its row gains by those of its questions whose facts are stated.",
          values: SETS.map((train) => SETS.map((test) => cell(train, test).estimate)),
        },
      ],
    };
  },
};

/** Each pair of a training and a test set, looked at again for what they share. */
async function sharedText(lab: Lab): Promise<string> {
  const runs = trainedOn(lab.scale, "asked").map((settings) => lab.run(settings));
  const counts = await lab.piece("shared", { runs: runs.map(({ hash }) => hash) }, async () => {
    let [asked, gone] = [0, 0];
    for (const { config } of runs) {
      const world = buildWorld(worldOf(config));
      for (const train of SETS) {
        for (const test of SETS) {
          const questions = world.questions("test", test);
          const against = world.questions("train", train);
          const found = await removedFrom(world, questions, against, "fact");
          asked += questions.length;
          gone += found.gone.size;
        }
      }
    }
    return { asked, gone };
  });
  return (
    `De-duplicated by fact for each of the ${SETS.length ** 2} pairs: ${counts.gone} of ` +
    `${counts.asked} test questions were found to share a fact with training (none does by the ` +
    "world's books: sets and splits share no person)."
  );
}

/** Frontier's gain over Asked's: of different questions, so each has a mean of its own. */
function shareOf(part: readonly Pooled[], whole: readonly Pooled[]): Quantity {
  const rows = [part, whole].flatMap((own, i) =>
    own.map(({ world, entity, before, after }) => {
      const values = [1, after - before];
      return { world, entity, values: i === 0 ? [...values, 0, 0] : [0, 0, ...values] };
    }),
  );
  const label = "gain on Frontier as a share of the gain on Asked";
  return estimate({ id: "frontier.share", label, unit: "ratio" }, rows, ([n, gain, m, all]) => {
    return gain! / n! / (all! / m!);
  });
}

if (import.meta.main) await runMain(() => reproduce([experiment], process.argv.slice(2)));
