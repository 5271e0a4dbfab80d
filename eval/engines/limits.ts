/** Limits on calls: how many at a time, and how many begin in a minute. */

import { type Clock, realClock } from "./retry.ts";

/**
 * `work` on each item, at most `concurrency` at a time; results in the items' order. After the first
 * error no further item is begun, those at work are waited for (what they give may be stored), and
 * that error is thrown.
 */
export async function mapLimited<T, R>(
  items: readonly T[],
  concurrency: number,
  work: (item: T, index: number) => Promise<R>,
): Promise<R[]> {
  const results = new Array<R>(items.length);
  let [next, failed] = [0, undefined as { error: unknown } | undefined];
  const worker = async (): Promise<void> => {
    while (next < items.length && failed === undefined) {
      const index = next++;
      try {
        results[index] = await work(items[index]!, index);
      } catch (error) {
        failed ??= { error };
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(concurrency, items.length) }, worker));
  if (failed !== undefined) throw (failed as { error: unknown }).error;
  return results;
}

/**
 * A gate that lets `perMinute` calls through in a minute, evenly: each waits for its turn. No limit
 * where it is undefined.
 */
export function ratePerMinute(
  perMinute: number | undefined,
  clock: Clock = realClock,
): (signal?: AbortSignal) => Promise<void> {
  if (perMinute === undefined) return async () => {};
  if (!(perMinute > 0)) throw new RangeError(`${perMinute} requests per minute: expected above 0`);
  let free = Number.NEGATIVE_INFINITY;
  return async (signal) => {
    const now = clock.now();
    const turn = Math.max(now, free);
    free = turn + 60_000 / perMinute;
    if (turn > now) await clock.sleep(turn - now, signal);
  };
}
