/** One process a run folder: a lock file that names its holder, and outlives no one. */

import { randomInt } from "node:crypto";
import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { join, resolve } from "node:path";
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
export function lockFolder(dir: string, link: typeof linkSync = linkSync): () => void {
  const path = resolve(join(dir, lockName));
  const own: Holder = { pid: process.pid, host: hostname() };
  // The number tells this lock from that of a dead process of the same id.
  const text = `${JSON.stringify({ ...own, number: unique() })}\n`;
  try {
    for (let attempt = 0; !create(path, text, link); attempt++) {
      if (attempt > 10) throw new UserError(`other processes fight for ${path}; try again`);
      const found = textOf(path);
      if (found === undefined) continue;
      const holder = holderOf(found);
      if (isAlive(holder, own, path)) {
        const where = holder.host === own.host ? "" : ` on ${holder.host}`;
        throw new UserError(
          `${dir} is in use by process ${holder.pid}${where}; wait for it to end, or use another ` +
            `folder (if that process is gone, delete ${path})`,
        );
      }
      remove(path, found, link);
    }
  } catch (error) {
    throw fileError(error, `cannot lock the run folder ${dir}`);
  }
  held.add(path);
  const release = () => {
    if (held.delete(path) && textOf(path) === text) rmSync(path, { force: true });
    process.off("exit", release);
  };
  process.on("exit", release);
  return release;
}

const unique = (): number => randomInt(2 ** 47);

/** Makes the file, whole from its first moment; false where there is one. */
function create(path: string, text: string, link: typeof linkSync): boolean {
  const temporary = `${path}.tmp-${unique()}`;
  try {
    writeFileSync(temporary, text);
    link(temporary, path);
    return true;
  } catch (error) {
    if (codeOf(error) === "EEXIST") return false;
  } finally {
    rmSync(temporary, { force: true });
  }
  // FAT and some network shares know no links. Their file is empty for a moment, in which another
  // process may take it for a dead one's: rare, and better than no run there at all. What else was
  // wrong is wrong here too, and is thrown.
  try {
    writeFileSync(path, text, { flag: "wx" });
    return true;
  } catch (error) {
    if (codeOf(error) === "EEXIST") return false;
    throw error;
  }
}

/**
 * Takes away the lock that says `dead`. Another process may have done so and put its own there since:
 * what was moved aside and says something else goes back.
 */
function remove(path: string, dead: string, link: typeof linkSync): void {
  const aside = `${path}.tmp-dead-${unique()}`;
  try {
    renameSync(path, aside);
  } catch (error) {
    if (codeOf(error) === "ENOENT") return;
    throw error;
  }
  const found = textOf(aside);
  if (found !== undefined && found !== dead) create(path, found, link);
  rmSync(aside, { force: true });
}

function textOf(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if (codeOf(error) === "ENOENT") return undefined;
    throw error;
  }
}

/** An unreadable lock has no holder: a process died while it wrote it. */
function holderOf(text: string): Holder {
  try {
    return JSON.parse(text) as Holder;
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
