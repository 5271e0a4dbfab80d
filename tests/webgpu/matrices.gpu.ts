/** The null backend of Dawn: products on subgroup matrices compile, the probe sees wrong products. */
// Not run on Deno: Dawn beside Deno's own GPU ends its process with a bus error.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { View } from "../../tensor/device/device.ts";
import { awaited, dawn } from "../../tensor/device/webgpu/dawn.ts";
import { WebGpuDevice } from "../../tensor/device/webgpu/device.ts";
import { findGpu } from "../../tensor/device/webgpu/gpu.ts";
import type { Dispatch, Launcher } from "../../tensor/device/webgpu/kernel.ts";
import { sourceOf } from "../../tensor/device/webgpu/program.ts";
import { launchGemm, matrix } from "../../tensor/ops/wgsl/gemm.ts";
import { multipliesExactly } from "../../tensor/ops/wgsl/probe.ts";

test("the probe refuses a device that multiplies wrongly", async () => {
  // The null backend computes nothing: zeros, in place of products.
  const nothing = new WebGpuDevice(await findGpu({ provider: "dawn", flags: ["backend=null"] }));
  assert.equal(await multipliesExactly(nothing), false);
  nothing.destroy();
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
