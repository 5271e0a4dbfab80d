/** The report as one page that needs no network: figures as SVG inside it, and it prints well. */

import type { Table } from "../../eval/table.ts";
import { draw } from "./figures.ts";
import { claimTable } from "./markdown.ts";
import {
  type Line,
  missingText,
  paragraph,
  quantityText,
  type Report,
  type Study,
  shortfalls,
} from "./model.ts";
import { how, summary, terms } from "./words.ts";

const STYLE = `
:root { color-scheme: light; }
body { font: 16px/1.55 system-ui, sans-serif; color: #24292f; background: #fff; margin: 0 auto;
  max-width: 60rem; padding: 1.5rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.25; } h2 { margin-top: 2.6rem; font-size: 1.3rem; }
h2 small { font-weight: 400; color: #57606a; font-size: 0.95rem; }
nav { columns: 2; font-size: 0.93rem; margin: 1rem 0 0; } nav a { display: block; }
a { color: #0550ae; text-decoration: none; } a:hover { text-decoration: underline; }
.question { font-style: italic; color: #57606a; margin-top: -0.6rem; }
table { border-collapse: collapse; margin: 1.1rem 0; font-size: 0.9rem; width: 100%; }
caption { text-align: left; font-weight: 600; padding-bottom: 0.4rem; }
th { text-align: left; border-bottom: 2px solid #d0d7de; padding: 0.35rem 0.6rem; }
td { border-bottom: 1px solid #d8dee4; padding: 0.35rem 0.6rem; vertical-align: top; }
td.right, th.right { text-align: right; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; }
.short > li { margin-bottom: 1.1rem; } .short ul { list-style: none; padding-left: 0.4rem; margin: 0.3rem 0; }
.short p { color: #57606a; font-size: 0.88rem; margin: 0.2rem 0 0; }
.claims td:nth-child(2) { width: 26%; } .claims td:nth-child(3) { width: 26%; } .claims td:nth-child(4) { width: 36%; }
figure { margin: 1.4rem 0; } figure svg { width: 100%; height: auto; border: 1px solid #d8dee4; }
figcaption { color: #57606a; font-size: 0.9rem; margin-top: 0.35rem; }
.answer { display: inline-block; padding: 0.05rem 0.55rem; border-radius: 1rem; font-size: 0.85rem;
  font-weight: 600; white-space: nowrap; }
.yes { background: #dafbe1; color: #116329; } .no { background: #ffebe9; color: #a40e26; }
.inconclusive { background: #eaeef2; color: #424a53; }
.caution { border-left: 4px solid #d4a72c; background: #fff8c5; padding: 0.5rem 0.9rem; margin: 0.8rem 0; }
details { margin: 0.8rem 0; font-size: 0.9rem; } summary { cursor: pointer; color: #0550ae; }
pre { background: #f6f8fa; padding: 0.8rem; overflow-x: auto; font-size: 0.82rem; white-space: pre-wrap; }
code { font-size: 0.86em; } dt { font-weight: 600; margin-top: 0.6rem; } dd { margin: 0 0 0 1.2rem; }
@media print { body { font-size: 10.5pt; max-width: none; padding: 0; } details { display: block; }
  h2 { break-after: avoid; } figure, tr, .caution { break-inside: avoid; } a { color: inherit; } }
`;

export const escaped = (text: string): string =>
  text.replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]!);

export async function html(report: Report): Promise<string> {
  const { paper, lines, studies, command } = report;
  const worlds = [...new Set(studies.flatMap((study) => study.worlds))];
  const sections: string[] = [];
  for (const study of studies) sections.push(await section(study, lines));
  const short = shortfalls(lines);
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>${escaped(paper.title)}: at toy scale</title><style>${STYLE}</style></head><body>
<h1>${escaped(paper.title)}: at toy scale</h1>
${paragraphs(summary(report))}
<details><summary>Words that it uses</summary><dl>${terms.map(([word, meaning]) => `<dt>${escaped(word)}</dt><dd>${escaped(meaning)}</dd>`).join("")}</dl></details>
<h2>What does not show here</h2>
${short.length === 0 ? "<p>Every claim came out in the paper's direction.</p>" : `<ul class="short">${short.map(shortfall).join("\n")}</ul>`}
${paragraphs(missingText(report))}
<h2>Claim by claim</h2>
<div class="wide">${claims(lines)}</div>
<nav>${studies.map(({ id, title }) => `<a href="#${id}">${escaped(title)}</a>`).join("")}</nav>
${sections.join("\n")}
<h2>How it was made</h2><p>${escaped(how)}</p><pre>${escaped(command)}</pre>
<details><summary>Parameters of the worlds and models</summary>${worlds.map((world) => `<pre>${escaped(world)}</pre>`).join("")}</details>
<p><small>${escaped(`${paper.source}. ${paper.note}`)}</small></p>
</body></html>
`;
}

const paragraphs = (text: string): string =>
  text
    .split("\n\n")
    .filter(Boolean)
    .map((part) => `<p>${escaped(part)}</p>`)
    .join("\n");

const badge = (verdict: string): string => `<span class="answer ${verdict}">${verdict}</span>`;

function shortfall({ id, claim, verdict, parts, cautions, study }: Line): string {
  const asked = parts.map(
    ({ asked, outcome, found }) => `<li>${badge(outcome)} ${escaped(`${asked}: ${found}`)}</li>`,
  );
  const why = cautions.length > 0 ? `<p>${escaped(cautions.join(" "))}</p>` : "";
  const link = `<a href="#${study}"><b>${id}</b></a>`;
  return `<li>${badge(verdict)} ${link} <b>${escaped(claim)}</b><ul>${asked.join("")}</ul>${why}</li>`;
}

function claims(lines: readonly Line[]): string {
  const { columns, rows } = claimTable(lines);
  const body = rows.map((cells, i) => {
    const { study, verdict } = lines[i]!;
    const inner = cells.map((cell, j) => {
      if (j === 0) return `<td><a href="#${study}">${escaped(cell)}</a></td>`;
      if (j === cells.length - 1) return `<td>${badge(verdict)}</td>`;
      return `<td>${cell.split("; ").map(escaped).join("<br>")}</td>`;
    });
    return `<tr>${inner.join("")}</tr>`;
  });
  const head = columns.map(({ title }) => `<th>${escaped(title)}</th>`).join("");
  return `<table class="claims"><thead><tr>${head}</tr></thead><tbody>${body.join("\n")}</tbody></table>`;
}

function table({ title, columns, rows }: Table): string {
  const side = (i: number) => (columns[i]!.align === "right" ? ' class="right"' : "");
  const head = columns.map((column, i) => `<th${side(i)}>${escaped(column.title)}</th>`).join("");
  const body = rows
    .map(
      (row) => `<tr>${row.map((cell, i) => `<td${side(i)}>${escaped(cell)}</td>`).join("")}</tr>`,
    )
    .join("\n");
  const caption = title ? `<caption>${escaped(title)}</caption>` : "";
  return `<div class="wide"><table>${caption}<thead><tr>${head}</tr></thead><tbody>${body}</tbody></table></div>`;
}

async function section(
  { id, title, question, claims, cautions, finding, runs }: Study,
  lines: readonly Line[],
) {
  const { quantities, tables, figures } = finding;
  const pictures: string[] = [];
  for (const figure of figures) {
    pictures.push(
      `<figure>${await draw(figure)}<figcaption>${escaped(figure.caption)}</figcaption></figure>`,
    );
  }
  const verdicts = lines
    .filter((line) => line.study === id)
    .map((line) => `${line.id} ${badge(line.verdict)}`)
    .join(" ");
  return `<section id="${id}"><h2>${escaped(title)} <small>${verdicts || claims.join(", ")}</small></h2>
<p class="question">${escaped(question)}</p>
<p>${escaped(paragraph(finding))}</p>
${pictures.join("\n")}
${tables.map(table).join("\n")}
${cautions.map((text) => `<p class="caution">${escaped(text)}</p>`).join("\n")}
<details><summary>Every quantity, and the runs behind them</summary><ul>${quantities
    .map((q) => `<li>${escaped(`${q.label}: ${quantityText(q)} (${q.basis})`)}</li>`)
    .join(
      "",
    )}</ul><p>Runs: ${runs.map((hash) => `<code>${hash}</code>`).join(", ") || "none"}</p></details></section>`;
}
