/** Safetensors and checkpoint folders: round trips, files of other programs, hostile bytes. */

import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { loadModel, loadOptimizer, saveModel, saveOptimizer } from "../model/checkpoint.ts";
import { UserError } from "../model/errors.ts";
import { AdamW } from "../model/optimizer.ts";
import {
  decodeSafetensors,
  encodeSafetensors,
  readSafetensors,
  type StoredTensor,
  writeSafetensors,
} from "../model/safetensors.ts";
import { halfToFloat } from "../tensor/half.ts";
import { assetFolder, onDevices, tinyModel } from "./tiny_model.ts";

/** A file of the given header text and data. */
function file(header: string | object, data: Uint8Array | number = 0): Uint8Array {
  const text = new TextEncoder().encode(
    typeof header === "string" ? header : JSON.stringify(header),
  );
  const prefix = new Uint8Array(8);
  new DataView(prefix.buffer).setBigUint64(0, BigInt(text.length), true);
  const bytes = typeof data === "number" ? new Uint8Array(data) : data;
  return Uint8Array.from([...prefix, ...text, ...bytes]);
}
const entry = (begin: number, end: number, shape = [(end - begin) / 4], dtype = "F32") => ({
  dtype,
  shape,
  data_offsets: [begin, end],
});

const stored = fc.oneof(
  fc.float32Array({ maxLength: 12 }),
  fc.float64Array({ maxLength: 12 }),
  fc.int32Array({ maxLength: 12 }),
);
const tensorName = fc
  .string({ minLength: 1, maxLength: 12, unit: "binary" })
  .filter((name) => !["__proto__", "constructor", "prototype", "__metadata__"].includes(name));

test("what is written is read back: names, shapes, values, metadata", () => {
  const shaped = stored.map((values): StoredTensor => {
    return values.length % 2 === 0
      ? { shape: [2, values.length / 2], values: values as never }
      : { shape: [values.length], values: values as never };
  });
  fc.assert(
    fc.property(
      fc.dictionary(tensorName, shaped, { maxKeys: 6, noNullPrototype: true }),
      fc.dictionary(tensorName, fc.string({ unit: "binary" }), {
        maxKeys: 3,
        noNullPrototype: true,
      }),
      (tensors, metadata) => {
        const [given, about] = [
          new Map(Object.entries(tensors)),
          new Map(Object.entries(metadata)),
        ];
        const bytes = encodeSafetensors(given, about);
        const read = decodeSafetensors(bytes);
        assert.deepEqual(read.metadata, about);
        assert.deepEqual([...read.tensors.keys()].sort(), [...given.keys()].sort());
        for (const [name, t] of given) assert.deepEqual(read.tensors.get(name), t);
      },
    ),
    { seed: 11, numRuns: 150 },
  );
});

test("every readable format gives its numbers", () => {
  const bytes = (values: ArrayBufferView) => new Uint8Array(values.buffer);
  const formats: [string, Uint8Array, number[]][] = [
    ["F16", bytes(Uint16Array.of(0x3c00, 0xc100, 0x0001, 0x7bff)), [1, -2.5, 2 ** -24, 65504]],
    ["BF16", bytes(Uint16Array.of(0x3f80, 0xc020, 0x7f7f)), [1, -2.5, 3.3895313892515355e38]],
    ["I64", bytes(BigInt64Array.of(-3n, 2147483647n)), [-3, 2147483647]],
    ["I8", bytes(Int8Array.of(-128, 127)), [-128, 127]],
    ["U8", Uint8Array.of(0, 255), [0, 255]],
    ["BOOL", Uint8Array.of(1, 0, 1), [1, 0, 1]],
    ["F64", bytes(Float64Array.of(0.1)), [0.1]],
  ];
  for (const [dtype, data, expected] of formats) {
    const x = entry(0, data.length, [expected.length], dtype);
    assert.deepEqual([...decodeSafetensors(file({ x }, data)).tensors.get("x")!.values], expected);
  }
  assert.ok(Number.isNaN(halfToFloat(0x7e00)));
  assert.equal(halfToFloat(0xfc00), -Infinity);
  assert.ok(Object.is(halfToFloat(0x8000), -0));
  const big = new Uint8Array(BigInt64Array.of(2n ** 40n).buffer);
  const hostile = file({ x: entry(0, 8, [1], "I64") }, big);
  assert.throws(() => decodeSafetensors(hostile, "f"), /f: tensor "x": .*1099511627776/);
});

test("padding to a multiple of 8 is read; values need not be aligned", () => {
  const padded = file(
    { a: entry(0, 4), b: entry(8, 12) },
    Uint8Array.from({ length: 16 }, () => 0),
  );
  assert.deepEqual([...decodeSafetensors(padded).tensors.keys()], ["a", "b"]);
  const odd = file(
    { a: entry(0, 1, [1], "U8"), b: entry(1, 5) },
    Uint8Array.of(7, 0, 0, 0x80, 0x3f),
  );
  assert.deepEqual([...decodeSafetensors(odd).tensors.get("b")!.values], [1]);
});

const hostile: [name: string, bytes: Uint8Array, message: RegExp][] = [
  ["empty", new Uint8Array(0), /0 bytes are too few/],
  ["seven bytes", new Uint8Array(7), /7 bytes are too few/],
  ["huge header", Uint8Array.of(255, 255, 255, 255, 255, 255, 255, 255), /claims .* at most/],
  ["header past the end", Uint8Array.of(200, 0, 0, 0, 0, 0, 0, 0), /claims 200 bytes, .*cut off/],
  ["empty header", file(""), /header is not JSON/],
  ["not JSON", file("{x"), /header is not JSON/],
  ["not UTF-8", file("x").map((b) => (b === 120 ? 255 : b)), /header is not JSON/],
  ["a list", file("[]"), /not a JSON object/],
  ["null", file("null"), /not a JSON object/],
  ["repeated tensor", file('{"a":{},"\\u0061":{}}'), /"a" occurs twice/],
  ["repeated key", file('{"a":{"dtype":"F32","dtype":"F64"}}'), /"dtype" occurs twice/],
  ["__proto__", file('{"__proto__":{"dtype":"F32"}}'), /"__proto__" is refused/],
  ["constructor", file({ constructor: entry(0, 4) }, 4), /"constructor" is refused/],
  ["metadata not text", file({ __metadata__: { step: 1 } }), /metadata "step" is not a string/],
  ["metadata a list", file({ __metadata__: ["x"] }), /metadata .*not a string/],
  ["no description", file({ a: 7 }), /tensor "a" has no description/],
  ["unknown dtype", file({ a: entry(0, 4, [4], "F8_E4M3") }, 4), /"a" has the dtype "F8_E4M3"/],
  ["dtype of an object", file({ a: { dtype: ["F32"] } }), /"a" has the dtype \["F32"\]/],
  ["negative size", file({ a: entry(0, 4, [-1]) }, 4), /"a" has the shape \[-1\]/],
  ["fraction", file({ a: entry(0, 4, [0.5]) }, 4), /"a" has the shape \[0\.5\]/],
  ["overflowing shape", file({ a: entry(0, 4, [2 ** 40, 2 ** 40]) }, 4), /"a" needs/],
  [
    "no shape",
    file({ a: { dtype: "F32", data_offsets: [0, 4] } }, 4),
    /"a" has the shape undefined/,
  ],
  ["offsets swapped", file({ a: entry(4, 0, [1]) }, 4), /"a" has the data_offsets \[4,0\]/],
  ["three offsets", file({ a: { ...entry(0, 4), data_offsets: [0, 4, 8] } }, 4), /data_offsets/],
  ["size and offsets", file({ a: entry(0, 8, [1]) }, 8), /"a" needs 4 bytes .* hold 8/],
  ["cut off", file({ a: entry(0, 8) }, 4), /"a" .*outside of the file's 4 data bytes.*cut off/],
  ["overlap", file({ a: entry(0, 8), b: entry(4, 12) }, 12), /"b" .*overlaps/],
  ["gap", file({ a: entry(0, 4), b: entry(20, 24) }, 24), /"b" .*gap/],
  ["gap at the start", file({ a: entry(8, 12) }, 12), /"a" .*gap/],
  ["trailing bytes", file({ a: entry(0, 4) }, 13), /9 bytes behind the last tensor/],
  ["bad bool", file({ a: entry(0, 1, [1], "BOOL") }, Uint8Array.of(2)), /"a": a BOOL byte is 2/],
];
for (const [name, bytes, message] of hostile) {
  test(`a hostile file is refused in words: ${name}`, () => {
    assert.throws(
      () => decodeSafetensors(bytes, "some.safetensors"),
      (error: Error) =>
        error.name === "UserError" &&
        /^some\.safetensors: /.test(error.message) &&
        message.test(error.message),
    );
  });
}

test("flipped and cut bytes give a clear error or a readable file, never anything else", () => {
  const tensors = new Map<string, StoredTensor>([
    ["embed", { shape: [2, 3], values: Float32Array.of(1, 2, 3, 4, 5, 6) }],
    ["ids", { shape: [2], values: Int32Array.of(7, 8) }],
  ]);
  const good = encodeSafetensors(tensors, new Map([["format", "pt"]]));
  let refused = 0;
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(good.length - 1), fc.integer({ min: 1, max: 255 })), {
        maxLength: 3,
      }),
      fc.option(fc.nat(good.length - 1), { freq: 3 }),
      (flips, cut) => {
        const bytes = Uint8Array.from(good).slice(0, cut ?? good.length);
        for (const [at, bits] of flips) if (at < bytes.length) bytes[at]! ^= bits;
        try {
          for (const { shape, values } of decodeSafetensors(bytes, "damaged").tensors.values()) {
            assert.equal(
              shape.reduce((a, b) => a * b, 1),
              values.length,
            );
          }
        } catch (error) {
          assert.ok(error instanceof UserError, String(error));
          assert.match(error.message, /^damaged: /);
          refused++;
        }
        if (cut !== null) assert.throws(() => decodeSafetensors(good.slice(0, cut)), UserError);
      },
    ),
    { seed: 5, numRuns: 2000 },
  );
  assert.ok(refused > 1000, `only ${refused} of 2000 damaged files were refused`);
});

/** Runs `body` with a fresh folder, which is removed afterwards. */
async function inFolder(body: (folder: string) => void | Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "safetensors-"));
  try {
    await body(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

test("a write replaces the whole file and leaves nothing else, and its errors name the path", () =>
  inFolder((folder) => {
    const path = join(folder, "a.safetensors");
    const one = (value: number) => new Map([["x", { shape: [1], values: Float32Array.of(value) }]]);
    writeSafetensors(path, one(1));
    writeSafetensors(path, one(2));
    assert.deepEqual([...readSafetensors(path).tensors.get("x")!.values], [2]);
    const wrong = new Map([...one(3), ["y", { shape: [2], values: Float32Array.of(1) }]]);
    assert.throws(() => writeSafetensors(path, wrong), /y has 1 values for shape \[2\]/);
    assert.deepEqual([...readSafetensors(path).tensors.get("x")!.values], [2]);
    assert.deepEqual(readdirSync(folder), ["a.safetensors"]);
    const nowhere = join(folder, "no", "a.safetensors");
    assert.throws(() => writeSafetensors(nowhere, one(1)), /cannot write .*no.*no such file/);
    assert.throws(() => readSafetensors(nowhere), /cannot read .*no such file/);
  }));

onDevices("a model folder holds all of a model", () =>
  inFolder(async (folder) => {
    const { config, parameters } = tinyModel({ tie_word_embeddings: false });
    await saveModel(join(folder, "a", "b"), { config, parameters });
    const read = loadModel(join(folder, "a", "b"));
    assert.deepEqual(read.config, config);
    assert.deepEqual([...read.parameters.keys()].sort(), [...parameters.keys()].sort());
    for (const [name, t] of parameters) {
      assert.deepEqual(read.parameters.get(name)!.shape, t.shape);
      assert.deepEqual(read.parameters.get(name)!.dataSync(), t.dataSync());
    }
  }),
);

test("a model folder that doesn't fit its config is refused, naming every tensor", () =>
  inFolder(async (folder) => {
    const { config, parameters } = tinyModel();
    assert.throws(() => loadModel(join(folder, "no")), /there is no model folder .*no/);
    assert.throws(() => loadModel(folder), /cannot read .*config\.json: there is no such file/);
    writeFileSync(join(folder, "config.json"), "{");
    assert.throws(() => loadModel(folder), /config\.json is not JSON/);
    const odd = new Map(parameters);
    odd.delete("model.norm.weight");
    odd.set("extra", parameters.get("model.layers.0.mlp.up_proj.weight")!);
    odd.set("model.layers.1.mlp.up_proj.weight", parameters.get("model.embed_tokens.weight")!);
    await saveModel(folder, { config, parameters: odd });
    const message = new RegExp(
      [
        "model.layers.1.mlp.up_proj.weight is \\[23 16\\], the config says \\[24 16\\]",
        "model.norm.weight \\[16\\] is missing",
        "extra is not in",
      ].join(".*"),
      "s",
    );
    assert.throws(() => loadModel(folder), { name: "UserError", message });
    const path = join(folder, "model.safetensors");
    writeFileSync(path, readFileSync(path).subarray(0, 3000));
    assert.throws(() => loadModel(folder), /model\.safetensors.*cut off/);
  }));

test("what other tools add to a checkpoint is passed over", () =>
  inFolder(async (folder) => {
    const { config, parameters } = tinyModel();
    const more = new Map(parameters);
    more.set("lm_head.weight", parameters.get("model.embed_tokens.weight")!);
    more.set("model.layers.0.self_attn.rotary_emb.inv_freq", parameters.get("model.norm.weight")!);
    await saveModel(folder, { config, parameters: more });
    assert.equal(loadModel(folder).parameters.size, parameters.size);
  }));

test("an optimizer's state of another model is refused", () =>
  inFolder(async (folder) => {
    const path = join(folder, "optimizer.safetensors");
    await saveOptimizer(path, new AdamW(tinyModel().parameters));
    const other = new AdamW(tinyModel({ intermediate_size: 8 }).parameters);
    assert.throws(
      () => loadOptimizer(path, other),
      /first\..*gate_proj.* is \[24 16\], expected \[8 16\]/,
    );
    mkdirSync(join(folder, "m"));
    const { config, parameters } = tinyModel();
    await saveModel(join(folder, "m"), { config, parameters });
    const weights = join(folder, "m", "model.safetensors");
    assert.throws(() => loadOptimizer(weights, other), /no step count/);
  }));

const fixtures = assetFolder("models/safetensors-fixtures", 1);
if (fixtures !== undefined) {
  test("files that other programs wrote are read", () => {
    // Shape, kind of array, first values, and sum of all.
    const expected: [string, number[], string, number[], number][] = [
      ["tensor-1d-int32", [3], "Int32Array", [1, 2, 3], 6],
      ["tensor-2d-float64", [2, 3], "Float64Array", [1, 2, 3, 24, 25, 26], 81],
      ["tensor-3d-float32", [2, 2, 3], "Float32Array", [22, 23, 24, 11, 12, 13, 2], 120],
      ["tensor-4d-float32", [2, 3, 1, 3], "Float32Array", [11, 12, 13, 1, 2, 3, 4], 228],
      ["model2vec-test-float16", [29528, 2], "Float32Array", [-0.464599609375], -822.19528],
      ["model2vec-test-int8", [29528, 2], "Int32Array", [-1, 0, 2, -6, 1, 4], -2076],
    ];
    for (const [file, shape, kind, first, sum] of expected) {
      const { tensors } = readSafetensors(join(fixtures, `${file}.safetensors`));
      const [read] = [...tensors.values()] as [StoredTensor];
      assert.deepEqual([tensors.size, read.shape, read.values.constructor.name], [1, shape, kind]);
      assert.deepEqual([...read.values.subarray(0, first.length)], first);
      const total = (read.values as Float64Array).reduce((a, b) => a + b, 0);
      assert.ok(Math.abs(total - sum) < 1e-4, `${file}: ${total}`);
    }
  });
}
