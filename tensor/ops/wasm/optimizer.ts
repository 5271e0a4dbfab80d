/** The AdamW kernel: weight and both moments are read and written once. */

import { f32x4, i32, type Local, v128 } from "../../device/wasm/assembler.ts";
import type { WasmKernel } from "../../device/wasm/kernel.ts";
import { address, i32s } from "../../device/wasm/launch.ts";
import { elementAt, type I32, sweep } from "../../device/wasm/rows.ts";
import { sizeOf } from "../../shape.ts";
import type { AdamWOptions } from "../optimizer.ts";

/** Nanoseconds per element. */
const COST = 0.7;

const f32s = <K extends string>(...names: K[]): Readonly<Record<K, "f32">> =>
  Object.fromEntries(names.map((name) => [name, "f32"])) as Record<K, "f32">;

const PARAMETERS = {
  ...i32s("w", "g", "m", "v", "scale"),
  ...f32s("decay", "rate", "beta1", "rest1", "beta2", "rest2", "correction2", "eps"),
  ...i32s("begin", "end"),
};

export const adamW: WasmKernel = {
  emit: (module) =>
    module.function("f32_adamw", PARAMETERS, (f, p) => {
      const [w, g, m, v] = [p.w, p.g, p.m, p.v].map((base) => {
        return f.local("i32", elementAt(base, p.begin));
      }) as [I32, I32, I32, I32];
      const n = f.local("i32", i32.sub(p.end, p.begin), "n");
      const scale = f.local("v128", v128.load32Splat(p.scale), "scale");
      const splat = (x: Local<"f32">) => f.local("v128", f32x4.splat(x));
      const [decay, rate, eps] = [splat(p.decay), splat(p.rate), splat(p.eps)];
      const [beta1, rest1] = [splat(p.beta1), splat(p.rest1)];
      const [beta2, rest2, correction2] = [splat(p.beta2), splat(p.rest2), splat(p.correction2)];
      sweep(f, n, 1, (step) => {
        const own = f.local("v128", f32x4.mul(step.load(g), scale), "own");
        const mean = f32x4.add(f32x4.mul(beta1, step.load(m)), f32x4.mul(rest1, own));
        const m1 = f.local("v128", mean, "m1");
        const square = f32x4.mul(f32x4.mul(rest2, own), own);
        const v1 = f.local("v128", f32x4.add(f32x4.mul(beta2, step.load(v)), square), "v1");
        const root = f32x4.add(f32x4.sqrt(f32x4.mul(v1, correction2)), eps);
        const update = f32x4.div(f32x4.mul(rate, m1), root);
        step.store(m, m1);
        step.store(v, v1);
        step.store(w, f32x4.sub(f32x4.mul(step.load(w), decay), update));
      });
    }),
  run(machine, { inputs, options }) {
    const { learningRate, beta1, beta2, eps, weightDecay, step } = options as AdamWOptions;
    const rates = [
      1 - learningRate * weightDecay,
      learningRate / (1 - beta1 ** step),
      ...[beta1, 1 - beta1, beta2, 1 - beta2],
      1 / (1 - beta2 ** step),
      eps,
    ];
    const n = sizeOf(inputs[0]!.shape);
    const args = [...inputs.map(address), ...rates];
    machine.parallel("f32_adamw", args, n, { grain: 16, work: COST * n });
  },
};
