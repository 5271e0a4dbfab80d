/** What a run prints of its world. */

import type { World } from "../eval/worlds/world.ts";

/** The world's parameters: they stand beside every figure. */
export function worldText(world: World): string[] {
  const { config, entities, facts, vocabulary, questions, sets } = world;
  const { reliableShare, contestedShare, absentShare, qaUnreliableShare, zipf, voiceCue } = config;
  const share = (x: number): string => `${Math.round(100 * x)} %`;
  const sizes = (["qa", "train", "validation", "test"] as const)
    .map((split) => `${split} ${questions(split).length}`)
    .join(", ");
  const leaked = questions("train").filter(({ id, factId }) => id !== factId).length;
  const apart = leaked > 0 ? `${leaked} of train re-word one of test` : "no entity in two of them";
  return [
    `${entities.length} entities, ${facts.length} facts, ${vocabulary.size} words; ` +
      `questions: ${sizes} (${apart})`,
    ...(sets.length > 1 ? [setsText(world)] : []),
    `documents: ${share(reliableShare)} by reliable sources; the others are wrong about ` +
      `${share(contestedShare)} of all facts; ${share(absentShare)} are never stated truthfully`,
    (config.qaShare === 0
      ? "no questions in pre-training; "
      : `asked in pre-training: answered by unreliable sources in ${share(qaUnreliableShare)}; `) +
      `popularity 1/rank^${zipf}; ` +
      (voiceCue ? "wording tells the source" : "NULL WORLD: wording tells nothing"),
  ];
}

/** Test questions of each set: popular entities, free wordings, little-known ones, unknowable facts. */
const setsText = ({ sets, questions }: World): string =>
  `question sets: ${sets.map((set) => `${set} ${questions("test", set).length}`).join(", ")} of test`;
