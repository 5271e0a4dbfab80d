/** WASM kernels of the view ops that copy: packing, and writing a window of zeros. */

import type { WasmKernel } from "../../device/wasm/kernel.ts";
import { address, copyStrided, fillZero, packTo } from "../../device/wasm/launch.ts";
import { rowMajor, sizeOf } from "../../shape.ts";
import type { Window } from "../views.ts";

export const contiguous: WasmKernel = {
  strided: true,
  run: (machine, { inputs: [x], outputs: [out] }) => packTo(machine, x!, address(out!)),
};

/** Zeros everywhere, then the windows: each is a strided part of the packed output. */
export const scatterSlice: WasmKernel = {
  run(machine, { inputs: [x], outputs: [out], options }) {
    const { windows } = options as { windows: readonly Window[] };
    const target = address(out!);
    const strides = rowMajor(out!.shape);
    fillZero(machine, target, sizeOf(out!.shape));
    const first = windows.reduce((at, { from }, axis) => at + from * strides[axis]!, 0);
    const to = windows.map(({ step }, axis) => step * strides[axis]!);
    const from = { at: address(x!), strides: rowMajor(x!.shape) };
    copyStrided(machine, x!.shape, from, { at: target + 4 * first, strides: to });
  },
};
