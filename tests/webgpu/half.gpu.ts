/** Products with f16 operands: on tiles where the adapter has shader-f16; subgroup matrices compile. */

import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import type { View } from "../../tensor/device/device.ts";
import { awaited, dawn } from "../../tensor/device/webgpu/dawn.ts";
import { WebGpuDevice } from "../../tensor/device/webgpu/device.ts";
import { findGpu } from "../../tensor/device/webgpu/gpu.ts";
import type { Dispatch, Launcher } from "../../tensor/device/webgpu/kernel.ts";
import { sourceOf } from "../../tensor/device/webgpu/program.ts";
import { scope, tensor } from "../../tensor/mod.ts";
import { launchGemm, matrix } from "../../tensor/ops/wgsl/gemm.ts";
import { deviceWithHalf, multipliesExactly } from "../../tensor/ops/wgsl/gemm_probe.ts";
import { SEED } from "../support/samples.ts";
import { gpuTest } from "./gpu.ts";

const values = (size: number, step: number): number[] =>
  Array.from({ length: size }, (_, i) => Math.sin(i * step) * 3);

gpuTest("f16 products: operands are rounded to f16, sums are not", async () => {
  const find = () => findGpu({ matmulPrecision: "f16" });
  const { features } = await find();
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

test("the probe refuses a device that multiplies wrongly, or not at all", async () => {
  // The null backend computes nothing: zeros, in place of products.
  const nothing = new WebGpuDevice(await findGpu({ provider: "dawn", flags: ["backend=null"] }));
  assert.equal(await multipliesExactly(nothing), false);
  nothing.destroy();
  assert.equal(await multipliesExactly(nothing), false);
});

test("products on subgroup matrices compile, for all layouts", async () => {
  const flags = ["enable-dawn-features=allow_unsafe_apis", "backend=null"];
  const adapter = await awaited(dawn(flags).requestAdapter());
  const names = ["chromium-experimental-subgroup-matrix", "shader-f16", "subgroups"];
  const gpu = await awaited(
    adapter!.requestDevice({ requiredFeatures: names as GPUFeatureName[] }),
  );
  const programs = new Map<string, string>();
  const launcher = {
    products: "subgroup-matrix",
    dispatch: (program: Dispatch) => programs.set(program.name, sourceOf(program)),
  } as unknown as Launcher;
  const view = (size: number): View => ({
    buffer: { memory: undefined, elements: size, dtype: "f32" },
    ...{ dtype: "f32", shape: [size], strides: [1], offset: 0 },
  });
  for (const [m, k, n, add] of [
    [64, 32, 64, false],
    [65, 33, 67, true],
  ] as const) {
    for (const a of [[k, 1] as const, [1, m] as const]) {
      for (const b of [[n, 1] as const, [1, k] as const]) {
        launchGemm(launcher, {
          ...{ m, k, n, batch: [], add, a: matrix(view(m * k), a), b: matrix(view(k * n), b) },
          c: view(m * n),
        });
      }
    }
  }
  assert.equal(programs.size, 8);
  for (const [name, code] of programs) {
    assert.match(name, /^f16_matmul_matrix_128x128_/);
    const module = gpu.createShaderModule({ code });
    const { messages } = await awaited(module.getCompilationInfo());
    const errors = messages.filter(({ type }) => type === "error");
    assert.deepEqual(
      errors.map(({ lineNum, message }) => `${name}:${lineNum} ${message}`),
      [],
    );
  }
  const wrong = gpu.createShaderModule({
    code: [...programs.values()][0]!.replace("batch", "patch"),
  });
  const { messages } = await awaited(wrong.getCompilationInfo());
  assert.ok(
    messages.some(({ type }) => type === "error"),
    "an error would be seen",
  );
  gpu.destroy();
});
