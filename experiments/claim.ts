/** What an experiment is, what it finds, and how a finding is judged by rules that were fixed before. */

import { readFileSync } from "node:fs";
import { z } from "zod";
import type { Table } from "../eval/table.ts";
import type { PartialConfig } from "../rl/presets.ts";
import type { Lab } from "./lab.ts";
import type { Figure } from "./report/figures.ts";
import type { Scale } from "./scale.ts";

/** A number that a verdict may rest on, in the unit of `unit`; null: it can't be told, and why. */
export interface Quantity {
  /** What verdicts.json calls it. */
  readonly id: string;
  readonly label: string;
  readonly unit: "points" | "percent" | "ratio" | "number";
  readonly estimate: number | null;
  readonly low: number | null;
  readonly high: number | null;
  /** "2,400 questions, 3 worlds x 3 seeds"; for null: the reason. */
  readonly basis: string;
}

/** What an experiment found: JSON, so that a report can be made again without running anything. */
export interface Finding {
  /** What was seen, in sentences with their numbers. */
  readonly sentences: readonly string[];
  readonly quantities: readonly Quantity[];
  readonly tables: readonly Table[];
  readonly figures: readonly Figure[];
}

export interface Experiment {
  /** The script's name: "c10_repair". */
  readonly id: string;
  readonly title: string;
  readonly question: string;
  /** Claims of paper.json that it speaks to. */
  readonly claims: readonly string[];
  /** The scale's first worlds left it open: it is asked of the others, by the same rules. */
  readonly again?: boolean;
  /** Why it may differ from the paper, or mean less than it seems. */
  readonly cautions: readonly string[];
  /** Settings of every training run that it reads. */
  readonly runs: (scale: Scale) => readonly PartialConfig[];
  readonly analyse: (lab: Lab) => Promise<Finding>;
}

const interval = z.strictObject({
  quantity: z.string(),
  /** The whole interval must lie on this side of, or within, the bounds. */
  is: z.enum(["above", "below", "within"]),
  bounds: z.array(z.number()).min(1).max(2),
  because: z.string(),
});
const rulesSchema = z.record(z.string(), z.array(interval).min(1));
export type Rule = z.output<typeof interval>;

const paperSchema = z.strictObject({
  title: z.string(),
  source: z.string(),
  note: z.string(),
  claims: z.array(
    z.strictObject({
      id: z.string(),
      claim: z.string(),
      /** What the paper reports, in words; null: not available to us. */
      reported: z.string().nullable(),
      place: z.string(),
      /** text: the paper's own; secondary: told elsewhere; missing: not available to us. */
      tag: z.enum(["text", "secondary", "missing"]),
      numbers: z.array(
        z.strictObject({
          what: z.string(),
          value: z.number().nullable(),
          unit: z.string(),
          tag: z.enum(["text", "secondary", "missing"]),
        }),
      ),
    }),
  ),
});
export type Paper = z.output<typeof paperSchema>;

const json = (name: string): unknown =>
  JSON.parse(readFileSync(new URL(name, import.meta.url), "utf8"));
/** The paper's claims and numbers, as data. */
export const readPaper = (): Paper => paperSchema.parse(json("paper.json"));
/** By claim: what must hold for "same direction". Written before any run. */
export const readRules = (): Readonly<Record<string, readonly Rule[]>> =>
  rulesSchema.parse(json("verdicts.json"));

export type Answer = "yes" | "no" | "inconclusive";

/** How one rule comes out: yes or no where the whole interval says so. */
export function outcomeOf(rule: Rule, quantity: Quantity | undefined): Answer {
  if (quantity === undefined) {
    throw new RangeError(`verdicts.json: no experiment gives the quantity "${rule.quantity}"`);
  }
  const { low, high } = quantity;
  if (low === null || high === null) return "inconclusive";
  const [first, second] = rule.bounds as [number, number | undefined];
  if (rule.is === "above") return low > first ? "yes" : high <= first ? "no" : "inconclusive";
  if (rule.is === "below") return high < first ? "yes" : low >= first ? "no" : "inconclusive";
  if (second === undefined) throw new RangeError(`verdicts.json: "within" needs two bounds`);
  if (low > first && high < second) return "yes";
  return high <= first || low >= second ? "no" : "inconclusive";
}

/** Yes where every rule says yes, no where one says no. */
export function verdictOf(rules: readonly Rule[], quantities: readonly Quantity[]): Answer {
  const outcomes = rules.map((rule) =>
    outcomeOf(
      rule,
      quantities.find(({ id }) => id === rule.quantity),
    ),
  );
  if (outcomes.includes("no")) return "no";
  return outcomes.every((outcome) => outcome === "yes") ? "yes" : "inconclusive";
}
