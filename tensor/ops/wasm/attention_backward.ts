/** The fused gradient of attention: weights are computed anew, a block of queries at a time. */

import {
  type FunctionBuilder,
  f32x4,
  i32,
  type Local,
  type ModuleBuilder,
  scratch,
  select,
} from "../../device/wasm/assembler.ts";
import { i32s } from "../../device/wasm/launch.ts";
import {
  type Common,
  type I32,
  locatePair,
  locateRow,
  minimum,
  OPERANDS,
  type Pair,
  packedRow,
  RANGE,
  roundUp,
  SHAPE,
  STRIDES,
  scoreStep,
  TILE,
  type Tiles,
  takeQuery,
} from "./attention_rows.ts";

/** f32_attention_vjp: a unit is a whole pair, so that no two threads add to one dK or dV. */
export function emitBackward(m: ModuleBuilder, tiles: Tiles): void {
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
