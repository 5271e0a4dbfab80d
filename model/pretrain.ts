/** Language-model training: next-token cross-entropy, AdamW, a schedule; one scope a step. */

import { scope, type Tensor } from "../tensor/mod.ts";
import type { Batch } from "./batch.ts";
import type { ModelConfig } from "./config.ts";
import type { Routing } from "./experts.ts";
import { AdamW, type AdamWSettings } from "./optimizer.ts";
import { gradientsOf, type ParameterTree, requireGradients } from "./parameters.ts";
import type { Schedule } from "./schedule.ts";
import { batchBalance, batchLogProbs } from "./score.ts";

export interface PretrainOptions {
  /** Changed in place. */
  readonly parameters: ParameterTree;
  readonly config: ModelConfig;
  /** The batch of step 0, 1, …: a function of the step, so that a resumed run sees the same. */
  readonly batches: (step: number) => Batch;
  /** Number of the last step + 1, counted from the beginning of training, not of this call. */
  readonly steps: number;
  readonly schedule: Schedule;
  /** Settings of a new optimizer, or one to go on with: its step count says where to start. */
  readonly optimizer?: Partial<AdamWSettings> | AdamW;
  /** Called after every step. */
  readonly onStep?: (info: StepInfo) => void;
  /** Ends training after the step in work. */
  readonly signal?: AbortSignal;
}

export interface StepInfo {
  readonly step: number;
  /** Mean over the step's targets of -log p, in nats. */
  readonly loss: number;
  /** Of a mixture of experts: see experts.ts; the loss is trained on with router_aux_loss_coef. */
  readonly routerAuxLoss?: number;
  readonly busiestExpert?: number;
  /** Before clipping. */
  readonly gradientNorm: number;
  readonly learningRate: number;
  /** Targets of this step. */
  readonly tokens: number;
}

export interface PretrainResult {
  /** Steps done since the beginning of training; less than `steps` where the signal came. */
  readonly step: number;
  /** Loss of the last step of this call; NaN where there was none. */
  readonly loss: number;
  readonly tokens: number;
  readonly seconds: number;
}

/** Behind what waits already: a timer would cost a millisecond, but a browser has nothing else. */
const afterTurn = globalThis.setImmediate ?? ((callback: () => void) => setTimeout(callback, 0));
/** Longest time in ms that timers and signals have to wait for a turn. */
const PATIENCE = 50;

/** Trains until `steps`. Throws where a batch has no target or the loss is no longer a number. */
export async function pretrain(options: PretrainOptions): Promise<PretrainResult> {
  const { parameters, steps, signal, onStep } = options;
  const own = !(options.optimizer instanceof AdamW);
  const optimizer =
    options.optimizer instanceof AdamW
      ? options.optimizer
      : new AdamW(parameters, options.optimizer);
  requireGradients(parameters);
  const started = performance.now();
  let turn = started;
  let loss = NaN;
  let tokens = 0;
  try {
    while (optimizer.step < steps && !signal?.aborted) {
      const info = await trainStep(options, optimizer);
      loss = info.loss;
      tokens += info.tokens;
      onStep?.(info);
      if (performance.now() - turn < PATIENCE) continue;
      await new Promise<void>((resolve) => afterTurn(resolve));
      turn = performance.now();
    }
    const seconds = (performance.now() - started) / 1000;
    return { step: optimizer.step, loss, tokens, seconds };
  } finally {
    if (own) optimizer.dispose();
  }
}

async function trainStep(options: PretrainOptions, optimizer: AdamW): Promise<StepInfo> {
  const { parameters, config, batches, schedule } = options;
  const { step } = optimizer;
  const batch = batches(step);
  const tokens = batch.targets.reduce((n, target) => n + (target >= 0 ? 1 : 0), 0);
  if (tokens === 0) throw new Error(`pretrain: the batch of step ${step} has no target`);
  const learningRate = schedule(step);
  const observed = scope((): Tensor[] => {
    const routing: Routing[] = [];
    const mean = batchLogProbs(parameters, config, batch, { routing })
      .sum()
      .mul(-1 / tokens);
    const mixture = routing.length > 0 ? batchBalance(routing, batch) : undefined;
    const total = mixture ? mean.add(mixture.loss.mul(config.router_aux_loss_coef!)) : mean;
    const gradients = gradientsOf(total, parameters);
    const norm = optimizer.update(gradients, learningRate);
    return [mean, norm, ...(mixture ? [mixture.loss, mixture.busiest] : [])].map((t) => t.detach());
  });
  const values = await Promise.all(observed.map(async (t) => (await t.data())[0]!));
  for (const t of observed) t.dispose();
  const [loss, gradientNorm, routerAuxLoss, busiestExpert] = values as [
    number,
    number,
    ...number[],
  ];
  const info = {
    ...{ step, loss, gradientNorm, learningRate, tokens },
    ...(routerAuxLoss !== undefined && { routerAuxLoss, busiestExpert: busiestExpert! }),
  };
  if (!Number.isFinite(loss)) {
    throw new Error(
      `pretrain: the loss of step ${step} is ${loss} at learning rate ${learningRate}; ` +
        "lower the rate, or clip the gradients",
    );
  }
  return info;
}
