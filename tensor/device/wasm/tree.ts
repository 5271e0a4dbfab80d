/** Expression trees of WebAssembly instructions: nodes, constants and makers of operators. */

export type ValueType = "i32" | "i64" | "f32" | "v128";

/** One instruction with its operands. A tree is data: mention it twice, it is evaluated twice. */
export interface Value<T extends ValueType | "void" = ValueType | "void"> {
  readonly type: T;
  /** Mnemonic of the text format, such as "f32x4.add". */
  readonly name: string;
  readonly code: readonly number[];
  readonly operands: readonly Value[];
  /** Bytes after the opcode, and the same as text. */
  readonly immediate: readonly number[];
  readonly text: string;
}

/** Where a scalar (or, in f32x4 and i32x4, a vector) is expected, a JS number is a constant. */
export type Operand<T extends ValueType> = Value<T> | number;

const NONE: readonly never[] = [];

/** A node of the tree; the building block of everything below. */
export function node<T extends ValueType | "void">(
  type: T,
  name: string,
  code: readonly number[],
  operands: readonly Value[] = NONE,
  immediate: readonly number[] = NONE,
  text = "",
): Value<T> {
  return { type, name, code, operands, immediate, text };
}

/** Arrays of one byte, shared: most numbers in a module are small, and start-up time counts. */
const ONE_BYTE: readonly (readonly number[])[] = Array.from({ length: 256 }, (_, byte) => [byte]);

/** LEB128 bytes of an unsigned integer below 2^32. */
export function unsigned(value: number): readonly number[] {
  if (value >= 0 && value < 0x80) return ONE_BYTE[value]!;
  const bytes: number[] = [];
  let rest = value >>> 0;
  for (; rest >= 0x80; rest >>>= 7) bytes.push((rest & 0x7f) | 0x80);
  bytes.push(rest);
  return bytes;
}

/** LEB128 bytes of a signed integer of at most 53 bits. */
function signed(value: number): readonly number[] {
  if (value >= -64 && value < 64) return ONE_BYTE[value & 0x7f]!;
  const bytes: number[] = [];
  for (let rest = value; ; ) {
    const low = ((rest % 128) + 128) % 128;
    rest = Math.floor(rest / 128);
    const done = (rest === 0 && low < 64) || (rest === -1 && low >= 64);
    bytes.push(done ? low : low | 0x80);
    if (done) return bytes;
  }
}

const scratch4 = new DataView(new ArrayBuffer(4));
function lane4(value: number, lane: "f32" | "i32"): number[] {
  if (lane === "f32") scratch4.setFloat32(0, value, true);
  else scratch4.setInt32(0, value, true);
  return [0, 1, 2, 3].map((byte) => scratch4.getUint8(byte));
}

/** A float as the text format writes it. */
const floatText = (value: number): string =>
  Number.isNaN(value)
    ? "nan"
    : Number.isFinite(value)
      ? Object.is(value, -0)
        ? "-0"
        : `${value}`
      : value > 0
        ? "inf"
        : "-inf";

/** Turns a JS number into the constant of a type; passes trees on, after checking their type. */
export function operand<T extends ValueType>(type: T, value: Operand<T>): Value<T> {
  if (typeof value !== "number") {
    if (value.type === type) return value;
    throw new TypeError(`${value.name} gives ${value.type}, but ${type} is expected here`);
  }
  return constants[type](value) as Value<T>;
}

export const constants: Record<ValueType, (value: number) => Value> = {
  i32: (value) => node("i32", "i32.const", [0x41], NONE, signed(value | 0), `${value | 0}`),
  i64: (value) => node("i64", "i64.const", [0x42], NONE, signed(value), `${value}`),
  f32: (value) => node("f32", "f32.const", [0x43], NONE, lane4(value, "f32"), floatText(value)),
  v128: (value) => {
    throw new TypeError(`${value}: write f32x4.const(${value}) or i32x4.const(${value})`);
  },
};

const vectorConst =
  (lane: "f32" | "i32") =>
  (...lanes: readonly [number] | readonly [number, number, number, number]): Value<"v128"> => {
    const four = lanes.length === 1 ? [lanes[0], lanes[0], lanes[0], lanes[0]] : lanes;
    const text = four.map((x) => (lane === "f32" ? floatText(x) : `${x | 0}`)).join(" ");
    const bytes = four.flatMap((x) => lane4(x, lane));
    return node("v128", "v128.const", [0xfd, 0x0c], NONE, bytes, `${lane}x4 ${text}`);
  };
/** One f64 for both lanes. */
export function f64x2Const(value: number): Value<"v128"> {
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, value, true);
  const one = Array.from({ length: 8 }, (_, byte) => view.getUint8(byte));
  const text = `f64x2 ${floatText(value)} ${floatText(value)}`;
  return node("v128", "v128.const", [0xfd, 0x0c], NONE, [...one, ...one], text);
}
export const f32x4Const = vectorConst("f32");
export const i32x4Const = vectorConst("i32");

type Unary<A extends ValueType, R extends ValueType> = (x: Operand<A>) => Value<R>;
type Binary<A extends ValueType, R extends ValueType> = (a: Operand<A>, b: Operand<A>) => Value<R>;

export function unary<A extends ValueType, R extends ValueType>(
  name: string,
  code: number | readonly number[],
  from: A,
  to: R,
): Unary<A, R> {
  const bytes = typeof code === "number" ? ONE_BYTE[code]! : code;
  return (x) => node(to, name, bytes, [operand(from, x)]);
}

export function binary<A extends ValueType, R extends ValueType>(
  name: string,
  code: number,
  from: A,
  to: R,
): Binary<A, R> {
  const bytes = [code];
  return (a, b) => node(to, name, bytes, [operand(from, a), operand(from, b)]);
}

export const simd = (code: number) => [0xfd, ...unsigned(code)];
type Lanes = (value: Operand<"v128">) => Value<"v128">;
const lanesOf = (splat: (x: number) => Value<"v128">): Lanes => {
  return (value) => operand("v128", typeof value === "number" ? splat(value) : value);
};
export const asF32x4 = lanesOf(f32x4Const);
export const asI32x4 = lanesOf(i32x4Const);
export const asF64x2 = lanesOf(f64x2Const);

export function vector1(lanes: Lanes, name: string, code: number): Unary<"v128", "v128"> {
  const bytes = simd(code);
  return (x) => node("v128", name, bytes, [lanes(x)]);
}
export function vector2(lanes: Lanes, name: string, code: number): Binary<"v128", "v128"> {
  const bytes = simd(code);
  return (a, b) => node("v128", name, bytes, [lanes(a), lanes(b)]);
}
export function vector3(lanes: Lanes, name: string, code: number) {
  const bytes = simd(code);
  return (a: Operand<"v128">, b: Operand<"v128">, c: Operand<"v128">): Value<"v128"> =>
    node("v128", name, bytes, [lanes(a), lanes(b), lanes(c)]);
}
export function shift(name: string, code: number) {
  const bytes = simd(code);
  return (x: Value<"v128">, bits: Operand<"i32">): Value<"v128"> =>
    node("v128", name, bytes, [operand("v128", x), operand("i32", bits)]);
}
export function extract<T extends ValueType>(type: T, name: string, code: number) {
  const bytes = simd(code);
  return (x: Value<"v128">, lane: number): Value<T> =>
    node(type, name, bytes, [operand("v128", x)], [lane], `${lane}`);
}
export function replace<T extends ValueType>(type: T, name: string, code: number) {
  const bytes = simd(code);
  return (x: Value<"v128">, lane: number, value: Operand<T>): Value<"v128"> =>
    node("v128", name, bytes, [operand("v128", x), operand(type, value)], [lane], `${lane}`);
}

/** Alignment (as log2) and offset of a memory access: the natural alignment, a hint only. */
export const memarg = (align: number, offset: number) => [align, ...unsigned(offset)];
export const offsetText = (offset: number) => (offset === 0 ? "" : `offset=${offset}`);

export function load<T extends ValueType>(
  type: T,
  name: string,
  code: readonly number[],
  align: number,
) {
  return (address: Operand<"i32">, offset = 0): Value<T> =>
    node(type, name, code, [operand("i32", address)], memarg(align, offset), offsetText(offset));
}
