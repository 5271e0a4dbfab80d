/** Element types: their names and their bytes on a device. */

/**
 * f32 computes; i32 indexes; bool is 0 or 1 in four bytes; f16 stores: moves pass it through, some
 * ops read it as if it were f32 (a row says which), and none computes in it.
 */
export type DType = "f32" | "i32" | "bool" | "f16";

export type TypedArray = Float32Array | Float64Array | Int32Array;

/** Bytes of an element on a device (the reference device widens all to f64). */
export const bytesOf = (dtype: DType): number => (dtype === "f16" ? 2 : 4);

/** Whether the elements are real numbers, to which a gradient may flow (itself always f32). */
export const isReal = (dtype: DType): boolean => dtype === "f32" || dtype === "f16";
