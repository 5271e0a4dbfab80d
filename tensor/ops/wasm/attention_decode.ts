/** Attention of one new token a sequence: its heads pass over keys and values together, once. */

import {
  type FunctionBuilder,
  f32,
  f32x4,
  i32,
  type ModuleBuilder,
  minimum,
  scratch,
  v128,
} from "../../device/wasm/assembler.ts";
import { i32s } from "../../device/wasm/launch.ts";
import {
  type I32,
  OPERANDS,
  RANGE,
  roundUp,
  SHAPE,
  STRIDES,
  scoreStep,
  type Tiles,
  visibleKeys,
} from "./attention_rows.ts";
import { DOT_GROUP, laneSums } from "./attention_tiles.ts";

/** Keys, and values, that all heads use before the next ones: those of one position are neighbours. */
const BLOCK = DOT_GROUP;
/** Positions whose rows are fetched into the cache ahead of their use. */
const AHEAD = 64;
/** Bytes of a cache line; lines that are fetched in a turn. */
const LINE = 64;
const LINES = 4;
/** Vectors of a row that are held in registers. */
const SPANS = [8, 4, 1] as const;

/**
 * f32_attention_decode: a unit is `share` heads of one sequence, each with keys and values of its
 * own (heads that share them do better as the rows of a tile). The sums of a result have the order
 * that f32_attention gives them, and so the same bits.
 */
export function emitDecode(m: ModuleBuilder, tiles: Tiles): void {
  const parameters = {
    ...OPERANDS,
    ...i32s("target", "share"),
    ...SHAPE,
    ...STRIDES,
    ...({ scale: "f32" } as const),
    ...RANGE,
  };
  m.function("f32_attention_decode", parameters, (f, p) => {
    const step = scoreStep(f, p.s);
    // The first line of scratch takes what nobody reads: see fetch.
    const query = f.local("i32", i32.add(scratch, LINE), "query");
    const scores = f.local("i32", i32.add(query, i32.mul(p.share, p.bytes)), "scores");
    const units = f.local("i32", i32.divU(p.heads, p.share), "units");
    const unit = f.local("i32", undefined, "unit");
    const head = f.local("i32", undefined, "head");
    const first = f.local("i32", undefined, "first");
    f.for(unit, p.begin, p.end, 1, () => {
      const batch = f.local("i32", i32.divU(unit, units), "batch");
      const start = i32.mul(i32.sub(unit, i32.mul(batch, units)), p.share);
      const firstHead = f.local("i32", start, "firstHead");
      const position = i32.add(p.positions, i32.mul(batch, p.positionBatch));
      const visible = visibleKeys(f, position, p.s);
      const inBatch = i32.add(i32.mul(batch, p.qBatch), i32.mul(firstHead, p.qHead));
      const q = f.local("i32", i32.add(p.q, inBatch), "from");
      const to = f.local("i32", query, "to");
      f.for(head, 0, p.share, 1, () => {
        f.call(tiles.scaled, q, to, p.bytes, p.scale);
        f.set(q, i32.add(q, p.qHead));
        f.set(to, i32.add(to, p.bytes));
      });
      const plane = i32.add(i32.mul(batch, p.heads), firstHead);
      const target = f.local("i32", i32.add(p.target, i32.mul(plane, p.bytes)), "target");
      // By a loop: memory.fill is a call into the engine, as long as a head's share of the work.
      f.set(to, target);
      const end = f.local("i32", i32.add(target, i32.mul(p.share, p.bytes)), "end");
      f.for(to, to, end, 16, () => f.store("v128", to, f32x4.const(0)));
      const base = (at: I32, ofBatch: I32, ofHead: I32, name: string) => {
        const offset = i32.add(i32.mul(batch, ofBatch), i32.mul(firstHead, ofHead));
        return f.local("i32", i32.add(at, offset), name);
      };
      const keys = base(p.k, p.kBatch, p.kHead, "keys");
      const values = base(p.v, p.vBatch, p.vHead, "values");
      const heads = { share: p.share, bytes: p.bytes, step, scores };
      f.for(first, 0, visible, BLOCK, () => {
        const rows = { at: keys, inHead: p.kHead, inRow: p.kRow, first, visible };
        fetch(f, heads, rows);
        scoreBlock(f, heads, rows, query);
      });
      const row = f.local("i32", scores, "scoreRow");
      const inverses = f.local("i32", query, "inverse");
      const count = f.local("i32", roundUp(visible, BLOCK), "count");
      f.for(head, 0, p.share, 1, () => {
        // The queries have been used: their place takes 1 / Σ of each head.
        f.store("f32", inverses, f.call(tiles.softmax, row, visible, count));
        f.set(inverses, i32.add(inverses, 4));
        f.set(row, i32.add(row, step));
      });
      f.for(first, 0, visible, BLOCK, () => {
        const rows = { at: values, inHead: p.vHead, inRow: p.vRow, first, visible };
        fetch(f, heads, rows);
        addBlock(f, heads, rows, target);
      });
      f.set(inverses, query);
      f.for(head, 0, p.share, 1, () => {
        f.call(tiles.scaled, target, target, p.bytes, f32.load(inverses));
        f.set(inverses, i32.add(inverses, 4));
        f.set(target, i32.add(target, p.bytes));
      });
    });
  });
}

/** The heads of a unit: their scores lie `step` bytes apart. */
interface Heads {
  readonly share: I32;
  readonly bytes: I32;
  readonly step: I32;
  readonly scores: I32;
}

/** Rows [first, first + BLOCK) of the keys or values; the last visible one stands for those behind. */
interface Rows {
  readonly at: I32;
  readonly inHead: I32;
  readonly inRow: I32;
  readonly first: I32;
  readonly visible: I32;
}

/**
 * Reads a word of each cache line that the next blocks will use, the heads' in turn. A cache of
 * many sequences comes from memory; so many misses at once take a third of the time that they take
 * one by one between the sums.
 */
function fetch(f: FunctionBuilder, { share, bytes }: Heads, rows: Rows): void {
  const { at, inHead, inRow, first, visible } = rows;
  const due = i32.eqz(i32.and(first, AHEAD - 1));
  f.if(i32.and(due, i32.eq(inRow, bytes)), () => {
    const count = f.local("i32", i32.sub(visible, first), "count");
    f.set(count, minimum(count, AHEAD));
    const size = f.local("i32", i32.mul(count, inRow), "size");
    const start = f.local("i32", i32.add(at, i32.mul(first, inRow)), "start");
    const whole = f.local("i32", i32.sub(size, i32.remU(size, LINES * LINE)), "whole");
    const words = f.local("i32", 0, "words");
    const offset = f.local("i32", 0, "offset");
    const [line, head] = [f.local("i32", undefined, "line"), f.local("i32", undefined, "fetched")];
    const turn = (lines: number) => {
      f.set(line, i32.add(start, offset));
      f.for(head, 0, share, 1, () => {
        for (let i = 0; i < lines; i++) f.set(words, i32.or(words, i32.load(line, LINE * i)));
        f.set(line, i32.add(line, inHead));
      });
    };
    f.for(offset, 0, whole, LINES * LINE, () => turn(LINES));
    f.for(offset, offset, size, LINE, () => turn(1));
    // Stored, so that no engine drops the loads.
    f.store("i32", scratch, words);
  });
}

/** Runs `visit` for each head with its first row, its scores, and how far the other rows are. */
function eachHead(
  f: FunctionBuilder,
  { share, step, scores }: Heads,
  { at, inHead, inRow, first, visible }: Rows,
  visit: (row: I32, scores: I32, offsets: readonly I32[]) => void,
): void {
  const left = f.local("i32", i32.sub(visible, first), "left");
  const offsets: I32[] = [];
  for (let i = 1; i < BLOCK; i++) {
    const next = i32.mul(inRow, i32.gtU(left, i));
    offsets.push(f.local("i32", i === 1 ? next : i32.add(offsets[i - 2]!, next), `offset${i}`));
  }
  const own = f.local("i32", i32.add(at, i32.mul(first, inRow)), "own");
  const row = f.local("i32", undefined, "row");
  const to = f.local("i32", i32.add(scores, i32.shl(first, 2)), "scoresOfHead");
  const head = f.local("i32", undefined, "of");
  f.for(head, 0, share, 1, () => {
    f.set(row, own);
    visit(row, to, offsets);
    f.set(to, i32.add(to, step));
    f.set(own, i32.add(own, inHead));
  });
}

/** Runs `turn` over `bytes` of a row: on many vectors at a time, then on fewer. */
function eachSpan(
  f: FunctionBuilder,
  bytes: I32,
  row: I32,
  offsets: readonly I32[],
  turn: (rows: readonly I32[], vectors: number) => void,
): void {
  const end = f.local("i32", i32.add(row, bytes), "rowEnd");
  const others = offsets.map((_, i) => f.local("i32", undefined, `row${i + 1}`));
  for (const vectors of SPANS) {
    f.while(i32.geU(i32.sub(end, row), 16 * vectors), () => {
      offsets.forEach((offset, i) => {
        f.set(others[i]!, i32.add(row, offset));
      });
      turn([row, ...others], vectors);
      f.set(row, i32.add(row, 16 * vectors));
    });
  }
}

/** scores[head, first + i] = query[head] · keys[first + i]. */
function scoreBlock(f: FunctionBuilder, heads: Heads, keys: Rows, query: I32): void {
  const q = f.local("i32", query, "q");
  const sums = Array.from({ length: BLOCK }, (_, i) => f.local("v128", undefined, `dot${i}`));
  eachHead(f, heads, keys, (row, scores, offsets) => {
    for (const sum of sums) f.set(sum, f32x4.const(0));
    eachSpan(f, heads.bytes, row, offsets, (rows, vectors) => {
      for (let v = 0; v < vectors; v++) {
        const x = f.local("v128", v128.load(q, 16 * v), "x");
        rows.forEach((at, i) => {
          f.set(sums[i]!, f32x4.add(sums[i]!, f32x4.mul(x, v128.load(at, 16 * v))));
        });
      }
      f.set(q, i32.add(q, 16 * vectors));
    });
    for (let i = 0; i < BLOCK; i += 4) {
      f.store("v128", scores, laneSums(sums.slice(i, i + 4), f), 4 * i);
    }
  });
}

/** target[head] += Σ weights[head, first + i] · values[first + i]. */
function addBlock(f: FunctionBuilder, heads: Heads, values: Rows, target: I32): void {
  const to = f.local("i32", target, "to");
  const sums = Array.from({ length: SPANS[0] }, (_, c) => f.local("v128", undefined, `sum${c}`));
  eachHead(f, heads, values, (row, weights, offsets) => {
    eachSpan(f, heads.bytes, row, offsets, (rows, vectors) => {
      const own = sums.slice(0, vectors);
      own.forEach((sum, c) => {
        f.set(sum, v128.load(to, 16 * c));
      });
      rows.forEach((at, i) => {
        const weight = f.local("v128", v128.load32Splat(weights, 4 * i), "weight");
        own.forEach((sum, c) => {
          f.set(sum, f32x4.add(sum, f32x4.mul(weight, v128.load(at, 16 * c))));
        });
      });
      own.forEach((sum, c) => {
        f.store("v128", to, sum, 16 * c);
      });
      f.set(to, i32.add(to, 16 * vectors));
    });
  });
}
