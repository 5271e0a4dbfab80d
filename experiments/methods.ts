/** The methods that are compared, as settings; and their rates, each tuned with the same budget. */

import type { PartialConfig } from "../rl/presets.ts";
import { merged, oneSeed, runsOf, type Scale, type WorldKind } from "./scale.ts";

export interface Compared {
  readonly name: string;
  readonly settings: PartialConfig;
  /** Only in the full reproduction, and there where the claim is tested. */
  readonly variant?: boolean;
  /** A control, where the effect is largest. */
  readonly control?: boolean;
  /** One RL seed in each world is enough: no claim rests on it. */
  readonly once?: boolean;
}

export const grpo: Compared = { name: "GRPO", settings: { method: "grpo" } };
export const ppo: Compared = { name: "PPO", settings: { method: "ppo" } };
export const rft: Compared = { name: "RFT", settings: { method: "rft" } };
export const sft: Compared = { name: "SFT", settings: { method: "sft" } };
export const dpo: Compared = { name: "DPO", settings: { method: "dpo" } };
export const random: Compared = {
  name: "random reward",
  settings: { method: "grpo", reward: "random" },
  once: true,
  control: true,
};

export const compared: readonly Compared[] = [
  grpo,
  { name: "Dr. GRPO", settings: { recipe: "dr-grpo" }, variant: true, once: true },
  { name: "DAPO", settings: { recipe: "dapo" }, variant: true, once: true },
  ...[ppo, rft, sft, dpo, random],
];

export const methodsOf = ({ name }: Scale, kind: WorldKind): readonly Compared[] =>
  compared.filter(
    ({ variant, control }) =>
      (!variant || (name === "full" && kind === "unknowable")) && !(control && kind === "names"),
  );

/**
 * Rates where they differ from the preset's 5e-5, by validation on a world that no result uses
 * (seed 101, four rates a method; experiments/LOG.md).
 */
const tuned: Partial<Record<WorldKind, Readonly<Record<string, number>>>> = {
  unknowable: { DPO: 2e-5 },
};

/** Runs of a method in a kind of world. Rates were tuned at the full scale's sizes. */
export function methodRuns(
  scale: Scale,
  kind: WorldKind,
  { name, settings, once = false }: Compared,
  ...changes: readonly PartialConfig[]
): PartialConfig[] {
  const rate = scale.name === "full" ? tuned[kind]?.[name] : undefined;
  const optimizer = rate === undefined ? {} : { optimizer: { learningRate: rate } };
  return runsOf(once ? oneSeed(scale) : scale, kind, merged(settings, optimizer, ...changes));
}

/** GRPO where answers have several words and names, of which the reward accepts any. */
export const namesRuns = (scale: Scale): PartialConfig[] =>
  methodRuns(oneSeed(scale), "names", grpo, { reward: "alias" });
