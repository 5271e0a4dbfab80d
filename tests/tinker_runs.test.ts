/** Runs that a Tinker server trains: the weights of a run here, whatever is lost, killed and resumed. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { latestCheckpoint } from "../rl/checkpoints.ts";
import type { TrainConfig } from "../rl/config.ts";
import { UserError } from "../rl/user_error.ts";
import { figure, said, type Trained, train } from "./support/engine_runs.ts";
import type { Answer } from "./support/mock_server.ts";
import { tinkerRuns, trainerAt, trainThere } from "./support/tinker_runs.ts";

const { fresh, serve, settings } = await tinkerRuns();

/** The same run here, once for each of the settings that are asked for. */
const known = new Map<string, Promise<Trained>>();
function here(changes: object): Promise<Trained> {
  const key = JSON.stringify(changes);
  const found = known.get(key) ?? train(fresh(), settings(changes));
  known.set(key, found);
  return found;
}

const FIGURES = ["loss", "grad_norm", "ratio/first_log_max", "approximate_kl"] as const;

function assertSame(there: Trained, local: Trained): void {
  assert.deepEqual(said(there), said(local));
  for (const [i, row] of local.rows.entries()) {
    for (const name of [...FIGURES, "clip_ratio/low_mean", "clip_ratio/high_mean", "reward"]) {
      if (row[name] === undefined) continue;
      const [a, b] = [figure(there.rows[i], name), figure(row, name)];
      assert.ok(Math.abs(a - b) < 2e-4 * Math.max(1, Math.abs(b)), `${name}: ${a}, here ${b}`);
    }
  }
  assertWeights(there, local);
}

/**
 * By their mean difference, at a rate of 1e-2 a step: where a gradient is next to nothing, Adam makes
 * a step of its rounding.
 */
function assertWeights(there: Trained, local: Trained): void {
  // What a server trains is a part of the tree where adapters are.
  const differences = [...there.weights].flatMap(([name, values]) => {
    const own = local.weights.get(name)!;
    return values.map((x, i) => Math.abs(x - own[i]!));
  });
  const mean = differences.reduce((a, b) => a + b, 0) / differences.length;
  assert.ok(
    mean < 1e-6 && Math.max(...differences) < 2e-3,
    `mean ${mean}, most ${Math.max(...differences)}`,
  );
}

const grpo = (changes: object, train: object = {}) => ({
  grpo: changes,
  train: { steps: 4, questionsPerStep: 6, groupSize: 8, maxNewTokens: 4, ...train },
});
const twice = { epochs: 2, miniBatches: 2 };
const cases: Record<string, object> = {
  "grpo, token means, std": grpo({ aggregation: "tokenMean" }),
  "grpo, sequence means, centred": grpo({ aggregation: "sequenceMean", advantage: "centred" }),
  "dr-grpo, fixed length": grpo({ aggregation: "fixedLength", advantage: "centred" }),
  "rloo without KL, two epochs of two": grpo(
    { aggregation: "sequenceMean", advantage: "leaveOneOut", clipLow: 0.02, clipHigh: 0.01 },
    twice,
  ),
  "no clip (importance_sampling), two epochs": grpo({ clipLow: 1, clipHigh: 1e9 }, twice),
  "cispo, two epochs": grpo({ surrogate: "cispo", ratioCap: 1.02 }, twice),
  "positive advantages alone": grpo({ sign: "positive" }),
  "groups without variance resampled": grpo({ resampleRounds: 1 }),
  "rft, token means": { method: "rft" },
  "rft, sequence means, each once": {
    method: "rft",
    rft: { aggregation: "sequenceMean", distinct: true },
  },
  "rft, fixed length": { method: "rft", rft: { aggregation: "fixedLength" } },
  "sft, token means": { method: "sft" },
  "sft, sequence means": { method: "sft", sft: { aggregation: "sequenceMean" } },
  "sft, fixed length, two epochs": {
    method: "sft",
    sft: { aggregation: "fixedLength" },
    train: { ...{ steps: 4, questionsPerStep: 6, groupSize: 8, maxNewTokens: 4 }, ...twice },
  },
  adapters: { lora: { rank: 4 } },
};

describe("training there gives the weights of training here", () => {
  for (const [name, changes] of Object.entries(cases)) {
    test(name, async () => {
      const local = await here(changes);
      assert.ok(
        local.rows.some((row) => figure(row, "grad_norm") > 0),
        "something is learned",
      );
      if (
        (changes as { train?: { epochs?: number } }).train?.epochs === 2 &&
        !name.startsWith("sft")
      )
        assert.ok(
          local.rows.some((row) => figure(row, "approximate_kl") > 1e-6),
          "ratios move",
        );
      await using serving = await serve();
      const url = serving.server.url;
      assertSame(
        await trainThere(serving, fresh(), settings({ ...changes, ...trainerAt(url) })),
        local,
      );
    });
  }

  test("the cases clip, so that bounds that are off would show", async () => {
    const { rows } = await here(cases["rloo without KL, two epochs of two"]!);
    const clipped = rows.map(
      (row) => figure(row, "clip_ratio/low_mean") + figure(row, "clip_ratio/high_mean"),
    );
    assert.ok(Math.max(...clipped) > 0.05, `${clipped}`);
  });

  test("a loss that is not the one asked for shows in the weights", async () => {
    const local = await here(cases["rloo without KL, two epochs of two"]!);
    await using serving = await serve({}, (answer) => (request, i) => {
      const input = request.body?.forward_backward_input;
      if (input?.loss_fn_config) input.loss_fn_config.clip_high_threshold += 0.2;
      return answer(request, i);
    });
    const changes = {
      ...cases["rloo without KL, two epochs of two"],
      ...trainerAt(serving.server.url),
    };
    const there = await trainThere(serving, fresh(), settings(changes));
    assert.throws(() => assertWeights(there, local));
  });
});

test("a sampler that differs from the trainer shows in each step, as an engine's would", async () => {
  const changes = cases["grpo, token means, std"]!;
  const off = async (by: number) => {
    await using serving = await serve({}, (answer) => async (request, i) => {
      const found = await answer(request, i);
      const json = "json" in found ? (found.json as { sequences?: { logprobs: number[] }[] }) : {};
      for (const one of json.sequences ?? []) one.logprobs = one.logprobs.map((x) => x - by);
      return found;
    });
    const config = settings({ ...changes, ...trainerAt(serving.server.url) });
    return (await trainThere(serving, fresh(), config)).rows;
  };
  for (const by of [0, 0.25]) {
    for (const row of await off(by)) {
      if (figure(row, "grad_norm") === 0) continue;
      for (const name of ["mean", "max"]) {
        const found = figure(row, `sampling/sampling_logp_difference/${name}`);
        assert.ok(Math.abs(found - by) < 1e-4, `${name}: ${found}`);
      }
      const health = row.health as string[];
      assert.equal(health.includes("engine-mismatch"), by > 0, `${health}`);
      assert.ok(!health.includes("ratio-off"), `${health}`);
    }
  }
});

/** What goes wrong on the way, one after the other. */
const faults: readonly Answer[] = [
  { status: 503, json: {} },
  { status: 500, json: { detail: "oops" } },
  { cut: "headers" },
  { cut: "body" },
  { stall: "body" },
  { text: "<html>hello</html>" },
];

describe("a server that fails in every way for a while", () => {
  const changes = cases["grpo, token means, std"]!;
  const at = (url: string, more: object = {}) =>
    settings({ ...changes, ...trainerAt(url, { timeoutSeconds: 4, ...more }) });

  test("that knows requests it had is asked again: answers lost before or after the work", async () => {
    const local = await here(changes);
    await using serving = await serve({ delay: 1 }, (answer) => async (request, i) => {
      const fault = i > 12 && i % 7 === 0 ? faults[(i / 7) % faults.length] : undefined;
      // Every other one is lost after the server has taken the request.
      const found = fault === undefined || i % 2 === 0 ? await answer(request, i) : undefined;
      return fault ?? found!;
    });
    const there = await trainThere(serving, fresh(), at(serving.server.url));
    assertSame(there, local);
    const steps = serving.tinker.done.filter((name) => name === "optim_step").length;
    assert.equal(steps, local.rows.filter((row) => figure(row, "grad_norm") > 0).length);
    assert.ok(serving.server.received.length > 100);
  });

  for (const lost of ["forward_backward", "optim_step"]) {
    test(`that doesn't: a lost ${lost} ends the run, which is resumed to the same`, async () => {
      const local = await here(changes);
      let passes = 0;
      await using serving = await serve({ knowsRepeats: false }, (answer) => async (request, i) => {
        const found = await answer(request, i);
        const third = request.path.endsWith(`/${lost}`) && ++passes === 3;
        return third ? { cut: "body" } : found;
      });
      const [dir, config] = [fresh(), at(serving.server.url)];
      await assert.rejects(trainThere(serving, dir, config), (error: Error) => {
        assert.ok(error instanceof UserError, `${error.stack}`);
        assert.match(error.message, new RegExp(`the answer to ${lost} was lost`));
        assert.match(
          error.message,
          /might be done twice; the checkpoint of step \d is whole: --resume/,
        );
        return true;
      });
      const before = serving.tinker.done.filter((name) => name === lost).length;
      assert.equal(before, 3, "it was not sent again");
      const there = await trainThere(serving, dir, config, true);
      assertSame(there, local);
      assert.match(there.printed.join(""), /doesn't know a request that it had before/);
    });
  }

  test("with one model for all: gradients of the step that was lost are not in the next", async () => {
    const local = await here(changes);
    let passes = 0;
    const options = { knowsRepeats: false, oneModel: true };
    await using serving = await serve(options, (answer) => async (request, i) => {
      const found = await answer(request, i);
      const third = request.path.endsWith("/forward_backward") && ++passes === 3;
      return third ? { cut: "headers" } : found;
    });
    const [dir, config] = [fresh(), at(serving.server.url)];
    await assert.rejects(trainThere(serving, dir, config), /was lost/);
    assertSame(await trainThere(serving, dir, config, true), local);
    assert.equal(serving.tinker.done.filter((name) => name === "create_model").length, 2);
  });

  test("that is started anew forgets the model; the run ends, and goes on from what it kept", async () => {
    const local = await here(changes);
    let steps = 0;
    await using serving = await serve({}, (answer) => (request, i) => {
      if (request.path.endsWith("/optim_step") && ++steps === 3) serving.tinker.restart();
      return answer(request, i);
    });
    const [dir, config] = [fresh(), at(serving.server.url)];
    await assert.rejects(
      trainThere(serving, dir, config),
      /step \d: Tinker server at .*HTTP 404.*Model not found.*--resume/,
    );
    const kept = JSON.parse(
      readFileSync(join(latestCheckpoint(join(dir, "checkpoints"))!.path, "trainer.json"), "utf8"),
    );
    assert.match(kept.state, /^tinker:\/\/model-\d+\/weights\/anamnesis-[0-9a-f]{8}-step-\d$/);
    assertSame(await trainThere(serving, dir, config, true), local);
  });

  test("that is away for too long ends the run in plain words", async () => {
    let away = false;
    await using serving = await serve({}, (answer) => (request, i) => {
      away ||= request.path.endsWith("/optim_step");
      return away ? { status: 503, json: { error: "gone" } } : answer(request, i);
    });
    const config: TrainConfig = at(serving.server.url, { patienceSeconds: 0.3 });
    await assert.rejects(
      trainThere(serving, fresh(), config),
      /step \d: Tinker server at http.*: HTTP 503.*gone.*the checkpoint of step 0 is whole/,
    );
  });

  test("an operation that fails there is quoted", async () => {
    await using serving = await serve();
    serving.tinker.failing((name) =>
      name === "forward_backward" ? "CUDA out of memory" : undefined,
    );
    await assert.rejects(
      trainThere(serving, fresh(), at(serving.server.url)),
      /forward_backward failed: CUDA out of memory; the checkpoint of step 0/,
    );
  });

  test("tokens that this model does not have are another model's", async () => {
    await using serving = await serve({}, (answer) => async (request, i) => {
      const found = await answer(request, i);
      const json = "json" in found ? (found.json as { sequences?: { tokens: number[] }[] }) : {};
      json.sequences?.[0]?.tokens.splice(0, 1, 4000);
      return found;
    });
    await assert.rejects(
      trainThere(serving, fresh(), at(serving.server.url)),
      /sampled token 4000, and this model has \d+: it serves another model than data\.model/,
    );
  });
});
