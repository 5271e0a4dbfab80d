/** A rival: jax-js on its WebAssembly device. Every task is one jitted function. */
// It uses one worker a core where the runtime has a global Worker (Deno, Bun), else one thread.

import { VERSIONS } from "./install.ts";
import { decode, step } from "./jax_model.ts";
import { type Jax, type JaxArray, loadJax, type Tree } from "./jax_types.ts";
import { type Prepared, serve } from "./protocol.ts";
import {
  COTANGENT,
  type GemmTask,
  input,
  inputShapes,
  NORM_EPS,
  type OpTask,
  samplesOf,
  sizeOf,
  type Transpose,
} from "./tasks.ts";

/** `f`, jitted, on these inputs: run() waits for the results and frees them. */
function prepare(jax: Jax, inputs: JaxArray[], f: (...inputs: JaxArray[]) => Tree): Prepared {
  const jitted = jax.jit(f);
  const call = () => jax.blockUntilReady(jitted(...inputs.map((x) => x.ref)));
  return {
    run: async () => jax.tree.dispose(await call()),
    check: async () => {
      const found = [await call()].flat() as JaxArray[];
      return (await Promise.all(found.map(async (x) => samplesOf(await x.data())))).flat();
    },
    release: () => {
      jitted.dispose();
      for (const x of inputs) x.dispose();
    },
  };
}

function random({ numpy }: Jax, shape: readonly number[], salt: number): JaxArray {
  return numpy.array(input(sizeOf(shape), salt)).reshape(shape);
}

function gemm(jax: Jax, { m, k, n, transpose }: GemmTask): Prepared {
  const { matmul, transpose: t } = jax.numpy;
  const a = random(jax, transpose === "TN" ? [k, m] : [m, k], 1);
  const b = random(jax, transpose === "NT" ? [n, k] : [k, n], 2);
  const product: Record<Transpose, typeof matmul> = {
    NN: matmul,
    NT: (x, y) => matmul(x, t(y)),
    TN: (x, y) => matmul(t(x), y),
  };
  return prepare(jax, [a, b], product[transpose]);
}

function op(jax: Jax, task: OpTask): Prepared {
  const { numpy: np, nn } = jax;
  const rowMean = (x: JaxArray): JaxArray => np.mean(x, -1, { keepdims: true });
  const unit = (x: JaxArray): JaxArray => x.ref.div(np.sqrt(rowMean(np.square(x)).add(NORM_EPS)));
  const forwards = {
    softmax: (x: JaxArray) => nn.softmax(x),
    rmsNorm: (x: JaxArray, w: JaxArray) => unit(x).mul(w),
    layerNorm: (x: JaxArray, w: JaxArray, b: JaxArray) =>
      unit(x.ref.sub(rowMean(x)))
        .mul(w)
        .add(b),
    attention: (q: JaxArray, k: JaxArray, v: JaxArray) => causalAttention(jax, q, k, v),
  };
  const forward = forwards[task.op] as (...inputs: JaxArray[]) => JaxArray;
  const inputs = inputShapes(task).map((shape, i) => random(jax, shape, i + 1));
  if (!task.backward) return prepare(jax, inputs, forward);
  const argnums = inputs.map((_, i) => i);
  return prepare(jax, [...inputs, random(jax, task.shape, COTANGENT)], (...all) => {
    const g = all.pop()!;
    const weighted = (...own: JaxArray[]): JaxArray => np.sum(forward(...own).mul(g.ref));
    return jax.grad(weighted, { argnums })(...all);
  });
}

/** By hand: nn.dotProductAttention was measured to be slower. q, k, v [b h t d]. */
function causalAttention({ numpy: np, nn }: Jax, q: JaxArray, k: JaxArray, v: JaxArray): JaxArray {
  const [t, d] = q.shape.slice(-2) as [number, number];
  const scores = np.einsum("bhtd,bhsd->bhts", q, k).mul(1 / Math.sqrt(d));
  const visible = np.greater(np.tril(np.ones([t, t])), 0);
  return np.einsum("bhts,bhsd->bhtd", nn.softmax(np.where(visible, scores, -1e9)), v);
}

await serve(async () => {
  const jax = await loadJax();
  const { bun, deno, node } = process.versions;
  const runtime = bun ? `Bun ${bun}` : deno ? `Deno ${deno}` : `Node ${node}`;
  const threads = "Worker" in globalThis ? navigator.hardwareConcurrency : 1;
  return {
    ...{ version: `${VERSIONS["@jax-js/jax"]} (${runtime})`, threads },
    prepare: (task) => {
      if (task.kind === "gemm") return gemm(jax, task);
      if (task.kind === "op") return op(jax, task);
      return task.kind === "step" ? step(jax, task) : decode(jax, task);
    },
  };
});
