/** The runs of a sweep: every combination of values, times seeds, as settings with a name each. */

import type { Field, JsonObject } from "./fields.ts";
import { valueFromText } from "./fields.ts";
import { setPath } from "./flags.ts";
import { configHash } from "./hash.ts";
import { suggestion, UserError, userErrorOf } from "./user_error.ts";

/** One setting and the values that it takes, as text. */
export interface Axis {
  readonly field: Field;
  readonly values: readonly string[];
}

/** One combination; runs that share it differ in their seeds alone. */
export interface Point {
  /** "method=ppo,learningRate=0.0001" */
  readonly name: string;
  readonly values: Readonly<Record<string, string>>;
}

export interface PlannedRun {
  readonly point: Point;
  readonly seed: number;
  /** Folder inside the sweep's. */
  readonly folder: string;
  /** What differs from the sweep's own settings. */
  readonly settings: JsonObject;
}

/**
 * Axes from texts such as "method=grpo,ppo" or "optimizer.learningRate=1e-4,3e-4"; several in one
 * text are parted by a space, and the part behind a key's last dot is enough where it is the only one
 * of that name. Throws a UserError that lists every problem.
 */
export function axesOf(texts: readonly string[], fields: readonly Field[]): Axis[] {
  const problems: string[] = [];
  const axes = texts
    .flatMap((text) => text.split(/\s+/))
    .filter(Boolean)
    .flatMap((text) => {
      const [name, list] = split(text);
      const field = fieldNamed(name, fields);
      if (typeof field === "string") problems.push(field);
      const values = list.split(",").filter(Boolean);
      if (values.length === 0) problems.push(`--grid ${text}: no values; write ${name}=A,B`);
      return typeof field === "string" ? [] : [{ field, values }];
    });
  const keys = axes.map(({ field }) => field.key);
  const twice = keys.find((key, i) => keys.indexOf(key) !== i);
  if (twice !== undefined) problems.push(`--grid names ${twice} twice`);
  if (problems.length > 0) throw userErrorOf(problems);
  return axes;
}

function split(text: string): [name: string, list: string] {
  const at = text.indexOf("=");
  return at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + 1)];
}

function fieldNamed(name: string, fields: readonly Field[]): Field | string {
  const whole = fields.find(({ key }) => key === name);
  if (whole !== undefined) return whole;
  const ends = fields.filter(({ path }) => path.at(-1) === name);
  if (ends.length === 1) return ends[0]!;
  if (ends.length > 1) return `--grid ${name}: write ${ends.map(({ key }) => key).join(" or ")}`;
  const keys = fields.map(({ key }) => key);
  return `--grid ${name}: no such setting${suggestion(name, keys)}`;
}

/** Every combination of the axes' values; without axes the one that changes nothing. */
export function pointsOf(axes: readonly Axis[]): Point[] {
  let all: Record<string, string>[] = [{}];
  for (const { field, values } of axes) {
    all = all.flatMap((point) => values.map((value) => ({ ...point, [field.key]: value })));
  }
  return all.map((values) => {
    const parts = Object.entries(values).map(([key, value]) => `${key.split(".").at(-1)}=${value}`);
    return { values, name: parts.join(",") || "run" };
  });
}

/**
 * The runs of all points and seeds. `seedKey` is what a seed sets: "seed" or "seeds.rl"; a UserError
 * where an axis does so too.
 */
export function plan(
  axes: readonly Axis[],
  seeds: readonly number[],
  seedKey: "seed" | "seeds.rl",
): PlannedRun[] {
  if (axes.some(({ field }) => field.key === seedKey)) {
    throw new UserError(
      `--grid ${seedKey}: --seeds sets it for every run (--vary), over any value of a grid; leave it out`,
    );
  }
  return pointsOf(axes).flatMap((point) =>
    seeds.map((seed) => {
      const settings: JsonObject = {};
      for (const { field } of axes) {
        setPath(settings, field.path, valueFromText(field, point.values[field.key]!));
      }
      setPath(settings, seedKey.split("."), seed);
      // Values may hold what no folder's name can; then a hash tells the runs apart.
      const safe = point.name.replace(/[^\w=,.-]/g, "_").slice(0, 100);
      const unique = safe === point.name ? "" : `-${configHash(settings).slice(0, 6)}`;
      return { point, seed, settings, folder: `${safe}${unique},seed=${seed}` };
    }),
  );
}
