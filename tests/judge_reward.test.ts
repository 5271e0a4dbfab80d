/** A run paid by a judge behind a server: the same bits as by the rule, and an outage loses none. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { normaliseAnswer } from "../eval/judge/normalised.ts";
import { buildWorld } from "../eval/worlds/presets.ts";
import { initialParameters } from "../model/parameters.ts";
import { modelConfigOf } from "../rl/base.ts";
import {
  contradictions,
  type TrainConfig,
  trainConfig,
  trainShape,
  worldOf,
} from "../rl/config.ts";
import { configHash } from "../rl/hash.ts";
import { openReward } from "../rl/judge_reward.ts";
import { Progress } from "../rl/progress.ts";
import { resolveConfig } from "../rl/resolve.ts";
import { createRun, openRun } from "../rl/run.ts";
import { restore } from "../rl/state.ts";
import { trainPolicy } from "../rl/trainer.ts";
import { UserError } from "../rl/user_error.ts";
import { scratchFolder } from "./support/disk.ts";
import { type Answer, mockServer, type Received } from "./support/mock_server.ts";

const { fresh } = scratchFolder();

const tiny = (changes: object): TrainConfig =>
  trainConfig.parse({
    world: { entities: 24, relations: 2, answers: 6, qaShare: 0.3, qaEntityShare: 0.3 },
    model: { hiddenSize: 16, layers: 1, heads: 2, keyValueHeads: 1, intermediateSize: 32 },
    train: { steps: 4, questionsPerStep: 4, groupSize: 4 },
    optimizer: { learningRate: 1e-2, warmup: 2 },
    evaluate: { every: 2 },
    checkpoint: { every: 1, keep: 10 },
    ...changes,
  });

/** Trains a fresh tiny policy in `dir`, or goes on with it; what was paid at each step. */
async function train(dir: string, config: TrainConfig, resume = false): Promise<unknown[]> {
  const world = buildWorld(worldOf(config));
  const shape = modelConfigOf(config, world);
  const base = { config: shape, parameters: initialParameters(shape, { seed: 1 }) };
  using run = resume ? openRun(dir, config) : createRun({ config, dir });
  const { policy, state } = restore(run, resume, base);
  const interrupt = { requested: false, check: async () => false, [Symbol.dispose]() {} };
  const tracker = { log() {}, finish: async () => {} };
  const questions = world.questions("train");
  const progress = new Progress({ output: { write: () => true } });
  const shared = { run, task: world, questions, policy, base, state, progress, interrupt, tracker };
  await trainPolicy(shared);
  return run.metrics
    .rows()
    .map(({ step, reward, loss, grad_norm }) => [step, reward, loss, grad_norm]);
}

/** Grades as the alias rule does, from what stands in the prompt alone. */
function aliasGrader({ body }: Received): Answer {
  const lines: string[] = body.messages[1].content.split("\n");
  const value = (name: string) =>
    JSON.parse(lines.find((line) => line.startsWith(`${name}: `))!.slice(name.length + 2));
  const said = normaliseAnswer(value("ANSWER"));
  const names = [value("GOLD"), ...value("ALSO RIGHT")].map(normaliseAnswer);
  const verdict = said !== "" && names.includes(said) ? "CORRECT" : "INCORRECT";
  const content = JSON.stringify({ reason: "compared", verdict });
  return { json: { choices: [{ message: { content }, finish_reason: "stop" }] } };
}

const judged = (url: string, patienceSeconds = 20) =>
  tiny({ reward: "llm", judge: { url, model: "grader", patienceSeconds } });

describe("reward llm", () => {
  test("that grades as the rule does trains to the same bits, and asks nothing twice", async () => {
    const rule = await train(fresh(), tiny({ reward: "alias" }));
    await using server = await mockServer(aliasGrader);
    const dir = fresh();
    assert.deepEqual(await train(dir, judged(`${server.url}/v1`)), rule);
    const prompts = server.received.map(({ body }) => body.messages[1].content);
    assert.ok(prompts.length > 5 && new Set(prompts).size === prompts.length);
    const lines = readFileSync(join(dir, "verdicts.jsonl"), "utf8").trimEnd().split("\n");
    assert.equal(lines.length, prompts.length);
    const { question, verdict, model } = JSON.parse(lines[0]!);
    assert.deepEqual(
      [typeof question, /CORRECT$/.test(verdict), model],
      ["string", true, "grader"],
    );
    assert.ok(!question.startsWith("Q :") && !question.endsWith("A :"), question);
    // The same run again from the verdicts alone, with nobody to ask.
    const offline = { model: "grader", offline: true, cache: join(dir, "verdicts.jsonl") };
    assert.deepEqual(await train(fresh(), tiny({ reward: "llm", judge: offline })), rule);
  });

  test("a judge that goes away ends the run in plain words; resumed, it comes to the same bits", async () => {
    const rule = await train(fresh(), tiny({ reward: "alias" }));
    await using server = await mockServer(aliasGrader);
    await train(fresh(), judged(server.url));
    const all = server.received.length;
    const gone: Answer = { status: 503, json: { error: { message: "gone" } } };
    server.answer((request, i) => (i < all + all - 3 ? aliasGrader(request) : gone));
    const [dir, config] = [fresh(), judged(server.url, 0.2)];
    await assert.rejects(train(dir, config), (error: Error) => {
      assert.ok(error instanceof UserError, `${error}`);
      assert.match(
        error.message,
        /step [1-3]: the judge grader at .*HTTP 503 gone.*verdicts\.jsonl/,
      );
      assert.match(error.message, /--resume/);
      return true;
    });
    const before = server.received.length;
    server.answer(aliasGrader);
    assert.deepEqual(await train(dir, config, true), rule);
    const promptsOf = (some: readonly Received[]) =>
      some.map(({ body }) => body.messages[1].content);
    const judgedBefore = promptsOf(server.received.slice(all, all + all - 3));
    const later = promptsOf(server.received.slice(before));
    assert.ok(later.length > 0 && later.every((prompt) => !judgedBefore.includes(prompt)));
  });

  test("a judge that never came costs the first step, not the measurement before it", async () => {
    const rule = await train(fresh(), tiny({ reward: "alias" }));
    await using server = await mockServer(() => ({ status: 401, text: "no" }));
    const [dir, config] = [fresh(), judged(server.url)];
    await assert.rejects(train(dir, config), /step 0: the judge grader at .*HTTP 401/);
    server.answer(aliasGrader);
    assert.deepEqual(await train(dir, config, true), rule);
  });

  test("an answer without a verdict is left out of its group, never paid 0", async () => {
    await using server = await mockServer(() => ({
      json: { choices: [{ message: { content: "no idea" }, finish_reason: "stop" }] },
    }));
    const config = judged(server.url);
    using open = await openReward(config, fresh(), () => {});
    assert.ok(typeof open.reward !== "function");
    const [question] = buildWorld(worldOf(config)).questions("train");
    const [judgement] = await open.reward.payAll([{ question: question!, answer: "x" }]);
    assert.equal(judgement!.score, null);
    // With no verdict at all nothing is learned, and nothing breaks.
    const rows = await train(fresh(), config);
    assert.ok(rows.length >= 4);
  });
});

describe("settings of a judge", () => {
  test("are in the hash of a run that has them, and in no other", () => {
    const plain = trainShape.parse({});
    assert.equal(configHash(trainShape.parse({ judge: {} })), configHash(plain));
    assert.equal(configHash(plain).slice(0, 16), "5e93d4b0709b67a7");
    const other = trainShape.parse({ judge: { url: "http://x" } });
    assert.notEqual(configHash(other), configHash(plain));
  });

  test("that can't hold are named", () => {
    const problems = (settings: object) => contradictions(trainShape.parse(settings)).join("\n");
    assert.match(problems({ judge: { url: "http://x" } }), /judge\.url with reward alias/);
    assert.equal(problems({ reward: "llm", judge: { url: "http://x" } }), "");
    assert.match(problems({ reward: "llm", judge: { model: "m" } }), /needs judge\.url/);
    const offline = { model: "m", offline: true };
    assert.match(problems({ reward: "llm", judge: offline }), /offline needs judge\.cache/);
    const unnamed = { url: "http://x", cache: "c", offline: true };
    assert.match(problems({ reward: "llm", judge: unnamed }), /offline needs judge\.model/);
    const whole = { url: "http://x", model: "m" };
    assert.equal(problems({ reward: "llm", judge: whole }), "");
  });

  test("--judge URL asks for the judge's reward, unless another is named", () => {
    const url = "http://localhost:8000/v1";
    const settings = (...more: string[]) => resolveConfig(["--judge", url, ...more]);
    const resolved = settings();
    assert.ok(resolved.help === null);
    assert.deepEqual([resolved.config.reward, resolved.config.judge], ["llm", { url }]);
    assert.throws(() => settings("--reward", "alias"), /judge\.url with reward alias/);
  });
});
