/** Rollouts by an engine from the command line: settings, what is refused, a run that is killed. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { disposeParameters } from "../model/parameters.ts";
import { contradictions, trainShape } from "../rl/config.ts";
import { configHash } from "../rl/hash.ts";
import { methodOf } from "../rl/methods/mod.ts";
import { requireEngine } from "../rl/remote_sampler.ts";
import { dryRunText, resolveConfig } from "../rl/resolve.ts";
import { openSource } from "../rl/source.ts";
import { UserError } from "../rl/user_error.ts";
import { commandLine } from "./support/command.ts";
import {
  engineRuns,
  engines,
  GROUP,
  type Kind,
  never,
  type Serving,
  said,
  silent,
  train,
} from "./support/engine_runs.ts";
import { words } from "./support/word_model.ts";

const { file, fresh, localRun, model, serve, settings } = await engineRuns();

describe("an engine that serves something else", () => {
  const check = async (serving: Serving, more: object = {}) => {
    const config = settings(engines.vllm(serving.server.url, { patienceSeconds: 0.2, ...more }));
    const { task, base } = await openSource(config, silent, never);
    disposeParameters(base.parameters);
    await requireEngine(config, task, () => {});
  };

  test("is refused before the run has a folder: its name, its context, its silence", async () => {
    await using serving = await serve("vllm");
    await check(serving);
    await check(serving, { model: "base" });
    await assert.rejects(check(serving, { model: "other" }), /has no model other; it serves base/);
    const short = { json: { data: [{ id: "base", max_model_len: 6 }] } };
    serving.server.answer(() => short);
    await assert.rejects(check(serving), /context of 6 tokens.* takes 8 .*--max-model-len 8/);
    serving.server.answer(() => ({ json: { models: [] } }));
    await assert.rejects(check(serving), /no list of models/);
    serving.server.answer(() => ({ status: 401, json: { error: "Unauthorized" } }));
    await assert.rejects(check(serving), /HTTP 401/);
  });

  const changed = (kind: Kind, change: (json: never) => void) =>
    serve(kind, (answer) => async (request, i) => {
      const found = await answer(request, i);
      if (!/generate|\/completions/.test(request.path) || !("json" in found)) return found;
      const json = structuredClone(found.json);
      change(json as never);
      return { json };
    });

  const cases: readonly [string, Kind, (json: never) => void, RegExp, object?][] = [
    [
      "a token that this model does not have",
      "vllm",
      (json: { choices: { token_ids: number[] }[] }) => {
        json.choices[0]!.token_ids[0] = words.length;
      },
      new RegExp(`step 0: vLLM sampled token ${words.length}, and this model has ${words.length}`),
    ],
    [
      "fewer completions",
      "vllm",
      (json: { choices: unknown[] }) => void json.choices.pop(),
      /7 completions where 8 were asked for \(3 tries/,
    ],
    [
      "weights of another version, whatever it is handed",
      "sglang",
      (json: { meta_info: object }[]) => {
        for (const one of json) Object.assign(one.meta_info, { weight_version: "default" });
      },
      /step 0: SGLang at .* has weights "default", not "policy-/,
    ],
  ];
  for (const [name, kind, change, message] of cases) {
    test(`${name}: the run ends and says so`, async () => {
      await using serving = await changed(kind, change);
      const config = settings(engines[kind](serving.server.url));
      await assert.rejects(train(fresh(), config), (error: Error) => {
        assert.ok(error instanceof UserError, `${error.stack}`);
        assert.match(error.message, message);
        assert.match(error.message, /--resume/);
        return true;
      });
    });
  }

  test("one that refuses the weights is quoted, and its path is the one it was told", async () => {
    await using serving = await serve("vllm");
    serving.server.answer(() => ({ status: 400, json: { message: "LoRA rank 4 is too large" } }));
    const more = { pathOnServer: "/shared/run/sampler/" };
    process.env.SAMPLER_API_KEY = "secret";
    const run = train(fresh(), settings(engines.vllm(serving.server.url, more)));
    await assert.rejects(run, /rank 4 is too large.*does it see \/shared\/run\/sampler\/step-0/);
    delete process.env.SAMPLER_API_KEY;
    const { body, headers } = serving.server.received[0]!;
    assert.equal(body.lora_path, "/shared/run/sampler/step-0");
    assert.equal(headers.authorization, "Bearer secret");
  });
});

describe("the command", () => {
  const args = (url: string) => [
    ...["--model", model, "--data", file, "--data.prompt", "raw", "--reward", "contains"],
    ...["--lora", "4", "--lora.targets", "q_proj,v_proj,down_proj", "--out", "run"],
    ...["--sampler.engine", "vllm", "--sampler.url", `${url}/v1`, "--sampler.model", "base"],
    ...["--train.steps", "4", "--train.questions-per-step", "6", "--train.group-size", `${GROUP}`],
    ...["--train.max-new-tokens", "4", "--optimizer.learning-rate", "3e-2"],
    ...["--optimizer.warmup", "0", "--evaluate.every", "4", "--evaluate.pass-at-k", "1"],
    ...["--evaluate.accessibility-samples", "1", "--evaluate.pass-at-k-samples", "1"],
    ...["--checkpoint.every", "1", "--no-track.tensorboard"],
  ];

  test("killed in the middle of a step and resumed asks the same and ends with the same", async () => {
    const here = await localRun();
    const cwd = fresh();
    mkdirSync(cwd);
    let [questions, kill] = [0, () => {}];
    await using serving = await serve("vllm", (answer) => (request, i) => {
      if (request.path.endsWith("/completions") && ++questions === 16) kill();
      return answer(request, i);
    });
    const start = (line: readonly string[]) => {
      const child = spawn(process.execPath, commandLine("train.ts", line), { cwd });
      let text = "";
      for (const stream of [child.stdout, child.stderr]) stream.on("data", (x) => (text += x));
      const ended = new Promise<{ code: number | null; text: string }>((done) =>
        child.on("close", (code) => done({ code, text })),
      );
      return { child, ended };
    };
    const { child, ended } = start(args(serving.server.url));
    kill = () => child.kill("SIGKILL");
    const killed = await ended;
    assert.notEqual(killed.code, 0, killed.text);
    assert.match(
      killed.text,
      /sampler +vllm at .*\/v1, handed the adapters before each step; log π_old/,
    );
    assert.match(killed.text, /times π_old\/π_sampler of the token, at most 2/);
    assert.ok(existsSync(join(cwd, "run", "sampler", "step-2", "adapter_model.safetensors")));
    const resumed = await start(["--resume", "run"]).ended;
    assert.equal(resumed.code, 0, resumed.text);
    const lines = readFileSync(join(cwd, "run", "rollouts.jsonl"), "utf8")
      .trimEnd()
      .split("\n");
    const rollouts = lines.map((line) => JSON.parse(line));
    assert.deepEqual(said({ ...here, rollouts }), said(here));
    assert.ok(!existsSync(join(cwd, "run", "sampler")));
  });

  test("an engine without that model leaves no folder behind", async () => {
    const cwd = fresh();
    mkdirSync(cwd);
    await using serving = await serve("vllm");
    const line = [...args(serving.server.url), "--sampler.model", "other"];
    const child = spawn(process.execPath, commandLine("train.ts", line), { cwd });
    let text = "";
    child.stderr.on("data", (x) => (text += x));
    const code = await new Promise((done) => child.on("close", done));
    assert.deepEqual([code, existsSync(join(cwd, "run"))], [2, false], text);
    assert.match(text, /has no model other; it serves base/);
  });
});

describe("settings of an engine", () => {
  const problems = (changes: object) =>
    contradictions(trainShape.parse({ ...asked, ...changes })).join("\n");
  const asked = {
    ...{ preset: "data", data: { file, model }, lora: { rank: 4 } },
    sampler: { engine: "vllm", url: "http://gpu:8000/v1" },
  };

  test("are in the hash of a run that has them, and in no other", () => {
    const plain = trainShape.parse({});
    assert.equal(configHash(trainShape.parse({ sampler: {} })), configHash(plain));
    assert.notEqual(configHash(trainShape.parse({ sampler: asked.sampler })), configHash(plain));
  });

  test("that can't hold are named", () => {
    assert.equal(problems({}), "");
    const { url } = asked.sampler;
    assert.match(problems({ sampler: { url } }), /sampler\.url without sampler\.engine/);
    assert.match(problems({ sampler: { engine: "sglang" } }), /needs sampler\.url/);
    assert.match(problems({ lora: { rank: 0 } }), /lora\.rank 0: vLLM takes .* --lora 16/);
    assert.equal(problems({ lora: { rank: 0 }, sampler: { engine: "sglang", url } }), "");
    assert.match(problems({ method: "sft" }), /method sft: it learns from gold answers/);
    const fromBase = { method: "dpo", dpo: { sampleFrom: "base" } };
    assert.match(problems(fromBase), /sampleFrom base: the engine has the policy's weights/);
    const world = { preset: "smoke", data: undefined };
    assert.match(problems(world), /without --data and --model: a world's own model/);
  });

  test("bring the correction with them, shown with where it comes from, below what is given", () => {
    const line = ["--model", model, "--data", file, "--sampler.engine", "sglang"];
    const resolved = (more: readonly string[]) => {
      const found = resolveConfig([...line, "--sampler.url", "http://gpu:30000", ...more]);
      assert.ok(found.help === null);
      return found;
    };
    const found = resolved(["--dry-run"]);
    assert.equal(found.config.grpo.importance, "token");
    assert.match(dryRunText(found), /grpo\.importance +token +sampler sglang\n/);
    assert.match(dryRunText(found), /sampler\.url +http:\/\/gpu:30000 +flag/);
    assert.match(dryRunText(found), /--sampler\.engine sglang --sampler\.url http/);
    assert.equal(resolved(["--grpo.importance", "none"]).config.grpo.importance, "none");
    const help = resolveConfig(["--help"]).help!;
    assert.match(help, /--sampler\.engine .*\n/);
    assert.match(help, /SAMPLER_API_KEY/);
    const mathematics = methodOf(found.config).mathematics(found.config).join("\n");
    assert.match(mathematics, /π_old\/π_sampler of the token, at most 2/);
    assert.match(mathematics, /sampler +sglang at http:\/\/gpu:30000, handed all weights/);
  });
});
