/** Packed copies, and writing into a window of zeros. */

import { copy, fillZero } from "../../device/webgpu/copy.ts";
import type { WgslKernel } from "../../device/webgpu/kernel.ts";
import { rowMajor } from "../../shape.ts";
import type { Window } from "../views.ts";

export const contiguous: WgslKernel = {
  strided: true,
  halves: true,
  run: (gpu, { inputs: [x], outputs: [y] }) => copy(gpu, x!, y!),
};

export const scatterSlice: WgslKernel = {
  strided: true,
  run: (gpu, { inputs: [x], outputs: [y], options }) => {
    const { windows } = options as { windows: readonly Window[] };
    fillZero(gpu, y!);
    const whole = rowMajor(y!.shape);
    const offset = windows.reduce((at, { from }, axis) => at + from * whole[axis]!, y!.offset);
    const strides = windows.map(({ step }, axis) => step * whole[axis]!);
    copy(gpu, x!, { ...y!, shape: x!.shape, strides, offset });
  },
};
