/** The de-duplication pipeline on a world's own questions: texts, answers and names, no id of a fact. */

import { type DedupResult, deduplicate } from "../eval/dedup/deduplicate.ts";
import { lexicalEmbedder } from "../eval/dedup/embed.ts";
import { type Level, type QaRecord, ruleJudge } from "../eval/dedup/pair_judge.ts";
import { questionRecords } from "../eval/worlds/questions.ts";
import type { Question, World } from "../eval/worlds/world.ts";

/** Questions as the pipeline sees them, in order. */
function recordsOf(world: World, questions: readonly Question[]): QaRecord[] {
  const own = { entities: world.entities, questions: () => questions };
  return questionRecords(own).test.map(({ id, text, answers, entity }, i) => {
    return { id: `${i}:${id}`, text, answers, entity };
  });
}

/** What the pipeline removes from `test` because `train` shares it. */
export async function removedFrom(
  world: World,
  test: readonly Question[],
  train: readonly Question[],
  level: Level,
): Promise<DedupResult & { readonly gone: ReadonlySet<number> }> {
  const [records, against] = [recordsOf(world, test), recordsOf(world, train)];
  const all = [...records, ...against];
  const embedder = lexicalEmbedder(all.map(({ text }) => text));
  const result = await deduplicate(records, against, { embedder, judge: ruleJudge(all), level });
  const kept = new Set(result.kept);
  const gone = test.filter((_, i) => !kept.has(records[i]!.id)).map(({ id }) => id);
  return { ...result, gone: new Set(gone) };
}
