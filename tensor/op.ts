/** What an op is: one declaration with everything about it; all else is derived from it. */

import type { View } from "./device/device.ts";
import type { WasmKernel } from "./device/wasm/kernel.ts";
import type { WgslKernel } from "./device/webgpu/kernel.ts";
import type { DType } from "./dtype.ts";
import type { Expression } from "./expression.ts";
import type { Shape } from "./shape.ts";
import type { Dims } from "./signature.ts";
import type { Tensor } from "./tensor.ts";

/** The reason why a row has no such entry; printed in the docs, never silent. */
export interface Missing {
  readonly missing: string;
}
export const missing = (reason: string): Missing => ({ missing: reason });
export const isMissing = (entry: unknown): entry is Missing =>
  typeof entry === "object" && entry !== null && "missing" in entry;

/** What a kernel is given: strided inputs, packed outputs, and the sizes of the named axes. */
export interface KernelCall {
  readonly inputs: readonly View[];
  readonly outputs: readonly View[];
  readonly dims: Dims;
  readonly batch: Shape;
  readonly options: unknown;
}

/** A packed f64 array: what the naive reference loops see. "..." axes are already broadcast. */
export interface Block {
  readonly data: Float64Array;
  readonly shape: Shape;
}

export interface ReferenceCall<O, S extends string> {
  readonly inputs: readonly Block[];
  readonly outputs: readonly Block[];
  readonly dims: Dims<S>;
  readonly options: O;
}

/** What a VJP may use besides the first output's cotangent and the inputs. */
export interface VjpContext<O> {
  readonly outputs: readonly Tensor[];
  /** One cotangent for each output; undefined where nothing depends on it. */
  readonly cotangents: readonly (Tensor | undefined)[];
  readonly options: O;
  /** Whether the VJP is itself recorded, to be differentiated in turn. */
  readonly recorded: boolean;
}

/**
 * Cotangent of the output -> one cotangent for each input (null: not differentiable in it).
 * It may have any shape that broadcasts with its input: the engine expands or sums it.
 */
export type Vjp<O> = (
  g: Tensor,
  inputs: readonly Tensor[],
  context: VjpContext<O>,
) => readonly (Tensor | null)[];

/** How a generated test draws the inputs of an op. */
export interface InputSpec {
  readonly shape: Shape;
  readonly dtype?: DType;
  /** Values are drawn from [low, high] (default [-2, 2]); i32 from the integers there. */
  readonly low?: number;
  readonly high?: number;
}
export interface Sample<O> {
  readonly inputs: readonly InputSpec[];
  readonly options: O;
}
/** Draws the sizes of a sample; `size` prefers the edges of tiles, `shape` any leading axes. */
export interface Draw {
  size(): number;
  int(low: number, high: number): number;
  shape(minRank?: number, maxRank?: number): number[];
  choice<T>(items: readonly T[]): T;
}

/** `shape`, or at random some of its last axes: what broadcasts with it. */
export const broadcasting = (draw: Draw, shape: Shape): Shape =>
  draw.int(0, 1) === 0 ? shape : shape.slice(draw.int(0, shape.length));

/**
 * Element types of inputs and outputs. "T" is one type of `T`, the same in every place; "real" is
 * f32, or f16 that the op reads as f32: a kernel that does not read it itself gets an f32 copy.
 */
export interface Types {
  readonly inputs: readonly (DType | "T" | "real")[];
  readonly outputs: readonly (DType | "T")[];
  readonly T?: readonly DType[];
}

interface Common<O, S extends string> {
  /** A signature, or a rule where a string can't say it: input shapes -> output shapes. */
  readonly shape: S | ((shapes: readonly Shape[], options: O) => readonly Shape[]);
  /** Number of inputs; read from a signature; "list" = one array of tensors. */
  readonly arity?: number | "list";
  /** Default: every operand is f32. */
  readonly types?: Types;
  /** Interval of test values where the op is defined and smooth. Default [-2, 2]. */
  readonly domain?: readonly [low: number, high: number];
  /** Values at which the gradient must be finite. Default ±1e3, ±1 and 0. */
  readonly extremes?: readonly number[];
  /** Points at which the op has a kink; gradient tests keep away from them. */
  readonly kinks?: readonly number[];
  /** Options for the tests of a row with a signature. */
  readonly sampleOptions?: O;
  /** Inputs for the tests where the signature or `domain` can't say it. */
  readonly sample?: (draw: Draw) => Sample<O>;
  /** Largest |device - reference| / (1 + |reference|) that an f32 device may show. Default 1e-5. */
  readonly tolerance?: number;
  /** What the VJP reads, or which inputs; else may be freed before backward. Default "inputs". */
  readonly keeps?: "inputs" | "outputs" | "both" | "nothing" | readonly number[];
  /** The VJP itself looks whether a kept output was overwritten; else backward refuses it. */
  readonly noticesOverwritten?: true;
  /** Indices of f32 inputs that are constants to a fused op's own VJP. */
  readonly constants?: readonly number[];
  /** Indices of inputs that the op overwrites in place (of how many); it has no gradient. */
  readonly updates?: readonly number[] | ((inputs: number) => readonly number[]);
  readonly flops?: (dims: Dims<S>) => number;
  /** Why the gradient is the cotangent as it is, though the result is a step function of the input. */
  readonly straightThrough?: string;
}

/** An op with its own definition: naive f64 loops, or a view rule. */
export interface Primitive<O = unknown, S extends string = string> extends Common<O, S> {
  readonly reference: (call: ReferenceCall<O, S>) => void;
  readonly vjp: Vjp<O> | Missing;
  readonly wasm: WasmKernel | Missing;
  readonly wgsl: WgslKernel | Missing;
}

/** A function of one element of each input: from `expression` both fast devices emit their kernel. */
export interface Elementwise<O = unknown, S extends string = string> extends Common<O, S> {
  readonly scalar: (...values: number[]) => number | readonly number[];
  readonly expression: (...inputs: Expression[]) => Expression | readonly Expression[];
  readonly vjp: Vjp<O> | Missing;
}

/** An op that moves no element: output i reads input 0 through other strides. */
export interface Viewing<O = unknown, S extends string = string> extends Common<O, S> {
  /** Undefined: these strides can't show it, the engine packs the input first. */
  readonly view: (input: View, options: O) => Omit<View, "buffer" | "dtype"> | undefined;
  readonly vjp: Vjp<O>;
}

/** An op whose plain form gives truth and gradient; kernels and a faster VJP are tested against it. */
export interface Fused<O = unknown, S extends string = string> extends Common<O, S> {
  readonly composed: (inputs: readonly Tensor[], options: O) => Tensor | readonly Tensor[];
  readonly vjp?: Vjp<O>;
  readonly wasm: WasmKernel | Missing;
  readonly wgsl: WgslKernel | Missing;
  /** Present for a fused elementwise op: its kernel comes from here, not from `wasm`. */
  readonly expression?: (...inputs: Expression[]) => Expression | readonly Expression[];
}

/** A row as the engine sees it; `name` is the constant's own, filled in by ops/mod.ts. */
export type Definition = (Primitive<never> | Elementwise<never> | Viewing<never> | Fused<never>) & {
  name: string;
};

/** An operand: numbers become scalars of the other operand's type. */
export type Operand = Tensor | number;

export type Call<A extends readonly unknown[], R = Tensor> = ((...inputs: A) => R) & {
  readonly definition: Definition;
};
export type Unary = Call<[x: Tensor]>;
export type Binary = Call<[a: Tensor, b: Operand]>;
export type Ternary = Call<[a: Tensor, b: Operand, c: Operand]>;

/** Runs a row on tensors; plugged in by the engine, so that rows import no run-time code. */
type Apply = (definition: Definition, args: readonly unknown[]) => unknown;
let apply: Apply = () => {
  throw new Error("no engine: import the library through tensor/mod.ts");
};
export const setApply = (engine: Apply): void => {
  apply = engine;
};

const callable = (row: object): never => {
  const definition = { name: "unnamed", ...row } as Definition;
  return Object.assign((...args: unknown[]) => apply(definition, args), { definition }) as never;
};

export const primitive = <O = void, const S extends string = string>(row: Primitive<O, S>): never =>
  callable(row);
export const fused = <O = void, const S extends string = string>(row: Fused<O, S>): never =>
  callable(row);
export const viewing = <O>(row: Omit<Viewing<O>, "arity">): never => callable({ arity: 1, ...row });

/** A row of the elementwise family: its shape rule is "all operands broadcast". */
export const elementwise = (row: Omit<Elementwise, "shape">): never => {
  const shape = `${new Array(row.scalar.length).fill("...").join(", ")} -> ...`;
  return callable({ shape, ...row });
};
