/** docs/SCALE.md as text: tables from what was counted and measured, and the words around them. */

import { count, markdownTable } from "../../eval/table.ts";
import { peakOf } from "./count.ts";
import {
  gb,
  kilo,
  large,
  overRoof,
  runSeconds,
  runSizes,
  type Source,
  slack,
  span,
} from "./figures.ts";
import {
  BINDINGS,
  ENGINE,
  F16,
  F32,
  gpusFor,
  type Machine,
  machines,
  type Read,
  result,
  WASM,
  WASM_SURE,
} from "./machines.ts";
import { largestTensor, modelNamed, models, parametersOf } from "./models.ts";
import type { Counted, Recorded } from "./record.ts";
import { decisions, engineTable } from "./stages.ts";
import { ANSWER, LORA, PROMPT, variants } from "./step.ts";

const right = (title: string) => ({ title, align: "right" as const });
const left = (title: string) => ({ title });

const counts = (values: Recorded): readonly (readonly [string, Counted])[] =>
  models.map(({ name }) => [name, values.counted[name]!] as const);

function modelTable(values: Recorded): string {
  return markdownTable({
    columns: [
      ...[left("model"), right("parameters"), right("width x layers"), right("heads")],
      ...[right("weights f32, GB"), right("file bf16, GB"), right("largest tensor, GB")],
      ...[right("KV cache, kB/token"), right("kept, kB/token"), right("kept, f16")],
    ],
    rows: counts(values).map(([name, { kept, keptHalf }]) => {
      const { config } = modelNamed(name);
      const { num_hidden_layers: layers, num_key_value_heads: shared, head_dim } = config;
      const parameters = parametersOf(config);
      return [
        name,
        large(parameters),
        `${config.hidden_size} x ${layers}`,
        `${config.num_attention_heads} / ${shared}`,
        gb(4 * parameters),
        gb(2 * parameters),
        gb(4 * largestTensor(config)),
        ...[2 * 4 * layers * shared * head_dim, kept, keptHalf].map(kilo),
      ];
    }),
  });
}

/** Where so many bytes fit. */
function place(bytes: number): string {
  if (bytes <= WASM) return bytes <= WASM_SURE ? "wasm" : "wasm?";
  return bytes <= 80e9 ? "80" : bytes <= 141e9 ? "141" : "none";
}

function memoryTable(values: Recorded): string {
  const all = counts(values);
  const cell = (peak: number, held?: number) =>
    `${held === undefined ? "" : `${gb(held)} → `}${gb(peak)} ${place(peak)}`;
  return markdownTable({
    columns: [left("held → most at once, GB"), ...all.map(([name]) => right(name))],
    rows: [
      ["sampling", ...all.map(([, { sampling }]) => cell(sampling.peak))],
      ["scoring", ...all.map(([, { scoring }]) => cell(scoring.peak))],
      ...variants.map(({ name }) => [
        name,
        ...all.map(([, { runs }]) => cell(peakOf(runs[name]!), runs[name]!.held)),
      ]),
      ["GRPO, LoRA, f16 storage", ...all.map(([, { half }]) => cell(peakOf(half), half.held))],
    ],
  });
}

function bufferTable(values: Recorded): string {
  const verdict = (bytes: number) =>
    bytes <= BINDINGS.promised
      ? "everywhere"
      : bytes <= BINDINGS.usual
        ? "where 2 GiB can be bound"
        : bytes <= BINDINGS.most
          ? "where 4 GiB can be bound"
          : "refused";
  return markdownTable({
    columns: [left("model"), right("largest buffer of GRPO, LoRA, GB"), left("bound as one")],
    rows: counts(values).map(([name, { runs }]) => {
      const { largest } = runs[LORA]!;
      return [name, gb(largest), verdict(largest)];
    }),
  });
}

function timeTable(source: Source, answers: number): string {
  const { values, read } = source;
  const { plain, wide, h100, h100half, h200half } = machines(read);
  const rows = [
    [plain, false],
    [wide, false],
    [h100, false],
    [h100half, true],
    [h200half, true],
  ] as const;
  const all = counts(values);
  return markdownTable({
    columns: [left("sampling + learning"), left(""), ...all.map(([name]) => right(name))],
    rows: rows.map(([machine, half]) => [
      machine.name,
      machine.participant === undefined ? "bound, not run on a GPU" : "from measured rates",
      ...all.map(([name, { runs, half: halfRun }]) => {
        const { sample, learn } = runSeconds(source, name, machine, answers, half);
        const fits = peakOf(half ? halfRun : runs[LORA]!) <= machine.memory;
        const text = `${span(sample)} + ${span(learn)}`;
        return fits ? text : `(${text})`;
      }),
    ]),
  });
}

function checkTable({ measured: { checks } }: Recorded): string {
  const ratio = (pair?: { counted: number; measured: number }) =>
    pair === undefined || pair.counted === 0 ? "" : (pair.measured / pair.counted).toFixed(2);
  return markdownTable({
    columns: [
      ...[left("model"), left("method"), right("answers")],
      ...[right("counted, MB"), right("measured, MB"), right("ratio")],
      ...[
        right("learning, s: counted"),
        right("measured"),
        right("ratio"),
        right("sampling: ratio"),
      ],
    ],
    rows: checks.map(({ model, variant, answers, bytes, time }) => [
      ...[model, variant, String(answers)],
      ...[bytes.counted, bytes.measured].map((x) => (x / 1e6).toFixed(1)),
      (bytes.measured / bytes.counted).toFixed(4),
      ...(time === undefined
        ? ["", ""]
        : [time.learn.counted, time.learn.measured].map((x) => x.toPrecision(3))),
      ratio(time?.learn),
      ratio(time?.sample),
    ]),
  });
}

function benchmarkTable({ values, read }: Source): string {
  const { plain, wide } = machines(read);
  return markdownTable({
    columns: [
      left("benchmark"),
      ...[plain, wide].flatMap(({ name }) => [
        right(`${name}: counted, ms`),
        right("measured"),
        right("ratio"),
      ]),
    ],
    rows: values.benchmarks.map((benchmark) => [
      benchmark.name,
      ...[plain, wide].flatMap((machine) => {
        const measured = result(read, benchmark.name, machine.participant!);
        const ratio = overRoof(read, benchmark, machine);
        return [
          String(Number((measured / ratio).toPrecision(3))),
          String(measured),
          ratio.toFixed(2),
        ];
      }),
    ]),
  });
}

/** The whole document. `read` gives the text of a file of the repository. */
export function scaleDocument(values: Recorded, read: Read): string {
  const { paper, data } = runSizes();
  const { measured } = values;
  const { plain, wide } = machines(read);
  const more = slack(values, read, plain);
  const wider = slack(values, read, wide);
  const gflops = ({ roof }: Machine) => (roof.flops / 1e9).toFixed(0);
  const rates = measured.checks.flatMap(({ time }) => (time ? [time.roof.flops / 1e9] : []));
  const [low, high] = [Math.min(...rates), Math.max(...rates)].map((x) => x.toFixed(1));
  const sources = models.filter(({ published }) => published !== undefined);
  return `# Scale on paper

Written by \`bun run bench/scale_on_paper.ts --write\`; do not edit. A test checks that this page is what the script makes of its records.

**Question: which model and which method fit on what I have, how long does a run take, and when is it time for another engine?**

No GPU was used for anything on this page. Figures of GPUs are *bounds* from published peaks, those of other engines *arithmetic*: neither is a measurement, and real runs take longer.

## In short

${decisions({ values, read })}

## How these figures come about

The code that trains is run on a device that holds no numbers (\`bench/scale/counting_device.ts\`): it counts bytes, operations and launches. What a model of 72B would take is found by running a step of \`rl/methods\` with its shapes, not by a second set of formulas; a change of the code changes this page. A step has prompts of ${PROMPT} tokens and answers of ${ANSWER}, all different and none cut short by a stop token; adapters have rank 16 on q and v; optimizer AdamW. GB are 10⁹ bytes; ${gb(WASM)} GB are what WebAssembly addresses, however much memory there is.

## Models

Shapes: ${sources.map(({ name, source }) => `${name}, ${source}`).join("; ")}. "demo" and "Llama, 3M" are the usual and the largest model of the experiments here (experiments/scale.ts). Their parameters are counted by the names and shapes that a checkpoint has, and agree with what is published.

${modelTable(values)}

Weights are f32 in memory on every device, whatever the file has; opening a file takes them and, beside them, one array as large as the largest tensor (${measured.load.model} from bf16: a process grows by ${gb(measured.load.peak)} GB, measured, for ${gb(measured.load.weights)} GB of weights). \`--storage f16\` halves what backward finds kept (the column behind) and adds for each pass a copy of the weights of half their size; sums, gradients, moments and the weights that are trained stay f32. "Kept" is what backward reads, in all layers, without logits. Checkpoints: f32 weights, and two moments of each of them; of adapters only theirs (rank 16 on Qwen2.5-0.5B: 3 x ${((4 * adapterParameters(values, "Qwen2.5-0.5B")) / 1e6).toFixed(1)} MB).

## Memory by method, this library

What a run holds between steps, and the most at any time: in sampling, in learning, or at the end, when base, last and chosen weights are there. Behind it the least that it fits in: wasm (${gb(WASM)} GB; wasm?: only if its allocator, which rounds blocks up by at most 1/16, is lucky), one GPU of 80 or of 141 GB, or none of them. Rows in work at a time are chosen by \`model/memory.ts\`, for 4 GiB in all.

${memoryTable(values)}

Full fine-tuning holds base and policy (8 bytes a parameter), two moments (8), a gradient (4; a second one while parts of a step are added); the base is the reference of DPO and of a KL term, at no further cost. PPO's critic is a second model with moments of its own. Adapters stand beside one copy of the weights.

On WebGPU a tensor is one buffer, and an adapter says how large a one it binds: WebGPU promises 128 MiB, Dawn offers up to 2 GiB and, newly, 4 GiB (not known for any GPU here: \`webgpu:\` errors name the limit).

${bufferTable(values)}

## Time of a run

GRPO on adapters, ${paper.questionsPerStep} questions x ${paper.groupSize} answers x ${paper.steps} steps (preset \`paper-like\`; the paper's own numbers are not available): ${count(paper.answers)} answers, sampling + learning, without measuring before and after. In brackets: does not fit there, so that the figure only tells why one would not wait for it.

${timeTable({ values, read }, paper.answers)}

Preset \`data\` (${data.questionsPerStep} x ${data.groupSize} x ${data.steps}) takes 1/${(paper.answers / data.answers).toFixed(0)} of this. CPU rows: products at ${gflops(plain)} and ${gflops(wide)} GFLOP/s (bench/RESULTS.md, quiet machine), everything else at the ${(plain.roof.bytes / 1e9).toFixed(0)} GB/s of experiments/LOG.md, each launch at the slower of its two limits, times what the widest benchmark of the table below took over that: ${more.learn.toFixed(2)} for learning and ${more.sample.toFixed(2)} for sampling, with \`--wide\` ${wider.learn.toFixed(2)} and ${wider.sample.toFixed(2)}. GPU rows: the same launches at ${(F32 / 1e12).toFixed(0)} TFLOP/s (f32) or ${(F16 / 1e12).toFixed(0)} (f16 on tensor cores) and 3.35 or 4.8 TB/s, NVIDIA's published peaks, with nothing lost: of small models, where launches count, they say nothing. With f16 storage a model too large for packed copies (model/memory.ts) copies its weights anew for each token.

## Counted against measured

\`bun run bench/scale_on_paper.ts --measure\`, ${measured.date}, ${measured.runtime}, ${measured.cpu}, 2 cores, load average ${measured.loadAverage}: other work had most of the machine (${low} to ${high} GFLOP/s of 512³ products were left), so seconds mean nothing beyond these ratios: counted seconds are those at the rates of products and of adding arrays that were measured between the steps of the same process. Bytes are exact.

${checkTable(values)}

Time on a quiet machine: the benchmarks of bench/RESULTS.md (training 32 x 64 tokens, decoding 48 tokens after prompts of 16), counted, at the rates of the same page. Ratios above 1 are what launches, caches and exponentials add.

${benchmarkTable({ values, read })}

## Other engines

Arithmetic, not run: ${ENGINE.weights} bytes a parameter to serve (bf16) or to stand adapters on; ${ENGINE.trained} to train it (bf16 weights and gradients, f32 weights and two moments; ZeRO, arXiv 1910.02054), sharded over the GPUs; GRPO adds the ${ENGINE.weights} of the engine that samples, PPO a critic. GPUs of 80 GB, nine tenths of each used (vLLM's default), counts in powers of two; activations and KV caches get what is left.

${engineTable()}

## What this page does not know

- What a GPU really reaches. \`bun run bench/gpu.ts\` measures it; until then a WebGPU row is a floor of the time, and may be off by a large factor.
- Longer texts: with thoughts of 500 tokens in place of answers of ${ANSWER}, sampling takes some ${Math.round(500 / ANSWER)} times as long, and the KV cache (above) decides how many rows are in work.
- The judge. The paper's is a model of 72B, which is served beside the training: its GPUs come on top (${gpusFor(ENGINE.weights * parametersOf(modelNamed("Qwen2.5-72B").config))} of 80 GB).
`;
}

/** Parameters of the adapters: what GRPO on them holds, in f32 with two moments, beside the weights. */
function adapterParameters({ counted }: Recorded, name: string): number {
  const { config } = modelNamed(name);
  return (counted[name]!.runs[LORA]!.held - 4 * parametersOf(config)) / (3 * 4);
}
