/** What an export says of itself: DIFFERENCES.md, README.md, and the script that launches the engine. */

import { toFlags } from "../flags.ts";
import { hydraQuote, shellQuote, yamlValue } from "../quote.ts";
import { serverSettings } from "../reward_server.ts";
import type { Entry, Plan, Settings, Value } from "./account.ts";
import type { Engine } from "./engines.ts";

/** A cell of a Markdown table. */
const cell = (value: unknown): string =>
  (typeof value === "string" ? value : JSON.stringify(value))
    .replaceAll("|", "\\|")
    .replace(/\s+/g, " ");

const code = (value: unknown): string => {
  const text = cell(value).replaceAll("`", "'");
  return text === "" ? "" : `\`${text}\``;
};

export function differencesText(engine: Engine, plan: Plan, entries: readonly Entry[]): string {
  const of = (fate: Entry["fate"]) => entries.filter((entry) => entry.fate === fate);
  const set = ({ settings }: Entry) =>
    Object.entries(settings).map(([key, value]) => code(`${key} = ${JSON.stringify(value)}`));
  return [
    `# This run on ${engine.name}, and on ours`,
    "",
    `Not run on this engine by us; written against version ${engine.version}.`,
    "Key names and behaviour are those of that version: check them against yours.",
    "",
    "## Not the same, whatever the settings",
    "",
    ...[...engine.gaps(plan), ...generalGaps(plan)].map((gap) => `- ${gap}.`),
    "",
    "## Settings that do not mean the same there",
    "",
    ...of("differs").map(
      (entry) =>
        `- ${code(entry.key)} ${code(entry.value)}: ${entry.text}.` +
        (set(entry).length > 0 ? ` Set: ${set(entry).join(", ")}.` : ""),
    ),
    ...(of("differs").length === 0 ? ["None."] : []),
    "",
    "## Settings that mean the same",
    "",
    `| setting | value | ${engine.name} |`,
    "| --- | --- | --- |",
    ...of("same").map(
      (entry) =>
        `| ${code(entry.key)} | ${code(entry.value)} | ${[...set(entry), cell(entry.text)].filter(Boolean).join("; ")} |`,
    ),
    "",
    "## Settings that nothing reads",
    "",
    ...of("unused").map(({ key, text }) => `- ${code(key)}: ${text}.`),
    "",
  ].join("\n");
}

/** What no engine does as our own loop does it. */
function generalGaps({ config: { method } }: Plan): string[] {
  const sampled = method !== "sft";
  return [
    "Weights: ours are those of the best validation, if McNemar's test finds them better than the " +
      "starting model on it; the engine's are its own choice of checkpoint",
    "Measurement: accessibility, pass@k, the ledger of facts and the intervals are rl/train.ts's; " +
      "eval/recall.ts measures the engine's model on the rows of the test split, which it never trains on",
    "Arithmetic: half precision there, f32 here; the same seed gives no equal runs",
    ...(sampled && method !== "dpo" && method !== "rft"
      ? [
          "Sampling: another engine samples than trains, so that the first ratio of a step is 1 only " +
            "about; ours is exactly 1",
          "An answer without a verdict: it is left out of its group here; there it stops the run, or is " +
            "paid ANAMNESIS_NULL_SCORE (reward.py) or --null-score (reward server) and counts as that",
        ]
      : []),
    ...(method === "grpo"
      ? [
          "Groups whose answers are all paid alike have advantage 0 on both sides and count in every " +
            "mean; they are only not computed here",
        ]
      : []),
  ];
}

/** The reward server that pays as this run does. */
export function serverCommand({ config, data, form }: Plan, ends: readonly string[]): string {
  const own = { reward: config.reward, form, think: data.think, ends, judge: config.judge };
  const settings = serverSettings.parse(JSON.parse(JSON.stringify(own)));
  // The reward is named even where it is the default.
  const flags = toFlags(serverSettings, settings, {
    ...serverSettings.parse({}),
    reward: undefined,
  });
  return ["bun run rl/reward_server.ts", ...flags.map(shellQuote)].join(" ");
}

export function readmeText(
  engine: Engine,
  plan: Plan,
  { ends, files }: { readonly ends: readonly string[]; readonly files: readonly string[] },
): string {
  const pays = engine.asksServer(plan);
  return [
    `# An anamnesis run for ${engine.name}`,
    "",
    `${files.join(", ")}: rows. settings.json: the settings they come from. DIFFERENCES.md: what is`,
    `not the same there. Nothing here was run on ${engine.name} by us.`,
    "",
    ...(pays
      ? [
          "In this repository, the server that pays (the engine finds it at ANAMNESIS_REWARD_URL,",
          "http://127.0.0.1:8088/reward unless set):",
          "",
          `    ${serverCommand(plan, ends)}`,
          "",
          "Then, where the engine is installed:",
        ]
      : ["Where the engine is installed:"]),
    "",
    "    bash launch.sh",
    "",
    "GPUS says how many there are (1). Further arguments go to the engine behind those of the export, and",
    `win over them: ${engine.override} where the model lies elsewhere.`,
    "",
  ].join("\n");
}

/** The beginning of a launch script; `$HERE` is its folder. */
const HEAD = `#!/usr/bin/env bash
# Written by rl/export.ts; see README.md and DIFFERENCES.md.
set -euo pipefail
HERE="$(cd -- "$(dirname -- "\${BASH_SOURCE[0]}")" && pwd)"
case "$HERE" in
  *[\\"\\\\\\$\\'\\\`,]* | *$'\\n'*)
    echo "$HERE: move this folder to a path without quotes, commas, \\$ and backslashes" >&2
    exit 2
    ;;
esac
export ANAMNESIS_REWARD_URL="\${ANAMNESIS_REWARD_URL:-http://127.0.0.1:8088/reward}"
GPUS="\${GPUS:-1}"
cd -- "$HERE"
`;

/** `words` are shell words, quoted already; "$@" may override them. */
export const launchScript = (command: string, words: readonly string[]): string =>
  `${HEAD}exec ${[command, ...words, '"$@"'].join(" \\\n  ")}\n`;

/** A value in Hydra's override grammar. */
export function hydraValue(value: Value): string {
  if (typeof value === "string") return hydraQuote(value);
  if (Array.isArray(value)) return `[${value.map(hydraValue).join(",")}]`;
  return JSON.stringify(value);
}

/** Overrides of Hydra as shell words, each on its own. */
export const hydraWords = (settings: Settings): string[] =>
  Object.entries(settings).map(([key, value]) => shellQuote(`${key}=${hydraValue(value)}`));

/** Flags of argparse as shell words: a switch has no value, a list has several. */
export const flagWords = (settings: Settings): string[] =>
  Object.entries(settings).flatMap(([key, value]) => {
    if (value === false || value === null) return [];
    const values = value === true ? [] : [value].flat();
    return [[`--${key}`, ...values.map((one) => shellQuote(String(one)))].join(" ")];
  });

/** A YAML file with one key a line. */
export const yamlText = (settings: Settings): string =>
  Object.entries(settings)
    .map(([key, value]) => `${key}: ${yamlValue(value)}\n`)
    .join("");
