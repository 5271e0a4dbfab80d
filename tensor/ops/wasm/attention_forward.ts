/** The fused attention kernel: scores of a tile of queries live in scratch memory. */

import { f32, i32, type ModuleBuilder, scratch, select } from "../../device/wasm/assembler.ts";
import { i32s } from "../../device/wasm/launch.ts";
import {
  locatePair,
  locateRow,
  minimum,
  NOTES,
  OPERANDS,
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

/** f32_attention: a unit is a tile of rows of one pair. */
export function emitForward(m: ModuleBuilder, tiles: Tiles): void {
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
