/** The world T1 "Two voices": made-up people whose facts two kinds of source report differently. */
import { type RandomStream, randomStream } from "../../tensor/random.ts";
import { worldFrom } from "./assemble.ts";
import type { WorldConfig } from "./config.ts";
import { cumulative, drawAnswer, zipfWeights } from "./facts.ts";
import { type WordMaker, wordMaker, wordSequences } from "./names.ts";
import { type InventedRelation, inventedRelations } from "./templates.ts";
import type { Answer, FactBase, World } from "./world.ts";

/**
 * Invented facts under `config`. Truth and myth of each fact are drawn from the relation's skewed
 * prior, myth ≠ truth. A reliable document states truths; an unreliable one states the myth of a
 * contested fact and the truth of the others; an absent fact is never stated truthfully.
 */
export function twoVoices(config: WorldConfig): World {
  return worldFrom(inventedFacts(config), config);
}

function inventedFacts(config: WorldConfig): FactBase {
  const { seed } = config;
  const stream = randomStream({ seed, purpose: "words" });
  const make = wordMaker(stream);
  const entities = inventedPeople(config, make, stream);
  const relations = inventedRelations
    .slice(0, config.relations)
    .map((wording) => inventedRelation(wording, config, make, stream));
  const sums = relations.map((relation) => cumulative(relation.prior));
  const facts = entities.flatMap((_, entity) =>
    relations.map((answers, relation) => {
      const row = entity * relations.length + relation;
      const draw = randomStream({ seed, purpose: "truth", row });
      const truth = drawAnswer(answers, sums[relation]!, [], draw);
      const myth = drawAnswer(answers, sums[relation]!, [truth], draw);
      return { entity, relation, truth, alsoTrue: [], myth };
    }),
  );
  return { entities, relations, facts };
}

/** People with a first and a last name from shared pools; popularity falls as 1/rank^zipf. */
function inventedPeople(config: WorldConfig, make: WordMaker, stream: RandomStream) {
  const endings = ["son", "berg", "well"];
  const names = wordSequences(config.entities, 2, { make, stream, endings });
  const weights = zipfWeights(config.entities, config.zipf);
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return names.map((name, rank) => ({ name, kind: "person", popularity: weights[rank]! / total }));
}

function inventedRelation(
  { name, statements, question, endings }: InventedRelation,
  { answers: count, answerTokens, aliases, priorSkew }: WorldConfig,
  make: WordMaker,
  stream: RandomStream,
) {
  const names = count * (1 + aliases);
  const texts = wordSequences(names, answerTokens, { make, stream, endings });
  const answers = Array.from(
    { length: count },
    (_, i): Answer => ({ forms: texts.slice(i * (1 + aliases), (i + 1) * (1 + aliases)) }),
  );
  return {
    name,
    kind: "person",
    statements,
    question,
    answers,
    prior: zipfWeights(count, priorSkew),
  };
}
