/** The report as Markdown, with its figures as files beside it. */

import { markdownTable, type Table } from "../../eval/table.ts";
import type { Line, Report, Study } from "./model.ts";
import { missingText, paragraph, quantityText, shortfalls } from "./model.ts";
import { how, summary, terms } from "./words.ts";

export function markdown(report: Report): string {
  const { paper, lines, studies, command } = report;
  const worlds = [...new Set(studies.flatMap((study) => study.worlds))];
  const notYet = shortfalls(lines);
  return `${[
    `# ${paper.title}: at toy scale`,
    summary(report),
    "Words are explained [at the end](#words).",
    "## What does not show here",
    notYet.length === 0
      ? "Every claim came out in the paper's direction."
      : notYet.map(shortfall).join("\n"),
    ...[missingText(report)].filter(Boolean),
    "## Claim by claim",
    markdownTable(claimTable(lines)),
    ...studies.map(section),
    "## Words",
    terms.map(([word, meaning]) => `- **${word}**: ${meaning}`).join("\n"),
    "## How it was made",
    how,
    `\`\`\`\n${command}\n\`\`\``,
    ...worlds.map((world) => `\`\`\`\n${world}\n\`\`\``),
    `${paper.source}. ${paper.note}`,
  ].join("\n\n")}\n`;
}

export function claimTable(lines: readonly Line[]): Table {
  return {
    columns: ["", "claim", "paper", "here", "same direction?"].map((title) => ({ title })),
    rows: lines.map(({ id, claim, reported, source, ours, verdict }) => [
      ...[id, claim],
      reported === undefined ? "not asked there" : `${reported}${source ? ` (${source})` : ""}`,
      ours.join("; "),
      verdict,
    ]),
  };
}

const shortfall = ({ id, claim, verdict, parts, cautions }: Line): string =>
  [
    `- **${id}, ${verdict}.** ${claim}`,
    ...parts.map(({ asked, outcome, found }) => `  - ${asked}: ${outcome}, ${found}.`),
    ...(cautions.length > 0 ? [`  - Why: ${cautions.join(" ")}`] : []),
  ].join("\n");

function section({ title, question, claims, cautions, finding, runs }: Study): string {
  const { quantities, tables, figures } = finding;
  return [
    `## ${title} (${claims.join(", ")})`,
    `*${question}*`,
    paragraph(finding),
    ...figures.map(({ name, title, caption }) => `![${title}](${name}.svg)\n\n${caption}`),
    ...tables.map(markdownTable),
    ...quantities.map((q) => `- ${q.label}: ${quantityText(q)} (${q.basis})`),
    ...cautions.map((caution) => `> ${caution}`),
    `Runs: ${runs.map((hash) => `\`${hash}\``).join(", ") || "none"}`,
  ].join("\n\n");
}
