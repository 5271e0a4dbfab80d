/** Our own side: this library on its wasm device. Arguments: threads, and `wide` for 256 bits. */

import { readFileSync } from "node:fs";
import { parseConfig } from "../../model/config.ts";
import { AdamW } from "../../model/optimizer.ts";
import { disposeParameters } from "../../model/parameters.ts";
import { pretrain } from "../../model/pretrain.ts";
import { sample } from "../../model/sample.ts";
import { WasmDevice } from "../../tensor/device/wasm/device.ts";
import {
  arange,
  gradients,
  keep,
  noGrad,
  scope,
  setDevice,
  type Tensor,
  tensor,
} from "../../tensor/mod.ts";
import { Cannot, type Prepared, serve } from "./protocol.ts";
import {
  ADAMW,
  CHECKED_ROWS,
  CHECKED_STEPS,
  COTANGENT,
  type DecodeTask,
  type GemmTask,
  input,
  inputShapes,
  MODEL_NORM_EPS,
  type ModelSize,
  NORM_EPS,
  type OpTask,
  ROPE_THETA,
  type StepTask,
  samplesOf,
  sizeOf,
  type Weights,
} from "./tasks.ts";

const random = (shape: readonly number[], salt: number): Tensor =>
  keep(tensor(input(sizeOf(shape), salt), shape));

const samples = async (t: Tensor): Promise<number[]> => samplesOf(await t.data());

function gemm({ m, k, n, transpose }: GemmTask): Prepared {
  const a = random(transpose === "TN" ? [k, m] : [m, k], 1);
  const b = random(transpose === "NT" ? [n, k] : [k, n], 2);
  const product = (): Tensor =>
    (transpose === "TN" ? a.transpose() : a).matmul(transpose === "NT" ? b.transpose() : b);
  return {
    run: () => scope(() => void product()),
    check: () => samples(product()),
    release: () => {
      a.dispose();
      b.dispose();
    },
  };
}

function op(task: OpTask): Prepared {
  const inputs = inputShapes(task).map((shape, i) => random(shape, i + 1));
  const [x, y, z] = inputs as [Tensor, Tensor, Tensor];
  const cotangent = random(task.shape, COTANGENT);
  const [b, , t] = task.shape as [number, number, number];
  const attend = (): Tensor => {
    const positions = arange(t).expand([b, t]);
    return x.attention(y, z, positions, { scale: 1 / Math.sqrt(task.shape.at(-1)!) });
  };
  const forward = {
    softmax: () => x.softmax(),
    rmsNorm: () => x.rmsNorm(y, { eps: NORM_EPS }),
    layerNorm: () => x.layerNorm(y, z, { eps: NORM_EPS }),
    attention: attend,
  }[task.op];
  if (task.backward) for (const t of inputs) t.requireGrad();
  const results = (): Tensor[] =>
    scope(() => (task.backward ? gradients(forward(), inputs, { cotangent }) : [noGrad(forward)]));
  return {
    run: () => scope(() => void results()),
    check: async () => (await Promise.all(results().map(samples))).flat(),
    release: () => {
      for (const t of [...inputs, cotangent]) t.dispose();
    },
  };
}

interface Model extends ModelSize {
  readonly file: string;
  readonly weights: Weights;
}

function model({ file, weights, ...size }: Model) {
  const bytes = readFileSync(file);
  let at = 0;
  const parameters = new Map(
    weights.map(([name, shape]) => {
      const values = new Float32Array(bytes.buffer, bytes.byteOffset + at, sizeOf(shape));
      at += values.byteLength;
      return [name, keep(tensor(Float32Array.from(values), shape))];
    }),
  );
  const config = parseConfig({
    ...{ model_type: "llama", tie_word_embeddings: false, max_position_embeddings: 128 },
    ...{ vocab_size: size.vocabulary, hidden_size: size.width, intermediate_size: size.inner },
    ...{ num_hidden_layers: size.depth, num_attention_heads: size.heads },
    ...{ rms_norm_eps: MODEL_NORM_EPS, rope_theta: ROPE_THETA },
  });
  return { parameters, config };
}

function step(task: StepTask): Prepared {
  const { parameters, config } = model(task);
  const { learningRate, beta1, beta2, ...rest } = ADAMW;
  const optimizer = new AdamW(parameters, { ...rest, betas: [beta1, beta2] });
  const batch = {
    shape: [task.rows, task.positions],
    tokens: Int32Array.from(task.tokens),
    targets: Int32Array.from(task.targets),
  } as const;
  const losses: number[] = [];
  const train = (steps: number) =>
    pretrain({
      ...{ parameters, config, optimizer, steps, batches: () => batch },
      schedule: () => learningRate,
      onStep: ({ loss }) => losses.push(loss),
    });
  return {
    run: () => train(optimizer.step + 1),
    check: async () => {
      await train(CHECKED_STEPS);
      return losses.slice(0, CHECKED_STEPS);
    },
    release: () => {
      optimizer.dispose();
      disposeParameters(parameters);
    },
  };
}

function decode(task: DecodeTask): Prepared {
  const { parameters, config } = model(task);
  const { prompts, newTokens: maxNewTokens } = task;
  const draw = (count: number, temperature: number) =>
    sample(parameters, config, prompts.slice(0, count), {
      ...{ maxNewTokens, temperature, rowsPerBatch: count },
    });
  return {
    run: () => draw(prompts.length, 1),
    check: async () => (await draw(CHECKED_ROWS, 0)).tokens.flat(),
    release: () => disposeParameters(parameters),
  };
}

await serve(async () => {
  const [threads = "1", mode] = process.argv.slice(2);
  const wide = mode === "wide";
  const options = { threads: Number(threads), ...(wide && { wide }) };
  const device = await setDevice("wasm", options);
  const refused = device instanceof WasmDevice && device.machine.choice.refused;
  if (wide && refused) throw new Cannot(`no wide mode: ${refused}`);
  const started = device instanceof WasmDevice ? device.machine.warmUp(5000) : 1;
  const { bun, deno, node } = process.versions;
  const version = bun ? `Bun ${bun}` : deno ? `Deno ${deno}` : `Node ${node}`;
  return {
    ...{ version, threads: started },
    prepare: (task) => {
      if (task.kind === "gemm") return gemm(task);
      if (task.kind === "op") return op(task);
      return task.kind === "step" ? step(task) : decode(task);
    },
  };
});
