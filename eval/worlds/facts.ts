/** Decides what the sources will say of each fact: contested, absent, and which label is asked. */
import { type RandomStream, randomStream } from "../../tensor/random.ts";
import type { WorldConfig } from "./config.ts";
import { absentShareOf } from "./question_sets.ts";
import type { Answer, Entity, Fact, FactBase, FactStatus, Split } from "./world.ts";

/** Running sums of weights, as `RandomStream.weighted` reads them. */
export function cumulative(weights: readonly number[]): Float64Array {
  let sum = 0;
  return Float64Array.from(weights, (weight) => (sum += weight));
}

/** 1/rank^exponent for ranks 1..count. */
export function zipfWeights(count: number, exponent: number): number[] {
  return Array.from({ length: count }, (_, i) => (i + 1) ** -exponent);
}

/** Draws an answer from a relation's prior until it is none of `excluded`. */
export function drawAnswer(
  relation: { readonly answers: readonly Answer[] },
  sums: ArrayLike<number>,
  excluded: readonly Answer[],
  stream: RandomStream,
): Answer {
  for (let attempt = 0; attempt < 10_000; attempt++) {
    const answer = relation.answers[stream.weighted(sums)]!;
    if (!excluded.includes(answer)) return answer;
  }
  throw new RangeError(
    `no answer left: ${excluded.length} of ${relation.answers.length} answers are excluded`,
  );
}

/** The answers that no document may give for this fact; noise would otherwise state them. */
export function neverStated(fact: Fact): readonly Answer[] {
  const truths = fact.absent ? [fact.truth, ...fact.alsoTrue] : [];
  return fact.label === fact.truth ? truths : [...truths, fact.label];
}

/**
 * Draws, for each fact by itself, whether it is contested and whether it is absent; and for
 * training facts whether the label is one that the corpus never supports.
 */
export function decideFacts(
  base: FactBase,
  config: WorldConfig,
  entities: readonly Entity[],
  splitOf: (entity: number) => Split,
): Fact[] {
  const sums = base.relations.map((relation) => cumulative(relation.prior));
  return base.facts.map((fact, id) => {
    const stream = randomStream({ seed: config.seed, purpose: "fact", row: id });
    const contested = stream.uniform() < config.contestedShare;
    const absent = stream.uniform() < absentShareOf(entities[fact.entity]!.set, config);
    const mislabelled = stream.uniform() < config.unknowableShare;
    const known = [fact.truth, fact.myth, ...fact.alsoTrue];
    const label =
      mislabelled && splitOf(fact.entity) === "train"
        ? drawAnswer(base.relations[fact.relation]!, sums[fact.relation]!, known, stream)
        : fact.truth;
    const goldForm = config.goldForm === "first" ? 0 : stream.int(label.forms.length);
    const status: FactStatus = absent ? "absent" : contested ? "suppressed" : "stored";
    const knowable = !absent && label === fact.truth;
    return { id, ...fact, contested, absent, status, label, goldForm, knowable };
  });
}
