/** AdamW in place: one thread an element. */

import type { View } from "../../device/device.ts";
import type { Launcher, WgslKernel } from "../../device/webgpu/kernel.ts";
import { launchThreads } from "../../device/webgpu/rows.ts";
import { sizeOf } from "../../shape.ts";
import type { AdamWAllOptions, AdamWOptions } from "../optimizer.ts";

const BODY = `
  let own = g[p.g_at + i] * scale[p.scale_at];
  let m1 = p.beta1 * m[p.m_at + i] + p.rest1 * own;
  let v1 = p.beta2 * v[p.v_at + i] + p.rest2 * own * own;
  m[p.m_at + i] = m1;
  v[p.v_at + i] = v1;
  weight[p.weight_at + i] = weight[p.weight_at + i] * p.decay
    - p.rate * m1 / (sqrt(v1 * p.correction2) + p.eps);`;

function update(
  gpu: Launcher,
  [weight, g, m, v]: readonly View[],
  scale: View,
  { learningRate, beta1, beta2, eps, weightDecay, step }: AdamWOptions,
): void {
  launchThreads(gpu, {
    ...{ name: "f32_adamw_thread", body: BODY, size: sizeOf(weight!.shape) },
    ...{ reads: { g: g!, scale }, writes: { weight: weight!, m: m!, v: v! } },
    floats: {
      ...{ beta1, rest1: 1 - beta1, beta2, rest2: 1 - beta2, eps },
      ...{ rate: learningRate / (1 - beta1 ** step), correction2: 1 / (1 - beta2 ** step) },
      decay: 1 - learningRate * weightDecay,
    },
  });
}

export const adamW: WgslKernel = {
  run: (gpu, { inputs, options }) => {
    update(gpu, inputs.slice(0, 4), inputs[4]!, options as AdamWOptions);
  },
};

export const adamWAll: WgslKernel = {
  run: (gpu, { inputs: [scale, ...state], options }) => {
    const { weightDecay, ...rates } = options as AdamWAllOptions;
    for (const [k, decay] of weightDecay.entries()) {
      update(gpu, state.slice(4 * k, 4 * k + 4), scale!, { ...rates, weightDecay: decay });
    }
  },
};
