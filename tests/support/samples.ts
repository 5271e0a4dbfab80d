/** Random inputs for any row of the op table, drawn through fast-check so that failures shrink. */

import * as fc from "fast-check";
import { isReal } from "../../tensor/dtype.ts";
import { arityOf } from "../../tensor/engine.ts";
import { type Device, type DType, randomStream, Tensor, tensor } from "../../tensor/mod.ts";
import type { Definition, Draw, InputSpec, Sample } from "../../tensor/op.ts";
import { parseSignature } from "../../tensor/signature.ts";

/** How often each property is tried; CI runs the full number on one runtime and fewer on the rest. */
export const RUNS = Number(process.env.ANAMNESIS_PROPERTY_RUNS ?? 40);
/** Printed with a failure, so that it can be repeated: ANAMNESIS_SEED=… */
export const SEED = Number(process.env.ANAMNESIS_SEED ?? 20261123);

/** Sizes around a SIMD vector, two of them, four of them, and primes. */
const EDGES = [0, 1, 2, 3, 4, 5, 7, 8, 9, 13, 15, 16, 17, 31, 33] as const;
const SMALL = [0, 1, 2, 3, 4] as const;

export interface Drawn {
  readonly inputs: readonly Required<Pick<InputSpec, "shape" | "dtype">>[];
  readonly values: readonly (readonly number[])[];
  /** How each input lies in memory: packed, transposed, or cut out of a larger array. */
  readonly layouts: readonly ("packed" | "transposed" | "sliced")[];
  readonly options: unknown;
}

type Generator = fc.GeneratorValue;

function drawOf(g: Generator, sizes: readonly number[]): Draw {
  const int = (min: number, max: number) => g(fc.integer, { min, max });
  const size = () => sizes[int(0, sizes.length - 1)]!;
  return {
    int,
    size,
    choice: (items) => items[int(0, items.length - 1)]!,
    shape: (least = 0, most = 3) => {
      // Leading axes are small: the number of rows matters less than their length.
      const rank = int(least, most);
      return Array.from({ length: rank }, (_, i) => (i === rank - 1 ? size() : int(0, 4)));
    },
  };
}

/** Shapes for a row with a signature: one size a name, "..." axes that broadcast at random. */
function fromSignature(definition: Definition, draw: Draw): Sample<unknown> {
  const { inputs } = parseSignature(definition.shape as string);
  const sizes = new Map<string, number>();
  const batch = draw.shape(0, 2).map((n) => (n === 0 ? 0 : n));
  const specs = inputs.map(({ axes, batched }) => {
    const own = axes.map((axis) => {
      if (!sizes.has(axis)) sizes.set(axis, draw.size());
      return sizes.get(axis)!;
    });
    const cut = draw.int(0, batch.length);
    const lead = batch.slice(cut).map((n) => (draw.int(0, 3) === 0 ? 1 : n));
    return { shape: batched ? [...(inputs.length === 1 ? batch : lead), ...own] : own };
  });
  return { inputs: specs, options: definition.sampleOptions };
}

/** An arbitrary set of operands for a row. `mode` small keeps sizes for gradient checks. */
export function samples(definition: Definition, mode: "small" | "edges"): fc.Arbitrary<Drawn> {
  return fc.gen().map((g) => {
    const draw = drawOf(g, mode === "small" ? SMALL : EDGES);
    const make = definition.sample ?? ((d: Draw) => fromSignature(definition, d));
    const sample = make(draw) as Sample<unknown>;
    const small = mode === "small";
    const T: DType = small ? "f32" : draw.choice(definition.types?.T ?? ["f32"]);
    const real = (): DType => (small ? "f32" : draw.choice(["f32", "f32", "f16"]));
    const stream = randomStream({ seed: draw.int(0, 1e6), purpose: "samples" });
    const inputs = sample.inputs.map((spec, i) => ({
      shape: spec.shape,
      dtype: spec.dtype ?? declaredType(definition, i, T, real),
    }));
    const values = sample.inputs.map((spec, i) => {
      const length = spec.shape.reduce((product, n) => product * n, 1);
      return Array.from({ length }, () => value(definition, spec, inputs[i]!.dtype, stream));
    });
    const layouts = inputs.map(() => draw.choice(["packed", "transposed", "sliced"] as const));
    return { inputs, values, layouts, options: sample.options };
  });
}

function declaredType({ types }: Definition, i: number, T: DType, real: () => DType): DType {
  const declared = types?.inputs[Math.min(i, types.inputs.length - 1)] ?? "f32";
  return declared === "T" ? T : declared === "real" ? real() : declared;
}

type Stream = ReturnType<typeof randomStream>;

function value(definition: Definition, spec: InputSpec, dtype: DType, stream: Stream): number {
  if (dtype === "bool") return stream.int(2);
  const [low, high] = [
    spec.low ?? definition.domain?.[0] ?? -2,
    spec.high ?? definition.domain?.[1] ?? 2,
  ];
  if (dtype === "i32") return low + stream.int(high - low + 1);
  const x = Math.fround(low + stream.uniform() * (high - low));
  const kink = definition.kinks?.find((at) => Math.abs(x - at) < 1e-2);
  return kink === undefined ? x : Math.fround(kink + 0.05);
}

/** The drawn inputs as tensors of a device, laid out as drawn (or all packed). */
export function materialise(drawn: Drawn, device: Device, packed = false): Tensor[] {
  return drawn.inputs.map(({ shape, dtype }, i) => {
    const values = drawn.values[i]!;
    const layout = packed || shape.length === 0 ? "packed" : drawn.layouts[i]!;
    const plain = tensor(Float64Array.from(values), shape, { dtype, device });
    if (layout === "transposed" && shape.length >= 2) {
      // Stored with the last two axes exchanged, seen the right way round.
      return plain.transpose().contiguous().transpose();
    }
    if (layout === "sliced") return embedded(plain);
    return plain;
  });
}

/** The same values as a window of an array that is one larger at both ends of every axis. */
function embedded(x: Tensor): Tensor {
  const shape = x.shape.map((n) => n + 2);
  const windows = x.shape.map((size) => ({ from: 1, size, step: 1 }));
  const ranges = x.shape.map((n) => [1, n + 1] as const);
  if (x.dtype !== "f32") {
    const wide = x.toF32().scatterSlice({ shape, windows });
    const casts = { i32: wide.toI32, bool: wide.toBool, f16: wide.toF16 };
    return casts[x.dtype].call(wide).slice(ranges);
  }
  return x.scatterSlice({ shape, windows }).slice(ranges);
}

/** Calls a row with inputs and options as a user would. */
export function invoke(
  op: (...args: unknown[]) => unknown,
  definition: Definition,
  inputs: readonly Tensor[],
  options: unknown,
): Tensor[] {
  const args = arityOf(definition) === "list" ? [inputs, options] : [...inputs, options];
  return ([op(...args)].flat() as unknown[]).filter((t) => t instanceof Tensor);
}

/**
 * Leaves for a gradient: the f32 inputs, and for an f16 one the f32 tensor that it is cast from.
 * `inputs` are what the op is called with; `leaves` has null where there is no gradient.
 */
export function withLeaves(inputs: readonly Tensor[]): {
  inputs: Tensor[];
  leaves: (Tensor | null)[];
} {
  const leaves = inputs.map((t) => {
    if (t.dtype === "f32") return t.requireGrad();
    return t.dtype === "f16" ? t.toF32().requireGrad() : null;
  });
  return {
    leaves,
    inputs: inputs.map((t, i) => (t.dtype === "f16" ? leaves[i]!.toF16() : t)),
  };
}

/** Real outputs as f32, to be summed into a loss. */
export const realOutputs = (outputs: readonly Tensor[]): Tensor[] =>
  outputs.filter((t) => isReal(t.dtype)).map((t) => (t.dtype === "f16" ? t.toF32() : t));
