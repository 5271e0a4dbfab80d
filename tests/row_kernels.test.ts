/** Row kernels on data large enough for blocks and threads: right, and the same for any number. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import type { View } from "../tensor/device/device.ts";
import { WasmDevice } from "../tensor/device/wasm/device.ts";
import type { Dispatch, Launcher, WgslKernel } from "../tensor/device/webgpu/kernel.ts";
import {
  type Device,
  ops,
  ReferenceDevice,
  randomStream,
  scope,
  type Tensor,
  tensor,
} from "../tensor/mod.ts";

const one = new WasmDevice({ threads: 1 });
const three = new WasmDevice({ threads: 3 });
/** Of its own, so that its count of live buffers is not moved by other test files. */
const reference = new ReferenceDevice();

/** Every launch cut into seven ranges, done last to first: what any number of threads may do. */
const cut = new WasmDevice({ threads: 1 });
cut.machine.parallel = (kernel, args, total, { grain }) => {
  const step = Math.ceil(total / grain / 7) * grain;
  const starts = Array.from({ length: Math.ceil(total / step) }, (_, i) => i * step);
  for (const begin of starts.reverse()) {
    cut.machine.call(kernel, ...args, begin, Math.min(begin + step, total));
  }
};

const numbers = (size: number, purpose: string): Float32Array => {
  const stream = randomStream({ seed: 5, purpose });
  return Float32Array.from({ length: size }, () => stream.uniform() * 4 - 2);
};
const whole = (size: number, below: number, purpose: string): Int32Array => {
  const stream = randomStream({ seed: 5, purpose });
  return Int32Array.from({ length: size }, () => stream.int(below));
};
type Make = (device: Device) => Tensor | readonly Tensor[];
const real = (device: Device, shape: number[], purpose = "x") =>
  tensor(
    numbers(
      shape.reduce((a, b) => a * b, 1),
      purpose,
    ),
    shape,
    { device },
  );
const ids = (device: Device, shape: number[], below: number) =>
  tensor(
    whole(
      shape.reduce((a, b) => a * b, 1),
      below,
      "ids",
    ),
    shape,
    { device, dtype: "i32" },
  );

const STEP = { learningRate: 0.1, beta1: 0.9, beta2: 0.95, eps: 1e-8, weightDecay: 0.1, step: 3 };

const cases: Record<string, Make> = {
  "sum of all of a long array": (d) => real(d, [150_001]).sum(),
  "sum of long rows": (d) => real(d, [3, 20_011]).sum(1),
  "sum down many rows": (d) => real(d, [9001, 13]).sum(0),
  "sum of a middle axis": (d) => real(d, [3, 301, 270]).sum(1),
  "sum of the outer axes": (d) => real(d, [37, 50, 41]).sum([0, 2]),
  "sum of one wide row": (d) => real(d, [2, 60_001]).sum(0),
  "max down many rows": (d) => real(d, [4001, 19]).max(0),
  "min of all of a long array": (d) => real(d, [50_003]).min(),
  "sum of squares": (d) => real(d, [401, 257]).sumOfSquares(),
  argmax: (d) => real(d, [130, 777]).argmax(),
  "cumulative sum": (d) => real(d, [100, 999]).cumulativeSum(),
  "top 40": (d) => real(d, [5, 3001]).topK(40),
  softmax: (d) => real(d, [301, 515]).softmax(),
  "log-probabilities of targets": (d) => real(d, [301, 515]).gatherLogProb(ids(d, [301], 515)),
  "their gradient": (d) =>
    real(d, [301], "g").gatherLogProbVjp(real(d, [301, 515]), ids(d, [301], 515)),
  "RMSNorm's gradients": (d) =>
    real(d, [333, 130], "g").rmsNormVjp(real(d, [333, 130]), real(d, [130], "w"), { eps: 1e-5 }),
  "LayerNorm's gradients": (d) =>
    real(d, [333, 130], "g").layerNormVjp(real(d, [333, 130]), real(d, [130], "w"), { eps: 1e-5 }),
  "embedding's gradient": (d) => real(d, [5000, 70]).scatterRows(ids(d, [5000], 31), 31),
  AdamW: (d) => {
    const shape = [90_003];
    const [w, g, m] = [real(d, shape, "w"), real(d, shape, "g"), real(d, shape, "m")];
    const v = real(d, shape, "v").square();
    w.adamW(g, m, v, tensor([0.5], [], { device: d }), STEP);
    return [w, m, v];
  },
};

const compute = (device: Device, make: Make) =>
  scope(() => {
    const made = make(device);
    return (Array.isArray(made) ? made : [made as Tensor]).map((t) => [...t.dataSync()]);
  });

describe("row kernels on large data", () => {
  for (const [name, make] of Object.entries(cases)) {
    test(name, () => {
      three.machine.warmUp();
      const devices = [one, cut, three, reference];
      const [single, ranges, threaded, truth] = devices.map((d) => compute(d, make));
      assert.deepEqual(ranges, single, "bits depend on how the work is cut");
      assert.deepEqual(threaded, single, "bits depend on the number of threads");
      truth!.forEach((expected, k) => {
        const scale = expected.reduce((most, x) => Math.max(most, Math.abs(x)), 1);
        expected.forEach((x, i) => {
          const error = Math.abs(single![k]![i]! - x) / scale;
          assert.ok(error <= 1e-5, `output ${k}, element ${i}: ${single![k]![i]} for ${x}`);
        });
      });
      for (const device of devices) assert.equal(device.liveBuffers, 0);
    });
  }
});

/** A packed array of nothing: its memory is its name. */
const named = (name: string, shape: readonly number[]): View => {
  const strides = shape.map((_, axis) => shape.slice(axis + 1).reduce((a, b) => a * b, 1));
  const buffer = { memory: name, elements: 0, dtype: "f32" as const };
  return { buffer, dtype: "f32", shape, strides, offset: 0 };
};

/** The arrays into which the GPU's kernel of an op dispatches at least one workgroup. */
function writtenBy(name: "sum" | "max" | "min" | "rmsNormVjp" | "layerNormVjp", call: object) {
  const written = new Set<unknown>();
  const launcher = {
    temporary: (elements: number) => named("temporary", [elements]),
    packed: (view: View) => view,
    dispatch: ({ groups, writes }: Dispatch) => {
      if (groups === 0) return;
      for (const { buffer } of Object.values(writes)) written.add(buffer.memory);
    },
  } as unknown as Launcher;
  const { wgsl } = ops[name].definition as unknown as { wgsl: WgslKernel };
  wgsl.run(launcher, call as never);
  return written;
}

test("a GPU's reductions write every output, also over no row at all", () => {
  const sizes = fc.constantFrom(0, 1, 2, 63, 64, 65, 129);
  fc.assert(
    fc.property(sizes, fc.integer({ min: 1, max: 3 }), sizes, (outer, inner, n) => {
      for (const name of ["sum", "max", "min"] as const) {
        const [x, y] = [named("x", [outer, n, inner]), named("y", [outer, inner])];
        const found = writtenBy(name, { inputs: [x], outputs: [y], options: 1 });
        assert.equal(found.has("y"), outer > 0, `${name} of [${outer} ${n} ${inner}]`);
      }
      const [rows, row] = [named("rows", [n, inner]), named("row", [inner])];
      const given = { dims: { batch: n, n: inner }, options: { eps: 1e-5 } };
      const outputs = [named("dx", [n, inner]), named("dw", [inner]), named("db", [inner])];
      for (const [name, count] of [["rmsNormVjp", 2] as const, ["layerNormVjp", 3] as const]) {
        const call = { inputs: [rows, rows, row], outputs: outputs.slice(0, count), ...given };
        for (const weights of ["dw", "db"].slice(0, count - 1)) {
          assert.ok(writtenBy(name, call).has(weights), `${name} of ${n} rows: ${weights}`);
        }
      }
    }),
  );
});

test("an index outside of its range is refused before any kernel runs", () => {
  scope(() => {
    const at = (index: number) => tensor([index], [1], { device: one, dtype: "i32" });
    const x = real(one, [4, 3]);
    const calls = [
      () => x.embedding(at(4)),
      () => real(one, [1, 3]).scatterRows(at(-1), 2),
      () => real(one, [3]).takeAlong(at(3)),
      () => real(one, [1]).scatterAlong(at(5), 5),
      () => real(one, [1, 3]).gatherLogProb(at(3)),
      () => real(one, [1], "g").gatherLogProbVjp(real(one, [1, 3]), at(3)),
    ];
    for (const call of calls) assert.throws(call, RangeError);
  });
});

test("rows of nothing but -∞, and masked ones, give no NaN", () => {
  scope(() => {
    const no = -Infinity;
    const x = tensor([no, no, no, no, no, 1, no, no, no, 2], [2, 5], { device: one });
    const same = (t: Tensor, expected: number[]) => {
      const found = [...t.dataSync()];
      expected.forEach((value, i) => {
        const close = Object.is(found[i], value) || Math.abs(found[i]! - value) < 1e-6;
        assert.ok(close, `${found} for ${expected}`);
      });
    };
    const p = 1 / (1 + Math.E);
    same(x.softmax(), [0, 0, 0, 0, 0, p, 0, 0, 0, 1 - p]);
    same(x.logSumExp(), [no, 2 + Math.log(1 + Math.exp(-1))]);
    same(x.logSoftmax().slice([[0, 1], null]), [no, no, no, no, no]);
    same(x.argmax(), [0, 4]);
    same(x.categorical(tensor([0.5, 0.999999], [2], { device: one })), [0, 4]);
  });
});
