/** How large a reproduction is: which seeds, and which settings each kind of world has at that size. */

import { trainShape } from "../rl/config.ts";
import type { PartialConfig } from "../rl/presets.ts";

/** The worlds that the experiments ask about; PAPER.md's names in brackets. */
export const worldKinds = ["voices", "null", "unknowable", "strata", "names"] as const;
export type WorldKind = (typeof worldKinds)[number];

export interface Scale {
  readonly name: "quick" | "full";
  /** Seeds of worlds and of their base models. */
  readonly worlds: readonly number[];
  /** Seeds of question order and rollouts. */
  readonly seeds: readonly number[];
  readonly kinds: Readonly<Record<WorldKind, PartialConfig>>;
}

/** Labels that no document supports, as in real question sets: 60 % of the training questions. */
const unknowable = { unknowableShare: 0.6 };
/** Answers of several words under several names, of which a fact's gold label is any one. */
const names = { answerTokens: 2, aliases: 3, goldForm: "random" } as const;

/** One world, one seed, models of 0.17M parameters: what it is like, in about a quarter of an hour. */
export const quick: Scale = {
  name: "quick",
  worlds: [1],
  seeds: [1],
  kinds: {
    voices: { preset: "smoke" },
    null: { preset: "null" },
    unknowable: { preset: "smoke", world: unknowable },
    strata: { preset: "smoke" },
    names: { preset: "smoke", world: names },
  },
};

/** Three worlds, three RL seeds in each, models of 0.85M parameters: a night on two cores. */
export const full: Scale = {
  name: "full",
  worlds: [1, 2, 3],
  seeds: [1, 2, 3],
  kinds: {
    voices: { preset: "demo" },
    null: { preset: "null-demo" },
    unknowable: { preset: "demo", world: unknowable },
    strata: { preset: "demo" },
    names: { preset: "demo", world: names },
  },
};

/** Part by part: objects are joined, anything else is replaced. */
export function merged(...parts: readonly PartialConfig[]): PartialConfig {
  const join = (a: unknown, b: unknown): unknown => {
    const isObject = (x: unknown): x is Record<string, unknown> =>
      typeof x === "object" && x !== null && !Array.isArray(x);
    if (!isObject(a) || !isObject(b)) return b;
    const keys = [...new Set([...Object.keys(a), ...Object.keys(b)])];
    return Object.fromEntries(
      keys.map((key) => [key, key in b ? (key in a ? join(a[key], b[key]) : b[key]) : a[key]]),
    );
  };
  return parts.reduce((all, part) => join(all, part) as PartialConfig, {});
}

/** A kind of world with changes, once for each of the scale's worlds and seeds. */
export function runsOf(
  { kinds, worlds, seeds }: Scale,
  kind: WorldKind,
  ...changes: readonly PartialConfig[]
): PartialConfig[] {
  return worlds.flatMap((world) =>
    seeds.map((rl) => merged(kinds[kind], ...changes, { seeds: { world, pretrain: world, rl } })),
  );
}

/** Refuses at start what the schema would refuse in the middle of a night. */
export const isSetting = (settings: PartialConfig): boolean =>
  trainShape.partial().safeParse(settings).success;
