/** What a run prints of its world. */

import type { WorldConfig } from "../eval/worlds/config.ts";
import type { World } from "../eval/worlds/world.ts";

const share = (x: number): string => `${Math.round(100 * x)} %`;

/** The world's parameters: they stand beside every figure. */
export function worldText(world: World): string[] {
  const { config, entities, facts, vocabulary, questions, sets } = world;
  const { reliableShare, noiseShare, qaUnreliableShare, zipf, voiceCue } = config;
  // Counted, for a world's sets differ from its settings (Frontier) and its dice fall as they fall.
  const absent = facts.filter(({ status }) => status === "absent").length;
  const myths = facts.filter(({ status }) => status !== "stored").length;
  const sizes = (["qa", "train", "validation", "test"] as const)
    .map((split) => `${split} ${questions(split).length}`)
    .join(", ");
  const leaked = questions("train").filter(({ id, factId }) => id !== factId).length;
  const apart = leaked > 0 ? `${leaked} of train re-word one of test` : "no entity in two of them";
  return [
    `${entities.length} entities, ${facts.length} facts, ${vocabulary.size} words; ` +
      `questions: ${sizes} (${apart})`,
    ...(sets.length > 1 ? [setsText(world)] : []),
    `documents: ${share(reliableShare)} by reliable sources; the others tell a myth about ` +
      `${share(myths / facts.length)} of all facts; ${share(absent / facts.length)} are never stated ` +
      `truthfully; ${share(noiseShare)} of the statements are noise`,
    (config.qaShare === 0
      ? "no questions in pre-training; "
      : `asked in pre-training: ${share(qaUnreliableShare)} answered by unreliable sources, the others ` +
        "by reliable ones that know; ") +
      `popularity 1/rank^${zipf}; ` +
      (voiceCue ? "wording tells the source" : "NULL WORLD: wording tells nothing"),
    ...furtherText(config),
  ];
}

/** What only some worlds have. */
function furtherText(config: WorldConfig): string[] {
  const { unknowableShare, answerTokens, aliases, goldForm, thinkShare } = config;
  const { qaUnreliableShare, thinkUnreliableShare = qaUnreliableShare } = config;
  const parts = [
    unknowableShare > 0 &&
      `${share(unknowableShare)} of the training labels replaced by unknowable ones`,
    answerTokens > 1 && `answers of ${answerTokens} words`,
    aliases > 0 && `${aliases + 1} names an answer, gold ${goldForm}`,
    thinkShare > 0 &&
      `${share(thinkShare)} of the question documents recall a statement first, ` +
        `${share(thinkUnreliableShare)} of them an unreliable one`,
  ].filter((part) => part !== false);
  return parts.length === 0 ? [] : [parts.join("; ")];
}

/** Test questions of each set: popular entities, free wordings, little-known ones, unknowable facts. */
const setsText = ({ sets, questions }: World): string =>
  `question sets: ${sets.map((set) => `${set} ${questions("test", set).length}`).join(", ")} of test`;
