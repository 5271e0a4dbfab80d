/** Hashes of configurations: canonical JSON, SHA-256, and what differs between two of them. */
import { createHash } from "node:crypto";

/**
 * JSON with sorted keys and no spaces, so that equal settings give equal text. Keys whose value is
 * undefined are left out, as in JSON. Throws a TypeError on NaN, infinities, functions, bigints.
 */
export function canonicalJson(value: unknown, path = "value"): string {
  if (value === null || typeof value === "boolean" || typeof value === "string") {
    return JSON.stringify(value);
  }
  if (typeof value === "number" && Number.isFinite(value)) return JSON.stringify(value);
  if (Array.isArray(value)) {
    return `[${value.map((item, i) => canonicalJson(item, `${path}[${i}]`)).join(",")}]`;
  }
  if (typeof value === "object") {
    const entries = Object.entries(value)
      .filter(([, item]) => item !== undefined)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, item]) => `${JSON.stringify(key)}:${canonicalJson(item, `${path}.${key}`)}`);
    return `{${entries.join(",")}}`;
  }
  throw new TypeError(`${path} is ${String(value)}, which JSON cannot hold`);
}

/** SHA-256 of bytes or text, in lower-case hexadecimal. */
export function sha256(data: Uint8Array | string): string {
  return createHash("sha256").update(data).digest("hex");
}

/** SHA-256 of the canonical JSON of `config`, or of its top-level `keys` alone. */
export function configHash(config: object, keys?: readonly string[]): string {
  const picked = keys?.map((key) => [key, (config as Record<string, unknown>)[key]] as const);
  for (const [key, value] of picked ?? []) {
    if (value === undefined) throw new TypeError(`the configuration has no "${key}" to hash`);
  }
  return sha256(canonicalJson(picked ? Object.fromEntries(picked) : config));
}

export interface Difference {
  readonly key: string;
  readonly before: unknown;
  readonly after: unknown;
}

/** The settings that differ, by dotted key; undefined where one side lacks the key. */
export function differences(before: unknown, after: unknown, key = ""): Difference[] {
  if (isObject(before) && isObject(after)) {
    const names = [...new Set([...Object.keys(before), ...Object.keys(after)])];
    return names.flatMap((name) =>
      differences(before[name], after[name], key === "" ? name : `${key}.${name}`),
    );
  }
  const text = (value: unknown) => (value === undefined ? "" : canonicalJson(value));
  return text(before) === text(after) ? [] : [{ key, before, after }];
}

/** "train.steps: 120 -> 240" */
export function differenceText({ key, before, after }: Difference): string {
  const text = (value: unknown) => (value === undefined ? "(absent)" : JSON.stringify(value));
  return `${key}: ${text(before)} -> ${text(after)}`;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
