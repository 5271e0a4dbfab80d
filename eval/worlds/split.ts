/** Which entities are asked about where: splits share no entity, so no fact and no question. */
import type { RandomStream } from "../../tensor/random.ts";
import type { WorldConfig } from "./config.ts";
import { type Split, splitNames } from "./world.ts";

type Shares = Pick<WorldConfig, "qaEntityShare" | "testShare" | "validationShare">;

/**
 * Splits entities at random, each group of them by its own shares: question documents, then test,
 * then validation, and training from what is left. Throws if a split would have no entity.
 */
export function splitEntities(
  groups: readonly string[],
  sharesOf: (group: string) => Shares,
  stream: RandomStream,
): Record<Split, number[]> {
  const splits: Record<Split, number[]> = { qa: [], train: [], validation: [], test: [] };
  for (const group of new Set(groups)) {
    const shares = sharesOf(group);
    const ids = stream.shuffle(groups.flatMap((g, id) => (g === group ? [id] : [])));
    const qa = Math.round(ids.length * shares.qaEntityShare);
    const test = Math.round((ids.length - qa) * shares.testShare);
    const validation = Math.round((ids.length - qa - test) * shares.validationShare);
    const ends = [qa, qa + test, qa + test + validation];
    splits.qa.push(...ids.slice(0, ends[0]));
    splits.test.push(...ids.slice(ends[0], ends[1]));
    splits.validation.push(...ids.slice(ends[1], ends[2]));
    splits.train.push(...ids.slice(ends[2]));
  }
  for (const name of splitNames) {
    splits[name].sort((a, b) => a - b);
    if (splits[name].length > 0) continue;
    throw new RangeError(
      `split "${name}" has no entity out of ${groups.length} at shares ` +
        `${JSON.stringify(sharesOf(groups[0]!))}; ` +
        "use more entities or other shares",
    );
  }
  return splits;
}
