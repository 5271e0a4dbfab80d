/** From a command line to a run: preset < config file < flags; all mistakes reported at once. */
import { readFileSync } from "node:fs";
import type { z } from "zod";
import { parseObject } from "../model/json.ts";
import {
  contradictions,
  type PresetName,
  presetNames,
  seedsOf,
  type TrainConfig,
  trainShape,
} from "./config.ts";
import { dataPlaceholder } from "./data_config.ts";
import { type Field, fieldsOf, type JsonObject, textFromValue } from "./fields.ts";
import {
  type CommandFlag,
  getPath,
  helpFlag,
  helpText,
  parseFlags,
  setPath,
  toFlags,
} from "./flags.ts";
import { configHash } from "./hash.ts";
import { explainText } from "./metric_docs.ts";
import { presets } from "./presets.ts";
import { shellQuote } from "./quote.ts";
import { recipeNames, recipes } from "./recipes.ts";
import { readRunConfig } from "./run.ts";
import { withSampler } from "./sampler_config.ts";
import { suggestion, UserError, userErrorOf } from "./user_error.ts";

export const commandFlags: readonly CommandFlag[] = [
  { flag: "--config", placeholder: "FILE.json", description: "Read settings from a JSON file" },
  { flag: "--out", placeholder: "DIR", description: "Run folder (runs/<date>-<preset>-<seed>)" },
  { flag: "--resume", placeholder: "DIR", description: "Continue the run in this folder" },
  { flag: "--explain", placeholder: null, description: "Print what each metric and verdict means" },
  { flag: "--dry-run", placeholder: null, description: "Print the resolved run and stop" },
  helpFlag,
];

/** Short names of settings that a run on real questions always gives. */
export const shorthands: readonly (CommandFlag & { readonly stands: string })[] = [
  {
    ...{ flag: "--model", placeholder: "FOLDER", stands: "--data.model" },
    description: "Train this model (--data.model)",
  },
  {
    ...{ flag: "--data", placeholder: "FILE", stands: "--data.file" },
    description: "… on these questions (--data.file)",
  },
  {
    ...{ flag: "--lora", placeholder: "RANK", stands: "--lora.rank" },
    description: "… by adapters of this rank (--lora.rank)",
  },
  {
    ...{ flag: "--judge", placeholder: "URL", stands: "--judge.url" },
    description: "… paid by a judging model behind this server (--judge.url, --reward llm)",
  },
];

function withoutShorthands(argv: readonly string[]): string[] {
  return argv.map((word) => {
    const [name] = word.split("=", 1);
    const found = shorthands.find(({ flag }) => flag === name);
    return found === undefined ? word : found.stands + word.slice(name!.length);
  });
}

/** Where a setting's value comes from; "the default" is the schema's. */
export type Origin = string;

/** A run that is ready to start. */
export interface ResolvedRun {
  readonly help: null;
  readonly config: TrainConfig;
  readonly hash: string;
  /** --out, or null for the default folder. */
  readonly out: string | null;
  /** --resume, or null for a new run. */
  readonly resume: string | null;
  readonly dryRun: boolean;
  /** By setting: "flag", the file's name, "preset demo", "default". */
  readonly origins: ReadonlyMap<string, Origin>;
  /** The command's own flags that were given. */
  readonly command: ReadonlyMap<string, string>;
}

export type Resolved = ResolvedRun | { readonly help: string };

interface Layer {
  readonly origin: Origin;
  readonly values: JsonObject;
}

/**
 * Resolves a command line (without program and script name) with the command's own flags `accepted`.
 * Reads the files that it names, writes nothing. With --resume the folder's own settings stand in for the preset. Throws a UserError that
 * lists every problem.
 */
export function resolveConfig(
  argv: readonly string[],
  accepted: readonly CommandFlag[] = commandFlags,
): Resolved {
  const fields = fieldsOf(trainShape);
  const flags = parseFlags(withoutShorthands(argv), fields, accepted);
  const problems = [...flags.problems];
  const resume = flags.command.get("--resume") ?? null;
  const out = flags.command.get("--out") ?? null;
  if (flags.command.has("--help")) {
    const name = presetNames.find((preset) => preset === flags.values.preset) ?? "smoke";
    return { help: trainHelp(name) };
  }
  if (flags.command.has("--explain")) return { help: explainText() };
  if (resume !== null && out !== null) {
    problems.push("--out and --resume name two folders: a resumed run stays in its own");
  }
  const file = flags.command.get("--config");
  const above = [
    ...(file === undefined ? [] : attempt(problems, () => fileLayer(file, fields, problems))),
    { origin: "flag", values: flags.values },
  ];
  const base = attempt(problems, () => baseLayer(resume, above));
  const sampled = resume === null ? samplerLayer(above) : [];
  const recipe = resume === null ? recipeLayer(above) : [];
  // A recipe that a flag asks for stands above the file, which may be all of a run's settings.
  const own =
    flags.values.recipe === undefined ? [...recipe, ...above] : above.toSpliced(-1, 0, ...recipe);
  const layers = [...base, ...sampled, ...own];
  const merged = merge(fields, layers);
  const config = validate(merged.values, fields, merged.origins, flags.given, problems);
  if (problems.length > 0 || config === null) {
    throw userErrorOf(problems, "--help lists every flag.");
  }
  const dryRun = flags.command.has("--dry-run");
  const { origins } = merged;
  const { command } = flags;
  return { help: null, config, hash: configHash(config), out, resume, dryRun, origins, command };
}

/**
 * The settings of an object such as a config file holds, above its preset and its recipe. Throws a
 * UserError that lists every problem.
 */
export function resolveSettings(values: JsonObject): TrainConfig {
  const fields = fieldsOf(trainShape);
  const problems = unknownKeys(values, fields);
  const above = [{ origin: "settings", values }];
  const implied = [...samplerLayer(above), ...recipeLayer(above)];
  const merged = merge(fields, [baseLayer(null, above), ...implied, ...above]);
  const config = validate(merged.values, fields, merged.origins, new Map(), problems);
  if (problems.length > 0 || config === null) throw userErrorOf(problems);
  return config;
}

/** The settings of a preset, with all that it leaves at the default. */
export function presetConfig(preset: PresetName): TrainConfig {
  const data = preset === "data" ? { data: dataPlaceholder } : {};
  return trainShape.parse({ ...presets[preset], ...data, preset });
}

/** What stands below the flags that repeat a run: what its preset, recipe and engine bring. */
function impliedConfig(config: TrainConfig): TrainConfig {
  const above = [{ origin: "flag", values: config as JsonObject }];
  const layers = [baseLayer(null, above), ...samplerLayer(above), ...recipeLayer(above)];
  const { values } = merge(fieldsOf(trainShape), layers);
  const data = config.preset === "data" ? { data: dataPlaceholder } : {};
  return trainShape.parse({ ...values, ...data, preset: config.preset });
}

/** What --dry-run prints: each setting, where it comes from, and a command that repeats the run. */
export function dryRunText({ config, hash, origins, out, resume }: ResolvedRun): string {
  const rows = fieldsOf(trainShape).map((field) => ({
    key: field.key,
    value: textFromValue(field, getPath(config, field.path) ?? null),
    origin: origins.get(field.key) ?? "default",
  }));
  const width = (of: (row: (typeof rows)[number]) => string) =>
    Math.max(...rows.map((row) => of(row).length));
  const [keys, values] = [width((row) => row.key), width((row) => row.value)];
  const lines = rows.map(({ key, value, origin }) =>
    `${key.padEnd(keys)}  ${value.padEnd(values)}  ${origin === "default" ? "" : origin}`.trimEnd(),
  );
  const flags = toFlags(trainShape, config, impliedConfig(config)).map(shellQuote);
  const { world, pretrain, rl } = seedsOf(config);
  return [
    ...lines,
    "",
    `seeds    world ${world}, pretrain ${pretrain}, rl ${rl}`,
    `hash     ${hash}`,
    `folder   ${resume ?? out ?? `runs/<date>-${config.preset}-${config.seed}`}`,
    `repeat   bun run rl/train.ts ${["--preset", config.preset, ...flags].join(" ")}`,
  ].join("\n");
}

const TRAINS = {
  name: "bun run rl/train.ts",
  description:
    "Builds a world of facts, pre-trains a transformer on it, trains recall on half of the\n" +
    "entities by reinforcement, and measures recall of the other half.",
};

/** The text of --help, with the defaults of one preset: of training, or of a command with its settings. */
export function trainHelp(
  preset: PresetName,
  command: { readonly name: string; readonly description: string } = TRAINS,
  own: readonly CommandFlag[] = commandFlags,
): string {
  const usage = {
    ...command,
    footer:
      `Defaults are those of --preset ${preset}. Flags win over the --config file, the file over ` +
      "the\npreset. The file nests as the dots do: " +
      '{"grpo": {"clipLow": 0.1}}; a run\'s config.json will do.',
  };
  const first = own.filter(({ flag }) => flag !== helpFlag.flag);
  const all = [...shorthands, ...first, helpFlag];
  const defaults = { ...presetConfig(preset), data: presetConfig("data").data };
  return helpText(usage, trainShape, all, defaults);
}

/**
 * The stored settings of a resumed run, or the preset that the other layers ask for; with a question
 * file and no preset, "data".
 */
function baseLayer(resume: string | null, above: readonly Layer[]): Layer {
  if (resume !== null) {
    return { origin: `${resume}/config.json`, values: readRunConfig(resume).config };
  }
  const asked = above.map((layer) => layer.values.preset).filter((name) => name !== undefined);
  const usual = above.some((layer) => layer.values.data !== undefined) ? "data" : "smoke";
  // An unknown preset is reported with all other wrong values; until then the default stands in.
  const preset = presetNames.find((name) => name === (asked.at(-1) ?? usual)) ?? "smoke";
  // Whoever names a judge and no reward wants the judge.
  const judged = above.some(({ values }) => getPath(values, ["judge", "url"]) !== undefined);
  const implied = { ...(preset === "data" && { preset }), ...(judged && { reward: "llm" }) };
  return { origin: `preset ${preset}`, values: { ...presets[preset], ...implied } };
}

/** What an engine that samples brings with it, if the other layers name one. */
function samplerLayer(above: readonly Layer[]): Layer[] {
  const asked = above.map(({ values }) => getPath(values, ["sampler", "engine"])).findLast(Boolean);
  return asked === undefined ? [] : [{ origin: `sampler ${asked}`, values: withSampler }];
}

/** The settings of the recipe that the other layers ask for, if they do. */
function recipeLayer(above: readonly Layer[]): Layer[] {
  const asked = above.map((layer) => layer.values.recipe).filter((name) => name !== undefined);
  const name = recipeNames.find((recipe) => recipe === asked.at(-1));
  return name === undefined
    ? []
    : [{ origin: `recipe ${name}`, values: recipes[name] as JsonObject }];
}

/** The settings in a JSON file, which may also be a run's config.json. */
function fileLayer(path: string, fields: readonly Field[], problems: string[]): Layer {
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    throw new UserError(`--config ${path} cannot be read: ${(error as Error).message}`);
  }
  const values = parseObject(bytes, `--config ${path}`) as JsonObject;
  const settings = isObject(values.config) && "hash" in values ? values.config : values;
  problems.push(...unknownKeys(settings, fields).map((problem) => `${path}: ${problem}`));
  return { origin: path, values: settings };
}

/** A sentence for each key, at any depth, that names no setting. */
function unknownKeys(values: JsonObject, fields: readonly Field[], at: string[] = []): string[] {
  return Object.entries(values).flatMap(([name, value]) => {
    const path = [...at, name];
    const key = path.join(".");
    if (fields.some((field) => field.key === key)) return [];
    const inside = fields.filter((field) => field.key.startsWith(`${key}.`));
    if (inside.length === 0) {
      const names = [
        ...new Set(fields.flatMap((field) => [field.key, groupKey(field, at.length)])),
      ];
      return [`unknown key "${key}"${suggestion(key, names)}`];
    }
    if (isObject(value)) return unknownKeys(value, fields, path);
    return [`"${key}" is ${show(value)}; expected an object with keys such as ${inside[0]!.key}`];
  });
}

/** The key of the group that holds a field at this depth, such as "grpo". */
const groupKey = (field: Field, depth: number) => field.path.slice(0, depth + 1).join(".");

/** Later layers win, setting by setting; groups that nobody fills are left to the schema. */
function merge(fields: readonly Field[], layers: readonly Layer[]) {
  const values: JsonObject = {};
  const origins = new Map<string, Origin>();
  for (const field of fields) {
    for (const layer of layers) {
      const value = getPath(layer.values, field.path);
      if (value === undefined) continue;
      setPath(values, field.path, value);
      origins.set(field.key, layer.origin);
    }
  }
  return { values, origins };
}

function validate(
  values: JsonObject,
  fields: readonly Field[],
  origins: ReadonlyMap<string, Origin>,
  given: ReadonlyMap<string, string>,
  problems: string[],
): TrainConfig | null {
  const result = trainShape.safeParse(values);
  if (result.success) {
    problems.push(...contradictions(result.data));
    return result.data;
  }
  const seen = new Set<string>();
  for (const issue of result.error.issues) {
    const path = issue.path.map(String);
    const field = fields.find(({ key }) => `${path.join(".")}.`.startsWith(`${key}.`));
    const key = field?.key ?? path.join(".");
    if (seen.has(key)) continue;
    seen.add(key);
    problems.push(valueProblem(issue, field, key, values, origins, given));
  }
  return null;
}

function valueProblem(
  issue: z.core.$ZodIssue,
  field: Field | undefined,
  key: string,
  values: JsonObject,
  origins: ReadonlyMap<string, Origin>,
  given: ReadonlyMap<string, string>,
): string {
  if (field === undefined) return `${key}: ${issue.message}`;
  const origin = origins.get(key) ?? "default";
  const fromFlag = origin === "flag";
  if (getPath(values, field.path) === undefined) {
    return `${field.flag} is missing: ${field.description}`;
  }
  const value = fromFlag ? (given.get(key) ?? "") : getPath(values, field.path);
  const name = fromFlag ? field.flag : `${origin}: "${key}"`;
  const near =
    field.kind === "enum" && typeof value === "string"
      ? suggestion(value, field.values.map(String))
      : "";
  if (issue.code === "custom") return `${name} is ${show(value)}: ${issue.message}`;
  return `${name} is ${show(value)}; expected ${field.expected}${near}`;
}

const show = (value: unknown) => JSON.stringify(value) ?? String(value);

/** The result in a list, or an empty list and one more problem. */
function attempt<T>(problems: string[], make: () => T): T[] {
  try {
    return [make()];
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    problems.push(error.message);
    return [];
  }
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
