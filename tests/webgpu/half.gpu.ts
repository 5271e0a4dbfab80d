/** Products with f16 operands: on tiles where the adapter has shader-f16 or subgroup matrices. */

import assert from "node:assert/strict";
import * as fc from "fast-check";
import { findGpu } from "../../tensor/device/webgpu/gpu.ts";
import { scope, tensor } from "../../tensor/mod.ts";
import { deviceWithHalf, multipliesExactly } from "../../tensor/ops/wgsl/probe.ts";
import { SEED } from "../support/samples.ts";
import { gpuTest } from "./gpu.ts";

const values = (size: number, step: number): number[] =>
  Array.from({ length: size }, (_, i) => Math.sin(i * step) * 3);

gpuTest("f16 products: operands are rounded to f16, sums are not", async () => {
  const find = () => findGpu({ matmulPrecision: "f16" });
  const { features, device: unused } = await find();
  unused.destroy(); // Deno's own GPU corrupts the heap of a process that ends before its device
  if (!features.includes("shader-f16")) {
    await assert.rejects(
      () => deviceWithHalf(find),
      /no products with .* lacks shader-f16; use f32/,
    );
    console.log("NOTE: this adapter has no shader-f16: f16 products are refused, not computed");
    return;
  }
  const device = await deviceWithHalf(find);
  assert.match(device.description, /f16 products on (tiles|subgroup matrices)/);
  const size = fc.constantFrom(33, 64, 65, 130);
  await fc.assert(
    fc.asyncProperty(
      ...([size, fc.constantFrom(4, 17, 33), size, fc.boolean(), fc.boolean()] as const),
      async (m, k, n, turnA, turnB) => {
        const [a, b] = [values(m * k, 0.37), values(k * n, 0.73)];
        const product = scope(() => {
          const left = turnA
            ? tensor(a, [k, m], { device }).transpose()
            : tensor(a, [m, k], { device });
          const right = turnB
            ? tensor(b, [n, k], { device }).transpose()
            : tensor(b, [k, n], { device });
          return left.matmul(right);
        });
        const found = await product.data();
        product.dispose();
        for (const at of [0, 1, m * n - 1, Math.floor((m * n) / 2)]) {
          const [row, column] = [Math.floor(at / n), at % n];
          let sum = 0;
          for (let i = 0; i < k; i++) {
            const x = Math.f16round(a[turnA ? i * m + row : row * k + i]!);
            sum += x * Math.f16round(b[turnB ? column * k + i : i * n + column]!);
          }
          assert.ok(Math.abs(found[at]! - sum) < 1e-4, `${at}: ${found[at]}, expected ${sum}`);
        }
      },
    ),
    { seed: SEED, numRuns: 12 },
  );
  device.destroy();
});

gpuTest("the probe accepts a device that multiplies right", async (device) => {
  assert.equal(await multipliesExactly(device), true);
});
