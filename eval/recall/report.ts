/** What a measurement says to a person: tables for the terminal, the same as Markdown. */

import { bar, markdownTable, percent, pValue, type Table, textTable } from "../table.ts";
import type { JudgedAnswers } from "./judged.ts";
import type { RecallSummary, Share } from "./summary.ts";

const right = { align: "right" } as const;

/** Groups and questions that are shown; all of them stand in the files. */
const SHOWN = 12;

export function recallTables(summary: RecallSummary, all: readonly JudgedAnswers[]): Table[] {
  return [
    accuracyTable(summary),
    ...(summary.samples > 0 ? [passTable(summary), binTable(summary)] : []),
    ...(summary.groups.length > 0 ? [groupTable(summary)] : []),
    exampleTable(all),
  ];
}

function accuracyTable({
  greedy,
  thought,
  vote,
  passAtK,
  samples,
  questions,
}: RecallSummary): Table {
  const most = Object.keys(vote).at(-1);
  const deepest = Object.keys(passAtK).at(-1);
  const row = (name: string, share: Share | undefined) =>
    share === undefined ? [] : [[name, percent(share), bar(share.value, 24).trimEnd()]];
  return {
    title: `Recall of ${questions} questions, ${samples} samples each`,
    columns: [{ title: "" }, { title: "right", ...right }, { title: "" }],
    rows: [
      ...row("greedy answer", greedy),
      ...row("greedy, after thinking", thought ?? undefined),
      ...row("one sample", passAtK["1"]),
      ...(most === undefined ? [] : row(`majority of ${most} samples`, vote[most])),
      ...(deepest === undefined ? [] : row(`any of ${deepest} samples`, passAtK[deepest])),
    ],
  };
}

function passTable({ passAtK, vote }: RecallSummary): Table {
  const votes = Object.keys(vote).length > 0;
  return {
    title: "More samples: a right answer among k of them, and a majority of k",
    columns: [
      { title: "k", ...right },
      { title: "pass@k", ...right },
      ...(votes ? [{ title: "majority of k", ...right }] : []),
      { title: "pass@k" },
    ],
    rows: Object.entries(passAtK).map(([k, share]) => [
      ...[k, percent(share)],
      ...(votes ? [vote[k] === undefined ? "" : percent(vote[k])] : []),
      bar(share.value, 24).trimEnd(),
    ]),
  };
}

function binTable({ bins, samples }: RecallSummary): Table {
  return {
    title: `Accessibility: questions by right answers among ${samples} samples`,
    columns: [
      { title: `of ${samples}`, ...right },
      { title: "questions", ...right },
      { title: "share", ...right },
      { title: "" },
      { title: "greedy right", ...right },
    ],
    rows: bins.map(({ bin, n, share, greedy, interval }) => [
      ...[bin, String(n), percent(share), bar(share, 20).trimEnd()],
      greedy === null ? "" : percent({ value: greedy, ...interval }),
    ]),
  };
}

function groupTable({ groups }: RecallSummary): Table {
  const more = groups.length - SHOWN;
  return {
    title: `Greedy answers by group${more > 0 ? ` (${SHOWN} of ${groups.length}; all in summary.json)` : ""}`,
    columns: [{ title: "" }, { title: "questions", ...right }, { title: "right", ...right }],
    rows: groups.slice(0, SHOWN).map(({ name, greedy }) => [name, `${greedy.n}`, percent(greedy)]),
  };
}

/** Questions of every kind: those that samples know and the greedy answer doesn't come first. */
function exampleTable(all: readonly JudgedAnswers[]): Table {
  const kinds = [
    all.filter(({ greedy, right }) => greedy.correct === false && right > 0),
    all.filter(({ greedy, right }) => greedy.correct === false && right === 0),
    all.filter(({ greedy }) => greedy.correct === true),
    all.filter(({ greedy }) => greedy.correct === null),
  ];
  const chosen: JudgedAnswers[] = [];
  for (let i = 0; chosen.length < Math.min(SHOWN, all.length); i++) {
    const next = kinds[i % kinds.length]!.shift();
    if (next !== undefined) chosen.push(next);
  }
  const mark = (correct: boolean | null) => (correct === null ? "?" : correct ? "✓" : "✗");
  return {
    title: "Some questions",
    columns: [
      { title: "question" },
      { title: "greedy answer" },
      { title: "samples right", ...right },
      { title: "gold" },
    ],
    rows: chosen.map(({ data, greedy, right, judged }) => [
      short(data.question),
      `${mark(greedy.correct)} ${short(greedy.text) || "(nothing)"}`,
      judged === 0 ? "" : `${right} of ${judged}`,
      short(data.answers[0]!),
    ]),
  };
}

/** On one line of a terminal. */
const short = (text: string): string => {
  const line = text.replace(/\s+/g, " ").trim();
  return line.length > 60 ? `${line.slice(0, 59)}…` : line;
};

/** What stands out, in sentences. */
export function recallStory(summary: RecallSummary): string[] {
  const { greedy, thought, passAtK, vote, cut, unjudged, samples } = summary;
  const votes = Object.keys(vote).length > 0;
  const deepest = Object.keys(passAtK).at(-1);
  const hidden = deepest === undefined ? 0 : passAtK[deepest]!.value - greedy.value;
  return [
    ...(deepest !== undefined && deepest !== "1"
      ? [
          `The greedy answer is right for ${percent(greedy.value)}; a right one stands among ${deepest} ` +
            `samples for ${percent(passAtK[deepest]!.value)}` +
            (hidden > 0 ? ": the model says less than it knows." : "."),
        ]
      : []),
    ...(thought === null
      ? []
      : [
          `Thinking first mends ${thought.against.fixed} answers and breaks ${thought.against.broken} ` +
            `(McNemar ${pValue(thought.against.p)}).`,
        ]),
    ...(cut !== null && cut > 0.1 && votes
      ? [
          `${percent(cut)} of the samples were cut off: they cast no vote; --max-new-tokens is short.`,
        ]
      : []),
    ...(unjudged > 0 ? [`${unjudged} answers have no verdict and are in no figure.`] : []),
    ...(samples === 0
      ? ["Without samples there is nothing to say of what the model could say."]
      : []),
  ];
}

export function recallReport(
  summary: RecallSummary,
  all: readonly JudgedAnswers[],
  header: readonly string[],
): { text: string; markdown: string } {
  const tables = recallTables(summary, all);
  const story = recallStory(summary);
  return {
    text: [...tables.map(textTable), story.join("\n")].join("\n\n"),
    markdown: [
      "# Recall",
      story.join(" "),
      ...tables.map(markdownTable),
      "## How",
      `\`\`\`\n${header.join("\n")}\n\`\`\``,
      "Every figure stands in summary.json, every question in questions.jsonl.\n",
    ].join("\n\n"),
  };
}
