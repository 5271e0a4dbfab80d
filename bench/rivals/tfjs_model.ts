/** The transformer of model/transformer.ts in TensorFlow.js: one training step. */
// gather's gradient is missing in the wasm backend, so the embedding is a product with one-hot rows.
// Weights are kept [in out]: A·Bᵀ is far slower here than A·B. tf.train has no AdamW and no clipping.

import { readFileSync } from "node:fs";
import type { Prepared } from "./protocol.ts";
import {
  ADAMW,
  CHECKED_STEPS,
  MODEL_NORM_EPS,
  ROPE_THETA,
  type StepTask,
  sizeOf,
} from "./tasks.ts";
import type { Tf, TfTensor, TfVariable } from "./tfjs_types.ts";

/** [t t]: 0 where a key is visible, a large negative number where it is not. */
export function maskOf(tf: Tf, t: number): TfTensor {
  const values = Float32Array.from({ length: t * t }, (_, i) => (i % t > i / t ? -1e9 : 0));
  return tf.tensor(values, [t, t]);
}

/** softmax(q·kᵀ/√d + mask)·v, [b h t d]. */
export function causalAttention(q: TfTensor, k: TfTensor, v: TfTensor, mask: TfTensor): TfTensor {
  const scores = q.matMul(k, false, true).mul(1 / Math.sqrt(q.shape.at(-1)!));
  return scores.add(mask).softmax().matMul(v);
}

const isMatrix = (name: string): boolean => !name.includes("norm");

function weightsOf(tf: Tf, task: StepTask): Map<string, TfVariable> {
  const bytes = readFileSync(task.file);
  let at = bytes.byteOffset;
  return new Map(
    task.weights.map(([name, shape]) => {
      const values = Float32Array.from(new Float32Array(bytes.buffer, at, sizeOf(shape)));
      at += values.byteLength;
      const stored = tf.tensor(values, shape);
      const turn = isMatrix(name) && name !== "model.embed_tokens.weight";
      return [name, tf.variable(turn ? stored.transpose([1, 0]) : stored, true, name)];
    }),
  );
}

function ropeTables(tf: Tf, { positions, width, heads }: StepTask) {
  const half = width / heads / 2;
  const table = (f: (angle: number) => number): TfTensor => {
    const angle = (i: number) => Math.floor(i / half) * ROPE_THETA ** (-(i % half) / half);
    const values = Float32Array.from({ length: positions * half }, (_, i) => f(angle(i)));
    return tf.tensor(values, [positions, half]);
  };
  return { cos: table(Math.cos), sin: table(Math.sin) };
}

interface Constants {
  readonly cos: TfTensor;
  readonly sin: TfTensor;
  readonly mask: TfTensor;
  readonly tokens: TfTensor;
  readonly targets: TfTensor;
}

/** Mean cross-entropy of a batch; `tokens` and `targets` are one-hot rows. */
function lossOf(
  tf: Tf,
  { rows: b, positions: t, heads, depth, width }: StepTask,
  weights: ReadonlyMap<string, TfVariable>,
  { cos, sin, mask, tokens, targets }: Constants,
): TfTensor {
  const weight = (name: string): TfTensor => weights.get(`${name}.weight`)!;
  const linear = (x: TfTensor, name: string): TfTensor => x.matMul(weight(name));
  const norm = (x: TfTensor, name: string): TfTensor =>
    x.div(x.square().mean(-1, true).add(MODEL_NORM_EPS).sqrt()).mul(weight(name));
  const split = (x: TfTensor) => x.reshape([b, t, heads, width / heads]).transpose([0, 2, 1, 3]);
  const rope = (x: TfTensor): TfTensor => {
    const [first, second] = tf.split(x, 2, -1) as [TfTensor, TfTensor];
    const low = first.mul(cos).sub(second.mul(sin));
    return tf.concat([low, second.mul(cos).add(first.mul(sin))], -1);
  };
  let x = tokens.matMul(weight("model.embed_tokens"));
  for (let layer = 0; layer < depth; layer++) {
    const name = `model.layers.${layer}`;
    const y = norm(x, `${name}.input_layernorm`);
    const [q, k, v] = ["q", "k", "v"].map((part) =>
      split(linear(y, `${name}.self_attn.${part}_proj`)),
    ) as [TfTensor, TfTensor, TfTensor];
    const mixed = causalAttention(rope(q), rope(k), v, mask).transpose([0, 2, 1, 3]);
    x = x.add(linear(mixed.reshape([b * t, width]), `${name}.self_attn.o_proj`));
    const z = norm(x, `${name}.post_attention_layernorm`);
    const gate = linear(z, `${name}.mlp.gate_proj`);
    const inner = gate.mul(gate.sigmoid()).mul(linear(z, `${name}.mlp.up_proj`));
    x = x.add(linear(inner, `${name}.mlp.down_proj`));
  }
  const scores = linear(norm(x, "model.norm"), "lm_head");
  return scores
    .logSoftmax()
    .mul(targets)
    .sum()
    .mul(-1 / (b * t));
}

export function step(tf: Tf, task: StepTask): Prepared {
  const weights = weightsOf(tf, task);
  const moments = () =>
    new Map(
      [...weights].map(([name, { shape }]) => [name, tf.variable(tf.zeros(shape), false, "")]),
    );
  const [first, second] = [moments(), moments()];
  const rows = (ids: readonly number[]): TfTensor => {
    const indices = tf.tensor1d(Int32Array.from(ids), "int32");
    return tf.cast(tf.oneHot(indices, task.vocabulary), "float32");
  };
  const constants = {
    ...{ ...ropeTables(tf, task), mask: maskOf(tf, task.positions) },
    ...{ tokens: rows(task.tokens), targets: rows(task.targets) },
  };
  let count = 0;
  const { learningRate, beta1, beta2, eps, weightDecay, clipNorm } = ADAMW;
  const run = (): number =>
    tf.tidy(() => {
      count++;
      const variables = [...weights.values()];
      const { value, grads } = tf.variableGrads(
        () => lossOf(tf, task, weights, constants),
        variables,
      );
      const squares = Object.values(grads).map((g) => g.square().sum());
      const norm = squares
        .reduce((total, square) => total.add(square))
        .sqrt()
        .dataSync()[0]!;
      const factor = Math.min(1, clipNorm / (norm + 1e-6));
      for (const [name, weight] of weights) {
        const [m, v, g] = [first.get(name)!, second.get(name)!, grads[name]!.mul(factor)];
        m.assign(m.mul(beta1).add(g.mul(1 - beta1)));
        v.assign(v.mul(beta2).add(g.square().mul(1 - beta2)));
        const scale = v
          .div(1 - beta2 ** count)
          .sqrt()
          .add(eps);
        const move = m.mul(learningRate / (1 - beta1 ** count)).div(scale);
        const decay = isMatrix(name) ? 1 - learningRate * weightDecay : 1;
        weight.assign(weight.mul(decay).sub(move));
      }
      return value.dataSync()[0]!;
    });
  return {
    run,
    check: () => Array.from({ length: CHECKED_STEPS }, run),
    release: () => {
      const kept = [...weights.values(), ...first.values(), ...second.values()];
      for (const t of [...kept, ...Object.values(constants)]) t.dispose();
    },
  };
}
