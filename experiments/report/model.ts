/** A report as data: every claim with the paper's words, our quantities and the verdict. */

import { readFileSync } from "node:fs";
import {
  type Answer,
  type Finding,
  outcomeOf,
  type Quantity,
  type Rule,
  readPaper,
  readRules,
  verdictOf,
} from "../claim.ts";
import type { Scale } from "../scale.ts";

export interface Study {
  readonly id: string;
  readonly title: string;
  readonly question: string;
  readonly claims: readonly string[];
  /** It was asked of other worlds than the first ones, which had left it open. */
  readonly again: boolean;
  /** Why it may differ from the paper, or mean less than it seems. */
  readonly cautions: readonly string[];
  readonly finding: Finding;
  /** Hashes of the runs that it rests on. */
  readonly runs: readonly string[];
  /** Parameters of their worlds and models, as text. */
  readonly worlds: readonly string[];
}

/** One row of the first table. */
export interface Line {
  readonly id: string;
  readonly claim: string;
  /** The paper's words, or that they were not available; undefined: the paper does not ask it. */
  readonly reported: string | undefined;
  readonly source: string;
  /** "gain: +41.2 points [38.9, 43.6] (asked: above 0)", one for each rule. */
  readonly ours: readonly string[];
  readonly basis: string;
  /** One for each rule: what it asks, how that came out, "+41.2 points [38.9, 43.6]". */
  readonly parts: readonly { asked: string; outcome: Answer; found: string }[];
  readonly verdict: Answer;
  readonly cautions: readonly string[];
  /** The study that it rests on. */
  readonly study: string;
}

export interface Report {
  readonly scale: Scale["name"];
  readonly command: string;
  readonly paper: { readonly title: string; readonly source: string; readonly note: string };
  readonly lines: readonly Line[];
  readonly studies: readonly Study[];
  /** Experiments whose runs have not been made. */
  readonly missing: readonly Pick<Study, "id" | "title" | "claims">[];
}

const digits = (unit: Quantity["unit"]) => (unit === "ratio" || unit === "number" ? 2 : 1);

/** "+41.2 points [38.9, 43.6]" */
export function quantityText({ estimate, low, high, unit, basis }: Quantity): string {
  if (estimate === null) return basis;
  const text = (x: number) => x.toFixed(digits(unit)).replace(/^-(0(\.0+)?)$/, "$1");
  const sign = unit === "points" && estimate > 0 ? "+" : "";
  const name = { points: " points", percent: " %", ratio: "", number: "" }[unit];
  const range = low === null || high === null ? "" : ` [${text(low)}, ${text(high)}]`;
  return `${sign}${text(estimate)}${name}${range}`;
}

const sourceText = { text: "the paper's text", secondary: "told elsewhere", missing: "" };

interface Ours {
  readonly id: string;
  readonly claim: string;
}

/** Every claim that a study speaks to, in the paper's order, ours behind them. */
export function linesOf(studies: readonly Study[]): Line[] {
  const [paper, rules] = [readPaper(), readRules()];
  const ours = JSON.parse(readFileSync(new URL("../ours.json", import.meta.url), "utf8")) as Ours[];
  const quantities = studies.flatMap(({ finding }) => finding.quantities);
  const claims = [
    ...paper.claims.map(({ id, claim, reported, place, tag }) => ({
      ...{ id, claim, reported: reported ?? "not available to us" },
      source: [place, sourceText[tag]].filter(Boolean).join(", "),
    })),
    ...ours.map(({ id, claim }) => ({ id, claim, reported: undefined, source: "" })),
  ];
  return claims.flatMap((one) => {
    const study = studies.find((each) => each.claims.includes(one.id));
    if (study === undefined) return [];
    const own = rules[one.id];
    if (own === undefined) throw new RangeError(`verdicts.json has no rule for ${one.id}`);
    const told = own.map(({ quantity }) => quantities.find(({ id }) => id === quantity));
    return [
      {
        ...one,
        ours: told.map((q, i) =>
          q === undefined ? "" : `${q.label}: ${quantityText(q)} (asked: ${boundsText(own[i]!)})`,
        ),
        basis: [...new Set(told.map((q) => q?.basis ?? ""))].join("; "),
        parts: own.map((rule, i) => ({
          ...{ asked: rule.because, outcome: outcomeOf(rule, told[i]) },
          found: told[i] === undefined ? "" : quantityText(told[i]),
        })),
        verdict: verdictOf(own, quantities),
        cautions: study.cautions,
        study: study.id,
      },
    ];
  });
}

/** What was seen, as one paragraph; sentences may begin with a label. */
export const paragraph = ({ sentences }: Finding): string =>
  sentences
    .map((text) => (text.startsWith("pass@") ? text : text[0]!.toUpperCase() + text.slice(1)))
    .join(" ");

/** "above 0", "within -3 to 3" */
const boundsText = ({ is, bounds }: Rule): string => `${is} ${bounds.join(" to ")}`;

/** What did not come out as in the paper; cautions once for each study. */
export const shortfalls = (lines: readonly Line[]): Line[] =>
  lines
    .filter(({ verdict }) => verdict !== "yes")
    .map((line, i, all) => {
      const isFirst = all.findIndex(({ study }) => study === line.study) === i;
      return isFirst ? line : { ...line, cautions: [] };
    });

/** "Not run yet: Where the gain comes from (C13, C14, C15)."; empty where all are there. */
export const missingText = ({ missing }: Report): string =>
  missing.length === 0
    ? ""
    : `Not run yet at this scale: ${missing.map(({ title, claims }) => `${title} (${claims.join(", ")})`).join("; ")}.`;
