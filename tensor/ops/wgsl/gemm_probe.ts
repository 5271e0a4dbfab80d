/** Which products a device may use: a program that an adapter gets wrong is found out before it is. */

import { type Choice, WebGpuDevice } from "../../device/webgpu/device.ts";
import type { Gpu } from "../../device/webgpu/gpu.ts";
import { launchGemm, matrix } from "./gemm.ts";

/** Larger than a tile, with edges everywhere. */
const [M, K, N] = [150, 70, 140];

/** Small whole numbers: their products and sums are exact in f16 and f32. */
const wholeNumbers = (size: number, step: number): number[] =>
  Array.from({ length: size }, (_, i) => ((i * step) % 9) - 4);

/** Whether the device multiplies two matrices of small whole numbers exactly; false also on errors. */
export async function multipliesExactly(device: WebGpuDevice): Promise<boolean> {
  const [left, right] = [wholeNumbers(M * K, 7), wholeNumbers(K * N, 5)];
  const buffers = [M * K, K * N, M * N].map((size) => device.allocate(size, "f32"));
  const [a, b, c] = [[M, K] as const, [K, N] as const, [M, N] as const].map((shape, i) => {
    const buffer = buffers[i]!;
    return { buffer, dtype: "f32" as const, shape, strides: [shape[1], 1], offset: 0 };
  });
  try {
    device.write(buffers[0]!, left);
    device.write(buffers[1]!, right);
    device.launch((gpu) => {
      const product = { m: M, k: K, n: N, batch: [], a: matrix(a!, [K, 1]), b: matrix(b!, [N, 1]) };
      launchGemm(gpu, { ...product, c: c! });
    });
    const found = await device.read(c!);
    return found.every((x, i) => {
      const [row, column] = [Math.floor(i / N), i % N];
      let sum = 0;
      for (let k = 0; k < K; k++) sum += left[row * K + k]! * right[k * N + column]!;
      return x === sum;
    });
  } catch (error) {
    console.warn(error instanceof Error ? error.message : error);
    return false;
  } finally {
    for (const buffer of buffers) device.free(buffer);
  }
}

/**
 * A device whose products have f16 operands: on subgroup matrices where the adapter has them and
 * they multiply right, else on tiles. Throws an Error where there is no such device.
 */
export async function deviceWithHalf(
  find: () => Promise<Gpu>,
  choice: Choice = {},
): Promise<WebGpuDevice> {
  let refused = "this adapter lacks shader-f16";
  for (const products of ["subgroup-matrix", "f16"] as const) {
    const gpu = await find();
    const offered = products === "f16" ? gpu.features.includes("shader-f16") : gpu.subgroupMatrix;
    if (offered) {
      const device = new WebGpuDevice(gpu, { ...choice, products });
      if (await multipliesExactly(device)) return device;
      refused = `this adapter multiplies wrongly with ${products}`;
      console.warn(`webgpu: ${refused}; it is not used`);
    }
    gpu.device.destroy();
  }
  throw new Error(`webgpu: no products with matmulPrecision f16: ${refused}; use f32`);
}
