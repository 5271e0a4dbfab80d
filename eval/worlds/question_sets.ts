/** The question sets of a world: which entities each asks about, and in which words. */
import { randomStream } from "../../tensor/random.ts";
import type { WorldConfig } from "./config.ts";
import { paraphrases } from "./paraphrases.ts";
import { type Entity, type QuestionSet, questionSetNames } from "./world.ts";

type Bare = Omit<Entity, "id" | "set">;

/** From the most to the least popular quarter of the entities. */
const byPopularity: readonly QuestionSet[] = ["trivia", "asked", "tail", "frontier"];

/** Frontier entities of whom a corpus of about 100,000 documents holds one or two. */
const RARE_SHARE = 2 / 3;
/** Their popularity, as a share of what their rank would give. */
const RARITY = 0.03;
/**
 * Of all frontier facts one in ten is true of a person who isn't rare: (1 - RARE_SHARE)(1 - this) =
 * 0.1. Some of the rare ones are told more often than twice: counted in world 1, absent or told at
 * most twice are 85 % of the facts after 100,000 documents, and 80 % after the 178,000 that the 2,500
 * steps of the benchmarks preset read (88 and 86 % where only true tellings count).
 */
const FRONTIER_ABSENT_SHARE = 0.7;

/** The sets that a world has: one, or all four. */
export function setsInUse({ questionSets }: Pick<WorldConfig, "questionSets">): QuestionSet[] {
  return questionSets === "one" ? ["asked"] : [...questionSetNames];
}

/**
 * Gives every entity the set that asks about it. Of four sets each has a quarter of the entities, by
 * rank of popularity, and two thirds of the last quarter are next to never written about.
 */
export function assignSets(entities: readonly Bare[], config: WorldConfig): Omit<Entity, "id">[] {
  if (config.questionSets === "one") return entities.map((e) => ({ ...e, set: "asked" }));
  const ranked = entities.map((_, id) => id);
  ranked.sort((a, b) => entities[b]!.popularity - entities[a]!.popularity);
  const assigned: Omit<Entity, "id">[] = entities.map((e) => ({ ...e, set: "asked" }));
  ranked.forEach((id, rank) => {
    const set = byPopularity[Math.floor((4 * rank) / ranked.length)]!;
    const rare = set === "frontier" && isRare(config.seed, id);
    const popularity = entities[id]!.popularity * (rare ? RARITY : 1);
    assigned[id] = { ...entities[id]!, set, popularity };
  });
  const total = assigned.reduce((sum, { popularity }) => sum + popularity, 0);
  return assigned.map((entity) => ({ ...entity, popularity: entity.popularity / total }));
}

const isRare = (seed: number, row: number): boolean =>
  randomStream({ seed, purpose: "frontier", row }).uniform() < RARE_SHARE;

/** Share of a set's facts that no document states truthfully. */
export function absentShareOf(set: QuestionSet, config: WorldConfig): number {
  return set === "frontier" ? FRONTIER_ABSENT_SHARE : config.absentShare;
}

/** Question documents ask about the entities of the qa split; the frontier has none of them. */
export function sharesOf(set: string, config: WorldConfig) {
  const { qaEntityShare, testShare, validationShare } = config;
  return { qaEntityShare: set === "frontier" ? 0 : qaEntityShare, testShare, validationShare };
}

/** A relation's questions by set, with the slot {e}; none for a set that the world lacks. */
export function wordingsOf(
  { name, question }: { readonly name: string; readonly question: string },
  config: WorldConfig,
): Record<QuestionSet, readonly string[]> {
  const more = paraphrases[name];
  const asked = [question, ...(more?.asked ?? [])].slice(0, config.questionWordings);
  if (config.questionSets === "one") return { asked, trivia: [], tail: [], frontier: [] };
  if (more === undefined) throw new RangeError(`relation "${name}" is worded for one set only`);
  return {
    asked,
    trivia: [more.trivia],
    tail: [`what is the ${name} of {e} ?`],
    frontier: [`exactly which ${name} is on file for {e} , as of now ?`],
  };
}
