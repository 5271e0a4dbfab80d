/** Training adapters: ratio exactly 1 once they have moved, no copy of the base, a merged model. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { describe, test } from "node:test";
import { localSampler } from "../eval/engines/sampler.ts";
import { buildWorld } from "../eval/worlds/presets.ts";
import { loadModel } from "../model/checkpoint.ts";
import { loraTargets } from "../model/lora.ts";
import { initialParameters, type ParameterTree, parameterCount } from "../model/parameters.ts";
import { sequenceLogProbs } from "../model/score.ts";
import { modelConfigOf } from "../rl/base.ts";
import { type TrainConfig, trainConfig, worldOf } from "../rl/config.ts";
import { updatePolicy } from "../rl/methods/grpo.ts";
import { modelTypes } from "../rl/model_config.ts";
import { localTrainer } from "../rl/policy_trainer.ts";
import { rewardOf } from "../rl/reward.ts";
import { questionsOfStep, rollOut } from "../rl/rollout.ts";
import { createRun } from "../rl/run.ts";
import { checkpointFiles, disposePolicy, startState } from "../rl/state.ts";
import { keepTuned } from "../rl/tuned.ts";
import { scratchFolder } from "./support/disk.ts";

const { fresh } = scratchFolder();

const tiny = (family: string): TrainConfig =>
  trainConfig.parse({
    world: { entities: 24, relations: 2, answers: 6, qaShare: 0.3, qaEntityShare: 0.3 },
    model: {
      ...{ hiddenSize: 16, layers: 2, heads: 2, keyValueHeads: 1, intermediateSize: 32, family },
      ...(family.endsWith("moe") && { experts: 4 }),
    },
    lora: { rank: 2, alpha: 4, targets: [...loraTargets] },
    train: { questionsPerStep: 8, groupSize: 4, temperature: 0.7 },
  });

/** A policy whose adapters took one large step on rewards at random. */
async function moved(family: string) {
  const config = tiny(family);
  const world = buildWorld(worldOf(config));
  const own = modelConfigOf(config, world);
  const base = { config: own, parameters: initialParameters(own, { seed: 3 }) };
  const { policy, state } = startState(config, base);
  const asked = { seed: 1, step: 0, count: 8 };
  const questions = questionsOfStep(world.questions("train"), asked);
  const paid = rewardOf({ ...config, reward: "random" });
  const step = async (number: number) => {
    const options = { ...config.train, seed: 1, step: number };
    const rollouts = await rollOut(localSampler(policy), world, questions, paid, options);
    const settings = { learningRate: 0.05, reference: undefined };
    return (
      await updatePolicy(policy, localTrainer(policy, state.optimizer), rollouts, config, settings)
    )[0]!;
  };
  return { config, world, base, policy, state, questions, step };
}

describe("adapters in training", () => {
  for (const family of Object.keys(modelTypes)) {
    test(`sampling and training read them to the same bits: ${family}`, async () => {
      const { step } = await moved(family);
      assert.ok((await step(0)).gradNorm > 0);
      const second = await step(1);
      assert.equal(second.maxLogRatio, 0);
      assert.ok(second.gradNorm > 0);
    });
  }

  test("the policy has of its own the adapters alone, and disposed of it leaves the base", async () => {
    const { base, policy, step } = await moved("llama");
    await step(0);
    for (const [name, t] of base.parameters) assert.equal(policy.parameters.get(name), t, name);
    const own = parameterCount(policy.parameters) - parameterCount(base.parameters);
    assert.equal(own, parameterCount(policy.lora!.adapters) + 1, "and their scale");
    disposePolicy(policy);
    for (const t of base.parameters.values()) assert.equal(t.dataSync().length, t.size);
    assert.throws(() => policy.lora!.adapters.values().next().value!.dataSync());
  });

  test("the best checkpoint is kept as a merged model that says the same", async () => {
    const { config, world, base, policy, state, questions, step } = await moved("qwen2");
    await step(0);
    using run = createRun({ config, dir: fresh() });
    run.saveCheckpoint(1, await checkpointFiles(policy, world, state, "base"), { score: 1 });
    const folder = await keepTuned(run, base, world.tokenizer);
    assert.equal(folder, join(run.dir, "model"));
    const merged = loadModel(folder);
    const said = async (tree: ParameterTree) => {
      const prompts = questions.map(({ prompt }) => prompt);
      const answers = questions.map(({ answers }) => answers[0]!);
      return (await sequenceLogProbs(tree, base.config, prompts, answers)).flat();
    };
    const [own, kept, before] = [
      await said(policy.parameters),
      await said(merged.parameters),
      await said(base.parameters),
    ];
    const apart = (a: readonly number[], b: readonly number[]) =>
      Math.max(...a.map((x, i) => Math.abs(x - b[i]!)));
    assert.ok(apart(own, kept) < 1e-5, `${apart(own, kept)}`);
    assert.ok(apart(own, before) > 1e-2, "the adapters have moved");
    assert.ok(merged.tokenizer !== undefined);
  });
});
