/** A limit on work: how much of it is done at a time. */

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
