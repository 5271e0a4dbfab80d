/** Finished training runs as experiments read them: their facts before and after, by hash. */

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { FactStatus, QuestionSet } from "../eval/worlds/world.ts";
import { baseModelHash, type TrainConfig, trainShape } from "../rl/config.ts";
import { fieldsOf, type JsonObject, textFromValue } from "../rl/fields.ts";
import { getPath, toFlags } from "../rl/flags.ts";
import { configHash } from "../rl/hash.ts";
import { JsonLines, type Row } from "../rl/json_lines.ts";
import { shapingSettings } from "../rl/model_config.ts";
import type { PartialConfig } from "../rl/presets.ts";
import type { summarise } from "../rl/report.ts";
import { resolveSettings } from "../rl/resolve.ts";
import type { PoolRun } from "../rl/run_pool.ts";
import { UserError } from "../rl/user_error.ts";

/** A held-out question of a run. */
export interface HeldOut {
  readonly id: number;
  readonly set: QuestionSet;
  readonly entity: number;
  readonly status: FactStatus;
  readonly question: string;
  readonly gold: string;
  readonly myth: string;
  /** Right answers among the accessibility samples before training. */
  readonly accessible: number;
  /** Right after a reliable source's sentence, before training. */
  readonly stored: boolean;
  /** Right answers among the pass@k samples, which are others than those above. */
  readonly passesBefore: number;
  readonly passesAfter: number;
  readonly probabilityBefore: number;
  readonly probabilityAfter: number;
  readonly greedyBefore: string;
  readonly greedyAfter: string;
  readonly correctBefore: boolean;
  /** Of the weights that validation chose; and of the last step's. */
  readonly correctAfter: boolean;
  readonly correctLast: boolean;
}

/** A training question of a run. */
export interface Trained {
  readonly id: number;
  readonly entity: number;
  readonly status: FactStatus;
  readonly accessible: number;
  readonly correctBefore: boolean;
  readonly correctAfter: boolean;
  readonly correctLast: boolean;
  /** Step at which a rollout first answered it rightly; null: none did. */
  readonly firstSolved: number | null;
}

export interface LabRun {
  /** Its folder's name. */
  readonly hash: string;
  readonly path: string;
  readonly config: TrainConfig;
  readonly summary: ReturnType<typeof summarise>;
  readonly heldOut: readonly HeldOut[];
  readonly trained: readonly Trained[];
  readonly metrics: readonly Row[];
}

interface Resolved {
  readonly config: TrainConfig;
  readonly flags: readonly string[];
}
const known = new Map<string, Resolved>();

/** Resolved settings, and the flags that give them. */
export function resolved(settings: PartialConfig): Resolved {
  const key = configHash(settings);
  const before = known.get(key);
  if (before !== undefined) return before;
  const config = resolveSettings(settings as JsonObject);
  const made = { config, flags: toFlags(trainShape, settings) };
  known.set(key, made);
  return made;
}

/** What decides a run's results: how fast it is computed does not, nor what its family ignores. */
export function runHash({ wide: _, track: __, ...config }: TrainConfig): string {
  return configHash({ ...config, model: shapingSettings(config.model) }).slice(0, 12);
}

/** The run as the pool takes it. `speed` are flags that change no result. */
export function poolRun(out: string, settings: PartialConfig, speed: readonly string[]): PoolRun {
  const { config, flags } = resolved(settings);
  const hash = runHash(config);
  return {
    name: `${hash} ${nameOf(settings)}`,
    path: join(out, "runs", hash),
    flags: [...flags, ...speed],
    base: baseModelHash(config),
  };
}

/** "smoke method=ppo world 1 seed 2": what tells a run from its neighbours in a log. */
export function nameOf(settings: PartialConfig): string {
  const { preset = "smoke", seeds } = settings;
  const parts = fieldsOf(trainShape).flatMap((field) => {
    const value = getPath(settings, field.path);
    if (value === undefined || field.key === "preset" || field.path[0] === "seeds") return [];
    return [`${field.path.at(-1)}=${textFromValue(field, value)}`];
  });
  return [preset, ...parts, `world ${seeds?.world ?? 1} seed ${seeds?.rl ?? 1}`].join(" ");
}

/** Reads a finished run; throws a UserError where it has not ended. */
export function readRun(out: string, settings: PartialConfig): LabRun {
  const { config } = resolved(settings);
  const hash = runHash(config);
  const path = join(out, "runs", hash);
  const summary = join(path, "summary.json");
  if (!existsSync(summary)) throw new UserError(`${path} has not ended: ${nameOf(settings)}`);
  const rows = (name: string) => new JsonLines(join(path, name)).rows();
  const ledger = rows("ledger.jsonl");
  const of = <T>(split: string) => ledger.filter((row) => row.split === split) as unknown as T[];
  return {
    ...{ hash, path, config, metrics: rows("metrics.jsonl") },
    summary: JSON.parse(readFileSync(summary, "utf8")),
    heldOut: of<HeldOut>("test"),
    trained: of<Trained>("train"),
  };
}
