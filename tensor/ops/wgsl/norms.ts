/** Sums of squares over whole tensors: a program a tensor that leaves parts, one that adds all parts. */

import type { View } from "../../device/device.ts";
import type { Launcher, WgslKernel } from "../../device/webgpu/kernel.ts";
import { eachElement, launchRows } from "../../device/webgpu/rows.ts";
import { sizeOf } from "../../shape.ts";

/** Elements of a part. */
const PART = 16_384;

const partsOf = (x: View): number => Math.ceil(sizeOf(x.shape) / PART);

/** y = finish(Σ x²) over all elements of all tensors. */
function total(gpu: Launcher, tensors: readonly View[], y: View, finish: string): void {
  const parts = gpu.temporary(tensors.reduce((all, x) => all + partsOf(x), 0));
  let offset = 0;
  for (const x of tensors) {
    const rows = partsOf(x);
    launchRows(gpu, {
      ...{ name: "f32_square_parts_row", folds: ["sum"], rows, n: sizeOf(x.shape) },
      body: `
  let end = min((row + 1u) * ${PART}u, p.n);
  var part = 0.0;
  for (var i = row * ${PART}u + l; i < end; i += WIDTH) {
    let own = x[p.x_at + i];
    part = fma(own, own, part);
  }
  let sum = fold_sum(part);
  if (l == 0u) { parts[p.parts_at + row] = sum; }`,
      ...{ reads: { x }, writes: { parts: { ...parts, offset } } },
    });
    offset += rows;
  }
  launchRows(gpu, {
    ...{ name: `f32_sum_parts_${finish || "plain"}_row`, folds: ["sum"], rows: 1, n: offset },
    body: `
  var part = 0.0;
  ${eachElement("part += parts[p.parts_at + i];")}
  let sum = fold_sum(part);
  if (l == 0u) { y[p.y_at] = ${finish}(sum); }`,
    ...{ reads: { parts }, writes: { y } },
  });
}

export const sumOfSquares: WgslKernel = {
  run: (gpu, { inputs, outputs: [y] }) => total(gpu, inputs, y!, ""),
};

export const globalNorm: WgslKernel = {
  run: (gpu, { inputs, outputs: [y] }) => total(gpu, inputs, y!, "sqrt"),
};
