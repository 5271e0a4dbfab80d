/** What goes wrong on a GPU: errors name the op, its shapes and the program; a lost device says so. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { WebGpuDevice } from "../../tensor/device/webgpu/device.ts";
import { findGpu, type Gpu } from "../../tensor/device/webgpu/gpu.ts";
import { scope, tensor, zeros } from "../../tensor/mod.ts";
import { gpuTest } from "./gpu.ts";

const nullGpu = () => findGpu({ provider: "dawn", flags: ["backend=null"], modest: true });

test("out of memory: how much, for which op of which shapes", async () => {
  const device = new WebGpuDevice(await nullGpu()); // has 512 MiB
  const size = 2 ** 24;
  const x = zeros([4, size / 4], { device });
  const kept = Array.from({ length: 8 }, () => x.mul(2));
  await assert.rejects(
    () => kept.at(-1)!.data(),
    /webgpu: out of memory: 67108864 bytes beside the \d+ that are held, in mul \[4,4194304\] \[\]: /,
  );
  assert.throws(() => x.mul(2), /out of memory/, "later calls tell it too");
  device.destroy();
});

gpuTest("a program that doesn't compile: its name, and the op", async () => {
  const device = new WebGpuDevice(await findGpu());
  const x = tensor([1, 2], [2], { device });
  const y = x.add(1);
  device.launch((gpu) =>
    gpu.dispatch({
      ...{ name: "f32_wrong", code: () => "fn main( {", reads: { x: x.view }, writes: {} },
      groups: 1,
    }),
  );
  await assert.rejects(
    () => y.data(),
    /webgpu: the program f32_wrong is refused by this adapter, in add \[2\] \[\]: /,
  );
  device.destroy();
});

/** A GPU that can be made to vanish: reads fail from then on, and `lost` says why. */
function fragile(gpu: Gpu): { gpu: Gpu; lose: (message: string) => void } {
  let announce: (info: GPUDeviceLostInfo) => void = () => {};
  const lost = new Promise<GPUDeviceLostInfo>((resolve) => {
    announce = resolve;
  });
  let gone = false;
  const breakable = (buffer: GPUBuffer): GPUBuffer => {
    const map = buffer.mapAsync.bind(buffer);
    buffer.mapAsync = (...range) =>
      gone ? Promise.reject(new Error("the device is lost")) : map(...range);
    return buffer;
  };
  const device = new Proxy(gpu.device, {
    get(target, key) {
      if (key === "lost") return lost;
      if (key === "createBuffer") {
        return (what: GPUBufferDescriptor) => breakable(target.createBuffer(what));
      }
      const value = Reflect.get(target, key, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
  const lose = (message: string) => {
    gone = true;
    announce({ reason: "unknown", message } as GPUDeviceLostInfo);
  };
  return { gpu: { ...gpu, device }, lose };
}

gpuTest("a lost device: reads fail with the reason, and so does all that follows", async () => {
  const { gpu, lose } = fragile(await findGpu());
  const device = new WebGpuDevice(gpu);
  const x = tensor([1, 2, 3], [3], { device });
  const y = scope(() => x.mul(2).sum());
  assert.equal((await y.data())[0], 12);
  lose("the driver was reset");
  await assert.rejects(
    () => y.data(),
    /webgpu: the device was lost \(the driver was reset\) in sum \[3\]; .*from the last checkpoint/,
  );
  assert.throws(() => x.add(1), /the device was lost/);
  device.destroy();
});
