/** Copies between strided arrays, and filling with zeros. */

import { rowMajor, type Shape, sizeOf } from "../../shape.ts";
import type { View } from "../device.ts";
import { GROUP } from "./elementwise.ts";
import { type Launcher, WGSL_TYPE } from "./kernel.ts";
import { findElements, walk, walkUniforms } from "./strides.ts";

const copyCode = (axes: number): string => `
@compute @workgroup_size(${GROUP})
fn main(@builtin(workgroup_id) w: vec3u, @builtin(num_workgroups) grid: vec3u,
    @builtin(local_invocation_index) l: u32) {
  let i = unit_of(w, grid) * ${GROUP}u + l;
  if (i >= p.size) { return; }
${findElements(["x", "y"], axes)}
  y[y_i] = x[x_i];
}
`;

/** Copies what `from` shows to `to`, of the same shape, whose elements must not overlap. */
export function copy(gpu: Launcher, from: View, to: View): void {
  const path = walk(from.shape, [from.strides, to.strides]);
  const axes = path.sizes.length;
  const size = sizeOf(from.shape);
  gpu.dispatch({
    name: `${WGSL_TYPE[from.dtype]}_copy_${axes}`,
    code: () => copyCode(axes),
    ...{ reads: { x: from }, writes: { y: to } },
    uniforms: { size, ...walkUniforms(["x", "y"], path) },
    groups: Math.ceil(size / GROUP),
  });
}

const zeroCode = (dtype: string) => `
@compute @workgroup_size(${GROUP})
fn main(@builtin(workgroup_id) w: vec3u, @builtin(num_workgroups) grid: vec3u,
    @builtin(local_invocation_index) l: u32) {
  let i = unit_of(w, grid) * ${GROUP}u + l;
  if (i < p.size) { y[p.y_at + i] = ${dtype}(0); }
}
`;

/** Zeros in a packed view. */
export function fillZero(gpu: Launcher, view: View): void {
  const size = sizeOf(view.shape);
  const type = WGSL_TYPE[view.dtype];
  const groups = Math.ceil(size / GROUP);
  const code = () => zeroCode(type);
  gpu.dispatch({
    name: `${type}_zero`,
    code,
    reads: {},
    writes: { y: view },
    uniforms: { size },
    groups,
  });
}

/** The same memory under another shape, packed from the view's first element on. */
export const reshaped = (view: View, shape: Shape): View => {
  return { ...view, shape, strides: rowMajor(shape) };
};
