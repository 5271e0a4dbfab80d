/** Property tests of every row of the op table, generated from the row: no op is named here. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import * as fc from "fast-check";
import { isReal } from "../tensor/dtype.ts";
import { arityOf, plan } from "../tensor/engine.ts";
import {
  type Device,
  gradients,
  noGrad,
  ops,
  randomStream,
  reference,
  scope,
  Tensor,
  tensor,
} from "../tensor/mod.ts";
import { type Definition, isMissing, type Vjp } from "../tensor/op.ts";
import { GuardedWasmDevice } from "./support/guarded.ts";
import {
  type Drawn,
  invoke,
  materialise,
  RUNS,
  realOutputs,
  SEED,
  samples,
  withLeaves,
} from "./support/samples.ts";

type Op = ((...args: unknown[]) => unknown) & { definition: Definition };

const chosen = process.env.ANAMNESIS_OPS?.split(",");
const rows = (Object.entries(ops) as unknown as [string, Op][]).filter(
  ([name]) => chosen === undefined || chosen.includes(name),
);
const devices: readonly Device[] = [new GuardedWasmDevice()];

const vjpOf = (definition: Definition): Vjp<unknown> | undefined => {
  const { vjp } = definition as { vjp?: unknown };
  return vjp === undefined || isMissing(vjp) ? undefined : (vjp as Vjp<unknown>);
};
const isDifferentiable = (definition: Definition): boolean =>
  vjpOf(definition) !== undefined || ("composed" in definition && !definition.updates);

const check = (property: fc.IProperty<[Drawn]>, numRuns = RUNS): void =>
  fc.assert(property, { seed: SEED, numRuns, verbose: 0 });

const wiggle = (size: number, purpose: string): Float64Array => {
  const stream = randomStream({ seed: SEED, purpose });
  return Float64Array.from({ length: size }, () => stream.uniform() * 2 - 1);
};

/** Σ outputs · fixed random weights: one number that depends on every output element. */
function weighted(outputs: readonly Tensor[]): Tensor {
  const parts = realOutputs(outputs).map((t, k) => {
    const u = tensor(wiggle(t.size, `u${k}`), t.shape, { device: t.device });
    return t.mul(u).sum();
  });
  return parts.reduce((a, b) => a.add(b));
}

/** Gradients of `weighted(op(inputs))` for the real inputs; null elsewhere. */
function gradientsOf(op: Op, drawn: Drawn, device: Device, packed = false): (Tensor | null)[] {
  const { inputs, leaves } = withLeaves(materialise(drawn, device, packed));
  const loss = weighted(invoke(op, op.definition, inputs, drawn.options));
  const wanted = leaves.filter((t) => t !== null);
  const found = gradients(loss, wanted);
  return leaves.map((t) => (t === null ? null : found[wanted.indexOf(t)]!));
}

function close(actual: Tensor, expected: Tensor, tolerance: number, what: string): void {
  assert.deepEqual(actual.shape, expected.shape, `${what}: shape`);
  assert.equal(actual.dtype, expected.dtype, `${what}: dtype`);
  const [a, e] = [actual.dataSync(), expected.dataSync()];
  // Rounding of a sum grows with its largest terms, so an element is compared on that scale.
  let scale = 1;
  for (const x of e) if (Number.isFinite(x)) scale = Math.max(scale, 1 + Math.abs(x));
  e.forEach((x, i) => {
    const y = a[i]!;
    if (Object.is(x, y) || x === y || (Number.isNaN(x) && Number.isNaN(y))) return;
    const error = Math.abs(y - x) / scale;
    assert.ok(error <= tolerance, `${what}: element ${i} is ${y}, expected ${x}`);
  });
}

/** The f64 central difference of `f` along a random direction, against its gradient. */
function centralDifference(
  drawn: Drawn,
  input: number,
  gradient: Tensor,
  f: (drawn: Drawn) => number,
): void {
  if (drawn.values[input]!.length === 0) return;
  const direction = wiggle(drawn.values[input]!.length, `direction${input}`);
  const h = 1e-5;
  const moved = (sign: number): Drawn => ({
    ...drawn,
    values: drawn.values.map((v, i) =>
      i === input ? v.map((x, at) => x + sign * h * direction[at]!) : v,
    ),
  });
  const numeric = (f(moved(1)) - f(moved(-1))) / (2 * h);
  const g = gradient.dataSync();
  const terms = Array.from(direction, (d, i) => d * g[i]!);
  const exact = terms.reduce((a, b) => a + b, 0);
  const scale = 1 + terms.reduce((a, b) => a + Math.abs(b), 0);
  assert.ok(
    Math.abs(numeric - exact) <= 1e-6 * scale,
    `input ${input}: gradient along a direction is ${exact}, central difference ${numeric}`,
  );
}

/** Runs `body` on a device and asserts that it leaves no buffer behind. */
function withoutLeak(device: Device, body: () => void): void {
  const before = device.liveBuffers;
  scope(body);
  assert.equal(device.liveBuffers, before, `live buffers on ${device.name}`);
}

for (const [name, op] of rows) {
  const { definition } = op;
  describe(name, () => {
    test("has the promised shape and type", () => {
      check(
        fc.property(samples(definition, "edges"), (drawn) => {
          withoutLeak(reference, () => {
            const inputs = materialise(drawn, reference, definition.updates !== undefined);
            const shapes = inputs.map((t) => t.shape);
            const dtypes = inputs.map((t) => t.dtype);
            const promised = plan(definition, shapes, dtypes, drawn.options);
            const outputs = invoke(op, definition, inputs, drawn.options);
            assert.deepEqual(
              outputs.map((t) => t.shape),
              promised.outputs,
            );
            assert.deepEqual(
              outputs.map((t) => t.dtype),
              promised.dtypes,
            );
          });
        }),
      );
    });

    if (isDifferentiable(definition)) gradientTests(op);
    else {
      test("says why it has no gradient", () => {
        const { vjp } = definition as { vjp?: { missing: string } };
        assert.ok(isMissing(vjp) && vjp.missing.length > 10);
      });
    }
    for (const device of devices) deviceTests(op, device);
  });
}

function gradientTests(op: Op): void {
  const { definition } = op;
  const constants = definition.constants ?? [];
  const differentiable = (drawn: Drawn) =>
    [...drawn.inputs.keys()].filter(
      (i) => drawn.inputs[i]!.dtype === "f32" && !constants.includes(i),
    );
  const valueAt = (drawn: Drawn): number =>
    scope(() =>
      weighted(invoke(op, definition, materialise(drawn, reference, true), drawn.options)).item(),
    );

  if (definition.straightThrough !== undefined) {
    test("gradient is the cotangent as it is", () => {
      check(
        fc.property(samples(definition, "small"), (drawn) => {
          withoutLeak(reference, () => {
            const [g] = gradientsOf(op, drawn, reference);
            const u = wiggle(g!.size, "u0");
            assert.deepEqual([...g!.dataSync()], [...u]);
          });
        }),
      );
    });
    return;
  }

  test("gradient agrees with central differences in f64", () => {
    check(
      fc.property(samples(definition, "small"), (drawn) => {
        withoutLeak(reference, () => {
          const found = gradientsOf(op, drawn, reference);
          for (const i of differentiable(drawn)) {
            centralDifference(drawn, i, found[i]!, valueAt);
          }
        });
      }),
    );
  });

  /** One number from the gradients themselves, to differentiate once more. */
  const slopeAt = (drawn: Drawn, leaves: Tensor[]): Tensor => {
    const loss = weighted(invoke(op, definition, leaves, drawn.options));
    const wrt = differentiable(drawn).map((i) => leaves[i]!);
    return weighted(gradients(loss, wrt, { createGraph: true }));
  };

  test("second-order gradient agrees with central differences in f64", () => {
    check(
      fc.property(samples(definition, "small"), (drawn) => {
        if (differentiable(drawn).length === 0) return;
        withoutLeak(reference, () => {
          const make = (d: Drawn) => {
            const inputs = materialise(d, reference, true);
            for (const i of differentiable(d)) inputs[i]!.requireGrad();
            return inputs;
          };
          const leaves = make(drawn);
          const wrt = differentiable(drawn);
          const found = gradients(
            slopeAt(drawn, leaves),
            wrt.map((i) => leaves[i]!),
          );
          wrt.forEach((i, k) => {
            centralDifference(drawn, i, found[k]!, (d) => scope(() => slopeAt(d, make(d)).item()));
          });
        });
      }),
      Math.ceil(RUNS / 2),
    );
  });

  const vjp = vjpOf(definition);
  if ("composed" in definition && vjp !== undefined) {
    test("own VJP equals the composed form's gradient", () => {
      check(
        fc.property(samples(definition, "small"), (drawn) => {
          scope(() => {
            const composed = gradientsOf(op, drawn, reference);
            const inputs = materialise(drawn, reference, true);
            const outputs = invoke(op, definition, inputs, drawn.options);
            const cotangents = outputs.map((t, k) => {
              return tensor(wiggle(t.size, `u${k}`), t.shape, { device: reference });
            });
            // Recorded first: the other may overwrite what the op kept.
            for (const recorded of [true, false]) {
              const context = { outputs, cotangents, options: drawn.options, recorded };
              const own = noGrad(() => vjp(cotangents[0]!, inputs, context));
              for (const i of differentiable(drawn)) {
                const summed = sumTo(own[i]!, inputs[i]!.shape);
                close(summed, composed[i]!, 1e-9, `input ${i}, recorded ${recorded}`);
              }
            }
          });
        }),
      );
    });
  }

  test("gradient is finite over the whole number line", () => {
    const extremes = definition.extremes ?? [-1e3, -1, 0, 1, 1e3];
    check(
      fc.property(samples(definition, "small"), (drawn) => {
        const values = drawn.values.map((v, i) =>
          drawn.inputs[i]!.dtype === "f32"
            ? v.map((_, at) => extremes[(at + i) % extremes.length]!)
            : v,
        );
        for (const device of [reference, ...devices]) {
          scope(() => {
            for (const g of gradientsOf(op, { ...drawn, values }, device, true)) {
              for (const x of g?.dataSync() ?? []) {
                assert.ok(Number.isFinite(x), `${x} on ${device.name}`);
              }
            }
          });
        }
      }),
      Math.ceil(RUNS / 4),
    );
  });
}

/** Sums what broadcasting added, as the engine does. */
function sumTo(t: Tensor, shape: readonly number[]): Tensor {
  const lead = Math.max(0, t.rank - shape.length);
  const axes = t.shape.flatMap((n, axis) =>
    axis < lead || (shape[axis - lead] === 1 && n !== 1) ? [axis] : [],
  );
  const summed = axes.length === 0 ? t : t.sum({ axes, keepDims: true });
  return summed.reshape(summed.shape.slice(lead)).expand(shape);
}

function deviceTests(op: Op, device: Device): void {
  const { definition } = op;
  const tolerance = definition.tolerance ?? 1e-5;

  test(`${device.name}: equals the f64 reference in any layout`, () => {
    check(
      fc.property(samples(definition, "edges"), (drawn) => {
        scope(() =>
          withoutLeak(device, () => {
            const packed = definition.updates !== undefined;
            const mine = materialise(drawn, device, packed);
            const truth = materialise(drawn, reference, packed);
            const outputs = invoke(op, definition, mine, drawn.options);
            const expected = invoke(op, definition, truth, drawn.options);
            assert.equal(outputs.length, expected.length);
            outputs.forEach((t, k) => {
              close(t, expected[k]!, tolerance, `output ${k}`);
            });
            // Written in place, or else left as they were.
            mine.forEach((t, i) => {
              close(t, truth[i]!, tolerance, `input ${i} afterwards`);
            });
          }),
        );
      }),
      2 * RUNS,
    );
  });

  if (!isDifferentiable(definition)) return;
  test(`${device.name}: gradient equals the f64 reference`, () => {
    check(
      fc.property(samples(definition, "edges"), (drawn) => {
        if (drawn.inputs.some(({ dtype }, i) => !isReal(dtype) && isT(definition, i))) return;
        scope(() =>
          withoutLeak(device, () => {
            const mine = gradientsOf(op, drawn, device);
            const truth = gradientsOf(op, drawn, reference);
            mine.forEach((g, i) => {
              if (g !== null && !definition.constants?.includes(i))
                close(g, truth[i]!, 10 * tolerance, `gradient of input ${i}`);
            });
          }),
        );
      }),
    );
  });
}

const isT = ({ types }: Definition, i: number): boolean => types?.inputs[i] === "T";

test("every row can be called as a method or takes a list", () => {
  for (const [name, { definition }] of rows) {
    assert.equal(definition.name, name);
    const isMethod = typeof (Tensor.prototype as unknown as Record<string, unknown>)[name];
    assert.ok(isMethod === "function" || arityOf(definition) === "list", name);
  }
});
