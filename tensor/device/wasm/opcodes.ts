/** WebAssembly instructions by name: i32.add(a, 1), f32x4.mul(x, y), v128.load(p). */
import type { Operand, Value, ValueType } from "./tree.ts";
import {
  asF32x4,
  asF64x2,
  asI32x4,
  binary,
  constants,
  extract,
  f32x4Const,
  f64x2Const,
  i32x4Const,
  load,
  memarg,
  node,
  offsetText,
  operand,
  replace,
  shift,
  simd,
  unary,
  vector1,
  vector2,
  vector3,
} from "./tree.ts";

/** 32-bit integers; comparisons give 0 or 1. Addresses are unsigned: compare them with ltU. */
export const i32 = {
  const: (value: number) => constants.i32(value) as Value<"i32">,
  load: load("i32", "i32.load", [0x28], 2),
  load8U: load("i32", "i32.load8_u", [0x2d], 0),
  load16U: load("i32", "i32.load16_u", [0x2f], 1),
  eqz: unary("i32.eqz", 0x45, "i32", "i32"),
  eq: binary("i32.eq", 0x46, "i32", "i32"),
  ne: binary("i32.ne", 0x47, "i32", "i32"),
  ltS: binary("i32.lt_s", 0x48, "i32", "i32"),
  ltU: binary("i32.lt_u", 0x49, "i32", "i32"),
  gtS: binary("i32.gt_s", 0x4a, "i32", "i32"),
  gtU: binary("i32.gt_u", 0x4b, "i32", "i32"),
  leS: binary("i32.le_s", 0x4c, "i32", "i32"),
  leU: binary("i32.le_u", 0x4d, "i32", "i32"),
  geS: binary("i32.ge_s", 0x4e, "i32", "i32"),
  geU: binary("i32.ge_u", 0x4f, "i32", "i32"),
  clz: unary("i32.clz", 0x67, "i32", "i32"),
  ctz: unary("i32.ctz", 0x68, "i32", "i32"),
  popcnt: unary("i32.popcnt", 0x69, "i32", "i32"),
  add: binary("i32.add", 0x6a, "i32", "i32"),
  sub: binary("i32.sub", 0x6b, "i32", "i32"),
  mul: binary("i32.mul", 0x6c, "i32", "i32"),
  divS: binary("i32.div_s", 0x6d, "i32", "i32"),
  divU: binary("i32.div_u", 0x6e, "i32", "i32"),
  remS: binary("i32.rem_s", 0x6f, "i32", "i32"),
  remU: binary("i32.rem_u", 0x70, "i32", "i32"),
  and: binary("i32.and", 0x71, "i32", "i32"),
  or: binary("i32.or", 0x72, "i32", "i32"),
  xor: binary("i32.xor", 0x73, "i32", "i32"),
  shl: binary("i32.shl", 0x74, "i32", "i32"),
  shrS: binary("i32.shr_s", 0x75, "i32", "i32"),
  shrU: binary("i32.shr_u", 0x76, "i32", "i32"),
  rotl: binary("i32.rotl", 0x77, "i32", "i32"),
  rotr: binary("i32.rotr", 0x78, "i32", "i32"),
  wrap: unary("i32.wrap_i64", 0xa7, "i64", "i32"),
  /** Towards zero; NaN gives 0 and overflow the nearest integer. */
  truncSatF32S: unary("i32.trunc_sat_f32_s", [0xfc, 0], "f32", "i32"),
  truncSatF32U: unary("i32.trunc_sat_f32_u", [0xfc, 1], "f32", "i32"),
  reinterpret: unary("i32.reinterpret_f32", 0xbc, "f32", "i32"),
};

/** 64-bit integers: for 32 x 32 -> 64 bit products. */
export const i64 = {
  const: (value: number) => constants.i64(value) as Value<"i64">,
  load: load("i64", "i64.load", [0x29], 3),
  add: binary("i64.add", 0x7c, "i64", "i64"),
  sub: binary("i64.sub", 0x7d, "i64", "i64"),
  mul: binary("i64.mul", 0x7e, "i64", "i64"),
  and: binary("i64.and", 0x83, "i64", "i64"),
  or: binary("i64.or", 0x84, "i64", "i64"),
  xor: binary("i64.xor", 0x85, "i64", "i64"),
  shl: binary("i64.shl", 0x86, "i64", "i64"),
  shrU: binary("i64.shr_u", 0x88, "i64", "i64"),
  extendU: unary("i64.extend_i32_u", 0xad, "i32", "i64"),
  extendS: unary("i64.extend_i32_s", 0xac, "i32", "i64"),
};

/** 32-bit floats. min and max give NaN when either operand is NaN; nearest rounds ties to even. */
export const f32 = {
  const: (value: number) => constants.f32(value) as Value<"f32">,
  load: load("f32", "f32.load", [0x2a], 2),
  eq: binary("f32.eq", 0x5b, "f32", "i32"),
  ne: binary("f32.ne", 0x5c, "f32", "i32"),
  lt: binary("f32.lt", 0x5d, "f32", "i32"),
  gt: binary("f32.gt", 0x5e, "f32", "i32"),
  le: binary("f32.le", 0x5f, "f32", "i32"),
  ge: binary("f32.ge", 0x60, "f32", "i32"),
  abs: unary("f32.abs", 0x8b, "f32", "f32"),
  neg: unary("f32.neg", 0x8c, "f32", "f32"),
  ceil: unary("f32.ceil", 0x8d, "f32", "f32"),
  floor: unary("f32.floor", 0x8e, "f32", "f32"),
  trunc: unary("f32.trunc", 0x8f, "f32", "f32"),
  nearest: unary("f32.nearest", 0x90, "f32", "f32"),
  sqrt: unary("f32.sqrt", 0x91, "f32", "f32"),
  add: binary("f32.add", 0x92, "f32", "f32"),
  sub: binary("f32.sub", 0x93, "f32", "f32"),
  mul: binary("f32.mul", 0x94, "f32", "f32"),
  div: binary("f32.div", 0x95, "f32", "f32"),
  min: binary("f32.min", 0x96, "f32", "f32"),
  max: binary("f32.max", 0x97, "f32", "f32"),
  copysign: binary("f32.copysign", 0x98, "f32", "f32"),
  convertI32S: unary("f32.convert_i32_s", 0xb2, "i32", "f32"),
  convertI32U: unary("f32.convert_i32_u", 0xb3, "i32", "f32"),
  reinterpret: unary("f32.reinterpret_i32", 0xbe, "i32", "f32"),
};

/** Four f32 lanes; comparisons give lanes of all ones or all zeros. */
export const f32x4 = {
  /** One value for all lanes, or four. The function keeps constants in locals, out of its loops. */
  const: f32x4Const,
  splat: unary("f32x4.splat", simd(0x13), "f32", "v128"),
  extractLane: extract("f32", "f32x4.extract_lane", 0x1f),
  replaceLane: replace("f32", "f32x4.replace_lane", 0x20),
  eq: vector2(asF32x4, "f32x4.eq", 0x41),
  ne: vector2(asF32x4, "f32x4.ne", 0x42),
  lt: vector2(asF32x4, "f32x4.lt", 0x43),
  gt: vector2(asF32x4, "f32x4.gt", 0x44),
  le: vector2(asF32x4, "f32x4.le", 0x45),
  ge: vector2(asF32x4, "f32x4.ge", 0x46),
  ceil: vector1(asF32x4, "f32x4.ceil", 0x67),
  floor: vector1(asF32x4, "f32x4.floor", 0x68),
  trunc: vector1(asF32x4, "f32x4.trunc", 0x69),
  nearest: vector1(asF32x4, "f32x4.nearest", 0x6a),
  abs: vector1(asF32x4, "f32x4.abs", 0xe0),
  neg: vector1(asF32x4, "f32x4.neg", 0xe1),
  sqrt: vector1(asF32x4, "f32x4.sqrt", 0xe3),
  add: vector2(asF32x4, "f32x4.add", 0xe4),
  sub: vector2(asF32x4, "f32x4.sub", 0xe5),
  mul: vector2(asF32x4, "f32x4.mul", 0xe6),
  div: vector2(asF32x4, "f32x4.div", 0xe7),
  min: vector2(asF32x4, "f32x4.min", 0xe8),
  max: vector2(asF32x4, "f32x4.max", 0xe9),
  /** b < a ? b : a, one machine instruction (min takes 6 to 8). */
  pmin: vector2(asF32x4, "f32x4.pmin", 0xea),
  /** a < b ? b : a, one machine instruction (max takes 6 to 8). */
  pmax: vector2(asF32x4, "f32x4.pmax", 0xeb),
  convertI32S: vector1(asI32x4, "f32x4.convert_i32x4_s", 0xfa),
  convertI32U: vector1(asI32x4, "f32x4.convert_i32x4_u", 0xfb),
  /** a b + c, fused or not as the engine likes: needs relaxed SIMD, and bits differ by engine. */
  relaxedMadd: vector3(asF32x4, "f32x4.relaxed_madd", 0x105),
};

/** Four i32 lanes. */
export const i32x4 = {
  const: i32x4Const,
  splat: unary("i32x4.splat", simd(0x11), "i32", "v128"),
  extractLane: extract("i32", "i32x4.extract_lane", 0x1b),
  replaceLane: replace("i32", "i32x4.replace_lane", 0x1c),
  eq: vector2(asI32x4, "i32x4.eq", 0x37),
  ne: vector2(asI32x4, "i32x4.ne", 0x38),
  ltS: vector2(asI32x4, "i32x4.lt_s", 0x39),
  ltU: vector2(asI32x4, "i32x4.lt_u", 0x3a),
  gtS: vector2(asI32x4, "i32x4.gt_s", 0x3b),
  gtU: vector2(asI32x4, "i32x4.gt_u", 0x3c),
  leS: vector2(asI32x4, "i32x4.le_s", 0x3d),
  geS: vector2(asI32x4, "i32x4.ge_s", 0x3f),
  abs: vector1(asI32x4, "i32x4.abs", 0xa0),
  neg: vector1(asI32x4, "i32x4.neg", 0xa1),
  shl: shift("i32x4.shl", 0xab),
  shrS: shift("i32x4.shr_s", 0xac),
  shrU: shift("i32x4.shr_u", 0xad),
  add: vector2(asI32x4, "i32x4.add", 0xae),
  sub: vector2(asI32x4, "i32x4.sub", 0xb1),
  mul: vector2(asI32x4, "i32x4.mul", 0xb5),
  minS: vector2(asI32x4, "i32x4.min_s", 0xb6),
  maxS: vector2(asI32x4, "i32x4.max_s", 0xb8),
  /** The first or last four of eight u16 lanes. */
  extendLowI16x8U: vector1(asI32x4, "i32x4.extend_low_i16x8_u", 0xa9),
  extendHighI16x8U: vector1(asI32x4, "i32x4.extend_high_i16x8_u", 0xaa),
  /** One bit per lane: its sign. */
  bitmask: unary("i32x4.bitmask", simd(0xa4), "v128", "i32"),
  allTrue: unary("i32x4.all_true", simd(0xa3), "v128", "i32"),
  /** Towards zero, saturating; a long sequence of machine instructions. */
  truncSatF32S: vector1(asF32x4, "i32x4.trunc_sat_f32x4_s", 0xf8),
  truncSatF32U: vector1(asF32x4, "i32x4.trunc_sat_f32x4_u", 0xf9),
};

/** Eight 16-bit lanes. */
export const i16x8 = {
  /** Four lanes of a, then of b, as u16: they must lie in [0, 65,535]. */
  narrowI32x4U: vector2(asI32x4, "i16x8.narrow_i32x4_u", 0x86),
};

/** Two i64 lanes: 32 x 32 -> 64 bit products of the low or high pair of lanes. */
export const i64x2 = {
  extmulLowU: vector2(asI32x4, "i64x2.extmul_low_i32x4_u", 0xde),
  extmulHighU: vector2(asI32x4, "i64x2.extmul_high_i32x4_u", 0xdf),
};

/** Two f64 lanes: for sums that f32 would round. */
export const f64x2 = {
  const: f64x2Const,
  gt: vector2(asF64x2, "f64x2.gt", 0x4a),
  add: vector2(asF64x2, "f64x2.add", 0xf0),
  mul: vector2(asF64x2, "f64x2.mul", 0xf2),
  /** Of the first two f32, or u32, lanes. */
  promoteLowF32x4: vector1(asF32x4, "f64x2.promote_low_f32x4", 0x5f),
  convertLowI32x4U: vector1(asI32x4, "f64x2.convert_low_i32x4_u", 0xff),
};

const load32Splat = load("v128", "v128.load32_splat", simd(0x09), 2);

/** 128-bit vectors without a lane type. */
export const v128 = {
  load: load("v128", "v128.load", simd(0x00), 4),
  /** The static offset is added by hand: JSC turns one into a slow load + move + shuffle. */
  load32Splat: (address: Operand<"i32">, offset = 0): Value<"v128"> =>
    load32Splat(offset === 0 ? address : i32.add(address, offset)),
  load64Splat: load("v128", "v128.load64_splat", simd(0x0a), 3),
  load32Zero: load("v128", "v128.load32_zero", simd(0x5c), 2),
  load64Zero: load("v128", "v128.load64_zero", simd(0x5d), 3),
  /** x with 64 bits from memory as its low (lane 0) or high half (lane 1). */
  load64Lane: (address: Operand<"i32">, x: Value<"v128">, lane: 0 | 1, offset = 0) => {
    const operands = [operand("i32", address), x];
    const text = `${offsetText(offset)} ${lane}`.trim();
    return node(
      "v128",
      "v128.load64_lane",
      simd(0x57),
      operands,
      [...memarg(3, offset), lane],
      text,
    );
  },
  not: vector1(asI32x4, "v128.not", 0x4d),
  and: vector2(asI32x4, "v128.and", 0x4e),
  /** a & ~b */
  andnot: vector2(asI32x4, "v128.andnot", 0x4f),
  or: vector2(asI32x4, "v128.or", 0x50),
  xor: vector2(asI32x4, "v128.xor", 0x51),
  /** Bits of a where the mask is 1, of b where it is 0. */
  bitselect: (a: Operand<"v128">, b: Operand<"v128">, mask: Value<"v128">): Value<"v128"> =>
    node("v128", "v128.bitselect", [0xfd, 0x52], [asF32x4(a), asF32x4(b), operand("v128", mask)]),
  anyTrue: unary("v128.any_true", simd(0x53), "v128", "i32"),
  /** Four 32-bit lanes picked from a (0..3) and b (4..7). */
  shuffle: (a: Value<"v128">, b: Value<"v128">, ...lanes: [number, number, number, number]) => {
    const bytes = lanes.flatMap((lane) => [4 * lane, 4 * lane + 1, 4 * lane + 2, 4 * lane + 3]);
    return node("v128", "i8x16.shuffle", [0xfd, 0x0d], [a, b], bytes, bytes.join(" "));
  },
};

/** condition ? a : b, both evaluated. */
export function select<T extends ValueType>(
  condition: Value<"i32">,
  a: Value<T>,
  b: Operand<T>,
): Value<T> {
  return node(a.type, "select", [0x1b], [a, operand(a.type, b), condition]);
}

/** The smaller of two unsigned integers. */
export const minimum = (a: Value<"i32">, b: Operand<"i32">): Value<"i32"> =>
  select(i32.ltU(a, b), a, b);

/** Address of the calling thread's private scratch memory. */
export const scratch: Value<"i32"> = node("i32", "global.get", [0x23], [], [0], "$scratch");
