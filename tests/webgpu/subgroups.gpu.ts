/** Sums over rows and products of few rows by subgroups: beside the programs that do without them. */

import assert from "node:assert/strict";
import * as fc from "fast-check";
import { WebGpuDevice } from "../../tensor/device/webgpu/device.ts";
import { findGpu } from "../../tensor/device/webgpu/gpu.ts";
import type { Dispatch } from "../../tensor/device/webgpu/kernel.ts";
import { eachElement, launchRows } from "../../tensor/device/webgpu/rows.ts";
import {
  type Device,
  noGrad,
  randomStream,
  scope,
  type Tensor,
  tensor,
  zeros,
} from "../../tensor/mod.ts";
import { probedDevice } from "../../tensor/ops/wgsl/probe.ts";
import { SEED } from "../support/samples.ts";
import { gpuTest } from "./gpu.ts";

const RUNS = Number(process.env.ANAMNESIS_PROPERTY_RUNS ?? 12);

/** The device with its subgroups, and another without; undefined, and a line, where it has none. */
async function both(device: WebGpuDevice): Promise<WebGpuDevice | undefined> {
  if (device.subgroups === undefined) {
    assert.match(device.description, /no subgroups/);
    console.log("NOTE: this adapter has no subgroups: their programs are compiled only, on Dawn");
    return undefined;
  }
  assert.match(device.description, /sums and thin products by subgroups of \d+ or more/);
  const plain = await probedDevice({ subgroups: false });
  assert.equal(plain.subgroups, undefined);
  assert.match(plain.description, /subgroups are not used/);
  return plain;
}

function normal(shape: readonly number[], seed: number, device: Device): Tensor {
  const stream = randomStream({ seed, purpose: "subgroups" });
  const size = shape.reduce((all, n) => all * n, 1);
  const values = Float32Array.from({ length: size }, () => stream.uniform() * 2 - 1);
  return tensor(values, shape, { device });
}

/** Results are within `tolerance` of the plain device's, and the same bits when computed again. */
async function agree(
  [device, plain]: readonly [WebGpuDevice, WebGpuDevice],
  tolerance: number,
  body: (on: Device) => readonly Tensor[],
): Promise<void> {
  const results = [device, device, plain].map((on) => scope(() => noGrad(() => body(on))));
  for (const [k, t] of results[0]!.entries()) {
    const [mine, again, truth] = await Promise.all(
      [t, results[1]![k]!, results[2]![k]!].map((x) => x.data()),
    );
    assert.deepEqual(again, mine, `result ${k}: two runs differ`);
    const largest = Array.from(truth!).reduce((most, x) => Math.max(most, Math.abs(x)), 1e-3);
    truth!.forEach((x, i) => {
      const right = Math.abs(mine![i]! - x) <= tolerance * largest;
      assert.ok(right, `result ${k}, element ${i} is ${mine![i]}, without subgroups ${x}`);
    });
  }
  for (const t of results.flat()) t.dispose();
}

type Layout = "packed" | "transposed" | "cut";
const LAYOUTS = fc.constantFrom<Layout>("packed", "transposed", "cut");

/** [... m n] that lies in memory in one of three ways, in f32 or f16. */
function laidOut(
  [m, n]: readonly [number, number],
  lead: readonly number[],
  { layout, half }: { layout: Layout; half: boolean },
  on: Device,
): Tensor {
  const make = (...shape: number[]) => {
    const x = normal([...lead, ...shape], m + n, on);
    return half ? x.toF16() : x;
  };
  if (layout === "packed") return make(m, n);
  if (layout === "transposed") return make(n, m).transpose();
  const ranges = [[1, m + 1] as const, [3, n + 3] as const];
  return make(m + 1, n + 3).slice([...lead.map((size) => [0, size] as const), ...ranges]);
}

gpuTest("products of up to eight rows, in every layout, in f32 and f16", async (device) => {
  const plain = await both(device);
  if (plain === undefined) return;
  const operand = fc.record({ layout: LAYOUTS, half: fc.boolean() });
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 9 }),
      fc.constantFrom(1, 3, 4, 31, 64, 130),
      fc.constantFrom(1, 3, 4, 8, 20, 31, 300),
      ...([operand, operand, fc.constantFrom([], [3])] as const),
      async (m, k, n, a, b, lead) => {
        await agree([device, plain], 1e-5, (on) => [
          laidOut([m, k], lead, a, on).matmul(laidOut([k, n], [], b, on)),
        ]);
      },
    ),
    { seed: SEED, numRuns: RUNS },
  );
  plain.destroy();
});

gpuTest("rows of all widths, and products that add to what is there", async (device) => {
  const plain = await both(device);
  if (plain === undefined) return;
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(1, 7, 9, 17),
      fc.constantFrom(1, 15, 64, 65, 130, 300, 1000, 5000),
      async (rows, n) => {
        await agree([device, plain], 1e-5, (on) => {
          const x = normal([rows, n], n, on);
          const row = (t: Tensor) => [t.softmax(), t.sum(-1), t.max(-1), t.min(-1)];
          return [...row(x), x.rmsNorm(normal([n], 1, on), { eps: 1e-5 }), x.logSumExp()];
        });
      },
    ),
    { seed: SEED, numRuns: RUNS },
  );
  // Few classes: dW has few rows, and is added up chunk by chunk.
  await agree([device, plain], 1e-4, (on) => {
    const [x, weight] = [normal([9, 33], 1, on), normal([5, 33], 2, on)];
    const targets = tensor([0, 1, 2, 3, 4, 0, 1, 2, -1], [9], { device: on, dtype: "i32" });
    const none = zeros([0, 5], { device: on });
    const options = { temperature: 0.7, chunk: 2 };
    return normal([9], 3, on).linearLogProbVjp(x, weight, targets, none, options);
  });
  plain.destroy();
});

/** What WGSL leaves open, put in place of what this adapter does. */
const OTHER_SUBGROUPS: readonly (readonly [string, (code: string) => string])[] = [
  ["of several rows each", (code) => code.replace(/alone = .*;/, "alone = false;")],
  ["some of several rows", (code) => code.replace(/alone = .*;/, "alone = alone_here();")],
  ["in another order", (code) => code.replace(/(peers = .*;)/, "$1 rank = peers - 1u - rank;")],
];

gpuTest("folds are right wherever the threads of a subgroup stand", async (device) => {
  if (device.subgroups === undefined) return void (await both(device));
  const rows = 21;
  for (const n of [40, 120, 250, 700]) {
    const values = Float32Array.from({ length: rows * n }, (_, i) => ((i * 7) % 23) - 9);
    const x = tensor(values, [rows, n], { device });
    for (const [how, change] of OTHER_SUBGROUPS) {
      const y = zeros([rows, 3], { device });
      const body = `
  var sum = 0.0;
  var most = -1000.0;
  ${eachElement("let own = x[p.x_at + row * p.n + i]; sum += own; most = max(most, own);")}
  let total = fold_sum(sum);
  most = fold_max(most);
  let again = fold_sum(2.0 * sum);
  if (l == 0u) { y[3u * row] = total; y[3u * row + 1u] = most; y[3u * row + 2u] = again; }`;
      const alone = "fn alone_here() -> bool { return subgroupMin(thread) / 8u % 2u == 0u; }\n";
      let changed = 0;
      device.launch((gpu) => {
        const dispatch = (program: Dispatch) => {
          const code = () => {
            const own = program.code();
            const other = change(own);
            if (other !== own) changed++;
            return other;
          };
          gpu.dispatch({ ...program, name: `${program.name} ${how}`, code });
        };
        launchRows(
          { ...gpu, dispatch },
          {
            ...{ name: "f32_test_row", functions: alone, folds: ["sum", "max"], body },
            ...{ reads: { x: x.view }, writes: { y: y.view }, rows, n },
          },
        );
      });
      assert.equal(changed, 1, how);
      const found = await y.data();
      for (let row = 0; row < rows; row++) {
        const own = values.subarray(row * n, (row + 1) * n);
        const sum = own.reduce((a, b) => a + b, 0);
        const expected = [sum, Math.max(...own), 2 * sum];
        assert.deepEqual([...found.subarray(3 * row, 3 * row + 3)], expected, `${how}, n ${n}`);
      }
      y.dispose();
    }
    x.dispose();
  }
});

gpuTest("by default products of few rows have the bits of those of many", async (device) => {
  if (device.subgroups === undefined) return void (await both(device));
  const usual = await probedDevice({});
  assert.match(usual.description, /; sums by subgroups of \d+ or more/);
  const [x, w] = [normal([40, 130], 1, usual), normal([130, 24], 2, usual)];
  const [all, few] = [x.matmul(w), x.slice([[3, 7]]).matmul(w)];
  assert.deepEqual(await few.data(), (await all.data()).slice(3 * 24, 7 * 24));
  usual.destroy();
});

gpuTest("a modest device does without subgroups", async () => {
  const device = new WebGpuDevice(await findGpu({ modest: true }));
  assert.equal(device.subgroups, undefined);
  assert.match(device.description, /no subgroups/);
  const [x, w] = [normal([2, 40], 1, device), normal([40, 12], 2, device)];
  assert.equal((await x.matmul(w).data()).length, 24);
  device.destroy();
});
