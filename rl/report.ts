/** The end of a run: one summary object, one table that a person understands, the ledger's rows. */

import { type RepairTable, repairByAccessibility } from "../eval/accessibility.ts";
import { exactPassAtKCurve, passAtKCurve } from "../eval/pass_at_k.ts";
import { bootstrapGain, type McNemar, mcnemar, wilson } from "../eval/statistics.ts";
import {
  bar,
  duration,
  markdownTable,
  type Proportion,
  percent,
  points,
  pValue,
  type Table,
  textTable,
} from "../eval/table.ts";
import type { Task, TaskQuestion } from "../eval/task.ts";
import { seedsOf, type TrainConfig } from "./config.ts";
import { accuracyOf, type BaseMeasurement, type Measurement } from "./evaluate.ts";
import { questionsOf } from "./questions.ts";

export interface Outcome {
  readonly config: TrainConfig;
  readonly task: Task;
  readonly params: number;
  readonly seconds: number;
  readonly stages: Readonly<Record<string, number>>;
  readonly before: BaseMeasurement;
  readonly after: Measurement;
  /** Step whose weights were chosen on the validation questions; 0: the base model itself. */
  readonly chosenStep: number;
  /** The best checkpoint against the base model on validation: what the choice rests on. */
  readonly validation: McNemar;
  readonly validationAccuracy: { readonly base: number; readonly best: number };
  /** Greedy answers of the last step's weights: right or wrong. */
  readonly lastStep: { readonly heldOut: readonly boolean[]; readonly trained: readonly boolean[] };
  /** Step at which each training question was first answered rightly by a rollout. */
  readonly firstSolved: ReadonlyMap<number, number>;
}

const shareOf = (flags: readonly boolean[]): number => successes(flags) / flags.length;
const successes = (flags: readonly boolean[]): number => flags.filter(Boolean).length;
const correct = ({ greedy }: Measurement): boolean[] => greedy.map((answer) => answer.correct);

/** A share of n with its Wilson interval. */
function proportion(flags: readonly boolean[]): Proportion {
  return { value: shareOf(flags), ...wilson(successes(flags), flags.length) };
}

/** Everything that `summary.json` holds. */
export function summarise(outcome: Outcome) {
  const { config, task, before, after } = outcome;
  const questions = questionsOf(task, config, "test");
  const { fixed, broken, p } = mcnemar(correct(before), correct(after));
  const gain = bootstrapGain(
    questions.map(({ entity }, i) => ({
      entity,
      before: Number(before.greedy[i]!.correct),
      after: Number(after.greedy[i]!.correct),
    })),
    { seed: config.seed },
  );
  const repair = repairOf(outcome);
  return {
    preset: config.preset,
    seed: config.seed,
    seeds: seedsOf(config),
    method: config.method,
    reward: config.reward,
    params: outcome.params,
    seconds: outcome.seconds,
    stages: outcome.stages,
    chosenStep: outcome.chosenStep,
    validation: outcome.validation,
    validationAccuracy: outcome.validationAccuracy,
    heldout: {
      n: questions.length,
      before: accuracyOf(before.greedy),
      after: accuracyOf(after.greedy),
      lastStep: shareOf(outcome.lastStep.heldOut),
      intervals: { before: proportion(correct(before)), after: proportion(correct(after)) },
      gain,
      fixed,
      broken,
      p,
      ...(before.stored && { stored: proportion(before.stored) }),
      passAtK: { before: curve(before, config), after: curve(after, config) },
      ...(before.probability &&
        after.probability && {
          exactPassAtK: {
            before: exactCurve(before.probability, config),
            after: exactCurve(after.probability, config),
          },
        }),
      repair: repair.rows.map(({ bin, ...row }) => ({ bin: bin.label, ...row })),
      repairTrend: repair.trend,
      byRelation: byGroup(outcome, ({ relationName }) => relationName || undefined),
      bySet: byGroup(outcome, ({ set }) => set),
      byStatus: byGroup(outcome, ({ status }) => status),
    },
    train: { before: shareOf(before.trained), after: shareOf(after.trained) },
  };
}

const asRecord = (points: readonly { k: number; value: number }[]): Record<string, number> =>
  Object.fromEntries(points.map(({ k, value }) => [String(k), value]));
const curve = ({ sampled }: Measurement, { evaluate }: TrainConfig): Record<string, number> =>
  asRecord(passAtKCurve(sampled, evaluate.passAtKSamples, evaluate.passAtK));
const exactCurve = (p: readonly number[], { evaluate }: TrainConfig): Record<string, number> =>
  asRecord(exactPassAtKCurve(p, evaluate.passAtK));

const repairOf = ({ config, before, after }: Outcome): RepairTable =>
  repairByAccessibility(
    before.greedy.map(({ correct }, i) => ({
      accessibleCount: before.accessible[i]!,
      greedyBefore: correct,
      greedyAfter: after.greedy[i]!.correct,
    })),
    config.evaluate.accessibilitySamples,
  );

interface GroupRow {
  readonly name: string;
  readonly n: number;
  readonly before: number;
  readonly after: number;
}

/** By what the questions say of themselves; one that says nothing is in no group. */
function byGroup(outcome: Outcome, nameOf: (q: TaskQuestion) => string | undefined): GroupRow[] {
  const { task, config, before, after } = outcome;
  const questions = questionsOf(task, config, "test");
  const groups = Map.groupBy(questions.keys(), (i) => nameOf(questions[i]!));
  return [...groups].flatMap(([name, indices]) => {
    if (name === undefined) return [];
    const [b, a] = [before, after].map((m) => accuracyOf(indices.map((i) => m.greedy[i]!)));
    return [{ name, n: indices.length, before: b!, after: a! }];
  });
}

/** One row for each question that was measured or trained on. */
export function* ledgerRows({ config, task, before, after, lastStep, firstSolved }: Outcome) {
  for (const [i, question] of questionsOf(task, config, "test").entries()) {
    yield {
      ...ledgerKey(question),
      accessible: before.accessible[i],
      stored: before.stored?.[i],
      passesBefore: before.sampled[i],
      passesAfter: after.sampled[i],
      probabilityBefore: before.probability?.[i],
      probabilityAfter: after.probability?.[i],
      greedyBefore: before.greedy[i]!.text,
      greedyAfter: after.greedy[i]!.text,
      correctBefore: before.greedy[i]!.correct,
      correctAfter: after.greedy[i]!.correct,
      correctLast: lastStep.heldOut[i],
    };
  }
  for (const [i, question] of questionsOf(task, config, "train").entries()) {
    if (i >= before.trained.length && !firstSolved.has(question.id)) continue;
    yield {
      ...ledgerKey(question),
      accessible: before.trainAccessible[i],
      correctBefore: before.trained[i],
      correctAfter: after.trained[i],
      correctLast: lastStep.trained[i],
      firstSolved: firstSolved.get(question.id) ?? null,
    };
  }
}

const ledgerKey = ({ id, split, set, entity, promptText, gold, status, myth }: TaskQuestion) => ({
  ...{ id, split, set, entity, question: promptText, gold, myth, status },
});

export type Summary = ReturnType<typeof summarise>;

function tables({ heldout, train }: Summary, samples: number): Table[] {
  const { intervals, gain, passAtK, repair, n } = heldout;
  const right = { align: "right" } as const;
  return [
    {
      title: "Recall (greedy answers, before and after)",
      columns: [
        { title: "" },
        { title: "before", ...right },
        { title: "after", ...right },
        { title: "change", ...right },
      ],
      rows: [
        [
          `held-out, ${n} questions`,
          percent(intervals.before),
          percent(intervals.after),
          `${points(heldout.after - heldout.before)} [${signed(gain.low)}, ${signed(gain.high)}]`,
        ],
        [
          "trained on",
          percent(train.before),
          percent(train.after),
          points(train.after - train.before),
        ],
        ...(heldout.bySet.length > 1 ? heldout.bySet : []).map(({ name, n, before, after }) => [
          `  held-out ${name} (${n})`,
          ...[percent(before), percent(after), points(after - before)],
        ]),
        ...heldout.byStatus.map(({ name, n, before, after }) => [
          `  held-out ${name} (${n})`,
          ...[percent(before), percent(after), points(after - before)],
        ]),
        ...heldout.byRelation.map(({ name, n, before, after }) => [
          `  held-out ${name} (${n})`,
          ...[percent(before), percent(after), points(after - before)],
        ]),
      ],
    },
    {
      title: "pass@k: a right answer among k samples (held-out)",
      columns: [
        { title: "k", ...right },
        { title: "before", ...right },
        { title: "after", ...right },
        { title: "█ before, ▓ gained, ░ lost" },
      ],
      rows: Object.keys(passAtK.before).map((k) => {
        const [b, a] = [passAtK.before[k]!, passAtK.after[k]!];
        const shown = bar(Math.min(a, b), 24).trimEnd();
        const rest = bar(Math.max(a, b), 24).trimEnd().length - shown.length;
        return [k, percent(b), percent(a), shown + (a >= b ? "▓" : "░").repeat(Math.max(0, rest))];
      }),
    },
    {
      title: `Repaired after failing before, by right answers among ${samples} samples before`,
      columns: [
        { title: `of ${samples}`, ...right },
        { title: "failed before", ...right },
        { title: "repaired", ...right },
        { title: "" },
      ],
      rows: repair.map(({ bin, n, rate, interval, few }) => [
        bin,
        String(n),
        rate === null ? "" : percent({ value: rate, ...interval }),
        rate === null ? "" : bar(rate, 20).trimEnd() + (few ? " (fewer than 20)" : ""),
      ]),
    },
  ];
}

const signed = (share: number): string => points(share).replace(" points", "");

const booksText =
  "Of the held-out facts, stored ones are stated truthfully by every source, suppressed ones by " +
  "reliable sources only, absent ones by none: these no method can recall, so they show leaks.";

/** What happened, in sentences. */
export function story(
  { heldout, chosenStep, validation, reward, method }: Summary,
  { config, task }: Outcome,
): string[] {
  const asked = (task.unnamed ?? 0) === 0 ? "entities" : "questions";
  const large = String(Math.max(...config.evaluate.passAtK));
  const sampled = percent(heldout.passAtK.before[large] ?? Number.NaN);
  const { before, after, stored, fixed, broken, p, lastStep } = heldout;
  const labels = config.train.labels === "gold" ? "gold answers" : "shuffled labels";
  const learned = method === "sft" ? labels : `reward: ${reward}`;
  const significant = p < 0.01 && after > before;
  return [
    stored
      ? `Before training the model knows more than it says: ${percent(stored.value)} of the held-out ` +
        `facts are stored (right after a reliable source's statement), a right answer stands among ` +
        `${large} samples for ${sampled}, but its first answer is right for ${percent(before)}.`
      : `Before training a right answer stands among ${large} samples for ${sampled} of the ` +
        `held-out questions, and the greedy answer is right for ${percent(before)}.`,
    `${method.toUpperCase()} on other ${asked} (${learned}) moved held-out recall by ` +
      `${points(after - before)}: ${fixed} repaired, ${broken} broken, McNemar ${pValue(p)}.`,
    (chosenStep === 0
      ? "On the validation questions no checkpoint was better than the base model beyond chance " +
        `(best: ${validation.fixed} repaired, ${validation.broken} broken), so it was kept; `
      : `The weights are those of step ${chosenStep}, chosen on the validation questions ` +
        `(${validation.fixed} repaired, ${validation.broken} broken); `) +
      `those of the last step answer ${percent(lastStep)} of the held-out questions.`,
    ...(stored ? [booksText] : []),
    !significant
      ? "No gain that chance could not explain."
      : stored
        ? "The model was made to say what it already stored; none of these facts was trained on."
        : `None of the ${asked} that were tested was trained on.`,
  ];
}

/** A dozen held-out questions before and after: repaired ones first, as many of each as there are. */
export function examples({ config, task, before, after }: Outcome, count = 12): Table {
  const rows = questionsOf(task, config, "test").map((question, i) => {
    const [b, a] = [before.greedy[i]!, after.greedy[i]!];
    const kind = `${Number(b.correct)}${Number(a.correct)}`;
    return { question, b, a, kind };
  });
  const order = ["01", "01", "01", "10", "00", "11"];
  const queues = Map.groupBy(rows, ({ kind }) => kind);
  const chosen: typeof rows = [];
  for (let i = 0; chosen.length < Math.min(count, rows.length); i++) {
    const next = queues.get(order[i % order.length]!)?.shift();
    if (next !== undefined) chosen.push(next);
  }
  const mark = ({ text, correct }: { text: string; correct: boolean }): string =>
    `${correct ? "✓" : "✗"} ${text.replace(/\s+/g, " ") || "(nothing)"}`;
  return {
    title: "Some held-out questions",
    columns: [{ title: "question" }, { title: "before" }, { title: "after" }, { title: "gold" }],
    rows: chosen.map(({ question, b, a }) => [
      question.promptText.replace(/\s+/g, " "),
      mark(b),
      mark(a),
      question.gold,
    ]),
  };
}

/** The closing words of a run: for the terminal and, as Markdown, for report.md. */
export function report(outcome: Outcome, summary: Summary, header: readonly string[]) {
  const all = [...tables(summary, outcome.config.evaluate.accessibilitySamples), examples(outcome)];
  const sentences = story(summary, outcome);
  const name = `${summary.preset}, seed ${summary.seed}`;
  const closing = `${duration(summary.seconds)}, ${summary.params} parameters`;
  return {
    text: `${[...all.map(textTable), sentences.join("\n"), closing].join("\n\n")}\n`,
    markdown: [
      `# ${name}`,
      sentences.join(" "),
      ...all.map(markdownTable),
      "## How",
      `\`\`\`\n${header.join("\n")}\n\`\`\``,
      `${closing}. Every number stands in summary.json, every fact in ledger.jsonl.`,
    ].join("\n\n"),
  };
}
