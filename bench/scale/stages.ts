/** From a laptop to a cluster: which engine is next, and what it takes by arithmetic. */

import { markdownTable } from "../../eval/table.ts";
import { peakOf } from "./count.ts";
import { gb, large, runSeconds, runSizes, type Source, span } from "./figures.ts";
import { BINDINGS, ENGINE, gpusFor, type Machine, machines, WASM, WASM_SURE } from "./machines.ts";
import { largestTensor, modelNamed, models, parametersOf } from "./models.ts";
import type { Recorded } from "./record.ts";
import { LORA } from "./step.ts";

const HALF = "Qwen2.5-0.5B";
const SEVEN = "Qwen2.5-7B";
const MOST = "Qwen2.5-72B";

const REAL = "bun run rl/train.ts --model FOLDER --data popqa.tsv";
const GPU = "--device webgpu --storage f16 --matmul-precision f16";

/** Time of a run, both halves. */
function whole(source: Source, name: string, machine: Machine, answers: number, half = false) {
  const { sample, learn } = runSeconds(source, name, machine, answers, half);
  return span(sample + learn);
}

const fitsWasm = (values: Recorded, name: string, variant: string): boolean =>
  peakOf(values.counted[name]!.runs[variant]!) <= WASM_SURE;

/** Time of a GRPO run of the demo world, in the log's own words. */
function demoRun(read: Source["read"]): string {
  const found = /\| GRPO \| 84\.3 .*\| (\d+ min \d+ s) \|/.exec(read("experiments/LOG.md"))?.[1];
  if (found === undefined)
    throw new Error("experiments/LOG.md no longer times GRPO in the demo world");
  return found;
}

/** The decision table, and the sentence before it. */
export function decisions(source: Source): string {
  const { values, read } = source;
  const { wide, h100, h100half } = machines(read);
  const { paper, data } = runSizes();
  const onCores = models.filter(({ name }) => fitsWasm(values, name, LORA));
  const largest = onCores.at(-1)!.name;
  const fullOnCores = models.filter(({ name }) => fitsWasm(values, name, "GRPO")).at(-1)!.name;
  const demand = values.counted[SEVEN]!;
  const bytes = (name: string) => parametersOf(modelNamed(name).config);
  const table = markdownTable({
    columns: ["you have", "use", "what to expect", "command"].map((title) => ({ title })),
    rows: [
      [
        "2 CPU cores, worlds of facts",
        "this library, wasm",
        `minutes: a run of ${large(bytes("demo"))} parameters took ${demoRun(read)} on a busy machine (experiments/LOG.md)`,
        "`npm start -- --preset demo`",
      ],
      [
        "2 CPU cores, a real model",
        "this library, wasm, adapters",
        `up to ${largest} by LoRA (${gb(peakOf(values.counted[largest]!.runs[LORA]!))} of ${gb(WASM)} GB), all weights up to ${fullOnCores}; ${HALF}: ${whole(source, HALF, wide, data.answers)} for a run of preset data, ${whole(source, HALF, wide, paper.answers)} for a paper-like one`,
        `\`node rl/train.ts --wide --model FOLDER --data popqa.tsv --lora 16\``,
      ],
      [
        "one GPU, no Python",
        "this library, WebGPU",
        `${HALF} by any method: bound ${whole(source, HALF, h100, paper.answers)} in f32, ${whole(source, HALF, h100half, paper.answers, true)} in f16, not run on a GPU; ${SEVEN} by LoRA takes ${gb(peakOf(demand.half))} GB and binds a tensor of ${gb(4 * largestTensor(modelNamed(SEVEN).config))} GB, more than the ${gb(BINDINGS.usual)} of most adapters`,
        `\`${REAL} --lora 16 ${GPU}\``,
      ],
      [
        "one GPU with vLLM or SGLang",
        "their sampling, our training",
        `sampling leaves this process (${shareOfSampling(source, HALF, h100half)} of a step of ${HALF} at the bounds); the policy still has to be trained here: up to ${HALF} on cores, what fits above on a GPU; SGLang also takes all weights (\`--lora 0\`)`,
        `\`${REAL} --lora 16 --sampler.engine vllm --sampler.url http://HOST:8000/v1\``,
      ],
      [
        "somebody's GPUs behind a Tinker-compatible server",
        "our loop, rewards and advantages; their training and sampling",
        `no weights here, so any model that the server has; GRPO and its family, RFT and SFT; not run on such a server`,
        `\`${REAL} --lora 16 --trainer.url http://HOST:8000 --trainer.model Qwen/Qwen3-0.6B\``,
      ],
      [
        `at least ${gpusFor(2 * ENGINE.weights * bytes(SEVEN))} GPU for 7B, ${gpusFor(2 * ENGINE.weights * bytes(MOST))} for 72B, adapters`,
        "TRL with vLLM, by LoRA",
        "bf16 weights once, adapters on them (arithmetic below)",
        "`bun run rl/export.ts --to trl --out DIR --model FOLDER --data popqa.tsv --lora 16`",
      ],
      [
        `at least ${gpusFor(trainedBytes(SEVEN))} GPUs for 7B, ${gpusFor(trainedBytes(MOST))} for 72B, all weights`,
        "verl on Ray",
        "sharded training beside engines that sample (arithmetic below)",
        "`bun run rl/export.ts --to verl --out DIR --model FOLDER --data popqa.tsv --lora 0`",
      ],
    ],
  });
  return `Move on when the model no longer fits, or when a run takes longer than you would wait:

- **from two cores to a GPU** above ${largest}, or for more than one run of preset \`data\` with it;
- **from this library to other engines** above ${HALF} for all weights and from ${SEVEN} on altogether: weights are f32 here (${gb(4 * bytes(SEVEN))} GB, where bf16 is ${gb(2 * bytes(SEVEN))}), on one device, a tensor in one buffer;
- **from adapters on few GPUs to verl** where all weights are to be trained: ${ENGINE.trained} bytes a parameter in place of ${ENGINE.weights}.

${table}`;
}

function shareOfSampling(source: Source, name: string, machine: Machine): string {
  const { sample, learn } = runSeconds(source, name, machine, 1, true);
  return `${Math.round((100 * sample) / (sample + learn))} %`;
}

/** Bytes of GRPO on all weights: trained ones, and those of the engine that samples. */
const trainedBytes = (name: string): number =>
  (ENGINE.trained + ENGINE.weights) * parametersOf(modelNamed(name).config);

/** What other engines hold, and the GPUs that hold it. */
export function engineTable(): string {
  const sizes = [HALF, SEVEN, MOST];
  const stages: readonly (readonly [string, number])[] = [
    ["sampling or judging (vLLM, SGLang)", ENGINE.weights],
    [
      "LoRA: frozen weights, and the sampling engine's (TRL, Tinker-compatible servers)",
      2 * ENGINE.weights,
    ],
    ["SFT, all weights (verl, TRL)", ENGINE.trained],
    ["DPO, all weights, reference", ENGINE.trained + ENGINE.weights],
    ["GRPO, all weights, engine", ENGINE.trained + ENGINE.weights],
    ["GRPO with KL: reference too", ENGINE.trained + 2 * ENGINE.weights],
    ["PPO: critic, reference, engine", 2 * ENGINE.trained + 2 * ENGINE.weights],
  ];
  return markdownTable({
    columns: [
      { title: "arithmetic, not run" },
      { title: "bytes a parameter", align: "right" },
      ...sizes.map((name) => ({ title: `${name}, GB (GPUs of 80)`, align: "right" as const })),
    ],
    rows: stages.map(([name, bytes]) => [
      name,
      String(bytes),
      ...sizes.map((size) => {
        const all = bytes * parametersOf(modelNamed(size).config);
        return `${gb(all)} (${gpusFor(all)})`;
      }),
    ]),
  });
}
