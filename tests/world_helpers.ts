/** Helpers of the world tests: build worlds, draw documents, compare shares. */
import assert from "node:assert/strict";
import { normalTwoSided } from "../eval/distributions.ts";
import { type WorldSettings, worldConfig } from "../eval/worlds/config.ts";
import { buildWorld, presetConfig, type WorldPreset } from "../eval/worlds/presets.ts";
import type { World, WorldDocument } from "../eval/worlds/world.ts";

export const build = (settings: WorldSettings = {}): World =>
  buildWorld(worldConfig.parse(settings));

export const preset = (name: WorldPreset, changes: WorldSettings = {}): World =>
  buildWorld(presetConfig(name, changes));

export const documents = (world: World, count: number): WorldDocument[] =>
  Array.from({ length: count }, (_, i) => world.document(i));

export const share = <T>(items: readonly T[], holds: (item: T) => boolean): number =>
  items.filter(holds).length / items.length;

/** Within five standard errors of a share p of n. */
export function assertShare(found: number, p: number, n: number, what: string): void {
  const tolerance = 5 * Math.sqrt((p * (1 - p)) / n) + 1e-9;
  assert.ok(Math.abs(found - p) <= tolerance, `${what}: ${found}, expected ${p} ± ${tolerance}`);
}

/** p-value of independence of the two sides of a list of pairs. */
export function independence(pairs: readonly (readonly [boolean, boolean])[]): number {
  const count = (a: boolean, b: boolean) => pairs.filter(([x, y]) => x === a && y === b).length;
  const [tt, tf, ft, ff] = [
    count(true, true),
    count(true, false),
    count(false, true),
    count(false, false),
  ];
  const margins = (tt + tf) * (ft + ff) * (tt + ft) * (tf + ff);
  return normalTwoSided((tt * ff - tf * ft) * Math.sqrt(pairs.length / margins));
}
