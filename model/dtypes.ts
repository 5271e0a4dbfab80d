/** Number formats of safetensors files, and how each becomes f32, f64 or i32. */

import { halfToFloat } from "../tensor/mod.ts";
import { UserError } from "./errors.ts";

export type Values = Float32Array | Float64Array | Int32Array;

interface Format {
  readonly bytes: number;
  /** Packed little-endian bytes -> values; `where` names file and tensor in errors. */
  readonly decode: (bytes: ArrayBuffer, where: string) => Values;
}

/** Formats that can be read. Half-precision numbers become f32 without loss; i64 must fit i32. */
export const formats: ReadonlyMap<string, Format> = new Map<string, Format>([
  ["F64", { bytes: 8, decode: (bytes) => new Float64Array(bytes) }],
  ["F32", { bytes: 4, decode: (bytes) => new Float32Array(bytes) }],
  ["F16", { bytes: 2, decode: (bytes) => Float32Array.from(new Uint16Array(bytes), halfToFloat) }],
  ["BF16", { bytes: 2, decode: brainToFloat }],
  ["I64", { bytes: 8, decode: narrow }],
  ["I32", { bytes: 4, decode: (bytes) => new Int32Array(bytes) }],
  ["I8", { bytes: 1, decode: (bytes) => Int32Array.from(new Int8Array(bytes)) }],
  ["U8", { bytes: 1, decode: (bytes) => Int32Array.from(new Uint8Array(bytes)) }],
  ["BOOL", { bytes: 1, decode: truthValues }],
]);

/** bfloat16 is the upper half of an f32. */
function brainToFloat(bytes: ArrayBuffer): Float32Array {
  const upper = new Uint16Array(bytes);
  return new Float32Array(Uint32Array.from(upper, (bits) => bits << 16).buffer);
}

function narrow(bytes: ArrayBuffer, where: string): Int32Array {
  return Int32Array.from(new BigInt64Array(bytes), (value) => {
    if (value === BigInt.asIntN(32, value)) return Number(value);
    throw new UserError(`${where}: the number ${value} doesn't fit 32 bits`);
  });
}

function truthValues(bytes: ArrayBuffer, where: string): Int32Array {
  return Int32Array.from(new Uint8Array(bytes), (value) => {
    if (value <= 1) return value;
    throw new UserError(`${where}: a BOOL byte is ${value}, expected 0 or 1`);
  });
}
