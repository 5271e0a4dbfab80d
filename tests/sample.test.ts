/** Sampling: filters against known numbers, the cache against full passes, independence. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { completionBatch } from "../model/batch.ts";
import { cumulate, drawFrom, greedyChoice, samplingProbabilities } from "../model/filters.ts";
import { type SampleOptions, sample } from "../model/sample.ts";
import { batchLogProbs, sequenceLogProbs } from "../model/score.ts";
import { hidden, logits } from "../model/transformer.ts";
import { type Device, noGrad, type Tensor, tensor } from "../tensor/mod.ts";
import { leftBehind, onDevices, tinyModel } from "./tiny_model.ts";

const close = (actual: ArrayLike<number>, expected: readonly number[], tolerance: number): void => {
  assert.equal(actual.length, expected.length);
  expected.forEach((x, i) => {
    assert.ok(Math.abs(actual[i]! - x) <= tolerance, `entry ${i}: ${actual[i]}, expected ${x}`);
  });
};

test("filters give the published probabilities", () => {
  const scores = [2, 1, 0.5, 0, -1];
  const kept = (filters: object) => [...samplingProbabilities(scores, filters)];
  close(
    kept({}),
    [0.563021231814, 0.207123936127, 0.125627017622, 0.076196637876, 0.028031176561],
    1e-12,
  );
  close(kept({ topK: 2 }), [0.73105857863, 0.26894142137, 0, 0, 0], 1e-11);
  close(kept({ topP: 0.8 }), [0.628531719212, 0.231223897622, 0.140244383166, 0, 0], 1e-12);
  assert.equal(kept({ topP: 0.9 }).filter((p) => p > 0).length, 4);
  assert.equal(kept({ minP: 0.2 }).filter((p) => p > 0).length, 3);
  assert.equal(kept({ topP: 1e-9 }).filter((p) => p > 0).length, 1);
  assert.equal(kept({ topK: 9 }).filter((p) => p > 0).length, 5);
  assert.deepEqual([...samplingProbabilities([1, 1, 1], { topK: 2 })], [0.5, 0.5, 0]);
});

test("inversion never draws what has no mass, and greedy takes the first of equals", () => {
  const sums = cumulate(Float64Array.of(0, 0.25, 0, 0.75, 0));
  const drawn = [0, 0.2499, 0.25, 0.9999999999].map((u) => drawFrom(sums, u));
  assert.deepEqual(drawn, [1, 1, 3, 3]);
  assert.equal(greedyChoice([1, 3, 2, 3]), 1);
});

const prompts = [[1, 2, 3], [4], [5, 6, 7, 8, 9], [4, 10]];

onDevices("greedy decoding with the cache equals a full pass for every token", async () => {
  const { config, parameters } = tinyModel();
  const options = { maxNewTokens: 6, temperature: 0 };
  const got = await sample(parameters, config, prompts, options);
  prompts.forEach((prompt, p) => {
    const text = [...prompt];
    for (let i = 0; i < 6; i++) {
      const tokens = tensor(Int32Array.from(text), [1, text.length]);
      const scores = logits(parameters, config, hidden(parameters, config, tokens));
      text.push(greedyChoice(scores.slice([null, [-1]]).dataSync()));
    }
    assert.deepEqual(got.tokens[p], text.slice(prompt.length));
  });
  assert.deepEqual(got.finished, [false, false, false, false]);
});

onDevices("reported log-probabilities are the training path's, bit for bit", async () => {
  const { config, parameters } = tinyModel();
  const settings: SampleOptions = { maxNewTokens: 5, temperature: 0.8, seed: 3, topK: 9 };
  const stopTokens = [0, 3, 11];
  const got = await sample(parameters, config, prompts, { ...settings, stopTokens });
  const batch = completionBatch(prompts, got.tokens);
  const trained = noGrad(() => batchLogProbs(parameters, config, batch, { temperature: 0.8 }));
  const rows = trained.toArray() as number[][];
  prompts.forEach((prompt, p) => {
    const first = prompt.length - 1;
    const own = rows[p]!.slice(first, first + got.tokens[p]!.length);
    assert.deepEqual(got.logProbs[p], own);
  });
  const scored = await sequenceLogProbs(parameters, config, prompts, got.tokens, {
    temperature: 0.8,
  });
  assert.deepEqual(scored, got.logProbs);
});

// Weights of over 1 GiB are not copied: whatever is cached must not hang on the copies.
onDevices("what is sampled does not depend on copies of the weights", async () => {
  const { config, parameters } = tinyModel();
  const settings = { maxNewTokens: 6, samplesPerPrompt: 4, seed: 2, stopTokens: [3] };
  const [copied, bare] = [true, false].map((packWeights) =>
    sample(parameters, config, prompts, { ...settings, packWeights }),
  );
  assert.deepEqual(await bare, await copied);
  assert.ok((await bare!).tokens.some((tokens) => tokens.length > 2));
});

test("they are at the sizes of a real run too, where kernels tile and threads share", async () => {
  const shape = { hidden_size: 96, intermediate_size: 200, vocab_size: 411 };
  const { config, parameters } = tinyModel({ ...shape, initializer_range: 0.1 });
  const many = Array.from({ length: 37 }, (_, i) => {
    return Array.from({ length: 3 + (i % 11) }, (_, j) => (i * 13 + j * 29) % 411);
  });
  const settings = { maxNewTokens: 5, samplesPerPrompt: 6, stopTokens: [...many[0]!, 7, 8, 9] };
  const got = await sample(parameters, config, many, settings);
  const repeated = many.flatMap((prompt) => got.tokens.slice(0, 6).map(() => prompt));
  assert.deepEqual(await sequenceLogProbs(parameters, config, repeated, got.tokens), got.logProbs);
});

onDevices("what is sampled does not depend on the rest of the batch", async () => {
  const { config, parameters } = tinyModel();
  const options = {
    maxNewTokens: 7,
    samplesPerPrompt: 3,
    stopTokens: [0, 1, 2, 3],
    seed: 5,
    step: 9,
  };
  const together = await sample(parameters, config, prompts, options);
  assert.ok(together.finished.includes(true) && together.finished.includes(false));
  for (const rowsPerBatch of [1, 4]) {
    assert.deepEqual(
      await sample(parameters, config, prompts, { ...options, rowsPerBatch }),
      together,
    );
  }
  for (const [p, prompt] of prompts.entries()) {
    const alone = await sample(parameters, config, [prompt], { ...options, promptIds: [p] });
    assert.deepEqual(alone.tokens, together.tokens.slice(3 * p, 3 * p + 3));
    assert.deepEqual(alone.logProbs, together.logProbs.slice(3 * p, 3 * p + 3));
  }
  const later = await sample(parameters, config, prompts, { ...options, step: 10 });
  assert.notDeepEqual(later.tokens, together.tokens);
});

onDevices("a stop token ends a completion and stays in it", async () => {
  const { config, parameters } = tinyModel();
  const stopTokens = [2, 5, 7, 12, 20];
  const options = { maxNewTokens: 8, samplesPerPrompt: 10, stopTokens };
  const got = await sample(parameters, config, [[1], [2]], options);
  got.tokens.forEach((tokens, row) => {
    const stop = tokens.findIndex((token) => stopTokens.includes(token));
    assert.equal(got.finished[row], stop >= 0);
    assert.equal(tokens.length, stop >= 0 ? stop + 1 : 8);
    assert.equal(got.logProbs[row]!.length, tokens.length);
  });
});

/** A tree that counts forward passes: each looks once for this weight. */
function counting(parameters: Map<string, Tensor>) {
  const tree = new Map(parameters);
  const counted = { tree, passes: 0 };
  tree.get = (name: string) => {
    if (name === "model.layers.0.self_attn.q_proj.weight") counted.passes++;
    return parameters.get(name);
  };
  return counted;
}

onDevices("samples of one token cost one pass; a repeated prompt is read once", async () => {
  const { config, parameters } = tinyModel();
  const one = counting(parameters);
  const many = { maxNewTokens: 1, samplesPerPrompt: 50 };
  const got = await sample(
    one.tree,
    config,
    [
      [1, 2],
      [3, 4],
      [1, 2],
    ],
    many,
  );
  assert.equal(one.passes, 1);
  assert.equal(got.tokens.length, 150);
  assert.notDeepEqual(got.tokens.slice(0, 50), got.tokens.slice(100));
  const three = counting(parameters);
  await sample(
    three.tree,
    config,
    [
      [1, 2],
      [3, 4],
    ],
    { maxNewTokens: 3, samplesPerPrompt: 2 },
  );
  assert.equal(three.passes, 3);
  const longest = Math.max(...got.logProbs.flat());
  assert.ok(longest < 0);
});

onDevices("samples share every pass up to the token where they part", async (device) => {
  const { config, parameters } = tinyModel();
  const rows: number[] = [];
  const run = device.run;
  device.run = (definition, call) => {
    // Each layer extends the cache once: one row a branch.
    if (definition.name === "extendCache") rows.push(call.inputs[0]!.shape[0]!);
    run.call(device, definition, call);
  };
  try {
    const options = { maxNewTokens: 4, samplesPerPrompt: 40, temperature: 0.3, seed: 1 };
    const { tokens } = await sample(parameters, config, [[1, 2], [3]], options);
    const distinct = (length: number) =>
      [0, 1].reduce((n, p) => {
        const own = tokens.slice(40 * p, 40 * p + 40);
        return n + new Set(own.map((row) => row.slice(0, length).join())).size;
      }, 0);
    const perPass = rows.filter((_, i) => i % config.num_hidden_layers === 0);
    assert.deepEqual(perPass, [2, distinct(1), distinct(2), distinct(3)]);
    assert.ok(distinct(1) > 2 && distinct(3) < 60, `${perPass}`);
  } finally {
    device.run = run;
  }
});

/** Rows of each pass that extends the cache, and the most elements that were held at a time. */
async function watched<T>(device: Device, layers: number, body: () => Promise<T>) {
  const passes: number[] = [];
  const held = new Map<unknown, number>();
  let [now, most] = [0, 0];
  const { run, allocate, free } = device;
  device.run = (definition, call) => {
    if (definition.name === "extendCache") passes.push(call.inputs[0]!.shape[0]!);
    run.call(device, definition, call);
  };
  device.allocate = (elements, dtype) => {
    const buffer = allocate.call(device, elements, dtype);
    held.set(buffer, elements);
    now += elements;
    most = Math.max(most, now);
    return buffer;
  };
  device.free = (buffer) => {
    now -= held.get(buffer) ?? 0;
    held.delete(buffer);
    free.call(device, buffer);
  };
  try {
    const result = await body();
    return { result, passes: passes.filter((_, i) => i % layers === 0), most };
  } finally {
    Object.assign(device, { run, allocate, free });
  }
}

onDevices(
  "no pass has more than rowsPerBatch samples, of one prompt or of many",
  async (device) => {
    const layers = 4;
    const { config, parameters } = tinyModel({ num_hidden_layers: layers });
    const long = Array.from({ length: 20 }, (_, i) => i);
    const options = { maxNewTokens: 5, temperature: 3, seed: 2, rowsPerBatch: 8 };
    const calls: [number[][], number][] = [
      [[long], 20],
      [new Array(20).fill(long), 1],
      [[long, [1], [2], [1], long], 3],
    ];
    for (const [given, samplesPerPrompt] of calls) {
      const settings = { ...options, samplesPerPrompt };
      const cut = () => sample(parameters, config, given, settings);
      const found = await watched(device, layers, cut);
      assert.ok(Math.max(...found.passes) <= 8, `passes of ${found.passes} rows`);
      // Keys and values of two heads of 4 at 24 places, and one such array that is being copied. The
      // packed weights and what a pass holds are less than as much again; a second cache is more.
      const cache = 8 * 2 * 4 * 24 * (2 * layers + 1);
      assert.ok(found.most < 2 * cache, `${found.most} elements, ${cache} of them in the cache`);
      const whole = await sample(parameters, config, given, { ...settings, rowsPerBatch: 256 });
      assert.deepEqual(found.result, whole);
    }
  },
);

onDevices("tokens occur as often as their probability says", async () => {
  const { config, parameters } = tinyModel();
  const n = 4000;
  const [tokens, settings] = [[[6, 2]], { maxNewTokens: 1, samplesPerPrompt: n, temperature: 0.7 }];
  const got = await sample(parameters, config, tokens, settings);
  const every = Array.from({ length: 23 }, (_, id) => [id]);
  const prompted = every.map(() => tokens[0]!);
  const logProbs = await sequenceLogProbs(parameters, config, prompted, every, {
    temperature: 0.7,
  });
  const p = logProbs.map(([x]) => Math.exp(x!));
  assert.ok(Math.abs(p.reduce((a, b) => a + b) - 1) < 1e-5);
  p.forEach((probability, id) => {
    const share = got.tokens.filter(([token]) => token === id).length / n;
    const error = Math.sqrt((probability * (1 - probability)) / n);
    assert.ok(
      Math.abs(share - probability) < 4.5 * error + 1e-9,
      `${id}: ${share} of ${probability}`,
    );
  });
});

onDevices("the probabilities of all completions of two tokens sum to 1", async () => {
  const { config, parameters } = tinyModel({ vocab_size: 6 });
  const pairs = Array.from({ length: 36 }, (_, i) => [Math.floor(i / 6), i % 6]);
  const prompt = pairs.map(() => [1, 3]);
  const found = await sequenceLogProbs(parameters, config, prompt, pairs, { rowsPerBatch: 10 });
  const total = found.reduce((sum, [a, b]) => sum + Math.exp(a! + b!), 0);
  assert.ok(Math.abs(total - 1) < 1e-5, String(total));
});

onDevices("sampling leaves no buffer behind, even where it fails", async (device) => {
  const { config, parameters } = tinyModel();
  const options = { maxNewTokens: 5, samplesPerPrompt: 4, stopTokens: [1, 2, 3] };
  const use = async () => {
    await sample(parameters, config, prompts, options);
    await sequenceLogProbs(parameters, config, prompts, [[1], [2, 3], [], [4]]);
    await assert.rejects(sample(parameters, config, [[1], [23]], options), /index 23/);
  };
  await use();
  assert.equal(await leftBehind(device, use), 0);
});

onDevices("a model whose weights are NaN samples nothing", async () => {
  const { config, parameters } = tinyModel();
  parameters.set("model.norm.weight", tensor(new Float32Array(16).fill(NaN)));
  for (const temperature of [0, 1]) {
    const made = sample(parameters, config, [[1]], { maxNewTokens: 2, temperature });
    await assert.rejects(made, /logits are not finite/);
  }
});

test("settings out of range are refused, naming setting and value", async () => {
  const { config, parameters } = tinyModel();
  const refused: [object, RegExp][] = [
    [{ temperature: -1 }, /temperature is -1/],
    [{ topP: 0 }, /topP is 0/],
    [{ topK: 1.5 }, /topK is 1\.5/],
    [{ minP: 2 }, /minP is 2/],
    [{ maxNewTokens: 0 }, /maxNewTokens is 0/],
    [{ samplesPerPrompt: NaN }, /samplesPerPrompt is NaN/],
    [{ promptIds: [1, 2] }, /2 promptIds for 1 prompts/],
    [{ maxNewTokens: 64 }, /prompt 0 has 2 tokens.*max_position_embeddings 64/],
  ];
  for (const [change, message] of refused) {
    const options = { maxNewTokens: 1, ...change };
    await assert.rejects(sample(parameters, config, [[1, 2]], options), { message });
  }
  await assert.rejects(sample(parameters, config, [[]], { maxNewTokens: 1 }), /prompt 0 is empty/);
});
