/** Element types: their names, bytes and arrays on the JavaScript side. */

/** f32 computes; i32 indexes; bool is 0 or 1 in four bytes, so that every element has one size. */
export type DType = "f32" | "i32" | "bool";

/** Every element of every dtype takes four bytes on a device (the reference device widens to f64). */
export const BYTES_PER_ELEMENT = 4;

export type TypedArray = Float32Array | Float64Array | Int32Array;

/** A zero-filled JavaScript array that holds `length` elements of `dtype`. */
export function typedArray(dtype: DType, length: number): Float32Array | Int32Array {
  return dtype === "f32" ? new Float32Array(length) : new Int32Array(length);
}
