/** C18: if training gives test facts away, what does a de-duplication find, and what gain is left? */

import { precisionRecall, type Share } from "../eval/dedup/deduplicate.ts";
import { type Level, levels } from "../eval/dedup/pair_judge.ts";
import { percent } from "../eval/table.ts";
import { buildWorld } from "../eval/worlds/presets.ts";
import { worldOf } from "../rl/config.ts";
import { runMain } from "../rl/user_error.ts";
import type { Experiment } from "./claim.ts";
import { removedFrom } from "./disjoint.ts";
import type { Lab } from "./lab.ts";
import { reproduce } from "./main.ts";
import { type Compared, grpo, methodRuns, sft } from "./methods.ts";
import { gainOf, type Pooled, pool } from "./pooled.ts";
import { quantityText } from "./report/model.ts";
import { oneSeed, type Scale } from "./scale.ts";

const METHODS = [grpo, sft];
const runsFor = (scale: Scale, method: Compared) => methodRuns(oneSeed(scale), "leak", method);

/** What the pipeline removed in one world, and what it should have. */
interface Removal {
  readonly world: number;
  readonly level: Level;
  /** Ids of removed questions, and of those whose fact training asks about. */
  readonly gone: readonly number[];
  readonly shared: readonly number[];
  readonly questions: number;
  readonly candidates: number;
}

export const experiment: Experiment = {
  id: "c18_dedup",
  title: "De-duplication",
  question: "With 30 % of the test facts given away in training, what gain is left on the others?",
  claims: ["C18"],
  cautions: [
    "Precision and recall are against the world's own books: a test question had to go where " +
      "training asks about the same fact in other words. Removal by entity takes more on purpose.",
    "The pipeline sees texts, answers and names; its similarity is lexical here, not a language " +
      "model's.",
  ],
  runs: (scale) => METHODS.flatMap((method) => runsFor(scale, method)),
  async analyse(lab) {
    const removals = await removalsOf(lab);
    const kept = (level: Level | null, method: Compared): Pooled[] =>
      pool(lab, runsFor(lab.scale, method)).filter(({ world, question }) => {
        const own = removals.find((one) => one.world === world && one.level === level);
        return own === undefined || !own.gone.includes(question.id);
      });
    const leaked = (method: Compared): Pooled[] =>
      pool(lab, runsFor(lab.scale, method)).filter(({ world, question }) =>
        removals.find((one) => one.world === world)!.shared.includes(question.id),
      );
    const gain = (id: string, label: string, rows: readonly Pooled[]) =>
      gainOf({ id, label }, rows);
    const left = gain(
      "dedup.gain",
      "GRPO's gain on what is left after removal by fact",
      kept("fact", grpo),
    );
    const given = METHODS.map((method) =>
      gain(`dedup.leaked.${method.name}`, `${method.name} on given-away facts`, leaked(method)),
    );
    return {
      sentences: [left, ...given].map((q) => `${q.label}: ${quantityText(q)}.`),
      quantities: [left, ...given],
      tables: [
        {
          title: "What each strictness removes, and the gain on what is left",
          columns: [
            { title: "removed" },
            ...["removed of", "precision", "recall", "GRPO's gain", "SFT's gain"].map((title) => {
              return { title, align: "right" as const };
            }),
          ],
          rows: ([null, ...levels] as const).map((level) => {
            const own = removals.filter((one) => one.level === level);
            const sum = (of: (one: Removal) => number) => own.reduce((n, one) => n + of(one), 0);
            const { precision, recall } = precisionRecall(
              new Set(own.flatMap(({ world, gone }) => gone.map((id) => `${world}:${id}`))),
              new Set(own.flatMap(({ world, shared }) => shared.map((id) => `${world}:${id}`))),
            );
            const gains = METHODS.map((method) => quantityText(gain("", "", kept(level, method))));
            if (level === null) return ["nothing", "", "", "", ...gains];
            const removed = `${sum(({ gone }) => gone.length)} / ${sum((one) => one.questions)}`;
            return [`by ${level}`, removed, shareText(precision), shareText(recall), ...gains];
          }),
        },
      ],
      figures: [],
    };
  },
};

const shareText = ({ rate, low, high }: Share): string =>
  rate === null ? "n/a" : percent({ value: rate, low, high });

function removalsOf(lab: Lab): Promise<Removal[]> {
  const runs = runsFor(lab.scale, grpo).map((settings) => lab.run(settings));
  return lab.piece("dedup", { runs: runs.map(({ hash }) => hash) }, async () => {
    const found: Removal[] = [];
    for (const { config, summary } of runs) {
      const world = buildWorld(worldOf(config));
      const [test, train] = [world.questions("test"), world.questions("train")];
      const facts = new Set(train.map(({ factId }) => factId));
      const shared = test.filter(({ factId }) => facts.has(factId)).map(({ id }) => id);
      for (const level of levels) {
        const { gone, counts } = await removedFrom(world, test, train, level);
        const { questions, candidates } = counts;
        const own = { world: summary.seeds.world, level, gone: [...gone], shared };
        found.push({ ...own, questions, candidates });
      }
    }
    return found;
  });
}

if (import.meta.main) await runMain(() => reproduce([experiment], process.argv.slice(2)));
