/** Tiny runs on a question file that a mock Tinker server trains. */

import { disposeParameters } from "../../model/parameters.ts";
import { seedsOf, type TrainConfig } from "../../rl/config.ts";
import { Progress } from "../../rl/progress.ts";
import { createRun, openRun } from "../../rl/run.ts";
import { openSource } from "../../rl/source.ts";
import { heldRun, openServer } from "../../rl/tinker_trainer.ts";
import { trainPolicy } from "../../rl/trainer.ts";
import { drawsOf, engineRuns, GROUP, never, STOP, silent, type Trained } from "./engine_runs.ts";
import type { MockModel } from "./mock_engines.ts";
import { type MockServer, mockServer, type Script } from "./mock_server.ts";
import { BASE, type MockTinker, type MockTinkerOptions, mockTinker } from "./mock_tinker.ts";

export interface TinkerServing extends AsyncDisposable {
  readonly server: MockServer;
  readonly tinker: MockTinker;
}

export const trainerAt = (url: string, more: object = {}) => ({
  trainer: { url, model: BASE, patienceSeconds: 60, ...more },
});

/** Trains on the server that `config` names. The weights are the server's own. */
export async function trainThere(
  { tinker }: TinkerServing,
  dir: string,
  config: TrainConfig,
  resume = false,
): Promise<Trained> {
  const printed: string[] = [];
  const progress = new Progress({ output: { write: (text: string) => printed.push(text) } });
  const { task, base } = await openSource(config, silent, never);
  using server = (await openServer(config, (text) => progress.print(text)))!;
  using run = resume ? openRun(dir, config) : createRun({ config, dir });
  const held = await heldRun(server, run, resume, base);
  const tracker = { log() {}, finish: async () => {} };
  const parts = { run, task, questions: task.questions("train"), base: held.policy, progress };
  await trainPolicy({ ...parts, ...held, tracker, interrupt: never });
  const [rows, rollouts] = [run.metrics.rows(), run.rollouts.rows()] as Trained["rows"][];
  return {
    rows: rows!.filter(({ step }) => (step as number) >= 0),
    rollouts: rollouts!,
    weights: await tinker.weights(),
    printed,
  };
}

/** A question file, a model, and servers that train it. */
export async function tinkerRuns() {
  const runs = await engineRuns();
  const usual = { lora: { rank: 0 }, optimizer: { learningRate: 1e-2, warmup: 0 } };
  const settings = (changes: object = {}): TrainConfig => runs.settings({ ...usual, ...changes });

  async function serve(
    options: Partial<MockTinkerOptions> = {},
    around: (answer: Script) => Script = (answer) => answer,
  ): Promise<TinkerServing> {
    const config = settings();
    const { base } = await openSource(config, silent, never);
    const draws = drawsOf(seedsOf(config).rl, GROUP);
    const tinker = mockTinker(base as MockModel, { stop: STOP, draws, ...options });
    const server = await mockServer(around((request) => tinker.answer(request)));
    return {
      ...{ server, tinker },
      async [Symbol.asyncDispose]() {
        await server[Symbol.asyncDispose]();
        disposeParameters(base.parameters);
      },
    };
  }
  return { ...runs, settings, serve };
}
