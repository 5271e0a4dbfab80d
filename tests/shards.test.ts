/** Checkpoints in shards and in half precision: saved and opened again, and indexes that lie. */

import assert from "node:assert/strict";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import fc from "fast-check";
import { loadModel, saveModel } from "../model/checkpoint.ts";
import { encodeWeights, formats } from "../model/dtypes.ts";
import { writeAllAtomic } from "../model/files.ts";
import { progressLine } from "../model/progress_line.ts";
import { writeSafetensors } from "../model/safetensors.ts";
import { sourceOfTree, weightFiles } from "../model/store.ts";
import { currentDevice, halfToFloat, roundToHalf, type Tensor, tensor } from "../tensor/mod.ts";
import { everyHalf, firstDifference, roundings } from "./support/halves.ts";
import { RUNS, SEED } from "./support/samples.ts";
import { tinyModel } from "./tiny_model.ts";

const scratch = mkdtempSync(join(tmpdir(), "anamnesis-shards-"));
after(() => rmSync(scratch, { recursive: true, force: true }));
let count = 0;
const fresh = (): string => join(scratch, String(count++));

const { config, parameters } = tinyModel({ tie_word_embeddings: false });
const valuesOf = (tree: ReadonlyMap<string, Tensor>) =>
  new Map([...tree].map(([name, t]) => [name, [...t.dataSync()]]));
const weightsIn = (folder: string) =>
  readdirSync(folder)
    .filter((name) => name.startsWith("model"))
    .sort();
const INDEX = "model.safetensors.index.json";

/** The bfloat16 nearest to x, the even one of two that are as near: by looking at both sides. */
function nearestBrain(x: number): number {
  const bits = new Uint32Array(Float32Array.of(x).buffer)[0]! & 0xffff0000;
  const float = (word: number) => new Float32Array(Uint32Array.of(word >>> 0).buffer)[0]!;
  const [low, high] = [float(bits), float(bits + 0x10000)];
  const [down, up] = [Math.abs(x - low), Math.abs(high - x)];
  if (down === up) return (bits >>> 16) % 2 === 0 ? low : high;
  return down < up ? low : high;
}

test("a model saved in shards of any size opens again, to the bit", async () => {
  const total = [...parameters.values()].reduce((sum, t) => sum + t.size, 0);
  const most = Math.max(...[...parameters.values()].map((t) => t.size));
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 3000, max: 5 * total }),
      fc.constantFrom("f32" as const, "f16" as const, "bf16" as const),
      async (maxShardBytes, dtype) => {
        const folder = fresh();
        await saveModel(folder, { config, parameters }, { dtype, maxShardBytes });
        const width = dtype === "f32" ? 4 : 2;
        const files = weightsIn(folder);
        if (maxShardBytes >= width * total) assert.deepEqual(files, ["model.safetensors"]);
        else {
          const { metadata, weight_map } = JSON.parse(readFileSync(join(folder, INDEX), "utf8"));
          assert.equal(metadata.total_size, width * total);
          assert.deepEqual(new Set(Object.keys(weight_map)), new Set(parameters.keys()));
          const shards = files.filter((name) => name !== INDEX);
          assert.deepEqual([...new Set(Object.values(weight_map))].sort(), shards);
          for (const name of shards) {
            assert.match(name, /^model-\d{5}-of-\d{5}\.safetensors$/);
            const limit = Math.max(maxShardBytes, width * most) + 4000;
            assert.ok(statSync(join(folder, name)).size <= limit, name);
          }
        }
        const round = { f32: Math.fround, f16: roundToHalf, bf16: nearestBrain }[dtype];
        const expected = [...valuesOf(parameters)].map(
          ([name, x]) => [name, x.map(round)] as const,
        );
        assert.deepEqual(valuesOf(loadModel(folder).parameters), new Map(expected));
        rmSync(folder, { recursive: true });
      },
    ),
    { seed: SEED, numRuns: Math.min(RUNS, 12) },
  );
});

test("a later save takes the place of an earlier one, whatever files either has", async () => {
  const folder = fresh();
  const other = tinyModel({ tie_word_embeddings: false, initializer_range: 0.1 });
  const sharded = { maxShardBytes: 4000 };
  await saveModel(folder, { config, parameters }, sharded);
  const many = weightsIn(folder);
  assert.ok(many.length > 3);
  await saveModel(folder, other);
  assert.deepEqual(weightsIn(folder), ["model.safetensors"]);
  assert.deepEqual(valuesOf(loadModel(folder).parameters), valuesOf(other.parameters));
  await saveModel(folder, { config, parameters }, sharded);
  assert.deepEqual(weightsIn(folder), many);
  await saveModel(folder, other, { maxShardBytes: 8000 });
  assert.ok(weightsIn(folder).length < many.length);
  assert.deepEqual(valuesOf(loadModel(folder).parameters), valuesOf(other.parameters));
});

test("shards over a single file are what is read, also where the save was killed at its end", async () => {
  const folder = fresh();
  await saveModel(folder, tinyModel({ tie_word_embeddings: false, initializer_range: 0.1 }));
  // All files are in their places, and nothing stale has been removed yet.
  await writeAllAtomic(weightFiles(folder, sourceOfTree(parameters), { maxShardBytes: 4000 }));
  assert.deepEqual(valuesOf(loadModel(folder).parameters), valuesOf(parameters));
});

test("config.json says how the weights are stored, so that other tools do not round them", async () => {
  const folder = fresh();
  const stored = () => JSON.parse(readFileSync(join(folder, "config.json"), "utf8")).torch_dtype;
  await saveModel(folder, { config, parameters });
  assert.equal(stored(), undefined);
  await saveModel(folder, { config, parameters }, { dtype: "bf16" });
  assert.equal(stored(), "bfloat16");
  await saveModel(folder, loadModel(folder));
  assert.equal(stored(), "float32");
});

test("a value too large for f16 is refused by name, and the old files stay", async () => {
  const folder = fresh();
  await saveModel(folder, { config, parameters });
  const before = readFileSync(join(folder, "model.safetensors"));
  const name = "model.layers.1.mlp.up_proj.weight";
  const shape = parameters.get(name)!.shape;
  const large = Float32Array.from({ length: shape[0]! * shape[1]! }, (_, i) =>
    i === 5 ? -65520 : i,
  );
  const wrong = new Map(parameters).set(name, tensor(large, shape));
  const save = saveModel(folder, { config, parameters: wrong }, { dtype: "f16" });
  await assert.rejects(save, {
    name: "UserError",
    message: /layers\.1\.mlp\.up_proj\.weight: its value -65520 \(at 5\) is too large for f16/,
  });
  assert.deepEqual(readFileSync(join(folder, "model.safetensors")), before);
  assert.deepEqual(readdirSync(folder).sort(), ["config.json", "model.safetensors"]);
  await saveModel(folder, { config, parameters: wrong }, { dtype: "bf16" });
});

describe("half precision", () => {
  const decode = (bytes: Uint8Array<ArrayBuffer>, dtype: string) => {
    const into = new Float32Array(bytes.length / 2);
    formats.get(dtype)!.decode(bytes, into, "x");
    return into;
  };

  test("f16 rounds to nearest even, between all halves", () => {
    const { from, to } = roundings();
    const finite = from.filter((_, i) => Number.isFinite(to[i]!));
    const bytes = encodeWeights(finite, "f16", "x");
    assert.equal(firstDifference(decode(bytes, "F16"), to.filter(Number.isFinite)), -1);
    const all = Float32Array.from(everyHalf());
    assert.equal(firstDifference(decode(encodeWeights(all, "f16", "x"), "F16"), all), -1);
    assert.equal(halfToFloat(0xfc00), decode(Uint8Array.of(0, 0xfc), "F16")[0]);
  });

  test("bf16 rounds to nearest even", () => {
    const property = fc.property(fc.nat(0xffffffff), (bits) => {
      const [x] = new Float32Array(Uint32Array.of(bits).buffer) as unknown as [number];
      fc.pre(Math.abs(x) < 3.38e38 && !Number.isNaN(x));
      const tie = new Float32Array(Uint32Array.of((bits & 0xffff0000) | 0x8000).buffer)[0]!;
      for (const value of [x, tie]) {
        const found = decode(encodeWeights(Float32Array.of(value), "bf16", "x"), "BF16")[0];
        assert.ok(Object.is(found, nearestBrain(value)), `${value}: ${found}`);
      }
    });
    fc.assert(property, { seed: SEED, numRuns: 20 * RUNS });
    const special = Float32Array.of(NaN, Infinity, -Infinity, -0);
    assert.deepEqual(decode(encodeWeights(special, "bf16", "x"), "BF16"), special);
    const huge = Float32Array.of(3.4e38);
    assert.throws(() => encodeWeights(huge, "bf16", "x"), /^UserError: x: .* too large for bf16/);
  });
});

test("beside the model only its largest tensor is in memory while it is read", async () => {
  const folder = fresh();
  const big = tinyModel({ vocab_size: 40_000, tie_word_embeddings: false });
  await saveModel(folder, big, { dtype: "f16", maxShardBytes: 1e6 });
  const device = currentDevice();
  const buffers = new Set<ArrayBufferLike>();
  const { write } = device;
  device.write = (buffer, values) => {
    buffers.add((values as Float32Array).buffer);
    write.call(device, buffer, values);
  };
  const steps: number[] = [];
  let total = 0;
  try {
    loadModel(folder, {
      onProgress: (bytes, of) => {
        steps.push(bytes - steps.reduce((a, b) => a + b, 0));
        total = of;
      },
    });
  } finally {
    Object.assign(device, { write });
  }
  assert.deepEqual(
    [...buffers].map((buffer) => buffer.byteLength),
    [4 * 40_000 * 16],
  );
  assert.ok(Math.max(...steps) <= 1 << 20, "more than a mebibyte of the file at once");
  const size = [...big.parameters.values()].reduce((sum, t) => sum + 2 * t.size, 0);
  assert.deepEqual([total, steps.reduce((a, b) => a + b, 0)], [size, size]);
});

/** A folder with two shards and what an index says of them, which `change` may spoil. */
async function indexed(change: (index: Index, folder: string) => void): Promise<string> {
  const folder = fresh();
  await saveModel(folder, { config, parameters }, { maxShardBytes: 7500 });
  const index = JSON.parse(readFileSync(join(folder, INDEX), "utf8")) as Index;
  change(index, folder);
  writeFileSync(join(folder, INDEX), JSON.stringify(index));
  return folder;
}
interface Index {
  metadata: unknown;
  weight_map: Record<string, unknown>;
}
const NORM = "model.norm.weight";
const FIRST = "model-00001-of-00003.safetensors";

const lies: [name: string, change: (index: Index, folder: string) => void, message: RegExp][] = [
  ["a missing shard", (_, folder) => rmSync(join(folder, FIRST)), /1 of the 3 files .* missing: m/],
  [
    "a path upwards",
    ({ weight_map: map }) => Object.assign(map, { [NORM]: "../model.safetensors" }),
    /"model\.norm\.weight" is said to be in "\.\.\/model\.safetensors": expected the plain name/,
  ],
  [
    "an absolute path",
    ({ weight_map: map }) => Object.assign(map, { [NORM]: "/etc/x.safetensors" }),
    /expected the plain name/,
  ],
  [
    "a path of Windows",
    ({ weight_map: map }) => Object.assign(map, { [NORM]: "C:\\x.safetensors" }),
    /expected the plain name/,
  ],
  [
    "a file of another kind",
    ({ weight_map: map }) => Object.assign(map, { [NORM]: "config.json" }),
    /expected the plain name/,
  ],
  ["a number", ({ weight_map: map }) => Object.assign(map, { [NORM]: 7 }), /is said to be in 7:/],
  [
    "a tensor in another shard",
    ({ weight_map: map }) => Object.assign(map, { [NORM]: FIRST }),
    /"model\.norm\.weight" should be in model-00001-of-00003\.safetensors, which lacks it/,
  ],
  [
    "a tensor that no shard has",
    ({ weight_map: map }) => Object.assign(map, { more: FIRST }),
    /"more" should be in model-00001.*, which lacks it/,
  ],
  [
    "a tensor that it leaves out",
    ({ weight_map: map }) => delete map[NORM],
    /doesn't name tensor "model\.norm\.weight", which is in model-00003/,
  ],
  [
    "a tensor in two shards",
    (index, folder) => {
      writeSafetensors(
        join(folder, "more.safetensors"),
        new Map([
          [NORM, { shape: [16], values: new Float32Array(16) }],
          ["x", { shape: [1], values: new Float32Array(1) }],
        ]),
      );
      index.weight_map.x = "more.safetensors";
    },
    /"model\.norm\.weight" is in two files, model-00003-of-00003\.safetensors and more\.safetensors/,
  ],
  [
    "another total",
    (index) => Object.assign(index, { metadata: { total_size: 5 } }),
    /"total_size" is 5, but its tensors have \d+ bytes/,
  ],
  [
    "a total that is none",
    (index) => Object.assign(index, { metadata: { total_size: "5" } }),
    /"total_size" is "5", expected bytes/,
  ],
  ["no tensors", (index) => Object.assign(index, { weight_map: {} }), /names no tensor/],
  ["a list of tensors", (index) => Object.assign(index, { weight_map: [] }), /names no tensor/],
  [
    "a damaged shard",
    (_, folder) => {
      const path = join(folder, FIRST);
      writeFileSync(path, readFileSync(path).subarray(0, 5000));
    },
    /model-00001-of-00003\.safetensors: .*cut off/,
  ],
  [
    "a folder in place of a shard",
    (_, folder) => {
      rmSync(join(folder, FIRST));
      mkdirSync(join(folder, FIRST));
    },
    /cannot read .*00001-of-00003\.safetensors: it is not a file/,
  ],
];
for (const [name, change, message] of lies) {
  test(`an index is refused in words: ${name}`, async () => {
    const folder = await indexed(change);
    assert.throws(() => loadModel(folder), { name: "UserError", message });
  });
}

test("an index is refused in words: no JSON, a name twice", async () => {
  const folder = await indexed(() => {});
  for (const [text, message] of [
    ["{", /index\.json is not JSON/],
    ["[]", /index\.json is not a JSON object/],
    ['{"weight_map":{"a":"x.safetensors","a":"y.safetensors"}}', /the name "a" occurs twice/],
    ['{"weight_map":{"__proto__":"x.safetensors"}}', /"__proto__" is refused/],
  ] as const) {
    writeFileSync(join(folder, INDEX), text);
    assert.throws(() => loadModel(folder), { name: "UserError", message });
  }
});

test("shards may be links, as they are in Hugging Face's cache; one file goes before an index", async () => {
  const folder = await indexed((_, to) => {
    const store = fresh();
    mkdirSync(store);
    writeFileSync(join(store, "blob"), readFileSync(join(to, FIRST)));
    rmSync(join(to, FIRST));
    symlinkSync(join(store, "blob"), join(to, FIRST));
  });
  assert.deepEqual(valuesOf(loadModel(folder).parameters), valuesOf(parameters));
  writeFileSync(join(folder, "model.safetensors"), "no tensors");
  assert.throws(() => loadModel(folder), /model\.safetensors: /);
});

test("a config that claims more than the file holds is refused before anything is made", async () => {
  const folder = fresh();
  const claims: [object, RegExp][] = [
    [{ num_hidden_layers: 1e15 }, /holds 21 tensors, too few for 1000000000000000 layers/],
    [
      {
        ...{ model_type: "qwen3_moe", architectures: ["Qwen3MoeForCausalLM"] },
        ...{ num_experts: 1e15, num_experts_per_tok: 1 },
      },
      /too few for 2 layers with 1000000000000000 experts/,
    ],
  ];
  for (const [change, message] of claims) {
    await saveModel(folder, { config, parameters });
    writeFileSync(join(folder, "config.json"), JSON.stringify({ ...config, ...change }));
    assert.throws(() => loadModel(folder), { name: "UserError", message });
  }
  const whole = new Map(parameters).set(NORM, tensor(new Int32Array(16), [16]));
  await saveModel(folder, { config, parameters });
  writeSafetensors(
    join(folder, "model.safetensors"),
    new Map([...whole].map(([name, t]) => [name, { shape: t.shape, values: t.dataSync() }])),
  );
  assert.throws(() => loadModel(folder), /model\.norm\.weight is stored as I32; weights are read/);
  assert.ok(existsSync(folder));
});

test("a line tells of long reading: on a terminal it changes, in a pipe it comes once", () => {
  const run = (isTTY: boolean, total: number): string => {
    let [text, time] = ["", 0];
    const stream = { isTTY, write: (more: string) => (text += more) };
    const line = progressLine("reading m", { stream, clock: () => (time += 250) });
    for (let at = 1; at <= 4; at++) line((at * total) / 4, total);
    return text;
  };
  assert.equal(run(false, 99e6), "");
  assert.equal(run(false, 2e9), "reading m  2.0 of 2.0 GB, 100 %, 2667 MB/s\n");
  const shown = run(true, 2e9).split("\r\x1b[K");
  assert.deepEqual(shown.length, 5);
  assert.match(shown[2]!, /^reading m {2}1\.0 of 2\.0 GB, 50 %, 4000 MB\/s$/);
});
