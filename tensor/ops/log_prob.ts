/** Linear layer, softmax and log-probability of a target in one op, with one array of logits. */

import { zeros } from "../create.ts";
import { type Call, type Draw, fused, missing, primitive } from "../op.ts";
import { formatShape, type Shape, ShapeError } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import * as wasm from "./wasm/log_prob.ts";
import * as wgsl from "./wgsl/log_prob.ts";

export interface LogProbSettings {
  /** Divides the logits. */
  readonly temperature: number;
  /** Rows whose logits are in work at a time where they aren't kept; default some megabytes. */
  readonly chunk?: number;
}
export interface LinearLogProbOptions extends LogProbSettings {
  /** Logits are returned, and spare backward a product. Without, no array of them is made. */
  readonly keepLogits: boolean;
}

function checked(op: string, [x, weight, targets]: readonly Shape[]): [n: number, v: number] {
  const [[n, d], [v, own]] = [x!, weight!] as [number[], number[]];
  if (x!.length === 2 && weight!.length === 2 && d === own && `${targets!}` === `${n}`) {
    return [n!, v!];
  }
  const shapes = [x!, weight!, targets!].map(formatShape).join(", ");
  throw new ShapeError(`${op}: got ${shapes}, expected [n d], [v d], [n]`);
}

/**
 * log softmax(z)[target] with z = x·Wᵀ / temperature: x [n d], W [v d], targets i32 [n] -> [n],
 * and z, [n v] (with `keepLogits` false [0 v]). A negative target gives 0. Each row has the bits
 * of `matmul`, `div` and `gatherLogProb`, whatever the options. Backward overwrites z with its
 * gradient, unless someone else holds z; where it is gone, z is computed anew, chunk by chunk.
 */
export const linearLogProb: Call<
  [x: Tensor, weight: Tensor, targets: Tensor, options: LinearLogProbOptions],
  [logProbs: Tensor, logits: Tensor]
> = fused<LinearLogProbOptions>({
  arity: 3,
  shape: (shapes, { keepLogits }) => {
    const [n, v] = checked("linearLogProb", shapes);
    return [[n], [keepLogits ? n : 0, v]];
  },
  types: { inputs: ["real", "real", "i32"], outputs: ["f32", "f32"] },
  composed: ([x, weight, targets], { temperature, keepLogits }) => {
    const logits = x!.matmul(weight!.transpose()).div(temperature);
    return [logits.gatherLogProb(targets!), keepLogits ? logits : logits.slice([[0, 0]])];
  },
  vjp: (g, [x, weight, targets], { outputs, cotangents: [own, direct], options, recorded }) => {
    const logits = outputs[1]!;
    const intact = options.keepLogits && logits.storage.version === 0;
    if (!recorded && own !== undefined && direct === undefined) {
      const spare = intact && !logits.storage.shared;
      const memory = spare ? logits : zeros([0, weight!.shape[0]!], { device: g.device });
      return [...g.linearLogProbVjp(x!, weight!, targets!, memory, options), null];
    }
    const z = intact ? logits : x!.matmul(weight!.transpose()).div(options.temperature);
    const viaTarget = g.gatherLogProbVjp(z, targets!);
    const both = options.keepLogits && direct ? viaTarget.add(direct) : viaTarget;
    const slopes = both.div(options.temperature);
    return [slopes.matmul(weight!), slopes.transpose().matmul(x!), null];
  },
  keeps: "both",
  noticesOverwritten: true,
  wasm: wasm.linearLogProb,
  wgsl: wgsl.linearLogProb,
  tolerance: 1e-4, // f32 sums over d and v
  sample: (draw) => {
    const { x, weight, targets } = drawn(draw);
    const options = { temperature: draw.choice([1, 0.7]), keepLogits: draw.int(0, 1) === 1 };
    return { inputs: [x, weight, targets], options: { ...options, chunk: draw.int(1, 9) } };
  },
});

/**
 * Gradients of linearLogProb for the cotangent g of the log-probabilities: with dz = g·(onehot -
 * softmax(z)) / temperature, dx = dz·W and dW = dzᵀ·x. `logits` [n v] hold z and are overwritten;
 * where they are [0 v], z is computed anew.
 */
export const linearLogProbVjp: Call<
  [g: Tensor, x: Tensor, weight: Tensor, targets: Tensor, logits: Tensor, options: LogProbSettings],
  [dx: Tensor, dweight: Tensor]
> = primitive<LogProbSettings>({
  arity: 5,
  shape: ([g, x, weight, targets, logits]) => {
    const [n, v] = checked("linearLogProbVjp", [x!, weight!, targets!]);
    if (`${g!}` === `${n}` && [`${n},${v}`, `0,${v}`].includes(`${logits!}`)) return [x!, weight!];
    const [got, z] = [formatShape(g!), formatShape(logits!)];
    throw new ShapeError(
      `linearLogProbVjp: g ${got} and logits ${z}, expected [${n}], [${n} ${v}] or [0 ${v}]`,
    );
  },
  types: { inputs: ["f32", "real", "real", "i32", "f32"], outputs: ["f32", "f32"] },
  updates: [4],
  reference: ({ inputs: [g, x, weight, targets, logits], outputs: [dx, dw], options }) => {
    const [[n, d], [v]] = [x!.shape, weight!.shape] as [[number, number], [number]];
    const kept = logits!.shape[0] === n;
    for (let i = 0; i < n; i++) {
      const row = Float64Array.from({ length: v }, (_, j) => {
        if (kept) return logits!.data[i * v + j]!;
        let z = 0;
        for (let c = 0; c < d; c++) z += x!.data[i * d + c]! * weight!.data[j * d + c]!;
        return z / options.temperature;
      });
      const top = row.reduce((most, z) => Math.max(most, z), -Infinity);
      const total = row.reduce((sum, z) => sum + Math.exp(z - top), 0);
      const target = targets!.data[i]!;
      const share = target < 0 ? 0 : g!.data[i]! / options.temperature;
      row.forEach((z, j) => {
        const dz = share * (Number(j === target) - Math.exp(z - top) / total);
        if (kept) logits!.data[i * v + j] = dz;
        for (let c = 0; c < d; c++) {
          dx!.data[i * d + c]! += dz * weight!.data[j * d + c]!;
          dw!.data[j * d + c]! += dz * x!.data[i * d + c]!;
        }
      });
    }
  },
  vjp: missing("overwrites its logits; linearLogProb's own VJP is differentiable"),
  wasm: wasm.linearLogProbVjp,
  wgsl: wgsl.linearLogProbVjp,
  tolerance: 1e-4, // f32 sums over v and n
  sample: (draw) => {
    const { x, weight, targets } = drawn(draw);
    const [n, v] = [x.shape[0]!, weight.shape[0]!];
    const logits = { shape: [draw.int(0, 1) * n, v] };
    const options = { temperature: draw.choice([1, 0.7]), chunk: draw.int(1, 9) };
    return { inputs: [{ shape: [n] }, x, weight, targets, logits], options };
  },
});

function drawn(draw: Draw) {
  const [n, d, v] = [draw.size(), draw.size(), Math.max(1, draw.size())];
  const targets = { shape: [n], dtype: "i32", low: -1, high: v - 1 } as const;
  return { x: { shape: [n, d] }, weight: { shape: [v, d] }, targets };
}
