/** Flags from any schema and back, hashes of configurations, and names that are near. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import fc from "fast-check";
import { z } from "zod";
import { baseModelHash, type TrainConfig, trainShape } from "../rl/config.ts";
import { type Field, fieldsOf, textFromValue, valueFromText } from "../rl/fields.ts";
import { parseFlags, setPath, toFlags } from "../rl/flags.ts";
import { canonicalJson, configHash } from "../rl/hash.ts";
import { commandFlags, presetConfig, resolveConfig } from "../rl/resolve.ts";
import { editDistance, nearest } from "../rl/user_error.ts";
import { scratchFolder } from "./support/disk.ts";

const { path: scratch } = scratchFolder();

const jsonFile = (name: string, value: unknown) => {
  const path = join(scratch, name);
  writeFileSync(path, typeof value === "string" ? value : JSON.stringify(value));
  return path;
};

const configOf = (...argv: string[]): TrainConfig => {
  const resolved = resolveConfig(argv);
  assert.equal(resolved.help, null);
  return (resolved as Extract<typeof resolved, { help: null }>).config;
};

/** Values of a field, as far as its kind tells; ranges are zod's business. */
function valuesOf(field: Field): fc.Arbitrary<unknown> {
  const number = fc.double({ noNaN: true, noDefaultInfinity: true }).map((x) => x + 0);
  const scalars = {
    boolean: fc.boolean(),
    integer: fc.integer(),
    number,
    string: fc.string(),
    enum: fc.constantFrom(...(field.values.length > 0 ? field.values : ["?"])),
  };
  const tuple = field.items.length > 1;
  const items = field.items.map((kind) => scalars[kind] as fc.Arbitrary<unknown>);
  const value =
    field.kind === "json"
      ? fc.jsonValue().filter((json) => json !== null)
      : field.kind !== "list"
        ? scalars[field.kind]
        : tuple
          ? fc.tuple(...items)
          : fc.array(items[0]!);
  return field.nullable ? fc.oneof(value, fc.constant(null)) : value;
}

const noNegativeZero = (value: unknown): unknown => JSON.parse(JSON.stringify(value));

const anySchema = z.strictObject({
  flag: z.boolean().describe("a"),
  maybeFlag: z.boolean().nullable(),
  level2: z.object({
    camelCaseName: z.number(),
    level3: z.strictObject({ qaURL: z.string(), k1: z.int().nullable() }).prefault({} as never),
  }),
  choice: z.enum(["one", "two"]).nullable(),
  sizes: z.array(z.int()).default([1]),
  words: z.array(z.string()),
  pair: z.tuple([z.number(), z.string()]),
  either: z.union([z.number(), z.array(z.string())]),
  table: z.record(z.string(), z.number()),
  literal: z.literal([1, 2]),
});

describe("flags round-trip", () => {
  for (const [name, schema] of [
    ["training settings", trainShape],
    ["any schema", anySchema],
  ] as const) {
    test(name, () => {
      const fields = fieldsOf(schema);
      assert.ok(fields.length >= 10);
      const configs = fc
        .tuple(...fields.map((field) => fc.option(valuesOf(field), { nil: undefined })))
        .map((values) => {
          const config = {};
          for (const [i, field] of fields.entries()) {
            const value = values[i];
            if (value !== undefined) setPath(config, field.path, noNegativeZero(value));
          }
          return config;
        });
      fc.assert(
        fc.property(configs, (config) => {
          const argv = toFlags(schema, config);
          const parsed = parseFlags(argv, fields, commandFlags);
          assert.deepEqual(parsed.problems, []);
          assert.deepEqual(parsed.values, config);
        }),
        { seed: 1, numRuns: 200 },
      );
    });
  }

  test("a resolved configuration survives flags, JSON file and hash", () => {
    const config = configOf("--preset", "demo", "--seed", "8", "--grpo.kl-estimator", "k3");
    assert.deepEqual(configOf(...toFlags(trainShape, config)), config);
    assert.deepEqual(configOf("--config", jsonFile("whole.json", config)), config);
    const few = toFlags(trainShape, config, presetConfig("demo"));
    assert.deepEqual(few, ["--seed", "8", "--grpo.kl-estimator", "k3"]);
  });

  test("text that means no value of the kind comes back for zod to refuse", () => {
    const field = fieldsOf(trainShape).find(({ key }) => key === "seed")!;
    for (const text of ["", " ", "abc", "1e999", "NaN", "1,000", "none"]) {
      assert.equal(valueFromText(field, text), text);
    }
    assert.equal(valueFromText(field, "1e3"), 1000);
    assert.equal(textFromValue(field, 1000), "1000");
  });
});

describe("hashes", () => {
  test("do not depend on key order, but on every value", () => {
    const shuffled = (value: unknown): unknown =>
      typeof value === "object" && value !== null && !Array.isArray(value)
        ? Object.fromEntries(
            Object.entries(value)
              .reverse()
              .map(([key, item]) => [key, shuffled(item)]),
          )
        : value;
    fc.assert(
      fc.property(fc.object({ key: fc.string(), withNullPrototype: false }), (object) => {
        const json = JSON.parse(JSON.stringify(object));
        assert.equal(configHash(json), configHash(shuffled(json) as object));
      }),
      { seed: 2 },
    );
    const config = configOf();
    assert.equal(configHash(config), configHash(shuffled(config) as object));
    for (const field of fieldsOf(trainShape)) {
      const changed = structuredClone(config) as Record<string, unknown>;
      setPath(changed, field.path, "another");
      assert.notEqual(configHash(changed), configHash(config), field.key);
    }
  });

  test("known answer, keys picked, and values that JSON cannot hold", () => {
    assert.equal(
      canonicalJson({ b: [1, -0, "x"], a: { d: null, c: true } }),
      '{"a":{"c":true,"d":null},"b":[1,0,"x"]}',
    );
    // sha256 of "{}"
    assert.equal(
      configHash({}),
      "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
    );
    assert.equal(configHash({ a: 1, b: 2 }, ["b"]), configHash({ b: 2 }));
    assert.throws(() => configHash({ a: 1 }, ["c"]), /no "c" to hash/);
    assert.throws(() => configHash({ a: { b: [Number.NaN] } }), /value.a.b\[0\] is NaN/);
  });

  test("the base model's hash sees what shapes it and nothing else", () => {
    const base = baseModelHash(configOf());
    // Models that were pre-trained before stay in the cache: raise pretrainingVersion instead.
    assert.equal(base, "44182b4d332303c8b15acfef8c4b132cb522be952712ec81503a8b44125a1e1f");
    for (const argv of [
      ["--train.steps", "50"],
      ["--reward", "random"],
      ["--seeds.rl", "9"],
    ]) {
      assert.equal(baseModelHash(configOf(...argv)), base, argv.join(" "));
    }
    assert.equal(
      baseModelHash(configOf("--seed", "2", "--seeds.world=1", "--seeds.pretrain=1")),
      base,
    );
    for (const argv of [
      ["--seed", "2"],
      ["--seeds.pretrain", "2"],
      ["--pretrain.steps", "60"],
      ["--model.family", "qwen2"],
    ]) {
      assert.notEqual(baseModelHash(configOf(...argv)), base, argv.join(" "));
    }
    const families = ["llama", "qwen2", "qwen3", "olmo2", "qwen3moe"];
    const mixture = ["--model.family", "qwen3moe"];
    const hashes = [
      ...families.map((family) => baseModelHash(configOf("--model.family", family))),
      ...["experts", "experts-per-token", "expert-intermediate-size", "auxiliary-loss"].map(
        (name) => baseModelHash(configOf(...mixture, `--model.${name}`, "3")),
      ),
    ];
    assert.equal(new Set(hashes).size, 9);
  });
});

describe("names that are near", () => {
  test("known distances", () => {
    assert.equal(editDistance("kitten", "sitting"), 3);
    assert.equal(editDistance("steps", "setps"), 1);
    assert.equal(editDistance("", "abc"), 3);
  });

  test("the distance is a symmetric one with zero only for equals", () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 8 }), fc.string({ maxLength: 8 }), (a, b) => {
        const distance = editDistance(a, b);
        assert.equal(distance, editDistance(b, a));
        assert.equal(distance === 0, a === b);
        assert.ok(distance <= Math.max(a.length, b.length));
        assert.ok(distance >= Math.abs(a.length - b.length));
      }),
      { seed: 3 },
    );
  });

  test("each name with one letter too many finds itself", () => {
    const flags = fieldsOf(trainShape).map(({ flag }) => flag);
    for (const flag of flags.filter((name) => name.length > 7)) {
      assert.equal(nearest(`${flag.slice(0, -1)}#${flag.slice(-1)}`, flags), flag);
    }
    assert.equal(nearest("--xyzxyzxyz", flags), null);
  });
});
