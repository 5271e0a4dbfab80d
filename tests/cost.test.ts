/** What a training step and a decoded token cost, exactly: kernel calls, bytes, buffers, workers. */

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { sequenceBatch } from "../model/batch.ts";
import type { ModelConfig } from "../model/config.ts";
import { AdamW } from "../model/optimizer.ts";
import { disposeParameters, initialParameters } from "../model/parameters.ts";
import { pretrain } from "../model/pretrain.ts";
import { sample } from "../model/sample.ts";
import { WasmDevice } from "../tensor/device/wasm/device.ts";
import { type Device, scope, useDevice, zeros } from "../tensor/mod.ts";
import { tinyConfig } from "./tiny_model.ts";

interface Cost {
  /** Kernel launches by op. */
  readonly launches: Record<string, number>;
  readonly launched: number;
  /** Buffers made for tensors, and their bytes. */
  readonly buffers: number;
  readonly bytes: number;
  /** Arena blocks for packed copies and partial sums, freed when their kernel is done. */
  readonly temporaries: number;
  /** Launches whose work is worth sharing; times at which sleeping workers are to be woken. */
  readonly jobs: number;
  readonly wakes: number;
}

// A device of one's own: its counts are nobody else's. Two threads on any machine.
const device = new WasmDevice({ threads: 2 });
let previous: Device;
before(() => {
  previous = useDevice(device);
  assert.equal(device.machine.warmUp(20_000), 2, "no worker started");
});
after(() => {
  useDevice(previous);
});

/** A launch so long that workers are woken for it alone: the count of work since starts at 0. */
function settle(): void {
  scope(() => {
    const x = zeros([256, 256]);
    x.matmul(x);
  });
}

/** Counts what `body` asks of the device. */
async function costOf(body: () => Promise<unknown>): Promise<Cost> {
  settle();
  const launches: Record<string, number> = {};
  let [buffers, elements, blocks] = [0, 0, 0];
  const { allocate, run, machine } = device;
  const { allocate: allocateBlock } = machine.arena;
  const before = machine.handedOut;
  device.run = (definition, call) => {
    launches[definition.name] = (launches[definition.name] ?? 0) + 1;
    run.call(device, definition, call);
  };
  device.allocate = (count, dtype) => {
    buffers++;
    elements += count;
    return allocate.call(device, count, dtype);
  };
  machine.arena.allocate = (bytes) => {
    blocks++;
    return allocateBlock.call(machine.arena, bytes);
  };
  try {
    await body();
  } finally {
    Object.assign(device, { allocate, run });
    machine.arena.allocate = allocateBlock;
  }
  const { jobs, wakes } = machine.handedOut;
  const launched = Object.values(launches).reduce((a, b) => a + b, 0);
  return {
    ...{ launches, launched, buffers, bytes: 4 * elements, temporaries: blocks - buffers },
    ...{ jobs: jobs - before.jobs, wakes: wakes - before.wakes },
  };
}

/** What `a` costs more than `b`; ops that cost the same are left out. */
function difference(a: Cost, b: Cost): Cost {
  const names = [...new Set([...Object.keys(a.launches), ...Object.keys(b.launches)])];
  const launches = names.flatMap((name) => {
    const more = (a.launches[name] ?? 0) - (b.launches[name] ?? 0);
    return more === 0 ? [] : [[name, more] as const];
  });
  const minus = (key: Exclude<keyof Cost, "launches">) => a[key] - b[key];
  return {
    launches: Object.fromEntries(launches),
    ...{ launched: minus("launched"), buffers: minus("buffers"), bytes: minus("bytes") },
    ...{ temporaries: minus("temporaries"), jobs: minus("jobs"), wakes: minus("wakes") },
  };
}

/** Too small for a second thread; and one whose larger kernels are worth sharing. */
const tiny = tinyConfig({ num_hidden_layers: 1, hidden_size: 8, intermediate_size: 12 });
const small = tinyConfig({
  ...{ num_hidden_layers: 2, hidden_size: 64, intermediate_size: 160, vocab_size: 400 },
  ...{ num_attention_heads: 4, num_key_value_heads: 4, head_dim: 16 },
});

/** Of a step in the middle of training; two steps must cost the same. */
async function stepCost(config: ModelConfig, rows: number, length: number): Promise<Cost> {
  const token = (row: number, i: number) => (row * 7 + i * 3) % config.vocab_size;
  const sequences = Array.from({ length: rows }, (_, row) =>
    Array.from({ length }, (_, i) => token(row, i)),
  );
  const batch = sequenceBatch(sequences);
  const parameters = initialParameters(config, { seed: 3 });
  using optimizer = new AdamW(parameters, { clipNorm: 1 });
  const train = (steps: number) =>
    pretrain({
      ...{ parameters, config, optimizer, steps },
      ...{ batches: () => batch, schedule: () => 1e-3 },
    });
  await train(1);
  const cost = await costOf(() => train(2));
  assert.deepEqual(await costOf(() => train(3)), cost, "two steps cost differently");
  disposeParameters(parameters);
  return cost;
}

const prompts = [
  [1, 2, 3],
  [4, 5, 6],
];

/** Of the prefill of two prompts and the first token of `count` samples of each. */
async function firstTokenCost(config: ModelConfig, count: number): Promise<Cost> {
  const parameters = initialParameters(config, { seed: 3 });
  const options = { maxNewTokens: 1, samplesPerPrompt: count };
  const cost = () => costOf(() => sample(parameters, config, prompts, options));
  await cost(); // makes the tables of angles
  const second = await cost();
  assert.deepEqual(await cost(), second, "two prefills cost differently");
  disposeParameters(parameters);
  return second;
}

/**
 * Of one more token for each of `count` samples of two prompts; two tokens must cost the same, but
 * for the wakes: a step's work is no multiple of what wakes a worker. These are of eight tokens.
 */
async function tokenCost(config: ModelConfig, count: number) {
  const parameters = initialParameters(config, { seed: 3 });
  const cost = (maxNewTokens: number) =>
    costOf(() => sample(parameters, config, prompts, { maxNewTokens, samplesPerPrompt: count }));
  const costs: Cost[] = [];
  for (const length of [24, 25, 26, 32]) costs.push(await cost(length));
  disposeParameters(parameters);
  const of = (k: number, before: number) => difference(costs[k]!, costs[before]!);
  const [{ wakes: _, ...first }, { wakes: __, ...second }] = [of(1, 0), of(2, 1)];
  assert.deepEqual(second, first, "two tokens cost differently");
  return { ...first, wakesOfEight: of(3, 0).wakes };
}

// A change of these numbers is a change of speed: say in the same commit why they moved.
describe("a training step costs exactly this", () => {
  test("one narrow layer", async () => {
    assert.deepEqual(await stepCost(tiny, 2, 8), {
      launches: {
        ...{ embedding: 1, rmsNorm: 3, rope: 4, attention: 1, swiGlu: 1, matmul: 21 },
        ...{ contiguous: 4, linearLogProb: 1, sum: 1, mul: 3, linearLogProbVjp: 1 },
        ...{ scatterRows: 1, add: 9, rmsNormVjp: 3, attentionVjp: 1, swiGluVjp: 1 },
        ...{ globalNorm: 1, div: 1, minimum: 1, adamWAll: 1 },
      },
      ...{ launched: 60, buffers: 75, bytes: 25024, temporaries: 23, jobs: 0, wakes: 0 },
    });
  });
  test("two wider layers", async () => {
    assert.deepEqual(await stepCost(small, 8, 32), {
      launches: {
        ...{ embedding: 1, rmsNorm: 5, rope: 8, attention: 2, swiGlu: 2, matmul: 42 },
        ...{ contiguous: 8, linearLogProb: 1, sum: 1, mul: 3, linearLogProbVjp: 1 },
        ...{ scatterRows: 1, add: 16, rmsNormVjp: 5, attentionVjp: 2, swiGluVjp: 2 },
        ...{ globalNorm: 1, div: 1, minimum: 1, adamWAll: 1 },
      },
      ...{ launched: 104, buffers: 124, bytes: 7561040, temporaries: 18, jobs: 85, wakes: 53 },
    });
  });
  test("each further layer", async () => {
    const costs: Cost[] = [];
    for (const layers of [1, 2, 3]) {
      costs.push(await stepCost({ ...tiny, num_hidden_layers: layers }, 2, 8));
    }
    const [second, third] = [difference(costs[1]!, costs[0]!), difference(costs[2]!, costs[1]!)];
    assert.deepEqual(third, second);
    assert.deepEqual(second, {
      launches: {
        ...{ rmsNorm: 2, rope: 4, attention: 1, swiGlu: 1, matmul: 21, contiguous: 4, add: 7 },
        ...{ rmsNormVjp: 2, attentionVjp: 1, swiGluVjp: 1 },
      },
      ...{ launched: 44, buffers: 49, bytes: 19456, temporaries: 17, jobs: 0, wakes: 0 },
    });
  });
});

describe("a decoded token costs exactly this", () => {
  test("one narrow layer, one sample a prompt", async () => {
    assert.deepEqual(await tokenCost(tiny, 1), {
      launches: {
        ...{ embedding: 1, rmsNorm: 3, matmul: 5, extendCache: 1, attention: 1, swiGlu: 1 },
        ...{ add: 2, drawClasses: 1 },
      },
      ...{ launched: 15, buffers: 20, bytes: 1352, temporaries: 4, jobs: 0, wakesOfEight: 0 },
    });
  });
  test("two wider layers, 32 samples a prompt", async () => {
    assert.deepEqual(await tokenCost(small, 32), {
      launches: {
        ...{ embedding: 1, rmsNorm: 5, matmul: 9, extendCache: 2, attention: 2, swiGlu: 2 },
        ...{ add: 4, drawClasses: 1 },
      },
      ...{ launched: 26, buffers: 31, bytes: 873984, temporaries: 0, jobs: 16, wakesOfEight: 53 },
    });
  });
});

describe("a prefill and the first token cost exactly this", () => {
  test("one narrow layer, one sample a prompt", async () => {
    assert.deepEqual(await firstTokenCost(tiny, 1), {
      launches: {
        ...{ embedding: 2, rmsNorm: 3, matmul: 8, rope: 2, attention: 1, contiguous: 1 },
        ...{ swiGlu: 1, add: 2, drawClasses: 1 },
      },
      ...{ launched: 21, buffers: 28, bytes: 3804, temporaries: 6, jobs: 0, wakes: 0 },
    });
  });
  test("two wider layers: the prompts are computed once for 32 samples each", async () => {
    assert.deepEqual(await firstTokenCost(small, 32), {
      launches: {
        ...{ embedding: 2, rmsNorm: 5, matmul: 15, rope: 4, attention: 2, contiguous: 2 },
        ...{ swiGlu: 2, add: 4, drawClasses: 1 },
      },
      ...{ launched: 37, buffers: 44, bytes: 70852, temporaries: 4, jobs: 1, wakes: 0 },
    });
  });
});
