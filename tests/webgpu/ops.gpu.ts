/** Property tests of every row of the op table on a GPU, against the f64 reference. */

import assert from "node:assert/strict";
import { describe } from "node:test";
import * as fc from "fast-check";
import type { WebGpuDevice } from "../../tensor/device/webgpu/device.ts";
import { isReal } from "../../tensor/dtype.ts";
import {
  type Device,
  gradients,
  ops,
  randomStream,
  reference,
  scope,
  type Tensor,
  tensor,
} from "../../tensor/mod.ts";
import { type Definition, isMissing } from "../../tensor/op.ts";
import {
  type Drawn,
  invoke,
  materialise,
  realOutputs,
  SEED,
  samples,
  withLeaves,
} from "../support/samples.ts";
import { gpuTest } from "./gpu.ts";

type Op = ((...args: unknown[]) => unknown) & { definition: Definition };

/** Tries of each property: a software GPU is slow. */
const RUNS = Number(process.env.ANAMNESIS_PROPERTY_RUNS ?? 12);
const chosen = process.env.ANAMNESIS_OPS?.split(",");
const rows = (Object.entries(ops) as unknown as [string, Op][]).filter(
  ([name]) => chosen === undefined || chosen.includes(name),
);

const check = (property: fc.IAsyncProperty<[Drawn]>): Promise<void> =>
  fc.assert(property, { seed: SEED, numRuns: RUNS, verbose: 0 });

/** Σ outputs · fixed random weights: one number that depends on every output element. */
function weighted(outputs: readonly Tensor[]): Tensor {
  const parts = realOutputs(outputs).map((t, k) => {
    const stream = randomStream({ seed: SEED, purpose: `u${k}` });
    const u = Float64Array.from({ length: t.size }, () => stream.uniform() * 2 - 1);
    return t.mul(tensor(u, t.shape, { device: t.device })).sum();
  });
  return parts.reduce((a, b) => a.add(b));
}

function gradientsOf(op: Op, drawn: Drawn, device: Device): (Tensor | null)[] {
  const { inputs, leaves } = withLeaves(materialise(drawn, device, false));
  const wanted = leaves.filter((t) => t !== null);
  const found = gradients(weighted(invoke(op, op.definition, inputs, drawn.options)), wanted);
  return leaves.map((t) => (t === null ? null : found[wanted.indexOf(t)]!));
}

async function close(a: Tensor, e: Tensor, tolerance: number, what: string): Promise<void> {
  assert.deepEqual([a.shape, a.dtype], [e.shape, e.dtype], `${what}: shape and type`);
  const [found, expected] = [await a.data(), await e.data()];
  const finite = Array.from(expected).filter(Number.isFinite).map(Math.abs);
  const scale = 1 + finite.reduce((most, x) => Math.max(most, x), 0);
  expected.forEach((x, i) => {
    const y = found[i]!;
    if (Object.is(x, y) || x === y || (Number.isNaN(x) && Number.isNaN(y))) return;
    const right = Math.abs(y - x) / scale <= tolerance;
    assert.ok(right, `${what}: element ${i} is ${y}, expected ${x}`);
  });
}

/** Runs `body` in a scope, and `compare` on what it returns; both leave no buffer behind. */
async function withoutLeak<T extends readonly (Tensor | null)[]>(
  device: Device,
  body: () => T,
  compare: (results: T) => Promise<void>,
): Promise<void> {
  const before = device.liveBuffers;
  const results = scope(body);
  try {
    await compare(results);
  } finally {
    for (const t of results) t?.dispose();
  }
  assert.equal(device.liveBuffers, before, `live buffers on ${device.name}`);
}

const isDifferentiable = (definition: Definition): boolean => {
  const { vjp } = definition as { vjp?: unknown };
  if (vjp === undefined) return "composed" in definition && !definition.updates;
  return !isMissing(vjp);
};
/** Only linearLogProb's own VJP calls it, and that op runs composed here. */
const hasKernel = (device: WebGpuDevice, definition: Definition): boolean =>
  "composed" in definition || "view" in definition || device.supports(definition);

for (const [name, op] of rows) {
  const { definition } = op;
  const tolerance = definition.tolerance ?? 1e-5;
  describe(name, () => {
    gpuTest("equals the f64 reference in any layout", async (device) => {
      if (!hasKernel(device, definition)) {
        const { wgsl } = definition as unknown as { wgsl: { missing: string } };
        assert.ok(wgsl.missing.length > 10, `${name} says why it has no kernel`);
        return;
      }
      await check(
        fc.asyncProperty(samples(definition, "edges"), async (drawn) => {
          const packed = definition.updates !== undefined;
          const run = (on: Device) => () => {
            const inputs = materialise(drawn, on, packed);
            return [...invoke(op, definition, inputs, drawn.options), ...inputs];
          };
          await withoutLeak(device, run(device), async (mine) => {
            const truth = scope(run(reference));
            assert.equal(mine.length, truth.length);
            for (const [k, t] of mine.entries()) {
              await close(t, truth[k]!, tolerance, `result or input ${k}`);
            }
            for (const t of truth) t.dispose();
          });
        }),
      );
    });

    if (!isDifferentiable(definition)) return;
    gpuTest("gradient equals the f64 reference", async (device) => {
      const isT = (i: number) => definition.types?.inputs[i] === "T";
      await check(
        fc.asyncProperty(samples(definition, "edges"), async (drawn) => {
          if (drawn.inputs.some(({ dtype }, i) => !isReal(dtype) && isT(i))) return;
          await withoutLeak(
            device,
            () => gradientsOf(op, drawn, device),
            async (mine) => {
              const truth = scope(() => gradientsOf(op, drawn, reference));
              for (const [i, g] of mine.entries()) {
                if (g === null || definition.constants?.includes(i)) continue;
                await close(g, truth[i]!, 10 * tolerance, `gradient of input ${i}`);
              }
              for (const t of truth) t?.dispose();
            },
          );
        }),
      );
    });
  });
}
