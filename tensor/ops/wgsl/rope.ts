/** Rotary positions, and new keys and values on their way into a cache. */

import type { View } from "../../device/device.ts";
import type { Launcher, WgslKernel } from "../../device/webgpu/kernel.ts";
import { launchThreads } from "../../device/webgpu/rows.ts";
import { sizeOf } from "../../shape.ts";
import type { RopeOptions } from "../rope.ts";
import { writeRows } from "./gather.ts";

/** x [b h t d] -> y, of the same shape, or a cache [b h s d] whose rows are the positions. */
function turn(
  gpu: Launcher,
  [x, positions, cos, sin]: readonly [View, View, View, View],
  y: View,
  { inverse = false }: RopeOptions = {},
): void {
  const [, h, t, d] = x.shape as [number, number, number, number];
  const cached = y.shape[2] !== t || y.shape.length !== 4;
  const to = "(row - row % p.t) / p.t * p.s + u32(place)";
  const body = `
  let half = p.d / 2u;
  let column = i % half;
  let row = i / half;
  let place = positions[p.positions_at + row / (p.h * p.t) * p.t + row % p.t];
  if (place < 0 || u32(place) >= p.most) { return; }
  let entry = u32(place) * half + column;
  let c = cos_table[p.cos_table_at + entry];
  let s = sin_table[p.sin_table_at + entry] * p.sign;
  let source = p.x_at + row * p.d + column;
  let first = x[source];
  let second = x[source + half];
  let target_row = select(row, ${to}, p.into == 1u);
  let at = p.y_at + target_row * p.d + column;
  y[at] = first * c - second * s;
  y[at + half] = second * c + first * s;`;
  const s = y.shape[2]!;
  const rows = cos.shape[0]!;
  launchThreads(gpu, {
    ...{ name: "f32_rope_thread", body, size: sizeOf(x.shape) / 2 },
    ...{ reads: { x, positions, cos_table: cos, sin_table: sin }, writes: { y } },
    uniforms: { h, t, d, s, most: cached ? Math.min(s, rows) : rows, into: Number(cached) },
    floats: { sign: inverse ? -1 : 1 },
  });
}

type Four = readonly [View, View, View, View];

export const rope: WgslKernel = {
  run: (gpu, { inputs, outputs: [y], options }) =>
    turn(gpu, inputs as unknown as Four, y!, options as RopeOptions | undefined),
};

export const extendCache: WgslKernel = {
  run: (gpu, call) => {
    const { inputs, outputs } = call;
    const [q, k, v, keys, values, positions, cos, sin] = inputs as unknown as [...Four, ...Four];
    turn(gpu, [q, positions, cos, sin], outputs[0]!);
    // A cache as long as the pass is still addressed by positions.
    turn(gpu, [k, positions, cos, sin], { ...keys, shape: [...keys.shape, 1] });
    writeRows.run(gpu, { ...call, inputs: [values, v, positions], outputs: [] });
  },
};
