/** Copies between any two layouts, and matrix products of operands in any layout. */

import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { WasmDevice } from "../tensor/device/wasm/device.ts";
import { copyStrided, packTo } from "../tensor/device/wasm/launch.ts";
import { noGrad, ops, randomStream, reference, scope, type Tensor, tensor } from "../tensor/mod.ts";
import { rowMajor, sizeOf } from "../tensor/shape.ts";
import { RUNS, SEED } from "./support/samples.ts";

const device = new WasmDevice({ threads: 1 });
const { machine } = device;

/** A shape of any rank, the order in which its axes lie in memory, and the axes that repeat. */
const layouts = fc
  .array(fc.constantFrom(0, 1, 1, 2, 3, 4, 5, 7, 8, 9, 17), { maxLength: 7 })
  .filter((shape) => sizeOf(shape.map((n) => Math.max(n, 1))) < 50_000)
  .chain((shape) =>
    fc.record({
      shape: fc.constant(shape),
      order: fc.shuffledSubarray(
        shape.map((_, i) => i),
        { minLength: shape.length },
      ),
      repeated: fc.subarray(shape.map((_, i) => i)),
      unit: fc.constantFrom(1, 1, 1, 3),
      repeats: fc.boolean(),
    }),
  );

function stridesOf(shape: readonly number[], order: readonly number[], unit: number): number[] {
  const strides = new Array<number>(shape.length).fill(0);
  let step = unit;
  for (const axis of order) {
    strides[axis] = step;
    step *= Math.max(1, shape[axis]!);
  }
  return strides;
}

/** The offset of every element, in row-major order of the shape. */
function offsets(shape: readonly number[], strides: readonly number[]): number[] {
  return shape.reduce<number[]>(
    (found, n, axis) =>
      found.flatMap((at) => Array.from({ length: n }, (_, i) => at + i * strides[axis]!)),
    [0],
  );
}

const SPACE = 3 * 50_000 + 64;
const source = machine.arena.allocate(4 * SPACE);
const target = machine.arena.allocate(4 * SPACE);
machine.i32.set(
  Int32Array.from({ length: SPACE }, (_, i) => i + 1),
  source / 4,
);

test("packing copies every element of a view and nothing else", () => {
  const property = fc.property(layouts, ({ shape, order, repeated, unit, repeats }) => {
    const strides = stridesOf(shape, order, unit);
    if (repeats) for (const axis of repeated) strides[axis] = 0;
    const buffer = { memory: source, elements: SPACE, dtype: "i32" } as const;
    const size = sizeOf(shape);
    machine.i32.fill(-1, target / 4, target / 4 + size + 32);
    packTo(machine, { buffer, dtype: "i32", shape, strides, offset: 5 }, target + 64);
    const found = machine.i32.slice(target / 4, target / 4 + size + 32);
    const margin = new Array<number>(16).fill(-1);
    const expected = [...margin, ...offsets(shape, strides).map((at) => at + 6), ...margin];
    assert.deepEqual(Array.from(found), expected);
  });
  fc.assert(property, { seed: SEED, numRuns: 10 * RUNS });
});

test("a strided copy writes the places of its layout and no other", () => {
  const property = fc.property(layouts, ({ shape, order, unit }) => {
    const strides = stridesOf(shape, order, unit);
    const size = unit * sizeOf(shape);
    machine.i32.fill(-1, target / 4, target / 4 + size + 32);
    const from = { at: source, strides: rowMajor(shape) };
    copyStrided(machine, shape, from, { at: target + 64, strides });
    const expected = new Array<number>(size + 32).fill(-1);
    for (const [i, at] of offsets(shape, strides).entries()) expected[16 + at] = i + 1;
    const found = machine.i32.slice(target / 4, target / 4 + size + 32);
    assert.deepEqual(Array.from(found), expected);
  });
  fc.assert(property, { seed: SEED, numRuns: 5 * RUNS });
});

interface Operand {
  readonly shape: readonly number[];
  readonly order: readonly number[];
}

/** Batches of up to three axes that broadcast, with the axes of each operand in any order. */
const products = fc
  .record({
    batch: fc.array(fc.integer({ min: 1, max: 4 }), { maxLength: 3 }),
    ones: fc.tuple(fc.nat(7), fc.nat(7)),
    sizes: fc.tuple(...[0, 1, 2].map(() => fc.constantFrom(0, 1, 2, 5, 8, 17, 33))),
  })
  .chain(({ batch, ones, sizes: [m, k, n] }) => {
    const operand = (mask: number, rows: number, columns: number) => {
      const lead = batch.map((size, axis) => ((mask >> axis) & 1 ? 1 : size));
      const shape = [...lead, rows, columns];
      const axes = shape.map((_, i) => i);
      const order = fc.shuffledSubarray(axes, { minLength: axes.length });
      return fc.record({ shape: fc.constant(shape), order });
    };
    return fc.tuple(operand(ones[0], m!, k!), operand(ones[1], k!, n!));
  });

function drawn({ shape, order }: Operand, on: typeof reference | WasmDevice, seed: number): Tensor {
  const stream = randomStream({ seed, purpose: "layout" });
  const stored = order.map((axis) => shape[axis]!);
  const values = Float32Array.from({ length: sizeOf(shape) }, () => stream.uniform() * 2 - 1);
  const back = shape.map((_, axis) => order.indexOf(axis));
  return tensor(values, stored, { device: on }).transpose(back);
}

test("matmul equals the reference for broadcast batches in any layout", () => {
  const property = fc.property(products, ([a, b]) => {
    scope(() =>
      noGrad(() => {
        const before = device.liveBuffers;
        const actual = ops.matmul(drawn(a, device, 1), drawn(b, device, 2));
        assert.equal(device.liveBuffers, before + 3, "temporaries are freed");
        const expected = ops.matmul(drawn(a, reference, 1), drawn(b, reference, 2)).dataSync();
        actual.dataSync().forEach((x, i) => {
          assert.ok(Math.abs(x - expected[i]!) < 1e-5, `element ${i}: ${x}, not ${expected[i]}`);
        });
      }),
    );
  });
  fc.assert(property, { seed: SEED, numRuns: 5 * RUNS });
});
