/** One process a run folder: a lock file that names its holder, and outlives no one. */

import { closeSync, openSync, readFileSync, rmSync } from "node:fs";
import { hostname } from "node:os";
import { join, resolve } from "node:path";
import { writeAll } from "../model/files.ts";
import { codeOf, fileError } from "./files.ts";
import { UserError } from "./user_error.ts";

interface Holder {
  readonly pid: number;
  readonly host: string;
}

/** Locks that this process holds, by absolute path. */
const held = new Set<string>();

export const lockName = "lock.json";

/**
 * Takes the folder for this process until the returned function is called or the process ends. A
 * lock whose holder is dead (a kill, a power cut) is taken over. Throws a UserError that names a
 * holder that is alive; one on another machine counts as alive.
 */
export function lockFolder(dir: string): () => void {
  const path = resolve(join(dir, lockName));
  const own: Holder = { pid: process.pid, host: hostname() };
  for (let attempt = 0; ; attempt++) {
    try {
      const file = openSync(path, "wx");
      writeAll(file, `${JSON.stringify(own)}\n`);
      closeSync(file);
      break;
    } catch (error) {
      if (codeOf(error) !== "EEXIST" || attempt > 3) {
        throw fileError(error, `cannot lock the run folder ${dir}`);
      }
      const holder = holderOf(path);
      if (isAlive(holder, own, path)) {
        const where = holder.host === own.host ? "" : ` on ${holder.host}`;
        throw new UserError(
          `${dir} is in use by process ${holder.pid}${where}; wait for it to end, or use another ` +
            `folder (if that process is gone, delete ${path})`,
        );
      }
      rmSync(path, { force: true });
    }
  }
  held.add(path);
  const release = () => {
    if (held.delete(path)) rmSync(path, { force: true });
    process.off("exit", release);
  };
  process.on("exit", release);
  return release;
}

/** An unreadable lock has no holder: a process died while it wrote it. */
function holderOf(path: string): Holder {
  try {
    return JSON.parse(readFileSync(path, "utf8")) as Holder;
  } catch {
    return { pid: -1, host: "" };
  }
}

function isAlive({ pid, host }: Holder, own: Holder, path: string): boolean {
  if (!(pid > 0)) return false;
  if (host !== own.host) return true;
  if (pid === own.pid) return held.has(path);
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return codeOf(error) === "EPERM"; // alive, and another user's
  }
}
