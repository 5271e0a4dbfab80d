/** The world of real facts: right, confusable, of a size that a small model can learn. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { fold } from "../eval/worlds/atlas_sources.ts";
import { buildWorld, presetConfig } from "../eval/worlds/presets.ts";
import { splitNames } from "../eval/worlds/world.ts";

const world = buildWorld(presetConfig("atlas"));

function fact(name: string, relation: string) {
  const entity = world.entities.find((candidate) => candidate.name === name);
  const kind = world.relations.find((candidate) => candidate.name === relation);
  const found = world.facts.find((f) => f.entity === entity?.id && f.relation === kind?.id);
  assert.ok(found, `no ${relation} of ${name}`);
  return found;
}

describe("the atlas", () => {
  for (const [name, relation, truth] of [
    ["Australia", "capital", "Canberra"],
    ["Brazil", "capital", "Brasília"],
    ["Türkiye", "capital", "Ankara"],
    ["France", "capital", "Paris"],
    ["Japan", "currency", "Japanese Yen"],
    ["Germany", "currency", "Euro"],
    ["Kenya", "continent", "Africa"],
    ["Canada", "continent", "North America"],
    ["Brazil", "language", "Portuguese"],
    ["Egypt", "language", "Arabic"],
    ["Mumbai", "country", "India"],
    ["Sydney", "country", "Australia"],
    ["New York City", "country", "United States"],
    ["Iron", "symbol", "Fe"],
    ["Gold", "symbol", "Au"],
    ["Oxygen", "atomic number", "8"],
    ["Uranium", "atomic number", "92"],
  ] as const) {
    test(`${relation} of ${name} is ${truth}`, () => {
      assert.equal(fact(name, relation).truth.forms[0], truth);
    });
  }

  test("the myth of a capital is the largest other city", () => {
    for (const [name, city] of [
      ["Australia", "Sydney"],
      ["Türkiye", "Istanbul"],
      ["Brazil", "São Paulo"],
      ["Nigeria", "Lagos"],
      ["Pakistan", "Karachi"],
    ] as const) {
      assert.equal(fact(name, "capital").myth.forms[0], city);
    }
  });

  test("a myth is never right, and is a real value of its relation", () => {
    for (const { truth, alsoTrue, myth, relation } of world.facts) {
      const right = [truth, ...alsoTrue].flatMap((answer) => answer.forms.map(fold));
      assert.ok(!right.includes(fold(myth.forms[0]!)), `${myth.forms[0]} is right`);
      assert.ok(world.relations[relation]!.answers.includes(myth));
    }
  });

  test("also accepts what is right besides: languages, continents, spellings of a capital", () => {
    const accepted = (name: string, relation: string) =>
      splitNames
        .flatMap((split) => world.questions(split))
        .find((q) => q.id === fact(name, relation).id)!.accepted;
    assert.deepEqual(accepted("Canada", "language"), ["English", "French"]);
    assert.deepEqual(accepted("Russia", "continent"), ["Asia", "Europe"]);
    assert.deepEqual(accepted("Kazakhstan", "capital"), ["Astana", "Nur-Sultan"]);
    assert.deepEqual(accepted("Australia", "capital"), ["Canberra"]);
  });

  test("no city of the atlas is a capital, which would answer one question by another", () => {
    const capital = world.relations.find((relation) => relation.name === "capital")!;
    const capitals = new Set(
      world.facts
        .filter((f) => f.relation === capital.id)
        .flatMap((f) => [f.truth, ...f.alsoTrue].flatMap((answer) => answer.forms.map(fold))),
    );
    const cities = world.entities.filter((entity) => entity.kind === "city");
    for (const { name } of cities) assert.ok(!capitals.has(fold(name)), name);
  });

  test("names are unique, answers have one to four words, and sizes stay small", () => {
    const names = world.entities.map((entity) => fold(entity.name));
    assert.equal(new Set(names).size, names.length);
    const lengths = world.relations
      .flatMap((relation) => relation.answers.flatMap((answer) => answer.forms))
      .map((form) => form.split(" ").length);
    assert.equal(Math.min(...lengths), 1);
    assert.equal(Math.max(...lengths), 4);
    assert.equal(world.entities.length, 608);
    assert.equal(world.facts.length, 1176);
    assert.ok(world.vocabulary.size <= 1500, `${world.vocabulary.size} words`);
  });

  test("each kind has its share of documents, and its larger members more of them", () => {
    for (const kind of ["country", "city", "element"]) {
      const members = world.entities.filter((entity) => entity.kind === kind);
      const sum = members.reduce((total, entity) => total + entity.popularity, 0);
      assert.ok(Math.abs(sum - members.length / world.entities.length) < 1e-9, kind);
      for (const [i, member] of members.entries()) {
        assert.ok(i === 0 || member.popularity < members[i - 1]!.popularity);
      }
      for (const split of splitNames) {
        const ids = new Set(world.splits[split]);
        assert.ok(
          members.some((member) => ids.has(member.id)),
          `${split} has no ${kind}`,
        );
      }
    }
    assert.equal(world.entities[0]!.name, "China");
  });

  test("absent facts are never stated truthfully in any right form", () => {
    for (let i = 0; i < 20_000; i++) {
      for (const { factId, value } of world.document(i).statements) {
        const { absent, truth, alsoTrue } = world.facts[factId]!;
        assert.ok(!(absent && [truth, ...alsoTrue].includes(value)), `fact ${factId}`);
      }
    }
  });

  test("says clearly when the sources hold too few entities", () => {
    const config = presetConfig("atlas", { atlas: { citiesPerCountry: 1, cities: 1000 } });
    assert.throws(() => buildWorld(config), /1000 cities wanted, the sources hold \d+/);
  });
});
