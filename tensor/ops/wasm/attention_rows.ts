/** What the attention kernels share: their parameters, and where the rows of a pair lie. */

import {
  type FunctionBuilder,
  i32,
  type Local,
  type ModuleBuilder,
  type Operand,
  select,
  type Value,
} from "../../device/wasm/assembler.ts";
import { i32s } from "../../device/wasm/launch.ts";
import {
  emitCombine,
  emitDots,
  emitScaled,
  emitSoftmaxVisible,
  emitSoftmaxVjp,
} from "./attention_tiles.ts";

export type I32 = Local<"i32">;
export type Tiles = ReturnType<typeof emitTiles>;

// A pair is one row of the batch and one key-value head; its rows are its queries, all heads of the
// group for the first position, then for the next one, so that rows see more and more keys.

/** Rows that share their passes over keys and values. */
export const TILE = 4;
/** Bytes of a tile's notes in scratch: the visible keys of each row, and 1 / Σ of its softmax. */
export const NOTES = 64;

/** The functions that the kernels call. */
export const emitTiles = (m: ModuleBuilder) => ({
  dots: emitDots(m),
  combine: emitCombine(m),
  softmax: emitSoftmaxVisible(m),
  scaled: emitScaled(m),
  softmaxVjp: emitSoftmaxVjp(m),
});

/** Sizes and byte strides of the operands; row strides are named after the axis they step along. */
export const SHAPE = i32s("heads", "groups", "t", "s", "bytes");
export const STRIDES = {
  ...i32s("qBatch", "qHead", "qRow", "kBatch", "kHead", "kRow", "vBatch", "vHead", "vRow"),
  ...i32s("positionBatch", "positionStep"),
};
export const OPERANDS = i32s("q", "k", "v", "positions");
export const RANGE = i32s("begin", "end");

export type Common = Readonly<
  Record<keyof typeof SHAPE | keyof typeof STRIDES | keyof typeof OPERANDS, I32>
>;

export const roundUp = (n: Operand<"i32">, step: number) =>
  i32.and(i32.add(n, step - 1), -step) as Value<"i32">;
export const minimum = (f: FunctionBuilder, a: Value<"i32">, b: Value<"i32">): I32 => {
  const first = f.local("i32", a);
  const second = f.local("i32", b);
  return f.local("i32", select(i32.ltU(first, second), first, second));
};

/** Where the heads of pair number `pair` begin, and how its rows are counted. */
export function locatePair(f: FunctionBuilder, pair: Value<"i32">, p: Common) {
  const batch = f.local("i32", i32.divU(pair, p.groups), "batch");
  const group = f.local("i32", i32.sub(pair, i32.mul(batch, p.groups)), "group");
  const per = f.local("i32", i32.divU(p.heads, p.groups), "per");
  const base = (at: I32, inBatch: I32, inHead: I32) =>
    i32.add(at, i32.add(i32.mul(batch, inBatch), i32.mul(group, inHead)));
  return {
    batch,
    per,
    rows: f.local("i32", i32.mul(p.t, per), "rows"),
    firstHead: f.local("i32", i32.mul(group, per), "firstHead"),
    keys: f.local("i32", base(p.k, p.kBatch, p.kHead), "keys"),
    values: f.local("i32", base(p.v, p.vBatch, p.vHead), "values"),
    positions: f.local("i32", i32.add(p.positions, i32.mul(batch, p.positionBatch)), "seen"),
  };
}
export type Pair = ReturnType<typeof locatePair>;

/** Position and head of a row of the pair. */
export function locateRow(f: FunctionBuilder, row: Value<"i32">, pair: Pair) {
  const number = f.local("i32", row, "number");
  const time = f.local("i32", i32.divU(number, pair.per), "time");
  const head = i32.add(pair.firstHead, i32.sub(number, i32.mul(time, pair.per)));
  return { time, head: f.local("i32", head, "head") };
}
type Row = ReturnType<typeof locateRow>;

/** Address of a row in a packed [b h t d] array. */
export const packedRow = (
  base: I32,
  p: Common,
  { batch }: Pair,
  { head, time }: Row,
): Value<"i32"> => {
  const plane = i32.add(i32.mul(batch, p.heads), head);
  return i32.add(base, i32.mul(i32.add(i32.mul(plane, p.t), time), p.bytes));
};

/** Keys that a row may see: the position at that address + 1, within [0, s]. */
export function visibleKeys(f: FunctionBuilder, position: Value<"i32">, s: I32): I32 {
  const last = f.local("i32", i32.load(position), "last");
  const count = i32.mul(i32.add(last, 1), i32.geS(last, 0));
  return f.local("i32", select(i32.geS(last, s), s, count), "visible");
}

/** Copies row `row` of the pair's queries, scaled, to `to`; notes its visible keys at `note`. */
export function takeQuery(
  f: FunctionBuilder,
  { scaled }: Tiles,
  p: Common & { scale: Local<"f32"> },
  pair: Pair,
  row: Row,
  to: Value<"i32">,
): I32 {
  const inBatch = i32.add(i32.mul(pair.batch, p.qBatch), i32.mul(row.head, p.qHead));
  const from = i32.add(p.q, i32.add(inBatch, i32.mul(row.time, p.qRow)));
  f.call(scaled, from, to, p.bytes, p.scale);
  return visibleKeys(f, i32.add(pair.positions, i32.mul(row.time, p.positionStep)), p.s);
}

/** Bytes between the rows of scores: whole groups of dots. */
export const scoreStep = (f: FunctionBuilder, s: I32): I32 =>
  f.local("i32", i32.shl(roundUp(s, 8), 2), "scoreStep");
