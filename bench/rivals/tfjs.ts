/** A rival: TensorFlow.js on its wasm backend. */

import { VERSIONS } from "./install.ts";
import { Cannot, type Prepared, serve } from "./protocol.ts";
import {
  COTANGENT,
  type GemmTask,
  input,
  inputShapes,
  NORM_EPS,
  type OpTask,
  samplesOf,
  sizeOf,
} from "./tasks.ts";
import { causalAttention, maskOf, step } from "./tfjs_model.ts";
import { loadTf, type Tf, type TfTensor } from "./tfjs_types.ts";

const random = (tf: Tf, shape: readonly number[], salt: number): TfTensor =>
  tf.tensor(input(sizeOf(shape), salt), shape);

/** The backend computes when it is called, so nothing has to be waited for. */
function prepare(tf: Tf, inputs: readonly TfTensor[], results: () => TfTensor[]): Prepared {
  return {
    run: () => tf.tidy(() => void results()),
    check: () => tf.tidy(() => results().flatMap((t) => samplesOf(t.dataSync()))),
    release: () => {
      for (const t of inputs) t.dispose();
    },
  };
}

function gemm(tf: Tf, { m, k, n, transpose }: GemmTask): Prepared {
  const a = random(tf, transpose === "TN" ? [k, m] : [m, k], 1);
  const b = random(tf, transpose === "NT" ? [n, k] : [k, n], 2);
  // By hand: matMul's own transposeA and transposeB were measured to be 10 to 40 times slower.
  const turned = (x: TfTensor, turn: boolean) => (turn ? x.transpose([1, 0]) : x);
  return prepare(tf, [a, b], () => [
    turned(a, transpose === "TN").matMul(turned(b, transpose === "NT")),
  ]);
}

function op(tf: Tf, task: OpTask): Prepared {
  const unit = (x: TfTensor): TfTensor => x.div(x.square().mean(-1, true).add(NORM_EPS).sqrt());
  const mask = maskOf(tf, task.shape.at(-2)!);
  const forward = {
    softmax: (x: TfTensor) => x.softmax(),
    rmsNorm: (x: TfTensor, w: TfTensor) => unit(x).mul(w),
    layerNorm: (x: TfTensor, w: TfTensor, b: TfTensor) =>
      unit(x.sub(x.mean(-1, true)))
        .mul(w)
        .add(b),
    attention: (q: TfTensor, k: TfTensor, v: TfTensor) => causalAttention(q, k, v, mask),
  }[task.op] as (...inputs: TfTensor[]) => TfTensor;
  const inputs = inputShapes(task).map((shape, i) => random(tf, shape, i + 1));
  const cotangent = random(tf, task.shape, COTANGENT);
  const gradients = tf.grads(forward);
  return prepare(tf, [...inputs, cotangent, mask], () =>
    task.backward ? gradients(inputs, cotangent) : [forward(...inputs)],
  );
}

// Its notices go to stderr, so that stdout carries the protocol alone.
console.log = console.info = console.warn = console.error;

await serve(async () => {
  const tf = await loadTf();
  return {
    ...{ version: `${VERSIONS["@tensorflow/tfjs"]}`, threads: 1 },
    prepare: (task) => {
      if (task.kind === "gemm") return gemm(tf, task);
      if (task.kind === "op") return op(tf, task);
      if (task.kind === "step") return step(tf, task);
      throw new Cannot("decoding is not written for TensorFlow.js here");
    },
  };
});
