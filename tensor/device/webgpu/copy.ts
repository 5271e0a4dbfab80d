/** Copies between strided arrays, and filling with zeros. */

import type { DType } from "../../dtype.ts";
import { isContiguous, rowMajor, type Shape, sizeOf } from "../../shape.ts";
import type { View } from "../device.ts";
import { GROUP } from "./elementwise.ts";
import { element, type Launcher, typeName, WGSL_TYPE } from "./kernel.ts";
import { findElements, walk, walkUniforms } from "./strides.ts";

const copyCode = (from: DType, axes: number): string => `
@compute @workgroup_size(${GROUP})
fn main(@builtin(workgroup_id) w: vec3u, @builtin(num_workgroups) grid: vec3u,
    @builtin(local_invocation_index) l: u32) {
  let i = unit_of(w, grid) * ${GROUP}u + l;
  if (i >= p.size) { return; }
${findElements(["x", "y"], axes)}
  y[y_i] = ${element("x", from, "x_i")};
}
`;

/** A thread for each word, so that no two write the same one. What lies behind the last is 0. */
const halvesCode = (from: DType, axes: number): string => `
fn half_at(i: u32) -> u32 {
${findElements(["x"], axes)}
  return ${from === "f16" ? "(x[x_i / 2u] >> (16u * (x_i & 1u))) & 0xffffu" : "half_bits(x[x_i])"};
}
@compute @workgroup_size(${GROUP})
fn main(@builtin(workgroup_id) w: vec3u, @builtin(num_workgroups) grid: vec3u,
    @builtin(local_invocation_index) l: u32) {
  let first = 2u * (unit_of(w, grid) * ${GROUP}u + l);
  if (first >= p.size) { return; }
  var second = 0u;
  if (first + 1u < p.size) { second = half_at(first + 1u); }
  y[(p.y_at + first) / 2u] = half_at(first) | (second << 16u);
}
`;

/** Copies f16 or f32 to packed f16 that begins with a word; the same bits, or rounded. */
function copyHalves(gpu: Launcher, from: View, to: View): void {
  if (to.offset % 2 !== 0 || !isContiguous(to.shape, to.strides)) {
    throw new Error(`f16 is written packed, from even places on: not at ${to.offset}`);
  }
  const path = walk(from.shape, [from.strides]);
  const axes = path.sizes.length;
  const size = sizeOf(from.shape);
  gpu.dispatch({
    name: `${typeName(from.dtype)}_to_f16_${axes}`,
    code: () => halvesCode(from.dtype, axes),
    ...{ reads: { x: from }, writes: { y: to } },
    uniforms: { size, ...walkUniforms(["x"], path) },
    groups: Math.ceil(size / 2 / GROUP),
  });
}

/**
 * Copies what `from` shows to `to`, of the same shape, whose elements must not overlap; f16 to f32
 * and back on the way.
 */
export function copy(gpu: Launcher, from: View, to: View): void {
  if (to.dtype === "f16") copyHalves(gpu, from, to);
  else copyWords(gpu, from, to);
}

function copyWords(gpu: Launcher, from: View, to: View): void {
  const path = walk(from.shape, [from.strides, to.strides]);
  const axes = path.sizes.length;
  const size = sizeOf(from.shape);
  gpu.dispatch({
    name: `${typeName(from.dtype)}_copy_${axes}`,
    code: () => copyCode(from.dtype, axes),
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
