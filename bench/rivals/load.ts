/** Imports a package from the rivals' own folder. */

import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { folder, type RivalPackage } from "./install.ts";

/** The package, or what it exports by default where it is CommonJS. T: the part of it in use. */
export async function load<T>(name: RivalPackage | string): Promise<T> {
  const file = pathToFileURL(join(folder, "load.mjs")).href;
  const { load: from } = (await import(file)) as { load: (name: string) => Promise<unknown> };
  const found = (await from(name)) as { default?: object } & object;
  return { ...found.default, ...found } as T;
}
