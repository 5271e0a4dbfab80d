/** Do two devices give the same answers? One checkpoint, greedy decoding, on wasm and on a GPU. */
// Question: how many greedy answers of a preset's base model differ between wasm and webgpu? Sums run
// in other orders there, so two words that are equally likely may change places; 99.9 % must agree.
// Takes rl/train.ts' flags (--preset, --pretrain.steps, …), of which those of training are unused.

import { greedyAnswers, type Model } from "../eval/accuracy.ts";
import { wilson } from "../eval/statistics.ts";
import { buildWorld } from "../eval/worlds/presets.ts";
import { baseModel } from "../rl/base.ts";
import { worldOf } from "../rl/config.ts";
import { asking } from "../rl/evaluate.ts";
import { onInterrupt } from "../rl/interrupt.ts";
import { Progress } from "../rl/progress.ts";
import { resolveConfig } from "../rl/resolve.ts";
import { runMain } from "../rl/user_error.ts";
import { setDevice, type Tensor, tensor } from "../tensor/mod.ts";

const NEEDED = 0.999;

async function main(): Promise<void> {
  const resolved = resolveConfig(process.argv.slice(2));
  if (resolved.help !== null) return console.log(resolved.help);
  const { config } = resolved;
  const world = buildWorld(worldOf(config));
  const questions = (["train", "validation", "test"] as const).flatMap((split) =>
    world.questions(split),
  );
  await setDevice("wasm");
  const progress = new Progress();
  using interrupt = onInterrupt({ print: (text) => progress.print(text) });
  const base = await baseModel(world, config, progress, interrupt);
  const answersOf = (model: Model) => greedyAnswers(asking(model, world, questions, config));
  const before = await answersOf(base);
  const gpu = await setDevice("webgpu");
  if ("description" in gpu) console.log(`webgpu: ${gpu.description}`);
  const parameters = new Map<string, Tensor>();
  for (const [name, t] of base.parameters) parameters.set(name, tensor(await t.data(), t.shape));
  const after = await answersOf({ config: base.config, parameters });

  const differ = questions.filter((_, i) => before[i]!.text !== after[i]!.text);
  for (const question of differ) {
    const i = questions.indexOf(question);
    console.log(
      `"${question.promptText}": "${before[i]!.text}" on wasm, "${after[i]!.text}" on webgpu`,
    );
  }
  const same = questions.length - differ.length;
  const right = (answers: typeof before) => answers.filter(({ correct }) => correct).length;
  const { low, high } = wilson(same, questions.length);
  const percent = (x: number) => `${(100 * x).toFixed(2)} %`;
  console.log(
    `${same} of ${questions.length} greedy answers agree: ${percent(same / questions.length)} ` +
      `(95 % interval ${percent(low)} to ${percent(high)}); ` +
      `right: ${right(before)} on wasm, ${right(after)} on webgpu`,
  );
  if (same / questions.length < NEEDED) {
    console.error(`devices: less than ${percent(NEEDED)} agree`);
    process.exitCode = 1;
  }
}

await runMain(main);
