/** Held-out questions of several worlds and seeds as one sample: means and gains with intervals. */

import { bootstrapByWorld, gainRatio, type InWorld, summariseWorlds } from "../eval/hierarchy.ts";
import { isPoint, wilson } from "../eval/statistics.ts";
import type { PartialConfig } from "../rl/presets.ts";
import type { Quantity } from "./claim.ts";
import type { Lab } from "./lab.ts";
import type { Point } from "./report/figures.ts";
import type { HeldOut, LabRun } from "./runs.ts";

/** Resamples behind an interval, and the seed that draws them. */
const BOOTSTRAP = { seed: 1, resamples: 4000 };

/** A question of one world, its outcomes averaged over the RL seeds. */
export interface Pooled {
  /** Tells entities of different worlds apart. */
  readonly entity: number;
  /** "2:117", world and fact: what joins the results of two methods. */
  readonly key: string;
  readonly world: number;
  readonly question: HeldOut;
  readonly before: number;
  readonly after: number;
}

export interface PoolOptions {
  /** Which questions count. */
  readonly where?: (question: HeldOut) => boolean;
  readonly before?: (question: HeldOut) => number;
  readonly after?: (question: HeldOut) => number;
}

const WORLD = 1_000_000;
const share = (flag: boolean): number => Number(flag);

/** The questions of all runs. Runs of one world share its questions: their outcomes are averaged. */
export function pool(lab: Lab, settings: readonly PartialConfig[], options: PoolOptions = {}) {
  const runs = settings.map((one) => lab.run(one));
  return poolRuns(runs, options);
}

export function poolRuns(
  runs: readonly LabRun[],
  {
    where = () => true,
    before = ({ correctBefore }) => share(correctBefore),
    after = ({ correctAfter }) => share(correctAfter),
  }: PoolOptions = {},
): Pooled[] {
  const worlds = Map.groupBy(runs, ({ summary }) => summary.seeds.world);
  return [...worlds].flatMap(([world, own]) => {
    const mean = (i: number, of: (question: HeldOut) => number) =>
      own.reduce((sum, { heldOut }) => sum + of(heldOut[i]!), 0) / own.length;
    return own[0]!.heldOut.flatMap((question, i) =>
      where(question)
        ? [
            {
              ...{ entity: WORLD * world + question.entity, key: `${world}:${question.id}` },
              ...{ world, question, before: mean(i, before), after: mean(i, after) },
            },
          ]
        : [],
    );
  });
}

interface Described {
  readonly id: string;
  readonly label: string;
  readonly basis?: string;
  /** Of the interval; default 0.95. */
  readonly level?: number;
}

const entitiesOf = (rows: readonly InWorld[]): number =>
  new Set(rows.map(({ entity }) => entity)).size;
const plural = (n: number, word: string): string => `${n.toLocaleString("en-US")} ${word}`;

/** "2,400 questions of 600 entities, 3 worlds" */
function basisOf(rows: readonly InWorld[]): string {
  const entities = entitiesOf(rows);
  const worlds = new Set(rows.map(({ world }) => world)).size;
  return (
    `${plural(rows.length, "questions")} of ${plural(entities, "entities")}, ` +
    plural(worlds, worlds === 1 ? "world" : "worlds")
  );
}

/** A quantity that can't be told, and why. */
export const unknown = (
  { id, label }: Described,
  unit: Quantity["unit"],
  basis: string,
): Quantity => ({ id, label, unit, estimate: null, low: null, high: null, basis });

/**
 * A statistic of means over worlds with its interval over worlds and entities; null, with the
 * reason, where it is not finite in some resamples or there are no rows.
 */
export function estimate(
  what: Described & { readonly unit: Quantity["unit"] },
  rows: readonly InWorld[],
  statistic: (means: Float64Array) => number,
): Quantity {
  const { id, label, unit, level = 0.95 } = what;
  const scale = unit === "points" || unit === "percent" ? 100 : 1;
  if (rows.length === 0) return unknown(what, unit, "no such question");
  const basis = [basisOf(rows), what.basis].filter(Boolean).join("; ");
  try {
    const found = bootstrapByWorld(rows, statistic, { ...BOOTSTRAP, level });
    // Where all entities agree resampling shows no spread, though others may not: 0 of n were seen.
    const unseen = isPoint(found, scale) ? scale * wilson(0, entitiesOf(rows), level).high : 0;
    const [low, high] = [found.low - unseen, found.high + unseen];
    return { id, label, unit, estimate: found.estimate, low, high, basis };
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return unknown(what, unit, "undefined: not finite in some resamples, a share of what may be 0");
  }
}

/** Mean of after - before, in points of 100. */
export const gainOf = (what: Described, rows: readonly Pooled[]): Quantity =>
  estimate(
    { ...what, unit: "points" },
    rows.map(({ world, entity, before, after }) => ({ world, entity, values: [after - before] })),
    ([mean]) => 100 * mean!,
  );

/** Mean of `of`, a share of 1, over the questions, in percent; the interval ends at 0 and 100. */
export function meanOf(
  what: Described,
  rows: readonly Pooled[],
  of: (row: Pooled) => number,
): Quantity {
  const found = estimate(
    { ...what, unit: "percent" },
    rows.map((row) => ({ world: row.world, entity: row.entity, values: [of(row)] })),
    ([mean]) => 100 * mean!,
  );
  const [low, high] = [found.low, found.high].map((x) => x && Math.min(100, Math.max(0, x)));
  return { ...found, low: low!, high: high! };
}

/** Questions that both have, side by side. */
function joined(a: readonly Pooled[], b: readonly Pooled[]) {
  const known = new Map(b.map((row) => [row.key, row]));
  return a.flatMap((row) => {
    const other = known.get(row.key);
    return other === undefined ? [] : [{ a: row, b: other }];
  });
}

/** Mean of a's after - b's after on the questions that both were asked, in points. */
export const differenceOf = (
  what: Described,
  a: readonly Pooled[],
  b: readonly Pooled[],
): Quantity =>
  estimate(
    { ...what, unit: "points" },
    joined(a, b).map((pair) => ({
      ...{ world: pair.a.world, entity: pair.a.entity },
      values: [pair.a.after - pair.b.after],
    })),
    ([mean]) => 100 * mean!,
  );

/** a's gain as a share of b's; undefined where the interval of b's gain includes 0. */
export function ratioOfGains(
  what: Described,
  a: readonly Pooled[],
  b: readonly Pooled[],
): Quantity {
  const pairs = joined(a, b);
  if (pairs.length === 0) return unknown(what, "ratio", "no such question");
  const rows = pairs.map((pair) => ({
    ...{ world: pair.a.world, entity: pair.a.entity },
    ...{ part: pair.a.after - pair.a.before, whole: pair.b.after - pair.b.before },
  }));
  const { ratio, whole } = gainRatio(rows, { ...BOOTSTRAP, level: what.level ?? 0.95 });
  if (ratio === null) {
    const [low, high] = [whole.low, whole.high].map((x) => (100 * x).toFixed(1));
    const why = `undefined: the gain that it is a share of is in [${low}, ${high}] points`;
    return unknown(what, "ratio", why);
  }
  const all = rows.map(({ world, entity }) => ({ world, entity, values: [] }));
  // As in `estimate`: a part that gained nothing anywhere has a spread that resampling can't show.
  const bound = wilson(0, entitiesOf(all), what.level).high / whole.estimate;
  // Fieller's bounds are square roots: what is rounded by 1e-16 moves them by 1e-8.
  const unseen = isPoint(ratio, 1, 1e-7) ? bound : 0;
  const [low, high] = [ratio.low - unseen, ratio.high + unseen];
  const { id, label } = what;
  return { id, label, unit: "ratio", estimate: ratio.estimate, low, high, basis: basisOf(all) };
}

/** The quantity as a point of a figure; null where it can't be told. */
export const pointOf = ({ estimate, low, high }: Quantity, x: number): Point | null =>
  estimate === null || low === null || high === null ? null : { x, y: estimate, low, high };

/** One value a world (its seeds averaged): "84.1, 83.9, 84.6; SD 0.4". */
export function spreadText(rows: readonly Pooled[], of: (row: Pooled) => number): string {
  const { worlds, sd } = summariseWorlds(
    [...Map.groupBy(rows, ({ world }) => world)].map(([world, own]) => {
      return { world, value: (100 * own.reduce((sum, row) => sum + of(row), 0)) / own.length };
    }),
  );
  const listed = worlds.map(({ mean }) => mean.toFixed(1)).join(", ");
  return sd === null ? listed : `${listed}; SD ${sd.toFixed(1)}`;
}
