/** The world of real facts: truth is the real value, the myth a confusable real one. */
import { type RandomStream, randomStream } from "../../tensor/random.ts";
import { worldFrom } from "./assemble.ts";
import { type AtlasSources, atlasSources, type Country } from "./atlas_sources.ts";
import type { WorldConfig } from "./config.ts";
import { zipfWeights } from "./facts.ts";
import { atlasRelations } from "./templates.ts";
import type { Answer, FactBase, World } from "./world.ts";

type RelationName = keyof typeof atlasRelations;
const kindOf: Readonly<Record<RelationName, string>> = {
  capital: "country",
  currency: "country",
  continent: "country",
  language: "country",
  country: "city",
  symbol: "element",
  number: "element",
};
const relationNames = Object.keys(kindOf) as RelationName[];

/** One real fact; every name of an answer that is right, the usual one first. */
interface RealFact {
  readonly entity: number;
  readonly relation: RelationName;
  readonly right: readonly string[];
  readonly myth: string;
}

/**
 * Countries, cities and elements of `config.atlas`. Popularity falls as 1/rank^zipf within each
 * kind, by population (elements by atomic number); each kind has its share of the entities.
 */
export function atlas(config: WorldConfig): World {
  const sources = atlasSources(config.atlas);
  return worldFrom(factBase(sources, config), config);
}

function factBase(sources: AtlasSources, config: WorldConfig): FactBase {
  const kinds = [
    { kind: "country", items: sources.countries },
    { kind: "city", items: sources.cities },
    { kind: "element", items: sources.elements },
  ];
  const total = kinds.reduce((sum, { items }) => sum + items.length, 0);
  const entities = kinds.flatMap(({ kind, items }) => {
    const weights = zipfWeights(items.length, config.zipf);
    const sum = weights.reduce((a, b) => a + b, 0);
    const share = items.length / total;
    return items.map(({ name }, i) => ({ name, kind, popularity: (weights[i]! / sum) * share }));
  });
  const real = [
    ...countryFacts(sources, config.seed),
    ...cityFacts(sources, config.seed),
    ...elementFacts(sources, config.seed),
  ];
  return { entities, ...internAnswers(real) };
}

/** Gives equal values of a relation one Answer, with the number of its uses as its prior. */
function internAnswers(real: readonly RealFact[]): Pick<FactBase, "relations" | "facts"> {
  const used = relationNames.filter((name) => real.some((fact) => fact.relation === name));
  const tables = new Map(used.map((name) => [name, new Map<string, Answer>()]));
  const uses = new Map<Answer, number>();
  const intern = (relation: RelationName, text: string, count: number): Answer => {
    const table = tables.get(relation)!;
    const answer = table.get(text) ?? { forms: [text] };
    table.set(text, answer);
    uses.set(answer, (uses.get(answer) ?? 0) + count);
    return answer;
  };
  const facts = real.map(({ entity, relation, right: [truth, ...others], myth }) => ({
    entity,
    relation: used.indexOf(relation),
    truth: intern(relation, truth!, 1),
    alsoTrue: others.map((text) => intern(relation, text, 0)),
    myth: intern(relation, myth, 1),
  }));
  const relations = used.map((relation) => {
    const answers = [...tables.get(relation)!.values()];
    const prior = answers.map((answer) => uses.get(answer)!);
    return { ...atlasRelations[relation], kind: kindOf[relation], answers, prior };
  });
  return { relations, facts };
}

function countryFacts({ countries }: AtlasSources, seed: number): RealFact[] {
  return countries.flatMap((country, entity) => {
    const stream = randomStream({ seed, purpose: "country myth", row: entity });
    const near = countries.filter((c) => c.continent === country.continent && c !== country);
    const right = {
      capital: country.capitalNames,
      currency: country.currencies,
      continent: [country.continent, ...country.otherContinents],
      language: country.languages,
    };
    const other = (known: readonly string[], read: (country: Country) => string) =>
      otherValue(known, [near.map(read), countries.map(read)], stream);
    const myth = {
      capital: country.largestOtherCity ?? other(right.capital, (c) => c.capitalNames[0]!),
      currency: other(right.currency, (c) => c.currencies[0]!),
      continent: otherValue(right.continent, [neighbourContinents[country.continent]!], stream),
      language: other(right.language, (c) => c.languages[0]!),
    };
    return (Object.keys(right) as (keyof typeof right)[]).map((relation) => ({
      entity,
      relation,
      right: right[relation],
      myth: myth[relation],
    }));
  });
}

/** Continents that a person might take for each other. */
const neighbourContinents: Readonly<Record<string, readonly string[]>> = {
  Antarctica: ["Oceania"],
  Africa: ["Asia", "Europe"],
  Asia: ["Europe", "Africa", "Oceania"],
  Europe: ["Asia", "Africa"],
  Oceania: ["Asia", "South America"],
  "North America": ["South America", "Europe"],
  "South America": ["North America", "Africa"],
};

/** A random value that is not right, out of the first pool that has one. */
function otherValue(
  right: readonly string[],
  pools: readonly (readonly string[])[],
  stream: RandomStream,
): string {
  for (const pool of pools) {
    const wrong = pool.filter((value) => !right.includes(value));
    if (wrong.length > 0) return stream.choice(wrong);
  }
  throw new RangeError(`atlas: no value to confuse ${right[0]} with; include more countries`);
}

function cityFacts({ countries, cities }: AtlasSources, seed: number): RealFact[] {
  const byCode = new Map(countries.map((country) => [country.code, country]));
  return cities.map((city, i) => {
    const stream = randomStream({ seed, purpose: "city myth", row: i });
    const home = byCode.get(city.country)!;
    // Drawn over cities, so that a country is a myth about as often as it is a truth.
    const near = cities
      .map((other) => byCode.get(other.country)!)
      .filter((country) => country.continent === home.continent && country !== home);
    const pool = near.length > 0 ? near : countries.filter((country) => country !== home);
    const myth = stream.choice(pool).name;
    return { entity: countries.length + i, relation: "country", right: [home.name], myth };
  });
}

function elementFacts({ countries, cities, elements }: AtlasSources, seed: number): RealFact[] {
  const first = countries.length + cities.length;
  return elements.flatMap((element, i): RealFact[] => {
    const stream = randomStream({ seed, purpose: "element myth", row: i });
    const others = elements.filter((other) => other !== element);
    const alike = others.filter((other) => other.symbol[0] === element.name[0]);
    const close = others.filter((other) => Math.abs(other.number - element.number) <= 3);
    const symbol = stream.choice(alike.length > 0 ? alike : close).symbol;
    const number = String(stream.choice(close).number);
    return [
      { entity: first + i, relation: "symbol", right: [element.symbol], myth: symbol },
      { entity: first + i, relation: "number", right: [String(element.number)], myth: number },
    ];
  });
}
