/** Runs an op: checks operands, picks kernel or composed form, allocates, records for backward. */

import { Graph, isRecording, noGrad } from "./autograd.ts";
import { scalar } from "./create.ts";
import type { Device } from "./device/device.ts";
import { type DType, isReal } from "./dtype.ts";
import { type Definition, type KernelCall, setApply, type Types } from "./op.ts";
import { scope } from "./scope.ts";
import { isContiguous, rowMajor, type Shape, sameShape, sizeOf } from "./shape.ts";
import { matchSignature, parseSignature } from "./signature.ts";
import { Storage, Tensor } from "./tensor.ts";

/** What an op makes of given shapes: result shapes and the sizes of the named axes. */
export interface Plan {
  readonly outputs: readonly Shape[];
  readonly dtypes: readonly DType[];
  readonly dims: KernelCall["dims"];
  readonly batch: Shape;
}

/** Number of tensor inputs of a row. */
export function arityOf(definition: Definition): number | "list" {
  if (definition.arity !== undefined) return definition.arity;
  if (typeof definition.shape === "string") return parseSignature(definition.shape).inputs.length;
  throw new Error(`${definition.name}: a row with a shape function must state its arity`);
}

/** What an op made of the shapes and types that it met lately; the newest first. */
interface Known {
  readonly shapes: readonly Shape[];
  readonly dtypes: readonly DType[];
  readonly plan: Plan;
}
const KNOWN = 6;
const known = new WeakMap<Definition, Known[]>();

/** Result shapes and types of a row on given operands; throws a clear error where they don't fit. */
export function plan(
  definition: Definition,
  shapes: readonly Shape[],
  dtypes: readonly DType[],
  options: unknown,
): Plan {
  const { shape } = definition;
  // A shape function also looks at the options.
  if (typeof shape !== "string") {
    const outputs = shape(shapes, options as never);
    const none = { dims: { batch: 1 } as KernelCall["dims"], batch: [] };
    return { ...none, outputs, dtypes: outputTypes(definition, dtypes, outputs.length) };
  }
  const list = known.get(definition) ?? [];
  if (list.length === 0) known.set(definition, list);
  for (const entry of list) {
    if (sameTypes(entry.dtypes, dtypes) && sameShapes(entry.shapes, shapes)) return entry.plan;
  }
  const matched = matchSignature(parseSignature(shape), shapes, definition.name);
  const dtypesOut = outputTypes(definition, dtypes, matched.outputs.length);
  const found = { ...matched, dtypes: dtypesOut };
  list.unshift({ shapes, dtypes, plan: found });
  if (list.length > KNOWN) list.pop();
  return found;
}

const sameTypes = (a: readonly DType[], b: readonly DType[]): boolean =>
  a.length === b.length && a.every((dtype, i) => dtype === b[i]);
const sameShapes = (a: readonly Shape[], b: readonly Shape[]): boolean =>
  a.length === b.length && a.every((shape, i) => shape === b[i] || sameShape(shape, b[i]!));

const accepted = (want: DType | "real"): readonly DType[] =>
  want === "real" ? ["f32", "f16"] : [want];

function outputTypes(definition: Definition, dtypes: readonly DType[], outputs: number): DType[] {
  const { name, types } = definition;
  const expected: Types["inputs"] = types?.inputs ?? dtypes.map(() => "f32" as const);
  let T: DType | undefined;
  dtypes.forEach((dtype, i) => {
    const want = expected[Math.min(i, expected.length - 1)]!;
    const allowed = want === "T" ? (T === undefined ? (types!.T ?? ["f32"]) : [T]) : accepted(want);
    if (!allowed.includes(dtype)) {
      const how = dtype === "f16" ? "; f16 only stores numbers: use toF32() before it" : "";
      throw new TypeError(
        `${name}: input ${i} is ${dtype}, expected ${allowed.join(" or ")}${how}`,
      );
    }
    if (want === "T") T = dtype;
  });
  return Array.from({ length: outputs }, (_, i) => {
    const dtype = types?.outputs[i] ?? "f32";
    return dtype === "T" ? T! : dtype;
  });
}

/** The engine's one entry: everything that a method of Tensor does goes through here. */
function apply(definition: Definition, args: readonly unknown[]): Tensor | Tensor[] {
  const arity = arityOf(definition);
  const count = arity === "list" ? 1 : arity;
  const given = (arity === "list" ? args[0] : args.slice(0, count)) as (Tensor | number)[];
  const inputs = operands(definition, given, arity);
  const outputs = dispatch(definition, inputs, args[count]);
  inputs.forEach((t, i) => {
    if (t !== given[i]) t.dispose();
  });
  return outputs.length === 1 ? outputs[0]! : outputs;
}

/** Checks that the operands are tensors of one device; numbers become scalars of T. */
function operands(
  { name, types }: Definition,
  given: readonly (Tensor | number)[],
  arity: number | "list",
): Tensor[] {
  const tensors = given.filter((t) => t instanceof Tensor);
  const first = tensors[0];
  if (first === undefined || given.some((t) => t === undefined)) {
    const wanted = arity === "list" ? "an array of tensors" : `${arity} tensor(s)`;
    throw new TypeError(`${name}: expected ${wanted} as its first argument(s)`);
  }
  const other = tensors.find((t) => t.device !== first.device);
  if (other !== undefined) {
    throw new Error(`${name}: operands lie on ${first.device.name} and ${other.device.name}`);
  }
  const T = given.find((t, i) => t instanceof Tensor && types?.inputs[i] === "T") as Tensor;
  return given.map((t, i) => {
    if (typeof t !== "number") return t;
    const dtype = T?.dtype ?? "f32";
    if (dtype === "i32" && t !== (t | 0)) {
      throw new TypeError(`${name}: input ${i} is ${t} beside i32, expected a whole number of i32`);
    }
    return scalar(t, dtype, first.device);
  });
}

function dispatch(definition: Definition, inputs: Tensor[], options: unknown): Tensor[] {
  const shapes = inputs.map((t) => t.shape);
  const dtypes = inputs.map((t) => t.dtype);
  const planned = plan(definition, shapes, dtypes, options);
  const real = planned.dtypes.length === 0 || planned.dtypes.some(isReal);
  const tracked = real && isRecording() && inputs.some((t) => t.variable !== undefined);
  if (definition.updates !== undefined) {
    if (tracked) throw new Error(`${definition.name}: writes in place; detach() its inputs first`);
    const { updates } = definition;
    for (const i of typeof updates === "function" ? updates(inputs.length) : updates) {
      const { shape, strides, storage } = inputs[i]!;
      if (!isContiguous(shape, strides)) {
        throw new Error(`${definition.name}: writes input ${i} in place, which must be packed`);
      }
      storage.version++;
    }
  }
  const device = inputs[0]!.device;
  // A fused op without a VJP of its own gets its gradient from its composed form.
  if ("composed" in definition && (!device.supports(definition) || (tracked && !definition.vjp))) {
    return scope(() => {
      const wide = inputs.map((t) => (t.dtype === "f16" ? t.toF32() : t));
      const results = [definition.composed(wide, options as never)].flat() as Tensor[];
      // An output that one operand alone does not reach may come out smaller than promised.
      return results.map((t, i) => {
        const shape = planned.outputs[i]!;
        return sameShape(t.shape, shape) ? t : t.expand(shape);
      });
    });
  }
  const outputs =
    "view" in definition
      ? [viewOf(definition, inputs[0]!, options)]
      : compute(definition, device, inputs, planned, options);
  return tracked ? record(definition, inputs, outputs, options) : outputs;
}

function viewOf(
  definition: Extract<Definition, { view: unknown }>,
  input: Tensor,
  options: unknown,
): Tensor {
  const seen = definition.view(input.view, options as never);
  if (seen !== undefined) {
    return new Tensor({ ...seen, dtype: input.dtype }, input.device, input.storage, undefined);
  }
  const packed = pack(input);
  const layout = definition.view(packed.view, options as never)!;
  const result = new Tensor(
    { ...layout, dtype: input.dtype },
    input.device,
    packed.storage,
    undefined,
  );
  packed.dispose();
  return result;
}

/** A packed copy outside of the graph: the view's own node stands for it. */
const pack = (x: Tensor): Tensor => noGrad(() => x.contiguous());

function compute(
  definition: Definition,
  device: Device,
  inputs: readonly Tensor[],
  { outputs, dtypes, dims, batch }: Plan,
  options: unknown,
): Tensor[] {
  const results = outputs.map((shape, i) => empty(device, shape, dtypes[i]!));
  const views = { inputs: inputs.map((t) => t.view), outputs: results.map((t) => t.view) };
  if (views.outputs.length === 0 || views.outputs.some((view) => sizeOf(view.shape) > 0)) {
    device.run(definition, { ...views, dims, batch, options });
  }
  return results;
}

/** An uninitialised tensor. */
export function empty(device: Device, shape: Shape, dtype: DType): Tensor {
  const storage = new Storage(device, device.allocate(sizeOf(shape), dtype));
  const layout = { shape, strides: rowMajor(shape), offset: 0, dtype };
  return new Tensor(layout, device, storage, undefined);
}

function record(
  definition: Definition,
  inputs: readonly Tensor[],
  outputs: readonly Tensor[],
  options: unknown,
): Tensor[] {
  const graph = new Graph(definition, inputs, outputs, options);
  return outputs.map((t, slot) => {
    const variable = isReal(t.dtype) ? graph.variables[slot] : undefined;
    const result = new Tensor(t, t.device, t.storage, variable);
    t.dispose();
    return result;
  });
}

setApply(apply);
