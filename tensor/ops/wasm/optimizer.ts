/** The AdamW kernels: weight and both moments are read and written once. */

import {
  type FunctionBuilder,
  f32,
  f32x4,
  i32,
  type Local,
  v128,
} from "../../device/wasm/assembler.ts";
import type { WasmKernel } from "../../device/wasm/kernel.ts";
import { address, i32s } from "../../device/wasm/launch.ts";
import { elementAt, type I32, sweep } from "../../device/wasm/rows.ts";
import { sizeOf } from "../../shape.ts";
import type { AdamWAllOptions, AdamWOptions } from "../optimizer.ts";
import { blocksOf, launchTable } from "./lists.ts";

/** Nanoseconds per element. */
const COST = 0.7;

const f32s = <K extends string>(...names: K[]): Readonly<Record<K, "f32">> =>
  Object.fromEntries(names.map((name) => [name, "f32"])) as Record<K, "f32">;

const RATES = f32s("rate", "beta1", "rest1", "beta2", "rest2", "correction2", "eps");
type Rates = Readonly<Record<keyof typeof RATES | "decay", Local<"f32">>>;

/** RATES of an update, in their order. */
const ratesOf = ({ learningRate, beta1, beta2, eps, step }: Omit<AdamWOptions, "weightDecay">) => [
  learningRate / (1 - beta1 ** step),
  ...[beta1, 1 - beta1, beta2, 1 - beta2],
  1 / (1 - beta2 ** step),
  eps,
];

/** Updates n elements from the addresses w, g, m and v on; `scale` is the address of a number. */
function emitUpdate(
  f: FunctionBuilder,
  [w, g, m, v]: readonly [I32, I32, I32, I32],
  n: I32,
  scaleAt: I32,
  p: Rates,
): void {
  const scale = f.local("v128", v128.load32Splat(scaleAt), "scale");
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
}

export const adamW: WasmKernel = {
  emit: (module) => {
    const parameters = {
      ...i32s("w", "g", "m", "v", "scale"),
      ...f32s("decay"),
      ...RATES,
      ...i32s("begin", "end"),
    };
    module.function("f32_adamw", parameters, (f, p) => {
      const arrays = [p.w, p.g, p.m, p.v].map((base) => f.local("i32", elementAt(base, p.begin)));
      const n = f.local("i32", i32.sub(p.end, p.begin), "n");
      emitUpdate(f, arrays as [I32, I32, I32, I32], n, p.scale, p);
    });
  },
  run(machine, { inputs, options }) {
    const { learningRate, weightDecay } = options as AdamWOptions;
    const rates = [1 - learningRate * weightDecay, ...ratesOf(options as AdamWOptions)];
    const n = sizeOf(inputs[0]!.shape);
    const args = [...inputs.map(address), ...rates];
    machine.parallel("f32_adamw", args, n, { grain: 16, work: COST * n });
  },
};

/** A row of the table: addresses of w, g, m and v, the number of elements, the decay factor. */
const WORDS = 6;

export const adamWAll: WasmKernel = {
  emit: (module) => {
    const parameters = { ...i32s("table", "scale"), ...RATES, ...i32s("begin", "end") };
    module.function("f32_adamw_all", parameters, (f, p) => {
      const unit = f.local("i32", undefined, "unit");
      f.for(unit, p.begin, p.end, 1, () => {
        const row = f.local("i32", i32.add(p.table, i32.mul(unit, 4 * WORDS)), "row");
        const arrays = [0, 4, 8, 12].map((at) => f.local("i32", i32.load(row, at)));
        const n = f.local("i32", i32.load(row, 16), "n");
        const decay = f.local("f32", f32.load(row, 20), "decay");
        emitUpdate(f, arrays as [I32, I32, I32, I32], n, p.scale, { ...p, decay });
      });
    });
  },
  run(machine, { inputs: [scale, ...state], options }) {
    const { learningRate, weightDecay } = options as AdamWAllOptions;
    const bases = state.map(address);
    launchTable(machine, {
      kernel: "f32_adamw_all",
      args: [address(scale!), ...ratesOf(options as AdamWAllOptions)],
      blocks: blocksOf(weightDecay.map((_, k) => sizeOf(state[4 * k]!.shape))),
      words: WORDS,
      write: ({ array, from, count }, at) => {
        for (let i = 0; i < 4; i++) machine.i32[at + i] = bases[4 * array + i]! + 4 * from;
        machine.i32[at + 4] = count;
        machine.f32[at + 5] = 1 - learningRate * weightDecay[array]!;
      },
      cost: COST,
    });
  },
};
