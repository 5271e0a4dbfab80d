/** SHA-256 of files, read in parts: what a measurement or a run was made of. */

import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
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
