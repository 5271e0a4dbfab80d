/** JSON from outside, read strictly: UTF-8, no name twice, no name that JavaScript gives a meaning. */

import { UserError } from "./errors.ts";

export const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** The JSON object in `bytes`; a UserError that begins with `where` if there is something else. */
export function parseObject(bytes: Uint8Array, where: string): Record<string, unknown> {
  let json: unknown;
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    json = JSON.parse(text);
  } catch (cause) {
    throw new UserError(`${where} is not JSON (${(cause as Error).message})`, { cause });
  }
  if (!isObject(json)) throw new UserError(`${where} is not a JSON object`);
  refuseNames(text, where);
  return json;
}

const POLLUTING = ["__proto__", "constructor", "prototype"];

/** JSON.parse keeps the last of equal names in silence, so the text itself is looked through. */
function refuseNames(text: string, where: string): void {
  const open: (Set<string> | undefined)[] = [];
  for (const match of text.matchAll(/"(?:[^"\\]|\\.)*"(\s*:)?|[{}[\]]/g)) {
    const [token, colon] = match;
    if (token === "{") open.push(new Set());
    else if (token === "[") open.push(undefined);
    else if (token === "}" || token === "]") open.pop();
    else if (colon !== undefined) {
      const name = JSON.parse(token.slice(0, token.length - colon.length)) as string;
      const names = open.at(-1)!;
      if (POLLUTING.includes(name)) throw new UserError(`${where}: the name "${name}" is refused`);
      if (names.has(name)) throw new UserError(`${where}: the name "${name}" occurs twice`);
      names.add(name);
    }
  }
}
