/** What an experiment is given: finished runs by their settings, and pieces that are computed once. */

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { makeFolder, writeJson } from "../rl/files.ts";
import { configHash } from "../rl/hash.ts";
import type { PartialConfig } from "../rl/presets.ts";
import { type LabRun, readRun } from "./runs.ts";
import type { Scale } from "./scale.ts";

export interface Lab {
  readonly scale: Scale;
  /** The finished run of these settings. */
  run(settings: PartialConfig): LabRun;
  /**
   * What `compute` gives, from the folder of pieces where it was computed before: for measurements
   * of a run's models that the run itself does not make. `key` must hold all that decides it.
   */
  piece<T>(name: string, key: object, compute: () => Promise<T>): Promise<T>;
}

export function openLab(out: string, scale: Scale): Lab {
  const known = new Map<string, LabRun>();
  const pieces = join(out, "pieces");
  return {
    scale,
    run(settings) {
      const key = configHash(settings);
      const found = known.get(key) ?? readRun(out, settings);
      known.set(key, found);
      return found;
    },
    async piece<T>(name: string, key: object, compute: () => Promise<T>): Promise<T> {
      const path = join(pieces, `${name}-${configHash(key).slice(0, 12)}.json`);
      if (existsSync(path)) return JSON.parse(readFileSync(path, "utf8")) as T;
      makeFolder(pieces);
      const value = await compute();
      writeJson(path, value);
      return value;
    },
  };
}
