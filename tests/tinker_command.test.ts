/** Training on a Tinker server from the command line: settings, what is refused, a run that is killed. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { greedyAnswers } from "../eval/accuracy.ts";
import { contradictions, trainShape } from "../rl/config.ts";
import { asking } from "../rl/evaluate.ts";
import { configHash } from "../rl/hash.ts";
import { methodOf } from "../rl/methods/mod.ts";
import { dryRunText, resolveConfig } from "../rl/resolve.ts";
import { openRun } from "../rl/run.ts";
import { choose } from "../rl/select.ts";
import { openSource } from "../rl/source.ts";
import { addressOf, heldRun, openServer } from "../rl/tinker_trainer.ts";
import { commandLine } from "./support/command.ts";
import { GROUP, never, said, silent, train } from "./support/engine_runs.ts";
import { BASE } from "./support/mock_tinker.ts";
import { tinkerRuns, trainerAt, trainThere } from "./support/tinker_runs.ts";

const { file, fresh, model, serve, settings } = await tinkerRuns();

describe("weights of a run on a server", () => {
  test("are those of its checkpoints, in whatever order they are asked for", async () => {
    await using serving = await serve();
    const { server, tinker } = serving;
    // Rates at which every step is seen.
    const config = settings({
      ...{ method: "sft", evaluate: { every: 2, passAtKSamples: 1, passAtK: [1] } },
      ...trainerAt(server.url),
    });
    const dir = fresh();
    const { weights: last } = await trainThere(serving, dir, config);
    const kept = (step: number) => join(dir, "checkpoints", `step-00000${step}`);
    const values = (path: string) => {
      return [...tinker.states.get(addressOf(path))!.weights].map(([name, v]) => [
        name,
        Array.from(v),
      ]);
    };
    const { task, base } = await openSource(config, silent, never);
    assert.equal(base.parameters.size, 0, "its weights are not read");
    using there = (await openServer(config, () => {}))!;
    using run = openRun(dir, config);
    const { policy, weights, state } = await heldRun(there, run, true, base);
    assert.equal(state.step, 4);
    assert.deepEqual([...(await tinker.weights())], [...last]);
    for (const step of [2, 0, 4, 2]) {
      const found = step === 0 ? await weights.base() : await weights.at(kept(step));
      assert.deepEqual([...(await tinker.weights())], values(kept(step)), `step ${step}`);
      // A sampler of weights that are gone would answer as those.
      const asked = asking(found, task, task.questions("test"), config);
      const [one, other] = [await greedyAnswers(asked), await greedyAnswers(asked)];
      assert.deepEqual(one, other);
    }
    const chosen = await choose(run, task, weights);
    assert.equal(chosen.model, policy);
    const { fixed, broken } = chosen.validation;
    assert.ok(fixed + broken >= 0 && [0, 2, 4].includes(chosen.step));
  });
});

describe("the command", () => {
  const args = (url: string) => [
    ...["--model", model, "--data", file, "--data.prompt", "raw", "--reward", "contains"],
    ...["--trainer.url", url, "--trainer.model", BASE, "--lora", "0", "--out", "run"],
    ...["--train.steps", "4", "--train.questions-per-step", "6", "--train.group-size", `${GROUP}`],
    ...["--train.max-new-tokens", "4", "--optimizer.learning-rate", "1e-2"],
    ...["--optimizer.warmup", "0", "--evaluate.every", "2", "--evaluate.pass-at-k", "1,2"],
    ...["--evaluate.accessibility-samples", "4", "--evaluate.pass-at-k-samples", "2"],
    ...["--checkpoint.every", "1", "--no-track.tensorboard"],
  ];
  const start = (cwd: string, line: readonly string[]) => {
    const env = { ...process.env, TINKER_API_KEY: "secret" };
    const child = spawn(process.execPath, commandLine("train.ts", line), { cwd, env });
    let text = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (x) => (text += x));
    const ended = new Promise<{ code: number | null; text: string }>((done) =>
      child.on("close", (code) => done({ code, text })),
    );
    return { child, ended };
  };

  test("killed in the middle of a step and resumed: the rollouts of a run here, and its folder", async () => {
    const here = await train(fresh(), settings());
    const cwd = fresh();
    mkdirSync(cwd);
    let [passes, kill] = [0, () => {}];
    await using serving = await serve({}, (answer) => (request, i) => {
      if (request.path.endsWith("/forward_backward") && ++passes === 3) kill();
      return answer(request, i);
    });
    const { child, ended } = start(cwd, args(serving.server.url));
    kill = () => child.kill("SIGKILL");
    const killed = await ended;
    assert.notEqual(killed.code, 0, killed.text);
    assert.match(killed.text, /trainer +tiny\/base at http.*; log π_old is what its sampler says/);
    const resumed = await start(cwd, ["--resume", "run"]).ended;
    assert.equal(resumed.code, 0, resumed.text);
    assert.ok(serving.server.received.every(({ headers }) => headers["x-api-key"] === "secret"));
    const rows = (name: string) =>
      readFileSync(join(cwd, "run", name), "utf8")
        .trimEnd()
        .split("\n")
        .map((line) => JSON.parse(line));
    assert.deepEqual(said({ ...here, rollouts: rows("rollouts.jsonl") }), said(here));
    const metrics = rows("metrics.jsonl");
    assert.deepEqual(
      metrics.map(({ step }) => step),
      [-1, 0, 1, 2, 3],
    );
    assert.deepEqual(
      metrics.map((row) => typeof row["validation/accuracy"]),
      ["number", "undefined", "number", "undefined", "number"],
    );
    const summary = JSON.parse(readFileSync(join(cwd, "run", "summary.json"), "utf8"));
    const { before, after, n, passAtK, repair } = summary.heldout;
    for (const share of [before, after, passAtK.before["2"], passAtK.after["1"]]) {
      assert.ok(share >= 0 && share <= 1, `${share}`);
    }
    assert.ok(n > 0 && summary.params > 1000 && repair.length > 0);
    assert.ok(rows("ledger.jsonl").length >= n);
    assert.ok(existsSync(join(cwd, "run", "report.md")));
  });

  test("without the model's weights, or its server, nothing is begun", async () => {
    const cwd = fresh();
    mkdirSync(cwd);
    await using serving = await serve();
    const line = [...args(serving.server.url), "--trainer.model", "other"];
    const { code, text } = await start(cwd, line).ended;
    assert.deepEqual([code, existsSync(join(cwd, "run"))], [2, false], text);
    assert.match(text, /has no model other: it has tiny\/base/);
  });

  test("the model's folder needs no weights", async () => {
    const { tinkerRuns: again } = await import("./support/tinker_runs.ts");
    const own = await again();
    await using serving = await own.serve();
    rmSync(join(own.model, "model.safetensors"));
    const config = own.settings(trainerAt(serving.server.url));
    const { rows } = await trainThere(serving, own.fresh(), config);
    assert.equal(rows.length, 4);
  });
});

describe("settings of a server", () => {
  const asked = {
    ...{ preset: "data", data: { file, model } },
    trainer: { url: "http://gpu:8000", model: "Qwen/Qwen3-0.6B" },
  };
  const problems = (changes: object) =>
    contradictions(trainShape.parse({ ...asked, ...changes })).join("\n");

  test("are in the hash of a run that has them, and in no other", () => {
    const plain = trainShape.parse({});
    assert.equal(configHash(trainShape.parse({ trainer: {} })), configHash(plain));
    assert.notEqual(configHash(trainShape.parse({ trainer: asked.trainer })), configHash(plain));
  });

  test("what the protocol has no word for is refused by name, with what to use", () => {
    assert.equal(problems({}), "");
    for (const method of ["grpo", "rft", "sft"]) assert.equal(problems({ method }), "");
    const grpo = { klEstimator: "k2" };
    const cases: [object, RegExp][] = [
      [{ trainer: { model: "x" } }, /trainer\.model without trainer\.url/],
      [{ trainer: { url: "http://x" } }, /trainer\.url needs trainer\.model/],
      [{ data: undefined, preset: "smoke" }, /without --data and --model: a world's own model/],
      [{ method: "ppo" }, /method ppo on a Tinker server: it has no critic; use grpo/],
      [{ method: "dpo" }, /method dpo on .*no loss on pairs of answers; use rft or sft/],
      [{ sampler: { engine: "sglang", url: "http://x" } }, /sampler\.engine and trainer\.url/],
      [{ train: { temperature: 0.7 } }, /train\.temperature 0\.7 .*at temperature 1; use 1/],
      [{ optimizer: { name: "muon" } }, /optimizer\.name muon .* use adamw/],
      [{ lora: { rank: 4, alpha: 8 } }, /lora\.alpha and lora\.targets .* give lora\.rank alone/],
      [{ lora: { rank: 4, targets: ["k_proj"] } }, /lora\.targets .* it chooses both/],
      [{ grpo: { ...grpo, klCoefficient: 0.1 } }, /grpo\.klCoefficient 0\.1 on .* use 0/],
      [{ grpo: { entropyCoefficient: 0.1 } }, /grpo\.entropyCoefficient 0\.1 .* use 0/],
      [{ grpo: { ratioLevel: "sequence" } }, /grpo\.ratioLevel sequence .* use token/],
      [{ grpo: { surrogate: "soft" } }, /grpo\.surrogate soft .* use clip or cispo/],
      [{ grpo: { ratioCap: 3 } }, /grpo\.ratioCap 3 with surrogate clip .* use none/],
      [{ grpo: { dualClip: 3 } }, /grpo\.dualClip 3 .* use none/],
      [{ grpo: { importance: "token" } }, /grpo\.importance token .* use none/],
    ];
    for (const [changes, message] of cases) assert.match(problems(changes), message);
    // Of a method that is not asked for, nothing is said.
    assert.equal(problems({ method: "sft", grpo: { surrogate: "soft" } }), "");
  });

  test("come by flags; help, the header and the dry run tell them", () => {
    const line = ["--model", model, "--data", file, "--trainer.url", "http://gpu:8000"];
    const found = resolveConfig([...line, "--trainer.model", "Qwen/Qwen3-0.6B", "--lora", "32"]);
    assert.ok(found.help === null);
    assert.match(dryRunText(found), /--trainer\.url http:\/\/gpu:8000 --trainer\.model Qwen/);
    const text = methodOf(found.config).mathematics(found.config).join("\n");
    assert.match(text, /trainer +Qwen\/Qwen3-0\.6B at http:\/\/gpu:8000/);
    assert.match(text, /adapters +rank 32; where, and how scaled, is the server's/);
    assert.match(resolveConfig(["--help"]).help!, /TINKER_API_KEY/);
  });
});
