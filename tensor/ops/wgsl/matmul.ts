/** Matrix products with batch axes that broadcast. */

import type { WgslKernel } from "../../device/webgpu/kernel.ts";
import { broadcastStrides } from "../../shape.ts";
import type { Dims } from "../../signature.ts";
import { launchGemm } from "./gemm.ts";

export const matmul: WgslKernel = {
  strided: true,
  halves: true,
  run(gpu, { inputs: [a, b], outputs: [c], dims, batch }) {
    const { m, k, n } = dims as Dims<"... m k, ... k n -> ... m n">;
    const [left, right] = [a!, b!].map((view) => {
      const { shape, strides } = view;
      const [row, column] = strides.slice(-2) as [number, number];
      return {
        ...{ view, row, column },
        lead: broadcastStrides(shape.slice(0, -2), strides.slice(0, -2), batch),
      };
    });
    launchGemm(gpu, { m, k, n, batch, a: left!, b: right!, c: c! });
  },
};
