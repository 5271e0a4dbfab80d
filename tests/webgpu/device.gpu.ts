/** The device itself: churn, order of writes, limits, errors, programs under default limits, the end. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import * as fc from "fast-check";
import { WebGpuDevice } from "../../tensor/device/webgpu/device.ts";
import { findGpu } from "../../tensor/device/webgpu/gpu.ts";
import { sizeClass } from "../../tensor/device/webgpu/pool.ts";
import { noGrad, ops, scope, setDevice, type Tensor, tensor, zeros } from "../../tensor/mod.ts";
import type { Definition } from "../../tensor/op.ts";
import { probedDevice } from "../../tensor/ops/wgsl/probe.ts";
import { canCollect, collectGarbage } from "../support/garbage.ts";
import { invoke, materialise, SEED, samples } from "../support/samples.ts";
import { gpuTest } from "./gpu.ts";

async function collectTwice(): Promise<void> {
  let turns = 0;
  await collectGarbage(() => ++turns > 2);
}

gpuTest(
  "3,000 dispatches with buffers that come and go end right, and leave nothing",
  async (device) => {
    const before = device.liveBuffers;
    const { dispatched } = device.counts;
    let x = tensor([1, 2, 3, 4], [4], { device });
    for (let turn = 0; turn < 1500; turn++) {
      // Sizes change, so that buffers of many classes are taken and given back.
      const other = scope(() =>
        zeros([4 * (1 + (turn % 37))], { device })
          .slice([[0, 4]])
          .add(x),
      );
      const next = other.sub(turn % 2 === 0 ? 1 : -1);
      for (const t of [x, other]) t.dispose();
      x = next;
      if (turn % 300 === 0 && canCollect) await collectTwice();
    }
    assert.deepEqual([...(await x.data())], [1, 2, 3, 4]);
    x.dispose();
    assert.ok(device.counts.dispatched - dispatched >= 3000);
    assert.equal(device.liveBuffers, before);
  },
);

gpuTest(
  "memory that was freed and written anew does not reach commands of before",
  async (device) => {
    const first = tensor([1, 2, 3, 4], [4], { device });
    const doubled = first.mul(2);
    first.dispose();
    const second = tensor([10, 20, 30, 40], [4], { device }); // takes the memory of the first
    const both = doubled.add(second);
    assert.deepEqual([...(await both.data())], [12, 24, 36, 48]);
    for (const t of [doubled, second, both]) t.dispose();
  },
);

gpuTest(
  "uploads and reads overlap work: each sees what was asked for before it",
  async (device) => {
    const size = 5000;
    const before = device.liveBuffers;
    let total = zeros([size], { device });
    const reads: Promise<ArrayLike<number>>[] = [];
    const { dispatched } = device.counts;
    for (let turn = 1; turn <= 20; turn++) {
      const upload = tensor(new Float32Array(size).fill(turn), [size], { device });
      const next = total.add(upload);
      for (const t of [total, upload]) t.dispose(); // their memory is the next turn's upload
      total = next;
      reads.push(total.data()); // not awaited: the next turns are asked for meanwhile
    }
    assert.ok(device.counts.dispatched - dispatched >= 20, "work waited for a read");
    const found = await Promise.all(reads);
    found.forEach((values, i) => {
      const expected = ((i + 1) * (i + 2)) / 2;
      assert.ok(
        Array.from(values).every((x) => x === expected),
        `read ${i}: ${values[0]}`,
      );
    });
    total.dispose();
    assert.equal(device.liveBuffers, before);
  },
);

gpuTest("more workgroups than a row of the grid has", async (device) => {
  const rows = 65_600;
  const sums = scope(() => zeros([rows, 2], { device }).add(1).sum(-1));
  const values = await sums.data();
  assert.equal(values.length, rows);
  assert.ok(values.every((x) => x === 2));
  sums.dispose();
});

gpuTest("sums over no row are zeros, in memory that held other numbers too", async (device) => {
  for (let turn = 0; turn < 4; turn++) {
    const seven = zeros([3], { device }).add(7); // its memory is given to the next result
    await seven.data();
    seven.dispose();
    const [g, w] = [zeros([0, 3], { device }), zeros([3], { device })];
    const [dx, dw, db] = g.layerNormVjp(g, w, { eps: 1e-5 });
    const sums = g.sum(0);
    for (const t of [dw, db, sums]) assert.deepEqual([...(await t.data())], [0, 0, 0]);
    for (const t of [g, w, dx, dw, db, sums]) t.dispose();
  }
});

gpuTest(
  "a tensor that the adapter can't bind is refused, with its size and the limit",
  async (device) => {
    assert.throws(
      () => zeros([2 ** 20, 2 ** 14], { device }),
      /webgpu: a tensor of 68719476736 bytes was asked for; this adapter binds at most \d+ at once/,
    );
  },
);

gpuTest("values are awaited: reading at once says how", async (device) => {
  const x = tensor([1], [1], { device });
  assert.throws(() => x.dataSync(), /webgpu: values arrive later; use `await tensor.data\(\)`/);
  x.dispose();
});

gpuTest("after destroy() nothing hangs: reading fails", async () => {
  const device = new WebGpuDevice(await findGpu());
  const x = tensor([1, 2], [2], { device });
  device.destroy();
  await assert.rejects(() => x.data());
});

test("an adapter that isn't there: the error says what was looked for and how to get one", async () => {
  await assert.rejects(
    () => setDevice("webgpu:no such adapter"),
    /webgpu: found no GPU named "no such adapter". Looked at .*Dawn.*apt-get install chromium-common/,
  );
});

test("buffers have sizes of powers of two and their halves", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 2 ** 31 }), (bytes) => {
      const size = sizeClass(bytes);
      assert.ok(size >= bytes && size % 4 === 0 && (size === 256 || size < 2 * bytes));
    }),
    { seed: SEED },
  );
});

/** Compiles the programs of all rows; the null backend runs none. Most arrays that one binds. */
async function compileAll(device: WebGpuDevice): Promise<number> {
  const names = Object.entries(ops) as unknown as [string, { definition: Definition }][];
  for (const [, { definition }] of names) {
    if (!device.supports(definition) && !("composed" in definition)) continue;
    fc.assert(
      fc.property(samples(definition, "small"), (drawn) => {
        scope(() => {
          const inputs = materialise(drawn, device, definition.updates !== undefined);
          noGrad(() =>
            invoke(ops[definition.name as "add"] as never, definition, inputs, drawn.options),
          );
        });
      }),
      { seed: SEED, numRuns: 8 },
    );
  }
  const last: Tensor = zeros([1], { device });
  await last.data(); // throws what went wrong before it
  assert.ok(device.counts.programs > 60, `${device.counts.programs} programs`);
  return device.counts.mostArrays;
}

test("every program compiles for an adapter that has no more than it must", async () => {
  const gpu = await findGpu({ provider: "dawn", flags: ["backend=null"], modest: true });
  const device = new WebGpuDevice(gpu);
  assert.equal(gpu.device.limits.maxComputeInvocationsPerWorkgroup, 256);
  assert.equal(gpu.device.limits.maxStorageBuffersPerShaderStage, 8);
  const most = await compileAll(device);
  assert.ok(most > 4 && most <= 8, `a program binds ${most} arrays`);
  device.destroy();
});

test("every program compiles for an adapter with subgroups", async () => {
  const gpu = await findGpu({ provider: "dawn", flags: ["backend=null"] });
  const device = new WebGpuDevice(gpu, { subgroups: true });
  assert.ok(device.subgroups !== undefined, device.description);
  await compileAll(device);
  device.destroy();
});

test("subgroups that compute wrongly are not used, and the device says so", async () => {
  // The null backend computes nothing: zeros, in place of sums.
  const find = () => findGpu({ provider: "dawn", flags: ["backend=null"] });
  const device = await probedDevice({}, find);
  assert.equal(device.subgroups, undefined);
  assert.match(device.description, /subgroups are not used: this adapter computes wrongly/);
  device.destroy();
});

gpuTest("a process that has computed on a GPU ends by itself", async () => {
  const child = fileURLToPath(new URL("../children/webgpu.ts", import.meta.url));
  const command = "Deno" in globalThis ? ["run", "--quiet", "-A", child] : [child];
  const { status, stdout, stderr, signal } = spawnSync(process.execPath, command, {
    timeout: 60_000,
  });
  assert.equal(status, 0, `status ${status} ${signal}: ${stdout}${stderr}`);
  assert.match(`${stdout}`, /7,10,15,22[\s\S]*end of the program/);
});
