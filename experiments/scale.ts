/** How large a reproduction is: which seeds, and which settings each kind of world has at that size. */

import type { PartialConfig } from "../rl/presets.ts";

/** The worlds that the experiments ask about; PAPER.md's names in brackets. */
export const worldKinds = [
  ...["voices", "null", "unknowable", "strata", "names"],
  ...["think", "benchmarks", "leak"],
] as const;
export type WorldKind = (typeof worldKinds)[number];

/** A model that the scale experiment trains beside the others. */
export interface Variant {
  readonly name: string;
  readonly settings: PartialConfig;
}

export interface Scale {
  readonly name: "quick" | "full";
  /** Seeds of worlds and of their base models. */
  readonly worlds: readonly number[];
  /** Seeds of question order and rollouts. */
  readonly seeds: readonly number[];
  /** Worlds for the questions that `worlds` left open; one seed in each. */
  readonly others: readonly number[];
  readonly kinds: Readonly<Record<WorldKind, PartialConfig>>;
  readonly variants: readonly Variant[];
  /** The largest model that is tried. */
  readonly larger: Variant;
}

/**
 * Labels that no document supports, as in real question sets: 60 % of the training questions. Asked
 * at each validation, so that the methods' runs give the curves of their training too.
 */
const unknowable = { world: { unknowableShare: 0.6 }, evaluate: { curves: true } };
/** Answers of several words under several names, of which a fact's gold label is any one. */
const names = { answers: 16, answerTokens: 2, aliases: 3, goldForm: "random" } as const;
/** Names take longest to learn. */
const longer = (steps: number): PartialConfig => ({ pretrain: { steps } });

/** World A2: few facts are absent, so that what is never sampled is mostly suppressed. */
const fewAbsent = {
  ...{ entities: 700, reliableShare: 0.3, absentShare: 0.05, qaUnreliableShare: 0.85 },
};
/**
 * Half of the question documents recall a source's statement before they answer, of either kind of
 * source equally often. As often unreliable as answers are, what is recited is the myth, and
 * reciting loses (experiments/LOG.md).
 */
const think = { thinkShare: 0.5, thinkUnreliableShare: 0.5 };
/** Three in ten held-out facts are asked about in training too, in other words. */
const leak = { questionWordings: 3, leakShare: 0.3 };

const variant = (
  name: string,
  model: PartialConfig["model"],
  more: PartialConfig = {},
): Variant => ({
  name,
  settings: { ...(model !== undefined && { model }), ...more },
});
const shape = (hiddenSize: number, layers: number, intermediateSize: number) => ({
  ...{ hiddenSize, layers, heads: 4, keyValueHeads: 4, intermediateSize },
});
const families = [
  variant("Qwen2", { family: "qwen2" }),
  variant("OLMo 2", { family: "olmo2" }),
  variant("mixture of experts", { family: "qwen3moe" }),
];

/** One world, one seed, models of 0.17M parameters: what it is like, in about a quarter of an hour. */
export const quick: Scale = {
  name: "quick",
  ...{ worlds: [1], seeds: [1], others: [1] },
  kinds: {
    voices: { preset: "smoke" },
    null: { preset: "null" },
    unknowable: { preset: "smoke", ...unknowable },
    strata: { preset: "smoke" },
    // A third of the questions that are left validate: a fifth would be too few to choose by.
    names: { preset: "smoke", world: { ...names, validationShare: 0.35 }, ...longer(2400) },
    think: { preset: "smoke", world: think },
    benchmarks: {
      preset: "smoke",
      world: { entities: 320, questionSets: "four" },
      ...longer(1600),
    },
    leak: { preset: "smoke", world: leak },
  },
  variants: [variant("Llama", undefined), ...families],
  larger: variant("Llama, 0.4M", shape(96, 3, 264)),
};

/**
 * Three worlds, three RL seeds in each, models of 0.85M parameters: a night on two cores. What these
 * left open is asked of six worlds that nobody had looked at: an interval over three has the t of
 * two degrees of freedom, 4.3; over six, 2.6.
 */
export const full: Scale = {
  name: "full",
  ...{ worlds: [1, 2, 3], seeds: [1, 2, 3], others: [4, 5, 6, 7, 8, 9] },
  kinds: {
    voices: { preset: "demo" },
    null: { preset: "null-demo" },
    unknowable: { preset: "demo", ...unknowable },
    strata: { preset: "demo", world: fewAbsent },
    names: { preset: "paper-like" },
    think: { preset: "demo", world: think },
    benchmarks: { preset: "benchmarks" },
    leak: { preset: "demo", world: leak },
  },
  variants: [
    variant("Llama, 0.2M", shape(64, 3, 176)),
    variant("Llama, 0.8M", undefined),
    variant("Llama, 3M", shape(256, 4, 704)),
    ...families,
  ],
  // Three times as wide as the preset's, whose rate is 2e-3.
  larger: variant("Llama, 10M", shape(384, 6, 1024), { pretrain: { learningRate: 1e-3 } }),
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

/** The same with one RL seed in each world, where a study's questions must count once, or to save time. */
export const oneSeed = (scale: Scale): Scale => ({ ...scale, seeds: scale.seeds.slice(0, 1) });

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
