/** Batched decoding with a KV cache: tokens/s by model and batch, and where the time goes. */
// Question: how fast does the engine that trains also sample? Prompts are distinct, so no two rows
// share work; a run is prefill and decoding together, as a rollout is.

import type { ModelConfig } from "../model/config.ts";
import { disposeParameters, type ParameterTree } from "../model/parameters.ts";
import { sample } from "../model/sample.ts";
import { currentDevice, randomStream } from "../tensor/mod.ts";
import { perStep, profiled, table } from "./profile.ts";
import {
  benchOptions,
  caveat,
  DEFAULT,
  FULL,
  flopsPerToken,
  line,
  machine,
  median,
  modelOf,
  QUICK,
  type Size,
  Yardstick,
} from "./support.ts";

const options = benchOptions("bench/generate.ts");

const PROMPT = 16;
const NEW_TOKENS = 48;
const BATCHES = [1, 64, 256];
const seconds = options.quick ? 0.5 : 4;

/** `count` prompts of random tokens, no two alike in practice. */
function promptsOf(count: number, vocabulary: number): number[][] {
  const stream = randomStream({ seed: 1, purpose: "prompts", step: count });
  return Array.from({ length: count }, () =>
    Array.from({ length: PROMPT }, () => stream.int(vocabulary)),
  );
}

function sampler(parameters: ParameterTree, config: ModelConfig, count: number) {
  const prompts = promptsOf(count, config.vocab_size);
  let seed = 0;
  return (maxNewTokens: number) =>
    sample(parameters, config, prompts, { maxNewTokens, rowsPerBatch: count, seed: seed++ });
}

/** Median milliseconds of a call, over at least three calls, with yardsticks between them. */
async function time(run: () => Promise<unknown>, yardstick: Yardstick): Promise<number> {
  await run();
  const samples: number[] = [];
  const end = performance.now() + 1000 * seconds;
  while (samples.length < 3 || performance.now() < end) {
    const start = performance.now();
    await run();
    samples.push(performance.now() - start);
    yardstick.sample();
  }
  return median(samples);
}

async function profileOf(run: () => Promise<unknown>) {
  const start = performance.now();
  const found = await profiled(currentDevice(), run);
  const whole = performance.now() - start;
  const ops = perStep(found.ops, 1);
  return { whole, kernels: ops.reduce((sum, op) => sum + op.milliseconds, 0), ops };
}

async function benchmark(wanted: Size, count: number) {
  const { config, parameters, inner } = modelOf(wanted);
  const run = sampler(parameters, config, count);
  // One new token is prefill alone; the rest of a full run is decoding.
  using yardstick = new Yardstick();
  const prefill = await time(() => run(1), yardstick);
  const whole = await time(() => run(NEW_TOKENS), yardstick);
  const profile = options.profile ? await profileOf(() => run(NEW_TOKENS)) : undefined;
  disposeParameters(parameters);
  const decoding = (whole - prefill) / (count * (NEW_TOKENS - 1));
  const context = { positions: PROMPT + NEW_TOKENS / 2, training: false };
  const gflops = flopsPerToken(wanted, inner, context) / decoding / 1e6;
  return {
    ...{ ...wanted, inner, batch: count, milliseconds: whole, prefillMs: prefill },
    tokensPerSecond: (1000 * count * NEW_TOKENS) / whole,
    decodedPerSecond: 1000 / decoding,
    ...{ decodingGflops: gflops, shareOfGemm: gflops / yardstick.rate() },
    ...(profile && { profile }),
  };
}

const sizes = (options.quick ? QUICK : options.full ? FULL : DEFAULT).filter(
  ({ width }) => options.width === undefined || width === Number(options.width),
);
if (sizes.length === 0) throw new Error(`--width ${options.width}: no model of that width here`);
const here = machine();
const rows = [];
const WIDTHS = [22, 7, 9, 11, 11, 9, 9];
if (!options.json) {
  console.log(`${caveat(here)}\nprompts of ${PROMPT}, ${NEW_TOKENS} new tokens each; medians\n`);
  const head = ["d / L / V", "batch", "ms", "tokens/s", "decoding/s", "GFLOP/s", "of GEMM"];
  console.log(line(head, WIDTHS));
}
for (const wanted of sizes) {
  for (const count of BATCHES) {
    const row = await benchmark(wanted, count);
    rows.push(row);
    if (options.json) continue;
    const model = `${wanted.width} / ${wanted.depth} / ${wanted.vocabulary}`;
    const rates = [row.tokensPerSecond, row.decodedPerSecond].map((x) => x.toFixed(0));
    const cells = [model, count, row.milliseconds.toFixed(1), ...rates];
    const share = `${(100 * row.shareOfGemm).toFixed(0)} %`;
    console.log(line([...cells, row.decodingGflops.toFixed(1), share], WIDTHS));
    if (row.profile === undefined) continue;
    const { whole, kernels, ops } = row.profile;
    const outside = ((100 * (whole - kernels)) / whole).toFixed(1);
    console.log(`\n  ${outside} % of ${whole.toFixed(1)} ms outside of kernels`);
    console.log(`${table(ops, whole, 10)}\n`);
  }
}
if (options.json) console.log(JSON.stringify({ bench: "generate", ...here, rows }));
