/** The transformer: its parts against plain forms, gradients, exact ratios, training, no leaks. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { type Batch, completionBatch, sequenceBatch } from "../model/batch.ts";
import {
  cloneParameters,
  disposeParameters,
  gradientsOf,
  headName,
  requireGradients,
} from "../model/parameters.ts";
import { batchLogProbs } from "../model/score.ts";
import { hidden, logits, tokenLogProbs } from "../model/transformer.ts";
import { noGrad, reference, scope, type Tensor, tensor, useDevice } from "../tensor/mod.ts";
import { plainForward } from "./support/plain_model.ts";
import { checkSlopes } from "./support/slopes.ts";
import { devices, leftBehind, onDevices, tinyModel, toleranceOn } from "./tiny_model.ts";

const ids = (rows: number[][]): Tensor =>
  tensor(Int32Array.from(rows.flat()), [rows.length, rows[0]!.length]);

function near(actual: Tensor, expected: Tensor, tolerance: number): void {
  assert.deepEqual(actual.shape, expected.shape);
  const [a, b] = [Float64Array.from(actual.dataSync()), expected.dataSync()];
  const worst = a.reduce((most, x, i) => Math.max(most, Math.abs(x - b[i]!)), 0);
  assert.ok(worst <= tolerance, `largest difference ${worst}`);
}

onDevices("no token sees what follows it, and rows don't see each other", () => {
  const { config, parameters } = tinyModel();
  const a = hidden(
    parameters,
    config,
    ids([
      [1, 2, 3, 4, 5],
      [6, 7, 8, 9, 10],
    ]),
  );
  const b = hidden(
    parameters,
    config,
    ids([
      [1, 2, 3, 9, 9],
      [11, 12, 13, 14, 15],
    ]),
  );
  const first = (t: Tensor) =>
    t
      .slice([
        [0, 1],
        [0, 3],
      ])
      .dataSync();
  assert.deepEqual(first(a), first(b));
  assert.notDeepEqual(a.slice([[0, 1], [3]]).dataSync(), b.slice([[0, 1], [3]]).dataSync());
});

onDevices("the logits are those of a second, plain implementation", (device) => {
  const { config, parameters } = tinyModel({ rope_theta: 50 });
  const tokens = [3, 1, 4, 1, 5, 9, 2];
  const expected = plainForward(parameters, config, tokens).logits;
  near(
    logits(parameters, config, hidden(parameters, config, ids([tokens]))),
    tensor([expected]),
    device === reference ? 1e-12 : 1e-4,
  );
});

onDevices("grouped heads equal full heads whose keys and values repeat", (device) => {
  const { config, parameters } = tinyModel();
  const full = { ...config, num_key_value_heads: 4 };
  const repeated = new Map(
    [...parameters].map(([name, t]) => {
      if (!/[kv]_proj/.test(name)) return [name, t] as const;
      const groups = t.reshape([2, 1, 4, 16]).expand([2, 2, 4, 16]).contiguous();
      return [name, groups.reshape([16, 16])] as const;
    }),
  );
  const tokens = ids([
    [5, 3, 8, 0],
    [1, 1, 2, 22],
  ]);
  const grouped = hidden(parameters, config, tokens);
  near(hidden(repeated, full, tokens), grouped, toleranceOn(device));
});

onDevices("an untied head that equals the embedding gives the tied model's logits", () => {
  const { config, parameters } = tinyModel();
  const untied = { ...config, tie_word_embeddings: false };
  const embedding = parameters.get(headName(config))!;
  const both = new Map([...parameters, ["lm_head.weight", embedding]]);
  const states = hidden(parameters, config, ids([[4, 5, 6]]));
  const scores = logits(parameters, config, states);
  assert.deepEqual(scores.shape, [1, 3, 23]);
  assert.deepEqual(logits(both, untied, states).dataSync(), scores.dataSync());
});

onDevices(
  "tokenLogProbs is log softmax(logits / T) at the target, and 0 where there is none",
  (device) => {
    const { config, parameters } = tinyModel();
    const tokens = ids([
      [1, 2, 3],
      [4, 5, 6],
    ]);
    const targets = ids([
      [2, 3, -1],
      [-1, 6, 0],
    ]);
    const got = tokenLogProbs(parameters, config, tokens, targets, { temperature: 0.7 });
    const scores = logits(parameters, config, hidden(parameters, config, tokens)).div(0.7);
    const all = scores.logSoftmax().toArray() as number[][][];
    const expected = [
      [all[0]![0]![2]!, all[0]![1]![3]!, 0],
      [0, all[1]![1]![6]!, all[1]![2]![0]!],
    ];
    near(got, tensor(expected), toleranceOn(device));
  },
);

onDevices("rows and chunks change no bit of tokenLogProbs", () => {
  const { config, parameters } = tinyModel();
  const tokens = ids([
    [1, 2, 3, 9],
    [4, 5, 6, 8],
  ]);
  const targets = ids([
    [2, 3, -1, -1],
    [-1, 6, 0, 4],
  ]);
  const plain = tokenLogProbs(parameters, config, tokens, targets).dataSync();
  for (const options of [
    { rows: [0, 1, 5, 6, 7] },
    { chunk: 3 },
    { rows: [7, 6, 5, 1, 0], chunk: 2 },
  ]) {
    const got = tokenLogProbs(parameters, config, tokens, targets, options);
    assert.deepEqual(got.dataSync(), plain);
  }
  const none = tokenLogProbs(parameters, config, tokens, targets, { rows: [] });
  assert.deepEqual([...none.dataSync()], new Array(8).fill(0));
});

test("the gradient of the loss agrees with central differences in f64", () => {
  const before = useDevice(reference);
  try {
    for (const tied of [true, false]) {
      const { config, parameters } = tinyModel({ tie_word_embeddings: tied, vocab_size: 11 });
      const batch = completionBatch(
        [[1, 2], [3]],
        [
          [4, 5, 6],
          [7, 8],
        ],
      );
      const loss = (tree: Map<string, Tensor>) =>
        batchLogProbs(tree, config, batch, { temperature: 0.8 }).sum().mul(-0.2);
      checkSlopes(parameters, loss);
    }
  } finally {
    useDevice(before);
  }
});

test("every device gives the reference's gradients", () => {
  const batch = sequenceBatch([
    [1, 2, 3, 4, 5, 6, 7],
    [8, 9, 10],
    [11, 12, 13, 14],
  ]);
  const results = devices.map((device) => {
    const before = useDevice(device);
    const { config, parameters } = tinyModel();
    requireGradients(parameters);
    const loss = batchLogProbs(parameters, config, batch).sum().mul(-0.1);
    const gradients = gradientsOf(loss, parameters);
    useDevice(before);
    return new Map([...gradients].map(([name, g]) => [name, g.dataSync()]));
  });
  for (const result of results.slice(1)) {
    for (const [name, expected] of results[0]!) {
      const got = result.get(name)!;
      expected.forEach((g, i) => {
        assert.ok(
          Math.abs(got[i]! - g) <= 1e-4 * (1 + Math.abs(g)),
          `${name}[${i}] ${got[i]} ${g}`,
        );
      });
    }
  }
  assert.equal(results.length, devices.length);
});

onDevices("the ratio of the policy to itself is exactly 1, with and without the tape", () => {
  const { config, parameters } = tinyModel();
  const batch = completionBatch([[1, 2, 3], [4], [5, 6]], [[7], [8, 9, 10], [11, 12]]);
  const options = { temperature: 0.9 };
  const old = noGrad(() => batchLogProbs(parameters, config, batch, options));
  requireGradients(parameters);
  const fresh = batchLogProbs(parameters, config, batch, options);
  assert.deepEqual(new Set(fresh.sub(old).exp().dataSync()), new Set([1]));
});

onDevices("gradients of micro-batches add up, and nothing is left behind", async (device) => {
  const { config, parameters } = tinyModel();
  requireGradients(parameters);
  const rows = [
    [1, 2, 3, 4],
    [5, 6, 7, 8],
  ];
  const loss = (batch: Batch) => batchLogProbs(parameters, config, batch).sum();
  const whole = gradientsOf(loss(sequenceBatch(rows)), parameters);
  const left = await leftBehind(device, () =>
    scope(() => {
      const first = gradientsOf(loss(sequenceBatch([rows[0]!])), parameters);
      const both = gradientsOf(loss(sequenceBatch([rows[1]!])), parameters, first);
      for (const [name, g] of both) near(g, whole.get(name)!, 10 * toleranceOn(device));
    }),
  );
  assert.equal(left, 0);
});

onDevices("a forward pass frees all but its result, and a copy is independent", async (device) => {
  const { config, parameters } = tinyModel();
  const tokens = ids([[1, 2, 3, 4]]);
  hidden(parameters, config, tokens);
  const pass = () => noGrad(() => hidden(parameters, config, tokens));
  const kept: Tensor[] = [];
  assert.equal(await leftBehind(device, () => kept.push(pass())), 1);
  assert.equal(await leftBehind(device, () => pass().dispose()), 0);
  const copies: Map<string, Tensor>[] = [];
  const copying = () => copies.push(cloneParameters(parameters));
  assert.equal(await leftBehind(device, copying), parameters.size);
  const [copy] = copies;
  assert.notEqual(
    copy!.get("model.norm.weight")!.storage,
    parameters.get("model.norm.weight")!.storage,
  );
  assert.deepEqual(
    copy!.get("model.norm.weight")!.dataSync(),
    parameters.get("model.norm.weight")!.dataSync(),
  );
  disposeParameters(copy!);
  assert.ok(copy!.get("model.norm.weight")!.disposed);
});

test("what doesn't fit is refused in words", () => {
  const { config, parameters } = tinyModel({ max_position_embeddings: 3 });
  assert.throws(() => hidden(parameters, config, ids([[1, 2, 3, 4]])), /4 positions.*is 3/);
  assert.throws(() => hidden(parameters, config, tensor(Int32Array.of(1))), /expected \[b t\]/);
  assert.throws(() => completionBatch([[]], [[1]]), /prompt 0 is empty.*BOS/);
  parameters.delete("model.norm.weight");
  assert.throws(() => hidden(parameters, config, ids([[1]])), /no model\.norm\.weight/);
});
