/** What becomes of each setting in an engine: a table that names every one, so that none is forgotten. */

import type { PromptForm } from "../../eval/prompt.ts";
import type { TrainConfig } from "../config.ts";
import { type DataSettings, worldGroups } from "../data_config.ts";
import { getPath } from "../flags.ts";
import { userErrorOf } from "../user_error.ts";

/** What the rules of an engine decide by. */
export interface Plan {
  readonly config: TrainConfig;
  readonly data: DataSettings;
  /** Folder of the model, absolute. */
  readonly model: string;
  readonly form: PromptForm;
  /** What a tokenizer puts before a prompt that is no chat: the text of its BOS token, or "". */
  readonly opening: string;
  /** Training rows of the export: questions, answers or pairs. */
  readonly rows: number;
  /** Tokens of the longest prompt of any split. */
  readonly longestPrompt: number;
}

export type Value =
  | string
  | number
  | boolean
  | null
  | readonly string[]
  | readonly number[]
  | object;
export type Settings = Readonly<Record<string, Value>>;

/**
 * same: the engine's settings mean what ours does. differs: they are as near as can be, and `text`
 * says what is between them. unused: nothing reads it, and why. refused: the engine has no such
 * thing, and a run without it would be another experiment.
 */
export interface Verdict {
  readonly fate: "same" | "differs" | "unused" | "refused";
  readonly text: string;
  readonly settings: Settings;
}

export const same = (settings: Settings = {}, text = ""): Verdict => ({
  ...{ fate: "same", settings, text },
});
export const differs = (text: string, settings: Settings = {}): Verdict => ({
  ...{ fate: "differs", settings, text },
});
export const unused = (text: string): Verdict => ({ fate: "unused", settings: {}, text });
export const refused = (text: string): Verdict => ({ fate: "refused", settings: {}, text });
/** `differs` where the condition holds, else `same`. */
export const unless = (gap: boolean, text: string, settings: Settings = {}): Verdict =>
  gap ? differs(text, settings) : same(settings);

export type Rule = (plan: Plan) => Verdict;

type WorldGroup = (typeof worldGroups)[number];
type Leaf<T, At extends string = ""> = {
  [K in keyof T & string]-?: NonNullable<T[K]> extends readonly unknown[]
    ? `${At}${K}`
    : NonNullable<T[K]> extends object
      ? Leaf<NonNullable<T[K]>, `${At}${K}.`>
      : `${At}${K}`;
}[keyof T & string];

/** Every setting by its key, but for those of a world, which no engine is given. */
export type Key = Leaf<Omit<TrainConfig, WorldGroup>>;
/** A setting without an entry does not compile; tests/export.test.ts compares the keys as well. */
export type Table = Readonly<Record<Key, Rule>>;

export interface Entry extends Verdict {
  readonly key: string;
  readonly value: unknown;
}

const methodGroups = ["grpo", "ppo", "sft", "rft", "dpo"] as const;

/** What becomes of each setting of a plan, in the order of the table, those of worlds last. */
export function account(table: Table, plan: Plan): readonly Entry[] {
  const { config } = plan;
  const entries = Object.entries(table).map(([key, rule]): Entry => {
    const [group] = key.split(".", 1);
    const other = methodGroups.find((name) => name === group && name !== config.method);
    const verdict =
      other === undefined || !key.includes(".") ? rule(plan) : unused(`of --method ${other}`);
    return { key, value: getPath(config, key.split(".")) ?? null, ...verdict };
  });
  const world = unused("of a world, which a question file takes the place of");
  return [...entries, ...worldGroups.map((key) => ({ key, value: null, ...world }))];
}

/** The engine's settings. Throws a UserError that names every setting which the engine has not. */
export function settingsOf(entries: readonly Entry[], engine: string): Settings {
  const problems = entries
    .filter(({ fate }) => fate === "refused")
    .map(({ key, value, text }) => `${key} ${JSON.stringify(value)}: ${text}`);
  if (problems.length > 0) {
    throw userErrorOf(problems, `Nothing was exported: a run of ${engine} would not be this run.`);
  }
  const settings: Record<string, Value> = {};
  for (const entry of entries) {
    for (const [key, value] of Object.entries(entry.settings)) {
      if (key in settings) throw new RangeError(`${entry.key} sets ${key} a second time`);
      settings[key] = value;
    }
  }
  return settings;
}

/** Optimizer steps of a training step. */
export const updatesOf = ({ config: { train } }: Plan): number => train.epochs * train.miniBatches;
