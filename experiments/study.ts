/** An experiment with what it found: its settings each once, their hashes, their worlds as text. */

import { buildWorld } from "../eval/worlds/presets.ts";
import { worldOf } from "../rl/config.ts";
import { worldText } from "../rl/header.ts";
import type { PartialConfig } from "../rl/presets.ts";
import type { Experiment } from "./claim.ts";
import type { Lab } from "./lab.ts";
import type { Study } from "./report/model.ts";
import { resolved, runHash } from "./runs.ts";
import { oneSeed, type Scale } from "./scale.ts";

const AGAIN =
  "Asked twice: worlds 1 to 3 had left a claim open (experiments/results/three-worlds.md has what they gave), " +
  "so all was asked of six others, by the same rules, with one RL seed in each.";

/** The worlds that an experiment is asked of. */
const scaleOf = ({ again = false }: Experiment, scale: Scale): Scale =>
  again ? { ...oneSeed(scale), worlds: scale.others } : scale;

/** Each setting once, those of the first experiments first. */
export function settingsOf(experiments: readonly Experiment[], scale: Scale): PartialConfig[] {
  const all = new Map<string, PartialConfig>();
  for (const settings of experiments.flatMap((one) => one.runs(scaleOf(one, scale)))) {
    const hash = hashOf(settings);
    if (!all.has(hash)) all.set(hash, settings);
  }
  return [...all.values()];
}

const hashOf = (settings: PartialConfig): string => runHash(resolved(settings).config);

/** Hashes of an experiment's runs, each once. */
export const hashesOf = (experiment: Experiment, scale: Scale): string[] =>
  settingsOf([experiment], scale).map(hashOf);

export async function studyOf(experiment: Experiment, lab: Lab): Promise<Study> {
  const finding = await experiment.analyse({ ...lab, scale: scaleOf(experiment, lab.scale) });
  return { ...wordsOf(experiment, lab.scale), finding, runs: hashesOf(experiment, lab.scale) };
}

/** All of a study that no run decides. */
export function wordsOf(experiment: Experiment, scale: Scale): Omit<Study, "finding" | "runs"> {
  const { id, title, question, claims, cautions } = experiment;
  const again = scaleOf(experiment, scale).worlds.some((world) => !scale.worlds.includes(world));
  return {
    ...{ id, title, question, claims, again },
    cautions: again ? [...cautions, AGAIN] : cautions,
    worlds: worldTexts(settingsOf([experiment], scale)),
  };
}

/** Parameters of each kind of world and the model that read of it; seeds don't tell kinds apart. */
function worldTexts(settings: readonly PartialConfig[]): string[] {
  const worlds = new Map<string, string>();
  for (const { config } of settings.map(resolved)) {
    const { layers, hiddenSize } = config.model;
    const key = JSON.stringify({ ...worldOf(config), seed: 0, layers, hiddenSize });
    if (worlds.has(key)) continue;
    const model = `model: ${layers} layers of width ${hiddenSize}, ${config.pretrain.steps} steps`;
    const lines = worldText(buildWorld(worldOf(config)));
    worlds.set(key, [`${config.preset}: ${lines[0]}`, ...lines.slice(1), model].join("\n"));
  }
  return [...worlds.values()];
}
