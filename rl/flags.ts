/** Command-line flags from any zod object schema: parsing, help text, and the way back. */
import { Command, Option } from "commander";
import type { z } from "zod";
import {
  type Field,
  fieldsOf,
  type Group,
  groupsOf,
  type JsonObject,
  textFromValue,
  valueFromText,
} from "./fields.ts";
import { editDistance, suggestion } from "./user_error.ts";

/** A flag that steers the command and is no setting of the run, such as --out DIR. */
export interface CommandFlag {
  /** "--out" */
  readonly flag: string;
  /** Name of its value in the help text; null for a switch. */
  readonly placeholder: string | null;
  readonly description: string;
}

export interface ParsedFlags {
  /** Settings given, nested as in the schema; not yet validated. */
  readonly values: JsonObject;
  /** Text given for each setting, by key. */
  readonly given: ReadonlyMap<string, string>;
  /** Command flags given, by flag; a switch has the value "". */
  readonly command: ReadonlyMap<string, string>;
  /** Unknown flags, missing values, stray words: one sentence each. */
  readonly problems: readonly string[];
}

export const helpFlag: CommandFlag = {
  flag: "--help",
  placeholder: null,
  description: "Print this text",
};

/** Reads `argv` (without program and script name) against the settings and the command flags. */
export function parseFlags(
  argv: readonly string[],
  fields: readonly Field[],
  commandFlags: readonly CommandFlag[],
): ParsedFlags {
  const parser = commandOf(fields, commandFlags);
  const { operands, unknown } = parser.parseOptions([...argv]);
  const names = parser.options.map((option) => option.long!);
  const problems = strays([...operands, ...unknown], argv, names);
  const options: JsonObject = parser.opts();
  const given = new Map<string, string>();
  const values: JsonObject = {};
  for (const field of fields) {
    const text = options[attribute(field.flag)];
    if (text === undefined) continue;
    if (typeof text === "boolean" && field.kind !== "boolean") {
      problems.push(`${field.flag} needs a value: ${field.expected}`);
      continue;
    }
    given.set(field.key, String(text));
    setPath(values, field.path, valueFromText(field, String(text)));
  }
  const command = new Map<string, string>();
  for (const { flag, placeholder } of commandFlags) {
    const text = options[attribute(flag)];
    if (text === undefined) continue;
    if (placeholder === null) command.set(flag, "");
    else if (text === true || text === "") problems.push(`${flag} needs a value: ${placeholder}`);
    else command.set(flag, String(text));
  }
  return { values, given, command, problems };
}

/** The flags that give `config` (only where it differs from `base`, if there is one). */
export function toFlags(schema: z.ZodObject, config: object, base?: object): string[] {
  return fieldsOf(schema).flatMap((field) => {
    const value = getPath(config, field.path);
    if (value === undefined) return [];
    const text = textFromValue(field, value);
    const before = base && getPath(base, field.path);
    if (before !== undefined && textFromValue(field, before) === text) return [];
    if (field.kind === "boolean" && value !== null) {
      return [value ? field.flag : field.flag.replace("--", "--no-")];
    }
    return text === "" || text.startsWith("-") ? [`${field.flag}=${text}`] : [field.flag, text];
  });
}

/** Flags in groups, each with what it takes, its default in `defaults`, and its description. */
export function helpText(
  usage: { name: string; description: string; footer?: string },
  schema: z.ZodObject,
  commandFlags: readonly CommandFlag[],
  defaults: object,
): string {
  const command = new Command(usage.name).description(usage.description).usage("[flags]");
  command.helpOption(false).configureHelp({ helpWidth: 100 });
  for (const { flag, placeholder, description } of commandFlags) {
    const value = placeholder === null ? "" : ` <${placeholder}>`;
    command.addOption(new Option(`${flag}${value}`, description).helpGroup("command"));
  }
  for (const group of groupsOf(schema)) {
    for (const field of group.fields) command.addOption(helpOption(field, group, defaults));
  }
  command.configureHelp({
    helpWidth: 100,
    optionTerm: (option) =>
      option.isBoolean() && !commandFlags.some(({ flag }) => flag === option.long)
        ? option.flags.replace("--", "--[no-]")
        : option.flags,
    optionDescription: (option) => option.description,
  });
  return command.helpInformation() + (usage.footer ? `\n${usage.footer}\n` : "");
}

function helpOption(field: Field, group: Group, defaults: object): Option {
  const placeholder = { enum: "name", string: "text", list: "a,b,…", json: "JSON" };
  const kind = field.kind as keyof typeof placeholder;
  const value = field.kind === "boolean" ? "" : ` <${placeholder[kind] ?? field.kind}>`;
  const heading = group.description ? `${group.name}: ${group.description}` : group.name;
  const fallback = getPath(defaults, field.path);
  const notes = [
    field.kind === "enum" ? field.values.join(", ") : "",
    fallback === undefined ? "" : `default ${textFromValue(field, fallback)}`,
  ].filter((note) => note !== "");
  const description = `${field.description}${notes.length > 0 ? ` (${notes.join("; ")})` : ""}`;
  return new Option(`${field.flag}${value}`, description).helpGroup(heading);
}

/** All values are optional to commander, so that a missing one is ours to report with the rest. */
function commandOf(fields: readonly Field[], commandFlags: readonly CommandFlag[]): Command {
  const command = new Command().exitOverride().helpOption(false).allowUnknownOption();
  const quiet = () => {};
  command.configureOutput({ writeErr: quiet, writeOut: quiet });
  for (const { flag, placeholder } of commandFlags) {
    const short = flag === helpFlag.flag ? "-h, " : "";
    command.addOption(new Option(`${short}${flag}${placeholder === null ? "" : " [value]"}`));
  }
  for (const field of fields) {
    command.addOption(new Option(`${field.flag} [value]`));
    if (field.kind === "boolean") {
      command.addOption(new Option(field.flag.replace("--", "--no-")));
    }
  }
  return command;
}

const attribute = (flag: string) => new Option(flag).attributeName();

/** One sentence for each word that no flag took. */
function strays(words: readonly string[], argv: readonly string[], names: readonly string[]) {
  const problems: string[] = [];
  for (const word of words) {
    const before = argv[argv.indexOf(word) - 1] ?? "";
    const isFlag = word.startsWith("-") && word.length > 1;
    if (isFlag) {
      const name = word.split("=")[0]!;
      problems.push(`unknown flag ${name}${suggestion(name, byLikeness(name, names))}`);
    } else if (!words.includes(before) || !before.startsWith("-")) {
      problems.push(`unexpected "${word}": settings are given as --name value`);
    }
  }
  return problems;
}

/** "--no-x" suggests "--no-…" only to those who typed "no"; shorter names first among equals. */
function byLikeness(name: string, names: readonly string[]): string[] {
  const negated = /^-*no-/.test(name);
  return names
    .filter((other) => negated || !other.startsWith("--no-"))
    .sort((a, b) => editDistance(name, a) - editDistance(name, b));
}

/** The value at `path`, or undefined where the path ends early. */
export function getPath(object: object, path: readonly string[]): unknown {
  let value: unknown = object;
  for (const part of path) {
    if (typeof value !== "object" || value === null) return undefined;
    value = Object.hasOwn(value, part) ? (value as JsonObject)[part] : undefined;
  }
  return value;
}

/** Sets the value at `path`, making the objects on the way. */
export function setPath(object: JsonObject, path: readonly string[], value: unknown): void {
  let inner = object;
  for (const part of path.slice(0, -1)) {
    const next = inner[part];
    if (typeof next === "object" && next !== null) inner = next as JsonObject;
    else {
      inner[part] = {};
      inner = inner[part] as JsonObject;
    }
  }
  inner[path.at(-1)!] = value;
}
