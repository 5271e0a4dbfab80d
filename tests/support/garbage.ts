/** Asking the runtime to collect garbage now, where it lets us. */

import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

type Collector = () => void;

/** Bun's own function, or the one that V8 gives after a flag; undefined where there is none. */
function collector(): Collector | undefined {
  const { Bun, gc } = globalThis as { Bun?: { gc(force: boolean): void }; gc?: Collector };
  if (Bun !== undefined) return () => Bun.gc(true);
  if (gc !== undefined) return gc;
  try {
    setFlagsFromString("--expose-gc");
    return runInNewContext("gc") as Collector;
  } catch {
    return undefined;
  }
}

const collect = collector();
export const canCollect = collect !== undefined;

/** Collects and lets finalizers run, until `done` or after half a second. */
export async function collectGarbage(done: () => boolean): Promise<void> {
  for (let turn = 0; turn < 50 && !done(); turn++) {
    collect?.();
    // Finalizers run in a task of their own.
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
