/** Mixture of experts: gathered against dense, gradients of the router, the balance of loads. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import * as fc from "fast-check";
import { readPositions, sequenceBatch } from "../model/batch.ts";
import type { ModelConfigInput } from "../model/config.ts";
import {
  balance,
  denseMixture,
  disposeRouting,
  gatheredMixture,
  mixture,
  type Routing,
  route,
} from "../model/experts.ts";
import { gradientsOf, requireGradients } from "../model/parameters.ts";
import { pretrain, type StepInfo } from "../model/pretrain.ts";
import { batchLogProbs } from "../model/score.ts";
import { hidden } from "../model/transformer.ts";
import {
  type Device,
  gradients,
  noGrad,
  randomStream,
  reference,
  scope,
  type Tensor,
  tensor,
  useDevice,
} from "../tensor/mod.ts";
import { plainForward } from "./support/plain_model.ts";
import { RUNS, SEED } from "./support/samples.ts";
import { checkSlopes } from "./support/slopes.ts";
import { leftBehind, onDevices, tinyModel, toleranceOn } from "./tiny_model.ts";

const sparse: ModelConfigInput = {
  ...{ model_type: "qwen3_moe", head_dim: 4, num_experts: 5, num_experts_per_tok: 2 },
  moe_intermediate_size: 7,
};

const random = (shape: number[], purpose: string): Tensor => {
  const stream = randomStream({ seed: SEED, purpose });
  const size = shape.reduce((a, b) => a * b, 1);
  return tensor(
    Float64Array.from({ length: size }, () => stream.normal()),
    shape,
  );
};

const near = (got: ArrayLike<number>, expected: ArrayLike<number>, tolerance: number): void => {
  assert.equal(got.length, expected.length);
  for (let i = 0; i < got.length; i++) {
    const off = Math.abs(got[i]! - expected[i]!);
    assert.ok(off <= tolerance * (1 + Math.abs(expected[i]!)), `${i}: ${got[i]}, ${expected[i]}`);
  }
};

/** A mixture of E linear experts on drawn tokens; its result, and gradients of a weighted sum. */
function outcome(
  form: typeof mixture,
  size: { n: number; d: number; experts: number; perToken: number; renormalise: boolean },
): Float64Array[] {
  const { n, d, experts } = size;
  const [x, router] = [random([n, d], "x"), random([experts, d], "router")];
  const matrices = Array.from({ length: experts }, (_, e) => random([d, d], `expert ${e}`));
  const leaves = [x, router, ...matrices].map((t) => t.requireGrad());
  const routing = route(x.matmul(router.transpose()), size);
  const y = form(x, routing, (rows, e) => rows.matmul(matrices[e]!).silu());
  const found = gradients(y.mul(random([n, d], "weights")).sum(), leaves);
  return [y, ...found].map((t) => Float64Array.from(t.dataSync()));
}

describe("a mixture", () => {
  onDevices("gives the same result and gradients gathered and dense", (device) => {
    const sizes = fc.record({
      ...{ n: fc.integer({ min: 1, max: 9 }), d: fc.integer({ min: 1, max: 6 }) },
      ...{ experts: fc.integer({ min: 1, max: 8 }), perToken: fc.integer({ min: 1, max: 8 }) },
      renormalise: fc.boolean(),
    });
    // Up to 8 experts for as little as one token: most of them get none.
    const check = fc.property(sizes, ({ perToken, ...size }) => {
      const own = { ...size, perToken: Math.min(perToken, size.experts) };
      const [gathered, dense] = [outcome(gatheredMixture, own), outcome(denseMixture, own)];
      gathered.forEach((values, i) => {
        near(values, dense[i]!, toleranceOn(device));
      });
    });
    fc.assert(check, { seed: SEED, numRuns: RUNS });
  });

  onDevices(
    "of one expert is that expert; with all of them chosen, their weighted mean",
    (device) => {
      const x = random([3, 2], "x");
      const tripled = (rows: Tensor) => rows.mul(3);
      const single = route(random([3, 1], "one"), { perToken: 1, renormalise: false });
      near(mixture(x, single, tripled).dataSync(), x.mul(3).dataSync(), toleranceOn(device));
      const all = route(random([3, 4], "all"), { perToken: 4, renormalise: false });
      near(mixture(x, all, tripled).dataSync(), x.mul(3).dataSync(), toleranceOn(device));
    },
  );

  onDevices("of no token is no row", () => {
    const none = tensor([], [0, 3]);
    const routing = route(tensor([], [0, 2]), { perToken: 1, renormalise: true });
    for (const form of [gatheredMixture, denseMixture]) {
      assert.deepEqual(form(none, routing, (rows) => rows.mul(2)).shape, [0, 3]);
    }
  });

  onDevices("weighs by probability: those of the chosen add up to 1 only if renormalised", () => {
    const scores = random([6, 5], "scores");
    const sums = (renormalise: boolean) =>
      route(scores, { perToken: 2, renormalise }).weights.sum(-1).dataSync();
    near(sums(true), new Array(6).fill(1), 1e-6);
    assert.ok(sums(false).every((sum) => sum < 0.999));
    const { chosen } = route(tensor([[1, 1, 1]]), { perToken: 2, renormalise: true });
    assert.deepEqual([...chosen.dataSync()], [0, 1]); // the first of equal ones
  });

  onDevices("an expert that no token chooses gets a gradient of zeros, and changes nothing", () => {
    const { config, parameters } = tinyModel({ ...sparse, num_hidden_layers: 1 });
    const batch = sequenceBatch([[1, 2, 3]]);
    const routing: Routing[] = [];
    noGrad(() => batchLogProbs(parameters, config, batch, { routing }));
    const taken = new Set(routing[0]!.chosen.dataSync());
    disposeRouting(routing);
    const idle = [0, 1, 2, 3, 4].filter((e) => !taken.has(e));
    assert.ok(idle.length > 0 && taken.size > 0);
    const name = (e: number) => `model.layers.0.mlp.experts.${e}.down_proj.weight`;
    const before = noGrad(() => batchLogProbs(parameters, config, batch)).dataSync();
    requireGradients(parameters);
    const found = gradientsOf(batchLogProbs(parameters, config, batch).sum(), parameters);
    for (const e of [0, 1, 2, 3, 4]) {
      const reached = found
        .get(name(e))!
        .dataSync()
        .some((g) => g !== 0);
      assert.equal(reached, taken.has(e), name(e));
    }
    const other = new Map(parameters).set(name(idle[0]!), parameters.get(name(idle[0]!))!.mul(9));
    assert.deepEqual(noGrad(() => batchLogProbs(other, config, batch)).dataSync(), before);
  });

  onDevices(
    "where values arrive later the whole model is dense: same loss and gradients",
    (device) => {
      const { config, parameters } = tinyModel(sparse);
      requireGradients(parameters);
      const batch = sequenceBatch([
        [1, 2, 3, 4, 5],
        [6, 7, 8],
      ]);
      const loss = () => batchLogProbs(parameters, config, batch).sum();
      const gathered = gradientsOf(loss(), parameters);
      const launches = countLaunches(device, () => noGrad(loss));
      const { readsSync } = device;
      Reflect.set(device, "readsSync", false);
      try {
        const dense = gradientsOf(loss(), parameters);
        for (const [name, g] of gathered) near(dense.get(name)!.dataSync(), g.dataSync(), 1e-4);
        // Not the same path: it adds up all five experts of two layers.
        const adds = countLaunches(device, () => noGrad(loss)).add! - launches.add!;
        assert.equal(adds, 2 * 4);
      } finally {
        Reflect.set(device, "readsSync", readsSync);
      }
    },
  );
});

function countLaunches(device: Device, body: () => unknown): Record<string, number> {
  const counts: Record<string, number> = {};
  const { run } = device;
  device.run = (definition, call) => {
    counts[definition.name] = (counts[definition.name] ?? 0) + 1;
    run.call(device, definition, call);
  };
  try {
    scope(body as () => undefined);
  } finally {
    device.run = run;
  }
  return counts;
}

describe("the balance of loads", () => {
  const routed = (scores: number[][], perToken: number): Routing =>
    route(tensor(scores), { perToken, renormalise: false });
  const all = (n: number) => tensor(new Array(n).fill(1));

  onDevices("is k where every probability is 1/E, wherever the ties send the tokens", () => {
    for (const perToken of [1, 2, 3]) {
      const zeros = [0, 0, 0, 0].map(() => [0, 0, 0]);
      const { loss, busiest } = balance([routed(zeros, perToken)], all(4));
      near(loss.dataSync(), [perToken], 1e-6);
      near(busiest.dataSync(), [1], 1e-6); // all go to the first
    }
    const even = [0, 1, 2].map((e) => [0, 1, 2].map((other) => (e === other ? 50 : 0)));
    const { loss, busiest } = balance([routed(even, 1)], all(3));
    near(loss.dataSync(), [1], 1e-6);
    near(busiest.dataSync(), [1 / 3], 1e-6);
  });

  onDevices("is E where one expert gets every token with probability 1", () => {
    const scores = [0, 0, 0, 0].map(() => [0, 80, 0]);
    const { loss, busiest } = balance([routed(scores, 1)], all(4));
    near(loss.dataSync(), [3], 1e-6);
    near(busiest.dataSync(), [1], 1e-6);
  });

  onDevices("is E·Σ f·P over all layers at once, without the padding", (device) => {
    const { config, parameters } = tinyModel({ ...sparse, num_hidden_layers: 3 });
    const rows = [
      [1, 2, 3, 4, 5, 6],
      [7, 8, 9],
    ];
    const batch = sequenceBatch(rows);
    const routing: Routing[] = [];
    noGrad(() => batchLogProbs(parameters, config, batch, { routing }));
    const counted = tensor(readPositions(batch), [batch.targets.length]);
    const { loss, busiest } = balance(routing, counted);
    assert.equal(routing.length, 3);
    // A row's last token is predicted, but never read.
    const plain = rows.map((row) => plainForward(parameters, config, row.slice(0, -1)).routing);
    const decisions = plain.flat(2);
    const perLayer = [0, 1, 2].map((layer) => plain.flatMap((row) => row[layer]!));
    const share = (of: typeof decisions, e: number) =>
      of.filter(({ chosen }) => chosen.includes(e)).length / of.length;
    const experts = [0, 1, 2, 3, 4];
    const mass = (e: number) =>
      decisions.reduce((sum, { probabilities }) => sum + probabilities[e]!, 0) / decisions.length;
    const expected = 5 * experts.reduce((sum, e) => sum + share(decisions, e) * mass(e), 0);
    near(loss.dataSync(), [expected], toleranceOn(device));
    const loads = perLayer.flatMap((of) => experts.map((e) => share(of, e)));
    near(busiest.dataSync(), [Math.max(...loads)], toleranceOn(device));
    disposeRouting(routing);
    assert.ok(routing.every(({ chosen }) => chosen.disposed));
  });

  test("its gradient is that of central differences, through the probabilities", () => {
    const before = useDevice(reference);
    try {
      const { config, parameters } = tinyModel({
        ...{ ...sparse, vocab_size: 9, hidden_size: 6, num_attention_heads: 2, head_dim: 2 },
        ...{ num_experts: 3, moe_intermediate_size: 3 },
      });
      const batch = sequenceBatch([
        [1, 2, 3, 4, 5, 6],
        [7, 8],
      ]);
      const counted = tensor(readPositions(batch), [batch.targets.length]);
      checkSlopes(parameters, (tree) => {
        const routing: Routing[] = [];
        const logProbs = batchLogProbs(tree, config, batch, { routing });
        const { loss } = balance(routing, counted);
        disposeRouting(routing);
        return loss.mul(3).sub(logProbs.sum());
      });
    } finally {
      useDevice(before);
    }
  });

  onDevices("is asked for, or nothing is kept", async (device) => {
    const { config, parameters } = tinyModel(sparse);
    const tokens = tensor(Int32Array.of(1, 2, 3), [1, 3]);
    noGrad(() => hidden(parameters, config, tokens));
    const pass = (options: { routing?: Routing[] }) => () =>
      noGrad(() => hidden(parameters, config, tokens, options)).dispose();
    assert.equal(await leftBehind(device, pass({})), 0);
    const routing: Routing[] = [];
    // Weights that are not divided by their sum are topK's own values: two layers of three.
    assert.equal(await leftBehind(device, pass({ routing })), 2 * 3);
    disposeRouting(routing);
  });

  test("pre-training evens the loads out, where its coefficient is not 0", async () => {
    const text = Array.from({ length: 8 }, (_, row) =>
      Array.from({ length: 12 }, (_, i) => (row * 5 + i * i) % 23),
    );
    const trained = async (router_aux_loss_coef: number): Promise<StepInfo[]> => {
      const { config, parameters } = tinyModel({ ...sparse, router_aux_loss_coef });
      const steps: StepInfo[] = [];
      await pretrain({
        ...{ parameters, config, steps: 40, batches: () => sequenceBatch(text) },
        ...{ schedule: () => 1e-2, onStep: (info) => steps.push(info) },
      });
      return steps;
    };
    const [without, balanced] = [await trained(0), await trained(0.3)];
    assert.equal(balanced[0]!.routerAuxLoss, without[0]!.routerAuxLoss);
    assert.equal(balanced[0]!.loss, without[0]!.loss);
    const [free, held] = [without.at(-1)!, balanced.at(-1)!];
    assert.ok(held.routerAuxLoss! < free.routerAuxLoss! && held.routerAuxLoss! < 2.02);
    assert.ok(held.busiestExpert! < free.busiestExpert!, `${held.busiestExpert}`);
    assert.ok(held.loss < 0.5 * balanced[0]!.loss);
    const { config, parameters } = tinyModel();
    const dense: StepInfo[] = [];
    await pretrain({
      ...{ parameters, config, steps: 1, batches: () => sequenceBatch(text) },
      ...{ schedule: () => 1e-2, onStep: (info) => dense.push(info) },
    });
    assert.ok(!("routerAuxLoss" in dense[0]!));
  });
});
