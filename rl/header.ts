/** What a run prints of its world. */

import type { World } from "../eval/worlds/world.ts";

/** The world's parameters: they stand beside every figure. */
export function worldText({ config, entities, facts, vocabulary, questions }: World): string[] {
  const { reliableShare, contestedShare, absentShare, qaUnreliableShare, zipf, voiceCue } = config;
  const share = (x: number): string => `${Math.round(100 * x)} %`;
  const sizes = (["qa", "train", "validation", "test"] as const)
    .map((split) => `${split} ${questions(split).length}`)
    .join(", ");
  return [
    `${entities.length} entities, ${facts.length} facts, ${vocabulary.size} words; ` +
      `questions: ${sizes} (no entity in two of them)`,
    `documents: ${share(reliableShare)} by reliable sources; the others are wrong about ` +
      `${share(contestedShare)} of all facts; ${share(absentShare)} are never stated truthfully`,
    `asked in pre-training: answered by unreliable sources in ${share(qaUnreliableShare)}; ` +
      `popularity 1/rank^${zipf}; ` +
      (voiceCue ? "wording tells the source" : "NULL WORLD: wording tells nothing"),
  ];
}
