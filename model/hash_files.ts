/** SHA-256 of files, read in parts: what a measurement or a run was made of. */

import { createHash } from "node:crypto";
import { createReadStream, readdirSync } from "node:fs";
import { join } from "node:path";
import { fileError } from "./errors.ts";

/** Of the files' bytes, one file behind the other, in hexadecimal. A UserError names what can't be read. */
export async function hashOfFiles(paths: readonly string[]): Promise<string> {
  const hash = createHash("sha256");
  for (const path of paths) {
    try {
      for await (const chunk of createReadStream(path)) hash.update(chunk as Uint8Array);
    } catch (error) {
      throw fileError(error, `cannot read ${path}`);
    }
  }
  return hash.digest("hex");
}

/** All that is read of a model's folder: its template and its stop tokens decide answers too. */
const READ =
  /\.safetensors(\.index\.json)?$|^chat_template\.jinja$|^(config|generation_config)\.json$|^(tokenizer|tokenizer_config|special_tokens_map)\.json$/;

/** The files that decide how a model's folder answers, in order of their names. */
export const filesOfModel = (folder: string): string[] =>
  readdirSync(folder)
    .filter((name) => READ.test(name))
    .toSorted()
    .map((name) => join(folder, name));
