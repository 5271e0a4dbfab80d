/** Tiny runs on a question file whose rollouts a mock engine samples, in this process. */

import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { requestSeed } from "../../eval/engines/sampler.ts";
import { disposeParameters } from "../../model/parameters.ts";
import { seedsOf, type TrainConfig } from "../../rl/config.ts";
import { Progress } from "../../rl/progress.ts";
import { resolveSettings } from "../../rl/resolve.ts";
import { createRun, openRun } from "../../rl/run.ts";
import { openSource } from "../../rl/source.ts";
import { disposePolicy, disposeState, restore } from "../../rl/state.ts";
import { trainPolicy } from "../../rl/trainer.ts";
import { scratchFolder } from "./disk.ts";
import { type MockEngine, type MockModel, sglangEngine, vllmEngine } from "./mock_engines.ts";
import { type MockServer, mockServer, type Script } from "./mock_server.ts";
import { questionLines, wordModel } from "./word_model.ts";

export const STOP = 2;
export const GROUP = 8;

const quick = { patienceSeconds: 20, timeoutSeconds: 2 };

export const engines = {
  vllm: (url: string, more: object = {}) => ({
    sampler: { engine: "vllm", url: `${url}/v1`, ...quick, ...more },
  }),
  sglang: (url: string, more: object = {}) => ({
    sampler: { engine: "sglang", url, ...quick, ...more },
  }),
} as const;
export type Kind = keyof typeof engines;

/** The draws that a local run would make where an engine is asked with a request's seed. */
export function drawsOf(seed: number, samplesPerRequest: number) {
  const known = new Map<number, { seed: number; step: number; promptIds: number[] }>();
  // Steps, and their second rounds.
  for (const step of [0, 1e7].flatMap((round) => [0, 1, 2, 3, 4, 5, 6, 7].map((s) => round + s))) {
    for (let row = 0; row < 6 * GROUP; row += samplesPerRequest) {
      const promptIds = [row / samplesPerRequest];
      known.set(requestSeed(seed, step, row), { seed, step, promptIds });
    }
  }
  return (own: number) => known.get(own) ?? { seed: own };
}

export interface Serving extends AsyncDisposable {
  readonly server: MockServer;
  readonly engine: MockEngine;
}

export const silent = new Progress({ output: { write: () => true } });
export const never = { requested: false, check: async () => false, [Symbol.dispose]() {} };

export interface Trained {
  readonly rows: Record<string, unknown>[];
  readonly rollouts: Record<string, unknown>[];
  readonly weights: Map<string, number[]>;
  readonly printed: string[];
}

/** Trains in `dir`, or goes on there. */
export async function train(dir: string, config: TrainConfig, resume = false): Promise<Trained> {
  const printed: string[] = [];
  const progress = new Progress({ output: { write: (text: string) => printed.push(text) } });
  const { task, base } = await openSource(config, silent, never);
  using run = resume ? openRun(dir, config) : createRun({ config, dir });
  const { policy, state } = restore(run, resume, base);
  const tracker = { log() {}, finish: async () => {} };
  const questions = task.questions("train");
  const parts = { run, task, questions, policy, base, state, progress, tracker };
  try {
    await trainPolicy({ ...parts, interrupt: never });
    const weights = new Map<string, number[]>();
    for (const [name, t] of policy.parameters) weights.set(name, Array.from(await t.data()));
    const [rows, rollouts] = [run.metrics.rows(), run.rollouts.rows()] as Trained["rows"][];
    return {
      rows: rows!.filter(({ step }) => (step as number) >= 0),
      rollouts: rollouts!,
      weights,
      printed,
    };
  } finally {
    disposeState(state);
    disposePolicy(policy);
    disposeParameters(base.parameters);
  }
}

export const MEAN = "sampling/sampling_logp_difference/mean";
export const figure = (row: Record<string, unknown> | undefined, name: string) =>
  row![name] as number;

/** What a step's row says, without what only an engine's has and without the time. */
export const plain = (rows: readonly Record<string, unknown>[]) =>
  rows.map(({ step, reward, "completions/mean_length": length, frac_reward_zero_std: flat }) => {
    return { step, reward, length, flat };
  });
export const said = ({ rollouts }: Trained) =>
  rollouts.map(({ step, question, answer, score }) => [step, question, answer, score]);

export function assertClose(a: Trained, b: Trained, tolerance: number): void {
  for (const [name, values] of a.weights) {
    const other = b.weights.get(name)!;
    const worst = Math.max(...values.map((x, i) => Math.abs(x - other[i]!)));
    assert.ok(worst <= tolerance, `${name}: ${worst}`);
  }
}

/** A question file and a model for the tests of one file, and what they do with them. */
export async function engineRuns() {
  const { path: folder, fresh } = scratchFolder();
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "questions.jsonl"), questionLines.join("\n"));
  const [file, model] = [join(folder, "questions.jsonl"), await wordModel(folder)];

  const settings = (changes: object = {}): TrainConfig =>
    resolveSettings({
      data: { file, model, prompt: "raw" },
      reward: "contains",
      train: { steps: 4, questionsPerStep: 6, groupSize: GROUP, maxNewTokens: 4 },
      lora: { rank: 4, targets: ["q_proj", "v_proj", "down_proj"] },
      optimizer: { learningRate: 3e-2, warmup: 0 },
      evaluate: { every: 4, accessibilitySamples: 1, passAtKSamples: 1, passAtK: [1] },
      checkpoint: { every: 1, keep: 10 },
      ...changes,
    });

  /** An engine of that kind with the base model of `config`; `around` may answer in its place. */
  async function serve(
    kind: Kind,
    around: (answer: Script) => Script = (answer) => answer,
  ): Promise<Serving> {
    const config = settings();
    const { base } = await openSource(config, silent, never);
    const options = { stop: STOP, draws: drawsOf(seedsOf(config).rl, kind === "vllm" ? GROUP : 1) };
    const engine = (kind === "vllm" ? vllmEngine : sglangEngine)(base as MockModel, options);
    const server = await mockServer(around((request) => engine.answer(request)));
    return {
      ...{ server, engine },
      async [Symbol.asyncDispose]() {
        await server[Symbol.asyncDispose]();
        engine[Symbol.dispose]();
        disposeParameters(base.parameters);
      },
    };
  }

  /** The run without an engine, which all are compared with. */
  let known: Promise<Trained> | undefined;
  const localRun = () => {
    known ??= train(fresh(), settings());
    return known;
  };

  return { ...{ file, model, fresh, settings, serve, localRun } };
}
