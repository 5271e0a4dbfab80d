/** Number formats of checkpoint files: how each becomes f32, f64 or i32, and f32 becomes each. */

import { halfBits, halfToFloat } from "../tensor/mod.ts";
import { UserError } from "./errors.ts";

export type Values = Float32Array | Float64Array | Int32Array;

export interface Format {
  /** Values that are stored together, and the bytes that they take. */
  readonly block: number;
  readonly bytes: number;
  /** What the values are in memory. */
  readonly kind: "f32" | "f64" | "i32";
  /**
   * Whole blocks of packed little-endian bytes, which start at a multiple of 8 of their buffer ->
   * values, from the start of `into`. `where` names file and tensor in errors.
   */
  readonly decode: (bytes: Uint8Array<ArrayBuffer>, into: Values, where: string) => void;
}

/** An array for `count` values of the format. */
export function valuesFor({ kind }: Format, count: number): Values {
  if (kind === "f64") return new Float64Array(count);
  return kind === "f32" ? new Float32Array(count) : new Int32Array(count);
}

type View = new (buffer: ArrayBuffer, offset: number, length: number) => Values | HalfView;
type HalfView = Uint16Array | Uint8Array | Int8Array;

/** A format whose numbers JavaScript's arrays hold, looked up or widened by `from` where given. */
const plain = (
  kind: Format["kind"],
  ArrayType: View & { readonly BYTES_PER_ELEMENT: number },
): Format => ({
  ...{ block: 1, bytes: ArrayType.BYTES_PER_ELEMENT, kind },
  decode: ({ buffer, byteOffset, length }, into) =>
    into.set(new ArrayType(buffer, byteOffset, length / ArrayType.BYTES_PER_ELEMENT)),
});

/** Formats that can be read. Half-precision numbers become f32 without loss; i64 must fit i32. */
export const formats: ReadonlyMap<string, Format> = new Map<string, Format>([
  ["F64", plain("f64", Float64Array)],
  ["F32", plain("f32", Float32Array)],
  ["F16", { block: 1, bytes: 2, kind: "f32", decode: halves }],
  ["BF16", { block: 1, bytes: 2, kind: "f32", decode: brainFloats }],
  ["I64", { block: 1, bytes: 8, kind: "i32", decode: narrow }],
  ["I32", plain("i32", Int32Array)],
  ["I8", plain("i32", Int8Array)],
  ["U8", plain("i32", Uint8Array)],
  ["BOOL", { block: 1, bytes: 1, kind: "i32", decode: truthValues }],
]);

let halfTable: Float32Array | undefined;

/** The value of each of the 65,536 halves. */
function everyHalf(): Float32Array {
  halfTable ??= Float32Array.from({ length: 1 << 16 }, (_, bits) => halfToFloat(bits));
  return halfTable;
}

const halvesOf = ({ buffer, byteOffset, length }: Uint8Array<ArrayBuffer>): Uint16Array =>
  new Uint16Array(buffer, byteOffset, length / 2);

function halves(bytes: Uint8Array<ArrayBuffer>, into: Values): void {
  const table = everyHalf();
  const stored = halvesOf(bytes);
  for (let i = 0; i < stored.length; i++) into[i] = table[stored[i]!]!;
}

/** bfloat16 is the upper half of an f32. */
function brainFloats(bytes: Uint8Array<ArrayBuffer>, into: Values): void {
  const stored = halvesOf(bytes);
  const bits = new Uint32Array(into.buffer, into.byteOffset, into.length);
  for (let i = 0; i < stored.length; i++) bits[i] = stored[i]! << 16;
}

function narrow({ buffer, byteOffset, length }: Uint8Array<ArrayBuffer>, into: Values, at: string) {
  new BigInt64Array(buffer, byteOffset, length / 8).forEach((value, i) => {
    if (value !== BigInt.asIntN(32, value)) {
      throw new UserError(`${at}: the number ${value} doesn't fit 32 bits`);
    }
    into[i] = Number(value);
  });
}

function truthValues(bytes: Uint8Array<ArrayBuffer>, into: Values, where: string): void {
  const bad = bytes.find((value) => value > 1);
  if (bad !== undefined) throw new UserError(`${where}: a BOOL byte is ${bad}, expected 0 or 1`);
  into.set(bytes);
}

/**
 * llama.cpp's Q8_0: 32 whole numbers of 8 bits behind an f16 that multiplies them.
 * https://github.com/ggml-org/llama.cpp (block_q8_0)
 */
export const q8_0: Format = {
  ...{ block: 32, bytes: 34, kind: "f32" },
  decode: (bytes, into) => {
    const table = everyHalf();
    const whole = new Int8Array(bytes.buffer, bytes.byteOffset, bytes.length);
    for (let block = 0, at = 0; block < bytes.length; block += 34) {
      const scale = table[bytes[block]! | (bytes[block + 1]! << 8)]!;
      for (let i = 0; i < 32; i++) into[at++] = scale * whole[block + 2 + i]!;
    }
  },
};

/** How weights can be stored. */
export const weightTypes = ["f32", "f16", "bf16"] as const;
export type WeightType = (typeof weightTypes)[number];

export const widthOf = (dtype: WeightType): number => (dtype === "f32" ? 4 : 2);

/**
 * Values as packed bytes, rounded to nearest, ties to even. Infinities and NaN are kept; a finite
 * number that would become infinite gives a UserError that begins with `where`.
 */
export function encodeWeights(
  values: Float32Array,
  dtype: WeightType,
  where: string,
): Uint8Array<ArrayBuffer> {
  if (dtype === "f32") {
    const own = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    return own.buffer instanceof ArrayBuffer ? (own as Uint8Array<ArrayBuffer>) : own.slice();
  }
  const stored = new Uint16Array(values.length);
  const encode = dtype === "f16" ? halfBits : brainBits;
  const infinity = dtype === "f16" ? 0x7c00 : 0x7f80;
  for (let i = 0; i < values.length; i++) {
    const bits = encode(values[i]!);
    stored[i] = bits;
    if ((bits & 0x7fff) === infinity && Number.isFinite(values[i]!)) {
      const largest = dtype === "f16" ? "65504" : "3.39e38";
      throw new UserError(
        `${where}: its value ${values[i]} (at ${i}) is too large for ${dtype}, ` +
          `which ends at ${largest}`,
      );
    }
  }
  return new Uint8Array(stored.buffer);
}

const float = new Float32Array(1);
const floatBits = new Uint32Array(float.buffer);

/** The 16 bits of the bfloat16 next to x, ties to even; NaN is 0x7fc0. */
function brainBits(x: number): number {
  if (Number.isNaN(x)) return 0x7fc0;
  float[0] = x;
  const bits = floatBits[0]!;
  // Half a step less one, and one more where the number below is odd: a tie goes to the even one.
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}
