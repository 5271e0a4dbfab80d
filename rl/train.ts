#!/usr/bin/env bun
/** The main command: a world, a base model, reinforcement on one half, recall of the other half. */

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { greedyAnswers } from "../eval/accuracy.ts";
import type { Tinker } from "../eval/engines/tinker.ts";
import { count } from "../eval/table.ts";
import type { TaskQuestion } from "../eval/task.ts";
import { activeParameterCount, parameterCount, parameterSizes } from "../model/parameters.ts";
import { bestCheckpoint } from "./checkpoints.ts";
import { seedsOf, type TrainConfig } from "./config.ts";
import { chooseDevice } from "./device.ts";
import { accessibilityOfTraining, asking, type BaseMeasurement, measure } from "./evaluate.ts";
import { writeJson } from "./files.ts";
import { type Interrupt, onInterrupt } from "./interrupt.ts";
import { methodOf } from "./methods/mod.ts";
import { Progress } from "./progress.ts";
import { measuredTraining, questionsOf } from "./questions.ts";
import { requireEngine } from "./remote_sampler.ts";
import { ledgerRows, type Outcome, report, summarise } from "./report.ts";
import { dryRunText, type ResolvedRun, resolveConfig } from "./resolve.ts";
import { createRun, openRun, type Run } from "./run.ts";
import { choose, localWeights } from "./select.ts";
import { openSource, requireSameFiles, type Source } from "./source.ts";
import { disposePolicy, disposeState, restore } from "./state.ts";
import { trainingQuestions } from "./strata.ts";
import { addressOf, heldRun, openServer } from "./tinker_trainer.ts";
import { trackersOf } from "./tracking.ts";
import { trainPolicy } from "./trainer.ts";
import { keepTuned } from "./tuned.ts";
import { runMain, UserError } from "./user_error.ts";

async function main(): Promise<void> {
  const started = performance.now();
  const resolved = resolveConfig(process.argv.slice(2));
  if (resolved.help !== null) return console.log(resolved.help);
  if (resolved.dryRun) return console.log(dryRunText(resolved));
  const { config, resume } = resolved;
  await chooseDevice(config);
  const progress = new Progress();
  using interrupt = onInterrupt({ print: (text) => progress.print(text) });
  // A mistake in a user's files leaves no folder behind. A world's model may take minutes to train:
  // it comes after the folder, which may be refused.
  const real = config.data && (await openSource(config, progress, interrupt));
  if (real) await requireEngine(config, real.task, (text) => progress.print(text));
  using server = await openServer(config, (text) => progress.print(text));
  using run = openFolder(resolved);
  const source = real ?? (await openSource(config, progress, interrupt));
  const resumed = resume !== null;
  await train({ run, resumed, source, server, progress, interrupt, started });
}

interface Work {
  readonly run: Run<TrainConfig>;
  readonly resumed: boolean;
  readonly source: Source;
  /** Where the model is trained; undefined: in this process. */
  readonly server: Tinker | undefined;
  readonly progress: Progress;
  readonly interrupt: Interrupt;
  /** When the command began, pre-training included. */
  readonly started: number;
}

function openFolder({ config, out, resume }: ResolvedRun): Run<TrainConfig> {
  return resume === null ? createRun({ config, dir: out }) : openRun(resume, config);
}

/** Question: does training recall of some facts raise recall of others? Top to bottom. */
async function train(work: Work): Promise<void> {
  const { run, resumed, source, server, progress, interrupt, started } = work;
  const { config } = run;

  // 1. Questions of which training, validation and test share no entity, and a base model.
  const { task } = source;
  requireSameFiles(run.dir, resumed, source);
  const held = server && (await heldRun(server, run, resumed, source.base));
  const base = held?.policy ?? source.base;
  const params = parameterCount(parameterSizes(base.config));
  const header = headerOf(config, source);
  progress.print(`${header.join("\n")}\n`);

  // 2. What it stores, and what it says, before any reinforcement.
  const before = await measuredOnce(run, resumed, async () => ({
    ...(await measure(base, task, config, progress, "before")),
    trainAccessible: await accessibilityOfTraining(base, task, config),
  }));

  // 3. Reinforcement on the training half.
  const { policy, state, trainer } = held ?? { ...restore(run, resumed, base), trainer: undefined };
  const tracker = await trackersOf(run, (text) => progress.print(text));
  const asked = questionsOf(task, config, "train");
  const seed = seedsOf(config).rl;
  const questions = trainingQuestions(asked, before.trainAccessible, config, seed);
  if (questions.length < asked.length) {
    const { stratum } = config.train;
    progress.print(`training on ${questions.length} of ${asked.length} questions: ${stratum}`);
  }
  const shared = { run, task, questions, policy, base, state, trainer };
  const finished = await trainPolicy({ ...shared, progress, interrupt, tracker }).finally(() =>
    tracker.finish(),
  );
  disposeState(state);
  if (!finished) {
    throw new UserError(`stopped at step ${state.step}; continue with --resume ${run.dir}`);
  }

  // 4. The last step's weights: reported beside the chosen ones, never used.
  const right = async (questions: readonly TaskQuestion[]): Promise<boolean[]> =>
    (await greedyAnswers(asking(policy, task, questions, config))).map(({ correct }) => correct);
  const lastStep = {
    heldOut: await right(questionsOf(task, config, "test")),
    trained: await right(measuredTraining(task, config)),
  };
  // The weights that validation chose, on entities that training never saw.
  const chosen = await choose(run, task, held?.weights ?? localWeights(config, base));
  const after = await measure(chosen.model, task, config, progress, "after");
  chosen.dispose();
  disposePolicy(policy);

  // 5. What happened.
  const seconds = (performance.now() - started) / 1000;
  const { firstSolved } = state;
  const stages = progress.seconds;
  const outcome: Outcome = {
    ...{ config, task, params, seconds, stages, before, after, firstSolved },
    ...{ chosenStep: chosen.step, validation: chosen.validation, lastStep },
    validationAccuracy: chosen.accuracy,
  };
  const summary = summarise(outcome);
  const { text, markdown } = report(outcome, summary, header);
  for (const row of ledgerRows(outcome)) run.ledger.append(row);
  run.writeSummary(summary);
  run.writeReport(markdown);
  console.log(`\n${text}\nrun folder: ${run.dir} (report.md first)`);
  if (config.data !== undefined || config.lora.rank > 0) {
    console.log(await tunedText(run, chosen.step, source));
  }
  if (config.data !== undefined) return;
  console.log(
    "next: --preset null, the control; --method ppo; --explain, what metrics mean; " +
      "npm run reproduce -- --quick, the paper's claims",
  );
}

function headerOf(config: TrainConfig, { base, lines }: Source): string[] {
  const { model_type, hidden_size, num_hidden_layers, num_attention_heads } = base.config;
  const family = model_type.replace("_", "");
  const { num_experts: experts, num_experts_per_tok: perToken } = base.config;
  const sizes = parameterSizes(base.config);
  const active = activeParameterCount(sizes, base.config);
  const mixture =
    experts === undefined
      ? ""
      : `, ${perToken} of ${experts} experts a token (${count(active)} parameters)`;
  return [
    `preset       ${config.preset}, seed ${config.seed}, method ${config.method}, reward ${config.reward}` +
      (config.train.labels === "gold" ? "" : `, ${config.train.labels} labels`),
    ...lines,
    `model        ${count(parameterCount(sizes))} parameters: ` +
      `${family === "llama" ? "" : `${family}, `}${num_hidden_layers} layers of width ` +
      `${hidden_size}, ${num_attention_heads} heads${mixture}`,
    ...methodOf(config).mathematics(config),
  ];
}

/** Keeps the chosen weights as a folder that other tools open, and says where it is. */
async function tunedText(
  run: Run<TrainConfig>,
  step: number,
  { task, base }: Source,
): Promise<string> {
  if (step === 0) {
    return `no checkpoint was better than the model itself; the last one is in ${run.checkpoints}`;
  }
  if (run.config.trainer !== undefined) {
    const path = addressOf(bestCheckpoint(run.checkpoints)!.path);
    return `tuned weights: ${path} on the server (${run.config.trainer.url})`;
  }
  const folder = await keepTuned(run, base, task.tokenizer);
  return `tuned model: ${folder} (bun run model/generate.ts --model ${folder} --prompt …)`;
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
