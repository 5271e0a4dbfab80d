/** Faults to plant, one at a time: each must make at least one test fail. */

import { losses } from "./losses.ts";

/** One wrong edit: `find` occurs exactly once in the file. */
export interface Fault {
  readonly file: string;
  readonly what: string;
  readonly find: string;
  readonly replace: string;
}

const gradients: readonly Fault[] = [
  {
    file: "tensor/ops/elementwise.ts",
    what: "gradient of `sub`: sign of the second operand",
    find: "vjp: (g) => [g, g.neg()],",
    replace: "vjp: (g) => [g, g],",
  },
  {
    file: "tensor/ops/elementwise.ts",
    what: "gradient of `mul`: operands exchanged",
    find: "vjp: (g, [a, b]) => [g.mul(b!), g.mul(a!)],",
    replace: "vjp: (g, [a, b]) => [g.mul(a!), g.mul(b!)],",
  },
  {
    file: "tensor/ops/elementwise.ts",
    what: "gradient of `gelu`: the factor 3 of the cubic term is missing",
    find: ".mul(3 * 0.044715)",
    replace: ".mul(0.044715)",
  },
  {
    file: "tensor/ops/matmul.ts",
    what: "gradient of `matmul`: B is not transposed",
    find: "[g.matmul(b!.transpose()), weight",
    replace: "[g.matmul(b!), weight",
  },
  {
    file: "tensor/ops/reduce.ts",
    what: "gradient of `max`: equal largest elements each get all of it",
    find: ".div(hit.sum({ axes, keepDims: true }))",
    replace: "",
  },
  {
    file: "tensor/ops/rope.ts",
    what: "gradient of `rope`: turned onwards, not back",
    find: "{ inverse: !inverse }",
    replace: "{ inverse }",
  },
  {
    file: "tensor/ops/softmax.ts",
    what: "gradient of `softmax`: Σ g·y is not taken off",
    find: "y!.mul(g!.sub(g!.mul(y!).sum({ axes: -1, keepDims: true })))",
    replace: "y!.mul(g!)",
  },
  {
    file: "tensor/autograd.ts",
    what: "broadcasting is undone by a mean, not a sum",
    find: "g : g.sum({ axes: summed, keepDims: true })",
    replace: "g : g.mean({ axes: summed, keepDims: true })",
  },
  {
    file: "tensor/autograd.ts",
    what: "a value used twice keeps only its last gradient",
    find: "known === undefined ? fitted : known.add(fitted)",
    replace: "fitted",
  },
];

const definitions: readonly Fault[] = [
  {
    file: "tensor/ops/reduce.ts",
    what: "definition of `mean`: divides by n + 1 (truth and gradient agree with each other)",
    find: "mul(1 / axes.reduce((n, axis) => n * x!.shape[axis]!, 1))",
    replace: "mul(1 / (1 + axes.reduce((n, axis) => n * x!.shape[axis]!, 1)))",
  },
  {
    file: "tensor/ops/attention.ts",
    what: "mask of `causalSoftmax`: a query does not see its own key",
    find: "keys.lessEqual(last).where",
    replace: "keys.less(last).where",
  },
  {
    file: "tensor/random.ts",
    what: "Philox with 9 rounds",
    find: "const ROUNDS = 10;",
    replace: "const ROUNDS = 9;",
  },
];

const kernels: readonly Fault[] = [
  {
    file: "tensor/device/wasm/rows.ts",
    what: "row kernels: lanes behind a row's end count",
    find: "fill === 0 ? v128.and(value, mask)",
    replace: "fill === 0 ? value",
  },
  {
    file: "tensor/device/wasm/elementwise_kernel.ts",
    what: "elementwise kernels: the tail is stored as a whole vector, behind the buffer",
    find: "f.copy(target, spare, i32.shl(left, 2));",
    replace: "f.copy(target, spare, i32.const(16));",
  },
  {
    file: "tensor/device/wasm/elementwise.ts",
    what: "elementwise kernels: rows step by the stride of columns",
    find: "walk.at(-2)!;",
    replace: "walk.at(-1)!;",
  },
  {
    file: "tensor/ops/wasm/norm.ts",
    what: "kernel of the norms' gradient: the last row of the last block is left out",
    find: "f.set(last, p.rows)",
    replace: "f.set(last, i32.sub(p.rows, 1))",
  },
  {
    file: "tensor/ops/wasm/softmax.ts",
    what: "softmax kernels: no maximum is taken off",
    find: "v128.andnot(top, f32x4.eq(top, -Infinity))",
    replace: "v128.and(top, f32x4.const(0))",
  },
  {
    file: "tensor/ops/wasm/causal_softmax.ts",
    what: "kernel of `causalSoftmax`: one key too many is visible",
    find: "i32.mul(i32.add(last, 1)",
    replace: "i32.mul(i32.add(last, 2)",
  },
  {
    file: "tensor/ops/wasm/gather.ts",
    what: "kernel of `scatterRows`: a repeated id overwrites",
    find: "step.store(to, f32x4.add(step.load(to), step.load(from)))",
    replace: "step.store(to, step.load(from))",
  },
  {
    file: "tensor/ops/wasm/optimizer.ts",
    what: "kernel of `adamW`: √v without the bias correction",
    find: "f32x4.sqrt(f32x4.mul(v1, correction2))",
    replace: "f32x4.sqrt(v1)",
  },
  {
    file: "tensor/device/wasm/device.ts",
    what: "packed copies of strided operands are never freed",
    find: "for (const memory of temporary) this.machine.arena.free(memory);",
    replace: "",
  },
  {
    file: "tensor/device/wasm/halves.ts",
    what: "cast to f16: a number in the middle between two is not rounded to the even one",
    find: "i32x4.add(i32x4.add(size, odd)",
    replace: "i32x4.add(i32x4.add(size, 0)",
  },
  {
    file: "tensor/device/wasm/halves.ts",
    what: "kernels on f16: the offset of a view counts twice",
    find: 'dtype: "f32", offset: 0, memory }',
    replace: 'dtype: "f32", memory }',
  },
];

const bookkeeping: readonly Fault[] = [
  {
    file: "tensor/scope.ts",
    what: "a scope that returns no tensor, or throws, frees nothing",
    find: "      else handle.dispose();",
    replace: "      else if (survivors.size > 0) handle.dispose();",
  },
  {
    file: "tensor/engine.ts",
    what: "an in-place write is not counted",
    find: "      storage.version++;",
    replace: "      storage.version;",
  },
];

const fused: readonly Fault[] = [
  {
    file: "tensor/ops/wasm/log_prob.ts",
    what: "gradient kernel of `linearLogProb`: each chunk starts dW anew",
    find: "accumulate: first > 0",
    replace: "accumulate: false",
  },
  {
    file: "tensor/ops/log_prob.ts",
    what: "gradient of `linearLogProb`: overwrites logits that someone else holds",
    find: "const spare = intact && !logits.storage.shared;",
    replace: "const spare = intact;",
  },
  {
    file: "tensor/ops/wasm/sample.ts",
    what: "kernel of `drawClasses`: the bits are read as floats",
    find: "f64x2.convertLowI32x4U(words)",
    replace: "f64x2.promoteLowF32x4(words)",
  },
  {
    file: "tensor/ops/wasm/sample.ts",
    what: "kernel of `drawClasses`: samples of different rows share exponentials",
    find: "f.set(last, row);",
    replace: "f.set(last, i32.const(0));",
  },
  {
    file: "tensor/device/wasm/thin_columns.ts",
    what: "thin products: an odd last step of k is left out",
    find: 'rest: f.local("i32", i32.and(k, 3), "rest")',
    replace: 'rest: f.local("i32", i32.and(k, 2), "rest")',
  },
  {
    file: "tensor/ops/wasm/attention_decode.ts",
    what: "decode attention: the last positions' weights are taken from the first rows",
    find: "const next = i32.mul(inRow, i32.gtU(left, i));",
    replace: "const next = i32.mul(inRow, i32.gtU(left, i + 1));",
  },
  {
    file: "model/packed.ts",
    what: "packed weights are found under a name that all layers share",
    find: "const known = store.get(name);",
    replace: 'const known = store.get(name.replace("layers.1", "layers.0"));',
  },
];

const measurement: readonly Fault[] = [
  {
    file: "eval/hierarchy.ts",
    what: "variance over worlds: a resample's lack of spread is not made good",
    find: "* worlds) / (worlds - 1);",
    replace: "* worlds) / worlds;",
  },
  {
    file: "eval/agreement.ts",
    what: "error of kappa: the margins of the wrong rater",
    find: "(columns[i]! + rows[j]!)",
    replace: "(rows[i]! + columns[j]!)",
  },
  {
    file: "eval/dedup/similar.ts",
    what: "near-duplicates: pairs in later blocks of columns get the first block's index",
    find: "part * COLUMNS + (at % n)",
    replace: "at % n",
  },
];

export const faults: readonly Fault[] = [
  ...[gradients, definitions, kernels, fused, bookkeeping, measurement, losses].flat(),
];
