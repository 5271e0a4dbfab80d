/** The fused attention kernels, forward and backward: scores live in a thread's scratch memory. */

import {
  type Callable,
  type FunctionBuilder,
  f32,
  f32x4,
  i32,
  type Local,
  type ModuleBuilder,
  type Operand,
  scratch,
  select,
  type Value,
  v128,
} from "../../device/wasm/assembler.ts";
import { i32s } from "../../device/wasm/launch.ts";
import { emitCombine, emitDots, emitSoftmaxVisible, sumLanes } from "./attention_tiles.ts";

type I32 = Local<"i32">;
type Tiles = ReturnType<typeof emitTiles>;

// A pair is one row of the batch and one key-value head; its rows are its queries, all heads of the
// group for the first position, then for the next one, so that rows see more and more keys.

/** Rows that share their passes over keys and values. */
export const TILE = 4;
/** Bytes of a tile's notes in scratch: the visible keys of each row, and 1 / Σ of its softmax. */
export const NOTES = 64;

const emitTiles = (m: ModuleBuilder) => ({
  dots: emitDots(m),
  combine: emitCombine(m),
  softmax: emitSoftmaxVisible(m),
  scaled: emitScaled(m),
  softmaxVjp: emitSoftmaxVjp(m),
});

/** Sizes and byte strides of the operands; row strides are named after the axis they step along. */
const SHAPE = i32s("heads", "groups", "t", "s", "bytes");
const STRIDES = {
  ...i32s("qBatch", "qHead", "qRow", "kBatch", "kHead", "kRow", "vBatch", "vHead", "vRow"),
  ...i32s("positionBatch", "positionStep"),
};
const OPERANDS = i32s("q", "k", "v", "positions");
const RANGE = i32s("begin", "end");

type Common = Readonly<
  Record<keyof typeof SHAPE | keyof typeof STRIDES | keyof typeof OPERANDS, I32>
>;

/** to[i] = factor from[i] for the vectors of a row of `bytes`. */
function emitScaled(m: ModuleBuilder): Callable<"void"> {
  const parameters = { ...i32s("from", "to", "bytes"), factor: "f32" } as const;
  return m.function("f32_scaled_row", parameters, (f, { from, to, bytes, factor }) => {
    const scale = f.local("v128", f32x4.splat(factor), "scale");
    const end = f.local("i32", i32.add(from, bytes), "end");
    f.for(from, from, end, 16, () => {
      f.store("v128", to, f32x4.mul(v128.load(from), scale));
      f.set(to, i32.add(to, 16));
    });
  });
}

/** With p = inverse·e: e becomes p and dp becomes p(dp - Σ p·dp); `count` is a multiple of 4. */
function emitSoftmaxVjp(m: ModuleBuilder): Callable<"void"> {
  const parameters = { ...i32s("e", "dp", "count"), inverse: "f32" } as const;
  return m.function("f32_attention_softmax_vjp", parameters, (f, { e, dp, count, inverse }) => {
    const scale = f.local("v128", f32x4.splat(inverse), "scale");
    const sums = f.local("v128", f32x4.const(0), "sums");
    const at = f.local("i32", 0, "at");
    const bytes = f.local("i32", i32.shl(count, 2), "bytes");
    f.for(at, 0, bytes, 16, () => {
      const p = f.local("v128", f32x4.mul(v128.load(i32.add(e, at)), scale), "p");
      f.store("v128", i32.add(e, at), p);
      f.set(sums, f32x4.add(sums, f32x4.mul(p, v128.load(i32.add(dp, at)))));
    });
    const mean = f.local("v128", f32x4.splat(sumLanes(sums)), "mean");
    f.for(at, 0, bytes, 16, () => {
      const p = v128.load(i32.add(e, at));
      const slope = f32x4.sub(v128.load(i32.add(dp, at)), mean);
      f.store("v128", i32.add(dp, at), f32x4.mul(p, slope));
    });
  });
}

const roundUp = (n: Operand<"i32">, step: number) =>
  i32.and(i32.add(n, step - 1), -step) as Value<"i32">;
const minimum = (f: FunctionBuilder, a: Value<"i32">, b: Value<"i32">): I32 => {
  const first = f.local("i32", a);
  const second = f.local("i32", b);
  return f.local("i32", select(i32.ltU(first, second), first, second));
};

/** Where the heads of pair number `pair` begin, and how its rows are counted. */
function locatePair(f: FunctionBuilder, pair: Value<"i32">, p: Common) {
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
type Pair = ReturnType<typeof locatePair>;

/** Position and head of a row of the pair. */
function locateRow(f: FunctionBuilder, row: Value<"i32">, pair: Pair) {
  const number = f.local("i32", row, "number");
  const time = f.local("i32", i32.divU(number, pair.per), "time");
  const head = i32.add(pair.firstHead, i32.sub(number, i32.mul(time, pair.per)));
  return { time, head: f.local("i32", head, "head") };
}
type Row = ReturnType<typeof locateRow>;

/** Address of a row in a packed [b h t d] array. */
const packedRow = (base: I32, p: Common, { batch }: Pair, { head, time }: Row): Value<"i32"> => {
  const plane = i32.add(i32.mul(batch, p.heads), head);
  return i32.add(base, i32.mul(i32.add(i32.mul(plane, p.t), time), p.bytes));
};

/** Keys that the row may see: positions + 1, within [0, s]. */
function visibleKeys(f: FunctionBuilder, p: Common, { positions }: Pair, { time }: Row): I32 {
  const position = i32.load(i32.add(positions, i32.mul(time, p.positionStep)));
  const last = f.local("i32", position, "last");
  const count = i32.mul(i32.add(last, 1), i32.geS(last, 0));
  return f.local("i32", select(i32.geS(last, p.s), p.s, count), "visible");
}

/** Copies row `row` of the pair's queries, scaled, to `to`; notes its visible keys at `note`. */
function takeQuery(
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
  return visibleKeys(f, p, pair, row);
}

/** Bytes between the rows of scores: whole groups of dots. */
const scoreStep = (f: FunctionBuilder, s: I32): I32 =>
  f.local("i32", i32.shl(roundUp(s, 8), 2), "scoreStep");

/** Defines the kernels; a unit of forward is a tile of rows, one of backward a whole pair. */
export function emitAttention(m: ModuleBuilder): void {
  const tiles = emitTiles(m);
  emitForward(m, tiles);
  emitBackward(m, tiles);
}

function emitForward(m: ModuleBuilder, tiles: Tiles): void {
  const parameters = {
    ...OPERANDS,
    ...i32s("target"),
    ...SHAPE,
    ...STRIDES,
    ...({ scale: "f32" } as const),
    ...RANGE,
  };
  m.function("f32_attention", parameters, (f, p) => {
    const notes = f.local("i32", scratch, "notes");
    const query = f.local("i32", i32.add(notes, NOTES), "query");
    const result = f.local("i32", i32.add(query, i32.mul(p.bytes, TILE)), "result");
    const scores = f.local("i32", i32.add(result, i32.mul(p.bytes, TILE)), "scores");
    const step = scoreStep(f, p.s);
    const perPair = i32.mul(p.t, i32.divU(p.heads, p.groups));
    const tilesOfPair = f.local("i32", i32.shrU(i32.add(perPair, TILE - 1), 2), "tilesOfPair");
    const unit = f.local("i32", undefined, "unit");
    const r = f.local("i32", undefined, "r");
    f.for(unit, p.begin, p.end, 1, () => {
      const number = f.local("i32", i32.divU(unit, tilesOfPair), "pair");
      const pair = locatePair(f, number, p);
      const start = i32.shl(i32.sub(unit, i32.mul(number, tilesOfPair)), 2);
      const first = f.local("i32", start, "first");
      const rows = minimum(f, i32.sub(pair.rows, first), i32.const(TILE));
      const most = f.local("i32", 0, "most");
      f.for(r, 0, rows, 1, () => {
        const row = locateRow(f, i32.add(first, r), pair);
        const to = i32.add(query, i32.mul(r, p.bytes));
        const visible = takeQuery(f, tiles, p, pair, row, to);
        f.store("i32", i32.add(notes, i32.shl(r, 2)), visible);
        f.set(most, select(i32.gtU(visible, most), visible, most));
      });
      f.call(tiles.dots, rows, query, p.bytes, pair.keys, p.kRow, most, p.bytes, scores, step);
      const count = f.local("i32", roundUp(most, 4), "count");
      f.for(r, 0, rows, 1, () => {
        const note = f.local("i32", i32.add(notes, i32.shl(r, 2)), "note");
        const row = i32.add(scores, i32.mul(r, step));
        const inverse = f.call(tiles.softmax, row, i32.load(note), count);
        f.store("f32", note, inverse, 4 * TILE);
      });
      const { values } = pair;
      const weights = [rows, scores, step, 4, values, p.vRow, most] as const;
      f.call(tiles.combine, ...weights, result, p.bytes, p.bytes, 0);
      f.for(r, 0, rows, 1, () => {
        const row = locateRow(f, i32.add(first, r), pair);
        const from = i32.add(result, i32.mul(r, p.bytes));
        const inverse = f32.load(i32.add(notes, i32.shl(r, 2)), 4 * TILE);
        f.call(tiles.scaled, from, packedRow(p.target, p, pair, row), p.bytes, inverse);
      });
    });
  });
}

function emitBackward(m: ModuleBuilder, tiles: Tiles): void {
  const parameters = {
    ...OPERANDS,
    ...i32s("g", "gBatch", "gHead", "gRow", "dq", "dk", "dv", "block"),
    ...SHAPE,
    ...STRIDES,
    ...({ scale: "f32" } as const),
    ...RANGE,
  };
  m.function("f32_attention_vjp", parameters, (f, p) => {
    const step = scoreStep(f, p.s);
    // Scratch: notes (one word a row), Q and G of a block, dQ of a tile, then P and dS of a block.
    const notes = f.local("i32", scratch, "notes");
    const query = f.local("i32", i32.add(notes, roundUp(i32.shl(p.block, 2), 64)), "query");
    const cotangent = f.local("i32", i32.add(query, i32.mul(p.bytes, p.block)), "cotangent");
    const result = f.local("i32", i32.add(cotangent, i32.mul(p.bytes, p.block)), "result");
    const weights = f.local("i32", i32.add(result, i32.mul(p.bytes, TILE)), "weights");
    const slopes = f.local("i32", i32.add(weights, i32.mul(step, p.block)), "slopes");
    const memory = { notes, query, cotangent, result, weights, slopes, step };
    const size = f.local("i32", i32.mul(p.s, p.bytes), "size");
    const unit = f.local("i32", undefined, "unit");
    const first = f.local("i32", undefined, "first");
    f.for(unit, p.begin, p.end, 1, () => {
      const pair = locatePair(f, unit, p);
      const [dk, dv] = [p.dk, p.dv].map((base) => {
        return f.local("i32", i32.add(base, i32.mul(unit, size)), "gradient");
      }) as [I32, I32];
      f.fill(dk, 0, size);
      f.fill(dv, 0, size);
      f.for(first, 0, pair.rows, p.block, () => {
        const rows = minimum(f, i32.sub(pair.rows, first), p.block);
        const most = takeBlock(f, tiles, p, pair, first, rows, memory);
        slopesOfBlock(f, tiles, p, pair, first, rows, most, memory);
        addKeyGradients(f, tiles, p, rows, most, memory, dk, dv);
      });
    });
  });
}

type Backward = Common &
  Readonly<Record<"g" | "gBatch" | "gHead" | "gRow" | "dq" | "dk" | "dv" | "block", I32>> & {
    readonly scale: Local<"f32">;
  };
type Memory = Readonly<
  Record<"notes" | "query" | "cotangent" | "result" | "weights" | "slopes" | "step", I32>
>;

/** Copies the block's rows of scale·Q and of G to scratch; the most keys that any of them sees. */
function takeBlock(
  f: FunctionBuilder,
  tiles: Tiles,
  p: Backward,
  pair: Pair,
  first: I32,
  rows: I32,
  memory: Memory,
): I32 {
  const most = f.local("i32", 0, "most");
  const r = f.local("i32", undefined, "r");
  f.for(r, 0, rows, 1, () => {
    const row = locateRow(f, i32.add(first, r), pair);
    const offset = f.local("i32", i32.mul(r, p.bytes), "offset");
    const visible = takeQuery(f, tiles, p, pair, row, i32.add(memory.query, offset));
    const inBatch = i32.add(i32.mul(pair.batch, p.gBatch), i32.mul(row.head, p.gHead));
    const from = i32.add(p.g, i32.add(inBatch, i32.mul(row.time, p.gRow)));
    f.copy(i32.add(memory.cotangent, offset), from, p.bytes);
    f.store("i32", i32.add(memory.notes, i32.shl(r, 2)), visible);
    f.set(most, select(i32.gtU(visible, most), visible, most));
  });
  return most;
}

/** P and dS = P(dP - Σ P·dP) of the block's rows, zero up to `most` keys, and dQ = scale·dS·K. */
function slopesOfBlock(
  f: FunctionBuilder,
  tiles: Tiles,
  p: Backward,
  pair: Pair,
  first: I32,
  rows: I32,
  most: I32,
  { notes, query, cotangent, result, weights, slopes, step }: Memory,
): void {
  const tile = f.local("i32", undefined, "tile");
  const r = f.local("i32", undefined, "inTile");
  f.for(tile, 0, rows, TILE, () => {
    const count = minimum(f, i32.sub(rows, tile), i32.const(TILE));
    const seen = f.local("i32", 0, "seenByTile");
    f.for(r, 0, count, 1, () => {
      const visible = i32.load(i32.add(notes, i32.shl(i32.add(tile, r), 2)));
      const value = f.local("i32", visible, "visibleKeys");
      f.set(seen, select(i32.gtU(value, seen), value, seen));
    });
    const vectors = f.local("i32", i32.mul(tile, p.bytes), "vectors");
    const e = f.local("i32", i32.add(weights, i32.mul(tile, step)), "e");
    const dp = f.local("i32", i32.add(slopes, i32.mul(tile, step)), "dp");
    const [a, g] = [i32.add(query, vectors), i32.add(cotangent, vectors)];
    f.call(tiles.dots, count, a, p.bytes, pair.keys, p.kRow, seen, p.bytes, e, step);
    f.call(tiles.dots, count, g, p.bytes, pair.values, p.vRow, seen, p.bytes, dp, step);
    const whole = f.local("i32", roundUp(seen, 4), "whole");
    const behind = f.local("i32", i32.shl(roundUp(most, 4), 2), "behind");
    f.for(r, 0, count, 1, () => {
      const x = f.local("i32", i32.add(e, i32.mul(r, step)), "x");
      const y = f.local("i32", i32.add(dp, i32.mul(r, step)), "y");
      const visible = i32.load(i32.add(notes, i32.shl(i32.add(tile, r), 2)));
      f.call(tiles.softmaxVjp, x, y, whole, f.call(tiles.softmax, x, visible, whole));
      const zero = f.local("i32", i32.shl(whole, 2), "zero");
      f.for(zero, zero, behind, 16, () => {
        for (const row of [x, y]) f.store("v128", i32.add(row, zero), f32x4.const(0));
      });
    });
    const sums = [count, dp, step, 4, pair.keys, p.kRow, seen] as const;
    f.call(tiles.combine, ...sums, result, p.bytes, p.bytes, 0);
    f.for(r, 0, count, 1, () => {
      const row = locateRow(f, i32.add(first, i32.add(tile, r)), pair);
      const from = i32.add(result, i32.mul(r, p.bytes));
      f.call(tiles.scaled, from, packedRow(p.dq, p, pair, row), p.bytes, p.scale);
    });
  });
}

/** dK += dSᵀ·(scale·Q) and dV += Pᵀ·G over the block's rows, four keys at a time. */
function addKeyGradients(
  f: FunctionBuilder,
  { combine }: Tiles,
  p: Backward,
  rows: I32,
  most: I32,
  { notes, query, cotangent, weights, slopes, step }: Memory,
  dk: I32,
  dv: I32,
): void {
  const key = f.local("i32", undefined, "key");
  const skip = f.local("i32", 0, "skip");
  f.for(key, 0, most, TILE, () => {
    // Leading rows that don't see this key don't see the later ones either.
    const blind = i32.leU(i32.load(i32.add(notes, i32.shl(skip, 2))), key);
    f.while(i32.and(i32.ltU(skip, rows), blind), () => f.set(skip, i32.add(skip, 1)));
    const count = minimum(f, i32.sub(most, key), i32.const(TILE));
    const left = f.local("i32", i32.sub(rows, skip), "leftRows");
    const w = f.local("i32", i32.add(i32.mul(skip, step), i32.shl(key, 2)), "corner");
    const x = f.local("i32", i32.mul(skip, p.bytes), "rowsFrom");
    const out = f.local("i32", i32.mul(key, p.bytes), "keysFrom");
    for (const [by, from, to] of [
      [slopes, query, dk],
      [weights, cotangent, dv],
    ] as const) {
      const source = [i32.add(by, w), 4, step, i32.add(from, x), p.bytes, left] as const;
      f.call(combine, count, ...source, i32.add(to, out), p.bytes, p.bytes, -1);
    }
  });
}
