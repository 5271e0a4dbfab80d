/** "... m k, ... k n -> ... m n": parse a signature, match shapes against it, say what is wrong. */

import { broadcastShapes, formatShape, type Shape, ShapeError } from "./shape.ts";

type Split<S extends string, D extends string> = S extends `${infer H}${D}${infer T}`
  ? H | Split<T, D>
  : S;

/** The axis names inside "... m k, ... k n -> ... m n": "m" | "k" | "n". */
export type Axis<S extends string> = Exclude<Split<Split<Split<S, "->">, ",">, " ">, "" | "...">;

/** The sizes of a signature's named axes, and `batch`, the product of all "..." axes. */
export type Dims<S extends string = string> = Readonly<Record<Axis<S> | "batch", number>>;

export interface Signature {
  readonly text: string;
  readonly inputs: readonly Term[];
  readonly outputs: readonly Term[];
}

/** One operand: its named axes, and whether any number of axes ("...") may stand before them. */
interface Term {
  readonly batched: boolean;
  readonly axes: readonly string[];
}

export interface Match {
  readonly dims: Dims;
  /** The broadcast shape of the "..." axes. */
  readonly batch: Shape;
  readonly outputs: readonly Shape[];
}

const cache = new Map<string, Signature>();

/** Parses "in, in -> out, out"; each operand is axis names, "..." only in front. */
export function parseSignature(text: string): Signature {
  let signature = cache.get(text);
  if (signature === undefined) {
    const [left, right] = text.split("->");
    if (right === undefined) throw new Error(`signature "${text}" has no "->"`);
    signature = { text, inputs: left!.split(",").map(term), outputs: right.split(",").map(term) };
    cache.set(text, signature);
  }
  return signature;
}

function term(text: string): Term {
  const words = text
    .trim()
    .split(/\s+/)
    .filter((word) => word !== "");
  const batched = words[0] === "...";
  return { batched, axes: batched ? words.slice(1) : words };
}

/** Binds axis names to sizes; named axes must agree, "..." axes broadcast. */
export function matchSignature(signature: Signature, shapes: readonly Shape[], op: string): Match {
  const dims: Record<string, number> = {};
  const batches: Shape[] = [];
  signature.inputs.forEach(({ axes, batched }, i) => {
    const shape = shapes[i]!;
    const lead = shape.length - axes.length;
    if (lead < 0 || (lead > 0 && !batched)) {
      const expected = `${batched ? "... " : ""}${axes.join(" ")}`;
      throw new ShapeError(
        `${op}: input ${i} has shape ${formatShape(shape)}, expected [${expected}] (${signature.text})`,
      );
    }
    axes.forEach((axis, at) => {
      const n = shape[lead + at]!;
      const known = dims[axis];
      if (known !== undefined && known !== n) {
        throw new ShapeError(`${op}: axis "${axis}" is ${known} and ${n} (${signature.text})`);
      }
      dims[axis] = n;
    });
    if (batched) batches.push(shape.slice(0, lead));
  });
  const batch = broadcastShapes(batches, op);
  const outputs = signature.outputs.map(({ axes, batched }) => [
    ...(batched ? batch : []),
    ...axes.map((axis) => dims[axis] ?? Number(axis)),
  ]);
  dims.batch = batch.reduce((product, n) => product * n, 1);
  return { dims: dims as Dims, batch, outputs };
}

/** What a kernel sees of operand `i`: its "..." axes broadcast to those of the whole call. */
export function operandShape(
  shape: string | object,
  {
    inputs,
    batch,
  }: { readonly inputs: readonly { readonly shape: Shape }[]; readonly batch: Shape },
  i: number,
): Shape {
  const own = inputs[i]!.shape;
  if (typeof shape !== "string") return own;
  const { batched, axes } = parseSignature(shape).inputs[i]!;
  return batched ? [...batch, ...own.slice(own.length - axes.length)] : own;
}
