/** Runs whose rollouts an engine samples: the same as here, on each step's weights, whatever fails. */

import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { describe, test } from "node:test";
import { UserError } from "../rl/user_error.ts";
import {
  assertClose,
  engineRuns,
  engines,
  figure,
  GROUP,
  MEAN,
  plain,
  said,
  train,
} from "./support/engine_runs.ts";
import type { Answer } from "./support/mock_server.ts";

const { fresh, localRun, serve, settings } = await engineRuns();

for (const kind of ["vllm", "sglang"] as const) {
  describe(`rollouts by ${kind}`, () => {
    test("that has each step's weights: the run is the one that samples here", async () => {
      const here = await localRun();
      await using serving = await serve(kind);
      const dir = fresh();
      const there = await train(dir, settings(engines[kind](serving.server.url)));
      assert.ok(
        here.rows.some((row) => figure(row, "grad_norm") > 0),
        "something is learned",
      );
      assert.deepEqual(plain(there.rows), plain(here.rows));
      assert.deepEqual(said(there), said(here));
      assertClose(there, here, 1e-4);
      for (const row of there.rows) {
        assert.ok(figure(row, MEAN) < 1e-5 && figure(row, "mismatch_kl") < 1e-8, `${row[MEAN]}`);
        assert.ok(!(row.health as string[]).includes("engine-mismatch"));
      }
      assert.ok(there.rollouts.every(({ engineLogProbs }) => Array.isArray(engineLogProbs)));
      assert.match(
        there.printed.join(""),
        /at http.* and we: \|log\(ours\/theirs\)\| of \d+ tokens/,
      );
      // A folder for each step, each under the run's own; none is left.
      const parts = serving.engine.handed.map((path) => path.slice(resolve(dir, "sampler").length));
      assert.deepEqual(parts, ["/step-0", "/step-1", "/step-2", "/step-3"]);
      assert.ok(!existsSync(join(dir, "sampler")));
    });

    test("that has the weights of a step before shows in the mismatch, and is told", async () => {
      const path = kind === "vllm" ? "lora_path" : "model_path";
      await using serving = await serve(kind, (answer) => (request, i) => {
        const old = (request.body?.[path] as string | undefined)?.replace(
          /step-([1-9])$/,
          (_, step) => `step-${Number(step) - 1}`,
        );
        const body = old === undefined ? request.body : { ...request.body, [path]: old };
        return answer({ ...request, body }, i);
      });
      const { rows, printed } = await train(fresh(), settings(engines[kind](serving.server.url)));
      assert.ok(figure(rows[0], MEAN) < 1e-5, "nothing is stale at first");
      const stale = rows.slice(1).map((row) => figure(row, MEAN));
      assert.ok(Math.max(...stale) > 0.05, `${stale}`);
      assert.match(printed.join(""), /WARNING engine and trainer differ by/);
    });

    test("that fails in every way for a while is waited for, and changes nothing", async () => {
      const here = await localRun();
      const faults: Answer[] = [
        { status: 503, json: {} },
        ...[{ cut: "headers" } as const, { cut: "body" } as const, { stall: "body" } as const],
        { text: "<html>hello</html>" },
      ];
      await using serving = await serve(kind, (answer) => (request, i) => {
        const late = i > 12 && i % 7 === 0;
        return (late && faults[(i / 7) % faults.length]) || answer(request, i);
      });
      const asked = engines[kind](serving.server.url, { timeoutSeconds: 0.5 });
      assert.deepEqual(said(await train(fresh(), settings(asked))), said(here));
      assert.ok(serving.server.received.length > 30);
    });

    test("that was started anew in the middle of a step is handed the weights again", async () => {
      const here = await localRun();
      let questions = 0;
      await using serving = await serve(kind, (answer) => (request, i) => {
        const asks = /generate|\/completions/.test(request.path);
        if (asks && ++questions === 15) serving.engine.restart();
        return answer(request, i);
      });
      const there = await train(fresh(), settings(engines[kind](serving.server.url)));
      assert.deepEqual(said(there), said(here));
      assert.equal(serving.engine.handed.length, 5, "four steps, and once again");
      assert.match(there.printed.join(""), /handed over again/);
    });

    test("that goes away ends the run in plain words; resumed, it comes to the same", async () => {
      const here = await localRun();
      let questions = 0;
      let gone = Number.POSITIVE_INFINITY;
      await using serving = await serve(kind, (answer) => (request, i) => {
        if (/generate|\/completions/.test(request.path)) questions++;
        return questions >= gone ? { status: 503, json: { error: "gone" } } : answer(request, i);
      });
      gone = 15;
      const [dir, config] = [
        fresh(),
        settings(engines[kind](serving.server.url, { patienceSeconds: 0.3 })),
      ];
      await assert.rejects(train(dir, config), (error: Error) => {
        assert.ok(error instanceof UserError, `${error.stack}`);
        assert.match(
          error.message,
          /step 2: .* at http.*HTTP 503.*checkpoint of step 2 is whole: --resume/,
        );
        return true;
      });
      gone = Number.POSITIVE_INFINITY;
      serving.engine.restart();
      // What a killed process leaves is never read.
      mkdirSync(join(dir, "sampler", "step-2.tmp-1"), { recursive: true });
      const there = await train(dir, config, true);
      assert.deepEqual(said(there), said(here));
      assertClose(there, here, 1e-4);
      assert.deepEqual(
        readdirSync(dir).filter((name) => name === "sampler"),
        [],
      );
    });
  });
}

describe("every method that samples", () => {
  const methods = {
    ppo: { ppo: { klCoefficient: 0.05 }, train: { temperature: 0.7 } },
    rft: {},
    dpo: { train: { temperature: 1.3 } },
    grpo: { grpo: { klCoefficient: 0.05, klEstimator: "k3" }, train: { miniBatches: 2 } },
  };
  for (const [method, { train: own, ...more }] of Object.entries<{ train?: object }>(methods)) {
    test(`${method} learns from an engine what it learns from this process`, async () => {
      const sizes = { steps: 3, questionsPerStep: 6, groupSize: GROUP, maxNewTokens: 4 };
      const changes = { method, ...more, train: { ...sizes, ...own } };
      const here = await train(fresh(), settings(changes));
      await using serving = await serve("vllm");
      const config = settings({ ...changes, ...engines.vllm(serving.server.url) });
      const there = await train(fresh(), config);
      assert.deepEqual(said(there), said(here));
      assertClose(there, here, 1e-4);
      assert.ok(there.rows.every((row) => figure(row, MEAN) < 1e-5));
    });
  }

  test("what the engine's probabilities are off by is corrected, at most by the cap", async () => {
    // Each token is said to be half as likely as it is: its weight is 2, and 1.5 with that cap.
    await using serving = await serve("vllm", (answer) => async (request, i) => {
      const found = await answer(request, i);
      if (!request.path.endsWith("/completions") || !("json" in found)) return found;
      const json = structuredClone(found.json) as { choices: { logprobs: Logged }[] };
      for (const { logprobs } of json.choices) {
        logprobs.token_logprobs = logprobs.token_logprobs.map((x) => x - Math.log(2));
      }
      return { json };
    });
    const lossOf = async (grpo: object, more: object = {}) => {
      const sizes = { steps: 1, questionsPerStep: 6, groupSize: GROUP, maxNewTokens: 4 };
      const sampler = engines.vllm(serving.server.url);
      const { rows } = await train(fresh(), settings({ ...sampler, grpo, train: sizes, ...more }));
      assert.ok(Math.abs(figure(rows[0], MEAN) - Math.log(2)) < 1e-5);
      assert.ok(Math.abs(figure(rows[0], "mismatch_kl") - (1 - Math.log(2))) < 1e-5);
      assert.ok(figure(rows[0], "ratio/first_log_max") < 1e-5, "log π_old is our own");
      return figure(rows[0], "grad_norm");
    };
    const none = await lossOf({ importance: "none" });
    assert.ok(none > 0);
    assert.ok(Math.abs((await lossOf({})) / none - 2) < 1e-3);
    assert.ok(Math.abs((await lossOf({ importanceCap: 1.5 })) / none - 1.5) < 1e-3);
    assert.equal(await lossOf({ importanceCap: 1.5, importanceMode: "mask" }), 0);
    const ppo = { method: "ppo" };
    const plain = await lossOf({ importance: "none" }, ppo);
    assert.ok(Math.abs((await lossOf({}, ppo)) / plain - 2) < 1e-3);
  });
});

interface Logged {
  token_logprobs: number[];
}
