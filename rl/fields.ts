/** The settings of a zod object schema as a flat list: path, kind, range, text form. */
import { z } from "zod";

export type Json = null | boolean | number | string | readonly Json[] | { [key: string]: Json };
export type JsonObject = { [key: string]: unknown };
export type ScalarKind = "boolean" | "integer" | "number" | "string" | "enum";
export type Kind = ScalarKind | "list" | "json";

/** One leaf of the schema: a setting that a flag or a key of the JSON file gives. */
export interface Field {
  readonly path: readonly string[];
  /** Name in JSON, dots for nesting: "grpo.clipLow". */
  readonly key: string;
  /** Name on the command line: "--grpo.clip-low". */
  readonly flag: string;
  readonly kind: Kind;
  /** Kind of each element of a list; a tuple has one per place, an array one for all. */
  readonly items: readonly ScalarKind[];
  /** Allowed values of an enum. */
  readonly values: readonly (string | number | boolean)[];
  /** Whether null is allowed; written "none" on the command line. */
  readonly nullable: boolean;
  /** What a value must be, in words: "a number in [0, 1]". */
  readonly expected: string;
  readonly description: string;
}

/** A heading of the help text: the fields that share a first path segment. */
export interface Group {
  readonly name: string;
  readonly description: string;
  readonly fields: readonly Field[];
}

type Node = z.core.JSONSchema.BaseSchema;

const jsonSchemaOf = (schema: z.ZodType): Node =>
  z.toJSONSchema(schema, { io: "input", unrepresentable: "any", reused: "inline" });

/** Every leaf of `schema` in order of declaration. Unions, records and the like are JSON leaves. */
export function fieldsOf(schema: z.ZodObject): readonly Field[] {
  const found = known.get(schema) ?? leaves(jsonSchemaOf(schema), []);
  known.set(schema, found);
  return found;
}
/** A schema's fields are asked for again and again, and take some ten milliseconds to find. */
const known = new WeakMap<z.ZodObject, readonly Field[]>();

/** The fields by first path segment; settings that are not nested come first, under "general". */
export function groupsOf(schema: z.ZodObject): Group[] {
  const root = jsonSchemaOf(schema);
  const fields = leaves(root, []);
  const general = fields.filter((field) => field.path.length === 1);
  const nested = [...new Set(fields.filter((f) => f.path.length > 1).map((f) => f.path[0]!))];
  return [
    { name: "general", description: "", fields: general },
    ...nested.map((name) => ({
      name,
      description: properties(root)[name]?.description ?? "",
      fields: fields.filter((field) => field.path.length > 1 && field.path[0] === name),
    })),
  ];
}

/** "--grpo.clip-low" for the path grpo, clipLow. */
export function flagOf(path: readonly string[]): string {
  return `--${path.map((part) => part.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)).join(".")}`;
}

const properties = (node: Node): Record<string, Node> =>
  (node.properties ?? {}) as Record<string, Node>;

function leaves(node: Node, path: readonly string[]): Field[] {
  return Object.entries(properties(node)).flatMap(([name, child]) => {
    const inner = [...path, name];
    const nested = child.type === "object" && child.properties !== undefined;
    return nested ? leaves(child, inner) : [leaf(child, inner)];
  });
}

function leaf(node: Node, path: readonly string[]): Field {
  const { type, nullable } = withoutNull(node);
  const values = (type.enum ?? (type.const === undefined ? [] : [type.const])) as Field["values"];
  const places = (type.prefixItems ?? (isNode(type.items) ? [type.items] : [])) as Node[];
  const items = places.map(scalarKind).filter((kind) => kind !== null);
  const isList = type.type === "array" && items.length > 0 && items.length === places.length;
  const kind = values.length > 0 ? "enum" : isList ? "list" : (scalarKind(type) ?? "json");
  const expected = expectation(type, kind, isList ? places : []);
  return {
    path,
    key: path.join("."),
    flag: flagOf(path),
    kind,
    items: isList ? items : [],
    values,
    nullable,
    expected: nullable ? `${expected}, or none` : expected,
    description: node.description ?? type.description ?? "",
  };
}

const isNode = (value: unknown): value is Node => typeof value === "object" && value !== null;

/** Takes "or null" off a node: ["number", "null"] and anyOf [X, null] alike. */
function withoutNull(node: Node): { type: Node; nullable: boolean } {
  const types: unknown = node.type;
  if (Array.isArray(types) && types.includes("null")) {
    const rest = types.filter((type) => type !== "null");
    const type = rest.length === 1 ? rest[0] : rest;
    return { type: { ...node, type } as Node, nullable: true };
  }
  const options = node.anyOf as Node[] | undefined;
  const rest = options?.filter((option) => option.type !== "null");
  return rest?.length === 1 && options?.length === 2
    ? { type: rest[0]!, nullable: true }
    : { type: node, nullable: false };
}

function scalarKind(node: Node): ScalarKind | null {
  if (node.enum !== undefined || node.const !== undefined) return "enum";
  const type: unknown = node.type;
  const scalars: readonly unknown[] = ["boolean", "integer", "number", "string"];
  return scalars.includes(type) ? (type as ScalarKind) : null;
}

function expectation(node: Node, kind: Kind, places: readonly Node[]): string {
  if (kind === "enum") return `one of ${(node.enum ?? [node.const]).join(", ")}`;
  if (kind === "boolean") return "true or false";
  if (kind === "string") return "text";
  if (kind === "json") return "JSON";
  if (kind !== "list") return `${kind === "integer" ? "an integer" : "a number"}${range(node)}`;
  const one = (place: Node) => expectation(place, scalarKind(place)!, []);
  if (node.prefixItems === undefined) return `a comma-separated list, each ${one(places[0]!)}`;
  const each = [...new Set(places.map(one))].join(" / ");
  return `${places.length} comma-separated values, each ${each}`;
}

/** " in [0, 1)", " of at least 1", " above 0" or nothing. */
function range(node: Node): string {
  const finite = (bound: unknown) =>
    typeof bound === "number" && Math.abs(bound) < Number.MAX_SAFE_INTEGER ? bound : undefined;
  const low = finite(node.minimum);
  const above = finite(node.exclusiveMinimum);
  const high = finite(node.maximum);
  const below = finite(node.exclusiveMaximum);
  const from = low ?? above;
  const to = high ?? below;
  if (from !== undefined && to !== undefined) {
    return ` in ${low === undefined ? "(" : "["}${from}, ${to}${high === undefined ? ")" : "]"}`;
  }
  if (from !== undefined) return low === undefined ? ` above ${from}` : ` of at least ${from}`;
  if (to !== undefined) return high === undefined ? ` below ${to}` : ` of at most ${to}`;
  return "";
}

/** The value that `text` means; text that means none comes back as it is, for zod to refuse. */
export function valueFromText(field: Field, text: string): unknown {
  if (field.nullable && text === "none") return null;
  if (field.kind === "json") return parseJson(text) ?? text;
  if (field.kind !== "list") return scalar(field.kind, field.values, text);
  if (text.startsWith("[")) return parseJson(text) ?? text;
  if (text === "") return [];
  const kindAt = (i: number) => field.items[field.items.length === 1 ? 0 : i] ?? field.items[0]!;
  return text.split(",").map((part, i) => scalar(kindAt(i), [], part));
}

/** Text from which `valueFromText` gives `value` back. */
export function textFromValue(field: Field, value: unknown): string {
  if (value === null) return "none";
  if (field.kind === "json") return JSON.stringify(value);
  if (!Array.isArray(value)) return String(value);
  const parts = value.map(String);
  const ambiguous = parts.some((part) => part.includes(",") || part === "");
  return ambiguous || parts.length === 0 || parts[0]!.startsWith("[")
    ? JSON.stringify(value)
    : parts.join(",");
}

function scalar(kind: ScalarKind, values: Field["values"], text: string): unknown {
  if (kind === "boolean") return text === "true" ? true : text === "false" ? false : text;
  if (kind === "enum") return values.find((value) => String(value) === text) ?? text;
  if (kind === "string") return text;
  const number = text.trim() === "" ? Number.NaN : Number(text);
  return Number.isFinite(number) ? number : text;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
