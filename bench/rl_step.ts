/** A step of each method over what its kernels take: sampling, forward, backward, optimizer. */
// Question: how much of a step is anything but kernels? The clock runs around every launch (on one
// thread, so that a launch is over when it returns); a step is rollouts, judging, loss and update.

import { parseArgs } from "node:util";
import { localSampler } from "../eval/engines/sampler.ts";
import { buildWorld } from "../eval/worlds/presets.ts";
import { initialParameters } from "../model/parameters.ts";
import { modelConfigOf } from "../rl/base.ts";
import { methods, seedsOf, trainConfig, worldOf } from "../rl/config.ts";
import { methodOf } from "../rl/methods/mod.ts";
import { localTrainer } from "../rl/policy_trainer.ts";
import { rewardOf } from "../rl/reward.ts";
import { startState } from "../rl/state.ts";
import { currentDevice, setDevice } from "../tensor/mod.ts";
import { perStep, profiled } from "./profile.ts";
import { line } from "./support.ts";

const { values: options } = parseArgs({
  options: {
    steps: { type: "string", default: "6" },
    width: { type: "string", default: "64" },
    help: { type: "boolean", default: false },
  },
});
if (options.help) {
  console.log("bench/rl_step.ts [--steps N] [--width 64|128]");
  process.exit(0);
}

const WARM_UP = 2;
const WIDTHS = [8, 12, 12, 12, 10];
const steps = Number(options.steps);
const hiddenSize = Number(options.width);

/** Milliseconds of a step, and of the kernels in it. */
async function measure(method: (typeof methods)[number]) {
  const config = trainConfig.parse({ method, reward: "random", model: { hiddenSize } });
  const world = buildWorld(worldOf(config));
  const shape = modelConfigOf(config, world);
  const base = { config: shape, parameters: initialParameters(shape, { seed: 1 }) };
  const { policy, state } = startState(config, base);
  const shared = {
    config,
    task: world,
    policy,
    sampler: localSampler(policy),
    trainer: localTrainer(policy, state.optimizer),
    base,
    optimizer: state.optimizer,
    memory: state.memory,
  };
  const questions = world.questions("train");
  const fixed = { ...shared, questions, reward: rewardOf(config), seed: seedsOf(config).rl };
  const run = async (from: number, to: number) => {
    for (let step = from; step < to; step++)
      await methodOf(config).step({ ...fixed, step, warmth: 1 });
  };
  await run(0, WARM_UP);
  const start = performance.now();
  const profile = await profiled(currentDevice(), () => run(WARM_UP, WARM_UP + steps));
  const step = (performance.now() - start) / steps;
  const ops = perStep(profile.ops, steps);
  const kernels = ops.reduce((sum, { milliseconds }) => sum + milliseconds, 0);
  const launches = ops.reduce((sum, op) => sum + op.launches, 0);
  return { step, kernels, launches };
}

await setDevice("wasm", { threads: 1 });
console.log(line(["", "step, ms", "kernels, ms", "launches", "ratio"], WIDTHS));
for (const method of methods) {
  const { step, kernels, launches } = await measure(method);
  const cells = [
    step.toFixed(1),
    kernels.toFixed(1),
    launches.toFixed(0),
    (step / kernels).toFixed(2),
  ];
  console.log(line([method, ...cells], WIDTHS));
}
