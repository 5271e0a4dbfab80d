/** The WGSL entry of an op's row: which programs to dispatch, on which views. */

import type { DType } from "../../dtype.ts";
import type { KernelCall } from "../../op.ts";
import type { View } from "../device.ts";

export interface WgslKernel {
  /** True where the kernel reads strided inputs itself; otherwise they arrive packed. */
  readonly strided?: boolean;
  /** True where the kernel reads and writes f16 itself; otherwise it gets f32 copies of f16 inputs. */
  readonly halves?: boolean;
  readonly run: (gpu: Launcher, call: KernelCall) => void;
}

/** A view that a program reads, or also writes. */
export interface Bound {
  readonly view: View;
  readonly written?: boolean;
}

/** Whole numbers are u32 to the program; those of `floats` are f32. */
export type Uniforms = Readonly<Record<string, number>>;

export interface Dispatch {
  /** dtype_op_tile, and what else the text depends on: one name, one text. */
  readonly name: string;
  /**
   * WGSL with an entry point `main`. Each view is an array of its name, whose first element is at
   * p.NAME_at; uniforms are fields of p; see prelude in program.ts for what else is there.
   */
  readonly code: () => string;
  /** What must stand in front of all declarations: extensions of WGSL. */
  readonly header?: string;
  readonly reads: Readonly<Record<string, View>>;
  readonly writes: Readonly<Record<string, View>>;
  /** Names of real arrays of which the program sees four elements at a time; p.NAME_at counts ones. */
  readonly vec4?: readonly string[];
  readonly uniforms?: Uniforms;
  readonly floats?: Uniforms;
  /** Workgroups: `unit` in the program runs through 0 … groups - 1. */
  readonly groups: number;
}

/**
 * What matrix products compute with: f32; operands rounded to f16 and summed in f32; or the same on
 * matrices that a subgroup shares (tensor cores).
 */
export type Products = "f32" | "f16" | "subgroup-matrix";

export interface Launcher {
  readonly products: Products;
  /** Threads of a subgroup, at least; undefined: programs must do without subgroups. */
  readonly subgroups: number | undefined;
  /** Whether products of few rows use them. */
  readonly thinProducts: boolean;
  dispatch(program: Dispatch): void;
  /** Memory that is free again when the kernel has been launched; its contents are undefined. */
  temporary(elements: number, dtype?: DType): View;
  /** The view itself where it is packed, else a temporary packed copy. */
  packed(view: View): View;
  /** The view itself, but of f16 a temporary packed copy in f32. */
  widened(view: View): View;
}

/** Element types as WGSL has them in memory: a bool is 0 or 1 in a word, f16 two in a word. */
export const WGSL_TYPE: Readonly<Record<DType, string>> = {
  ...{ f32: "f32", i32: "i32", bool: "u32", f16: "u32" },
};
/** The same for names of programs, where f16 must differ. */
export const typeName = (dtype: DType): string => (dtype === "f16" ? "f16" : WGSL_TYPE[dtype]);

/** WGSL: element `index` of an array; of an array of fours, that four. f16 is read as f32. */
export const element = (name: string, dtype: DType, index: string): string =>
  dtype === "f16" ? `half_of_${name}(${index})` : `${name}[${index}]`;
