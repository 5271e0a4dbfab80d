/** Results over several worlds and RL seeds: means of means, and bootstraps of whole worlds. */
import { randomStream } from "../tensor/random.ts";
import { normalQuantile, studentQuantile } from "./distributions.ts";
import {
  addRow,
  type BootstrapOptions,
  type Clustered,
  type Interval,
  meanInterval,
  sampleVariance,
  sumsByEntity,
} from "./statistics.ts";

/** One number of one run. `world` names the pre-trained model: world and initialisation seed. */
export interface RunValue {
  readonly world: number | string;
  readonly value: number;
}

export interface WorldMean {
  readonly world: number | string;
  readonly mean: number;
  /** One value for each RL seed, in the order given. */
  readonly values: readonly number[];
}

export interface WorldsSummary {
  /** Mean over worlds of the mean over RL seeds: every world counts alike. */
  readonly mean: number;
  /** Standard deviation of the worlds' means; null for one world. */
  readonly sd: number | null;
  /** Student t interval over the worlds' means; null for one world, which has none. */
  readonly interval: Interval | null;
  /** Pooled standard deviation of RL seeds inside a world; null where no world has two. */
  readonly seedSd: number | null;
  readonly worlds: readonly WorldMean[];
}

/**
 * Runs of several worlds, each with several RL seeds. Seeds of one world share its facts and its
 * pre-trained model, so only worlds are independent: mean ± t(W-1)·s/√W over the W worlds' means.
 * Throws a RangeError without runs.
 */
export function summariseWorlds(runs: readonly RunValue[], level = 0.95): WorldsSummary {
  const worlds = [...Map.groupBy(runs, ({ world }) => world)].map(([world, some]): WorldMean => {
    const values = some.map(({ value }) => value);
    return { world, mean: values.reduce((a, b) => a + b, 0) / values.length, values };
  });
  const means = worlds.map((world) => world.mean);
  const { mean, half } = meanInterval(means, level);
  const repeated = worlds.filter(({ values }) => values.length > 1);
  const freedom = repeated.reduce((sum, { values }) => sum + values.length - 1, 0);
  const squares = repeated.reduce(
    (sum, { values }) => sum + sampleVariance(values) * (values.length - 1),
    0,
  );
  return {
    mean,
    sd: half === null ? null : Math.sqrt(sampleVariance(means)),
    interval: half === null ? null : { low: mean - half, high: mean + half },
    seedSd: freedom === 0 ? null : Math.sqrt(squares / freedom),
    worlds,
  };
}

/** One observation: its world, its entity in that world, and values to be averaged. */
export interface InWorld extends Clustered {
  readonly world: number;
}

export interface WorldsEstimate extends Interval {
  readonly estimate: number;
  readonly worlds: number;
  readonly resamples: number;
}

/**
 * Interval of a statistic of means: the mean over worlds of each value's mean in a world; the rows
 * of RL seeds stand under their entity. Entities are resampled inside the given worlds (variance
 * I), and inside resampled worlds (variance T, which holds I and (W-1)/W of what worlds' own means
 * scatter). So B = (T - I)·W/(W-1) is the variance over worlds, of a mean exactly s²/W, and the
 * interval is estimate ± max(t(W-1)·√B, z·√I): Student's over the worlds, never shorter than what
 * the entities alone leave open. Percentiles would not do: three worlds have ten resamples. One
 * world: ± z·√I, nothing is known of others. Two-stage resampling: Davison & Hinkley 1997,
 * Bootstrap Methods, §3.8. Throws where the statistic is not finite.
 */
export function bootstrapByWorld(
  rows: readonly InWorld[],
  statistic: (means: Float64Array) => number,
  options: BootstrapOptions,
): WorldsEstimate {
  const { means, draws, worlds } = resampleWorlds(rows, options);
  const estimate = statistic(means);
  const [across, inside] = [draws.across.map(statistic), draws.inside.map(statistic)];
  const resamples = inside.length;
  const bad = inside.filter((x, i) => !Number.isFinite(x + across[i]!)).length;
  if (bad > 0 || !Number.isFinite(estimate)) {
    throw new RangeError(
      `bootstrap: the statistic is ${estimate}, and not finite in ${bad} of ${resamples} ` +
        `resamples of ${worlds} worlds; report it as undefined`,
    );
  }
  const squares = halvesSquared(across, inside, worlds, options.level);
  const half = Math.sqrt(Math.max(...squares));
  return { estimate, low: estimate - half, high: estimate + half, worlds, resamples };
}

/** The gain on one question by part of the training data (or one method) and by the whole. */
export interface GainPair {
  /** Default 0: one world. */
  readonly world?: number;
  readonly entity: number;
  readonly part: number;
  readonly whole: number;
}

export interface GainRatio {
  /** Mean gain of the whole, with the interval that decides whether there is a ratio. */
  readonly whole: WorldsEstimate;
  /** part / whole; null: undefined, since the whole's interval includes 0. */
  readonly ratio: WorldsEstimate | null;
}

/**
 * The share of a gain that a part recovers: mean part / mean whole, both from the same resamples.
 * Its interval is Fieller's: all θ for which part - θ·whole has 0 in its interval, as
 * `bootstrapByWorld` makes it. That set is bounded exactly where the whole's own interval excludes
 * 0, else the ratio is undefined. Fieller 1954, J. R. Stat. Soc. B 16, 175-185.
 */
export function gainRatio(pairs: readonly GainPair[], options: BootstrapOptions): GainRatio {
  const rows = pairs.map(({ world = 0, entity, part, whole }) => ({
    world,
    entity,
    values: [part, whole],
  }));
  const { means, draws, worlds } = resampleWorlds(rows, options);
  const [part, whole] = [means[0]!, means[1]!];
  const halves = (statistic: (values: Float64Array) => number) =>
    halvesSquared(draws.across.map(statistic), draws.inside.map(statistic), worlds, options.level);
  const parts = halves(([p]) => p!);
  const wholes = halves(([, w]) => w!);
  const sums = halves(([p, w]) => p! + w!);
  const half = Math.sqrt(Math.max(...wholes));
  const counts = { worlds, resamples: draws.inside.length };
  const ofWhole = { estimate: whole, low: whole - half, high: whole + half, ...counts };
  const found = parts.map((partSquare, i) => {
    const product = (sums[i]! - partSquare - wholes[i]!) / 2;
    return fieller(part, whole, partSquare, wholes[i]!, product);
  });
  if (!found.every((bounds) => bounds !== null)) return { whole: ofWhole, ratio: null };
  const low = Math.min(...found.map((bounds) => bounds.low));
  const high = Math.max(...found.map((bounds) => bounds.high));
  return { whole: ofWhole, ratio: { estimate: part / whole, low, high, ...counts } };
}

/** Roots in θ of (p - θw)² = P - 2θC + θ²W, squares of half intervals; null: unbounded. */
function fieller(p: number, w: number, P: number, W: number, C: number): Interval | null {
  const a = w ** 2 - W;
  if (!(a > 0)) return null;
  const b = p * w - C;
  const root = Math.sqrt(Math.max(0, b ** 2 - a * (p ** 2 - P)));
  return { low: (b - root) / a, high: (b + root) / a };
}

/** Squared halves of the two intervals: over worlds (where there are several), over entities. */
function halvesSquared(
  across: readonly number[],
  inside: readonly number[],
  worlds: number,
  level = 0.95,
): number[] {
  const entities = sampleVariance(inside);
  const share = (1 + level) / 2;
  const ofEntities = normalQuantile(share) ** 2 * entities;
  if (worlds === 1) return [ofEntities];
  const between = ((sampleVariance(across) - entities) * worlds) / (worlds - 1);
  return [studentQuantile(share, worlds - 1) ** 2 * Math.max(0, between), ofEntities];
}

/** Means over worlds of the means in each: of all rows, of every resample of either kind. */
function resampleWorlds(rows: readonly InWorld[], { seed, resamples = 10_000 }: BootstrapOptions) {
  const groups = [...Map.groupBy(rows, ({ world }) => world).values()].map((some) =>
    sumsByEntity(some.map(({ entity, values }) => ({ entity, values: [1, ...values] }))),
  );
  if (groups.length === 0) throw new RangeError("bootstrap: no observations");
  const width = groups[0]!.width;
  if (groups.some((group) => group.width !== width)) {
    throw new RangeError("bootstrap: worlds with different numbers of values");
  }
  type Pick = (i: number, of: number) => number;
  const draw = (pickWorld: Pick, pickEntity: Pick): Float64Array => {
    const means = new Float64Array(width - 1);
    const total = new Float64Array(width);
    for (let i = 0; i < groups.length; i++) {
      const { sums, entities } = groups[pickWorld(i, groups.length)]!;
      total.fill(0);
      for (let j = 0; j < entities; j++) addRow(total, sums, pickEntity(j, entities));
      for (let column = 1; column < width; column++) {
        means[column - 1]! += total[column]! / total[0]! / groups.length;
      }
    }
    return means;
  };
  const stream = randomStream({ seed, purpose: "bootstrap by world" });
  const given: Pick = (i) => i;
  const drawn: Pick = (_, of) => stream.int(of);
  const times = (pickWorld: Pick) =>
    Array.from({ length: resamples }, () => draw(pickWorld, drawn));
  const inside = times(given);
  const across = groups.length === 1 ? inside : times(drawn);
  return { means: draw(given, given), draws: { inside, across }, worlds: groups.length };
}
