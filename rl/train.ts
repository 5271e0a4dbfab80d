#!/usr/bin/env bun
/** The main command: a world, a base model, reinforcement on one half, recall of the other half. */

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { greedyAnswers, type Model } from "../eval/accuracy.ts";
import { buildWorld } from "../eval/worlds/presets.ts";
import type { World } from "../eval/worlds/world.ts";
import { activeParameterCount, disposeParameters, parameterCount } from "../model/parameters.ts";
import { setDevice } from "../tensor/mod.ts";
import { baseModel } from "./base.ts";
import { seedsOf, type TrainConfig, worldOf } from "./config.ts";
import { accessibilityOfTraining, asking, type BaseMeasurement, measure } from "./evaluate.ts";
import { writeJson } from "./files.ts";
import { worldText } from "./header.ts";
import { onInterrupt } from "./interrupt.ts";
import { methodOf } from "./methods/mod.ts";
import { Progress } from "./progress.ts";
import { questionsOf } from "./questions.ts";
import { ledgerRows, type Outcome, report, summarise } from "./report.ts";
import { dryRunText, type ResolvedRun, resolveConfig } from "./resolve.ts";
import { createRun, openRun, type Run } from "./run.ts";
import { choose } from "./select.ts";
import { disposeState, restore } from "./state.ts";
import { trainingQuestions } from "./strata.ts";
import { count } from "./table.ts";
import { trackersOf } from "./tracking.ts";
import { trainPolicy } from "./trainer.ts";
import { runMain, UserError } from "./user_error.ts";

async function main(): Promise<void> {
  const resolved = resolveConfig(process.argv.slice(2));
  if (resolved.help !== null) return console.log(resolved.help);
  if (resolved.dryRun) return console.log(dryRunText(resolved));
  await chooseDevice(resolved.config);
  using run = openFolder(resolved);
  await train(run, resolved.resume !== null);
}

/** Says which GPU it is, for that is not the user's choice alone. */
async function chooseDevice(config: TrainConfig): Promise<void> {
  const { device, wide, deterministic, matmulPrecision, storage } = config;
  const name = device as Parameters<typeof setDevice>[0];
  const own = device === "wasm" ? { wide, deterministic } : { matmulPrecision };
  const made = await setDevice(name, { ...own, storage }).catch((error: Error) => {
    throw new UserError(error.message);
  });
  if ("description" in made) console.log(`webgpu: ${made.description}`);
}

function openFolder({ config, out, resume }: ResolvedRun): Run<TrainConfig> {
  return resume === null ? createRun({ config, dir: out }) : openRun(resume, config);
}

/** Question: does training recall of some facts raise recall of others? Top to bottom. */
async function train(run: Run<TrainConfig>, resumed: boolean): Promise<void> {
  const { config } = run;
  const started = performance.now();
  const progress = new Progress();
  using interrupt = onInterrupt({ print: (text) => progress.print(text) });

  // 1. A world of facts. Its training, validation and held-out questions share no entity.
  const world = buildWorld(worldOf(config));
  for (const split of ["train", "validation", "test"] as const) questionsOf(world, config, split);

  // 2. A base model that has read about all of them.
  const base = await baseModel(world, config, progress, interrupt);
  const params = parameterCount(base.parameters);
  const header = headerOf(config, world, base);
  progress.print(`${header.join("\n")}\n`);

  // 3. What it stores, and what it says, before any reinforcement.
  const before = await measuredOnce(run, resumed, async () => ({
    ...(await measure(base, world, config, progress, "before")),
    trainAccessible: await accessibilityOfTraining(base, world, config),
  }));

  // 4. Reinforcement on the training half.
  const { policy, state } = restore(run, resumed, base);
  const tracker = await trackersOf(run, (text) => progress.print(text));
  const asked = questionsOf(world, config, "train");
  const seed = seedsOf(config).rl;
  const questions = trainingQuestions(asked, before.trainAccessible, config, seed);
  if (questions.length < asked.length) {
    const { stratum } = config.train;
    progress.print(`training on ${questions.length} of ${asked.length} questions: ${stratum}`);
  }
  const training = {
    run,
    task: world,
    questions,
    policy,
    base,
    state,
    progress,
    interrupt,
    tracker,
  };
  const finished = await trainPolicy(training).finally(() => tracker.finish());
  disposeState(state);
  if (!finished) {
    throw new UserError(`stopped at step ${state.step}; continue with --resume ${run.dir}`);
  }

  // 5. The weights that validation chose, on entities that training never saw.
  const chosen = await choose(run, world, base);
  const after = await measure(chosen.model, world, config, progress, "after");
  // The last step's weights too: reported beside the chosen ones, never used.
  const right = async (split: "test" | "train"): Promise<boolean[]> => {
    const asked = asking(policy, world, questionsOf(world, config, split), config);
    return (await greedyAnswers(asked)).map(({ correct }) => correct);
  };
  const lastStep = { heldOut: await right("test"), trained: await right("train") };
  chosen.dispose();
  disposeParameters(policy.parameters);
  if (policy.lora) disposeParameters(policy.lora.adapters);

  // 6. What happened.
  const seconds = (performance.now() - started) / 1000;
  const { firstSolved } = state;
  const stages = progress.seconds;
  const outcome: Outcome = {
    ...{ config, task: world, params, seconds, stages, before, after, firstSolved },
    ...{ chosenStep: chosen.step, validation: chosen.validation, lastStep },
    validationAccuracy: chosen.accuracy,
  };
  const summary = summarise(outcome);
  const { text, markdown } = report(outcome, summary, header);
  for (const row of ledgerRows(outcome)) run.ledger.append(row);
  run.writeSummary(summary);
  run.writeReport(markdown);
  console.log(`\n${text}\nrun folder: ${run.dir} (report.md first)`);
  console.log(
    "next: --preset null, the control; --method ppo; --explain, what metrics mean; " +
      "npm run reproduce -- --quick, the paper's claims",
  );
}

function headerOf(config: TrainConfig, world: World, base: Model): string[] {
  const { family, hiddenSize, layers, heads, experts, expertsPerToken } = config.model;
  const active = activeParameterCount(base.parameters, base.config);
  const mixture =
    family === "qwen3moe"
      ? `, ${expertsPerToken} of ${experts} experts a token (${count(active)} parameters)`
      : "";
  return [
    `preset       ${config.preset}, seed ${config.seed}, method ${config.method}, reward ${config.reward}` +
      (config.train.labels === "gold" ? "" : `, ${config.train.labels} labels`),
    ...worldText(world).map((line, i) => `${i === 0 ? "world        " : "             "}${line}`),
    `model        ${count(parameterCount(base.parameters))} parameters: ` +
      `${family === "llama" ? "" : `${family}, `}${layers} layers of width ${hiddenSize}, ` +
      `${heads} heads${mixture}`,
    ...methodOf(config).mathematics(config),
  ];
}

/** The base model is measured once: a resumed run reads what the first one wrote. */
async function measuredOnce(
  run: Run<TrainConfig>,
  resumed: boolean,
  work: () => Promise<BaseMeasurement>,
): Promise<BaseMeasurement> {
  const path = join(run.dir, "before.json");
  if (resumed && existsSync(path)) return JSON.parse(readFileSync(path, "utf8")) as BaseMeasurement;
  const measured = await work();
  writeJson(path, measured);
  return measured;
}

await runMain(main);
