/** The inner loops of attention: dot products of rows, softmax of a row, weighted sums of rows. */

import {
  type Callable,
  type FunctionBuilder,
  f32,
  f32x4,
  i32,
  type Local,
  type ModuleBuilder,
  type Value,
  v128,
} from "../../device/wasm/assembler.ts";
import { i32s } from "../../device/wasm/launch.ts";
import { expNonPositive4 } from "../../device/wasm/math.ts";

type Void = Callable<"void">;

// Every result is summed in an order that depends on its own row alone, not on the tile it fell
// into: a token decoded by itself and the same token in a training batch have the same bits.

/** Sums of the lanes of four vectors, one a lane: (0 + 2) + (1 + 3). */
export function laneSums(
  [a, b, c, d]: readonly Value<"v128">[],
  f: FunctionBuilder,
): Value<"v128"> {
  const halves = (x: Value<"v128">, y: Value<"v128">) => {
    const [low, high] = [v128.shuffle(x, y, 0, 4, 1, 5), v128.shuffle(x, y, 2, 6, 3, 7)];
    return f.local("v128", f32x4.add(low, high), "halves");
  };
  const [first, second] = [halves(a!, b!), halves(c!, d!)];
  const even = v128.shuffle(first, second, 0, 1, 4, 5);
  return f32x4.add(even, v128.shuffle(first, second, 2, 3, 6, 7));
}

/** out[r, j] = a[r] · b[j] for `rows` rows of a; the last group of b repeats its last row. */
function emitDotsOf(m: ModuleBuilder, rows: number, keys: number): Void {
  const parameters = i32s("a", "aStep", "b", "bStep", "count", "bytes", "out", "outStep");
  return m.function(`f32_dots_${rows}x${keys}`, parameters, (f, p) => {
    const j = f.local("i32", undefined, "j");
    const key = f.local("i32", p.b, "key");
    const out = f.local("i32", p.out, "to");
    const whole = i32.and(p.bytes, -64);
    f.for(j, 0, p.count, keys, () => {
      const b = [f.local("i32", key, "b0")];
      const left = f.local("i32", i32.sub(p.count, j), "left");
      for (let i = 1; i < keys; i++) {
        const step = i32.mul(p.bStep, i32.gtU(left, i));
        b.push(f.local("i32", i32.add(b[i - 1]!, step), `b${i}`));
      }
      const a = [f.local("i32", p.a, "a0")];
      if (rows === 2) a.push(f.local("i32", i32.add(p.a, p.aStep), "a1"));
      const sums = a.map(() => b.map(() => f.local("v128", f32x4.const(0), "sum")));
      const end = f.local("i32", i32.add(p.a, p.bytes), "end");
      const unrolled = f.local("i32", i32.add(p.a, whole), "unrolled");
      const next = f.local("i32", i32.add(b[keys - 1]!, p.bStep), "next");
      const turn = (vectors: number) => {
        for (let v = 0; v < vectors; v++) {
          const x = a.map((at) => f.local("v128", v128.load(at, 16 * v), "x"));
          b.forEach((at, c) => {
            const y = f.local("v128", v128.load(at, 16 * v), "y");
            x.forEach((value, r) => {
              f.set(sums[r]![c]!, f32x4.add(sums[r]![c]!, f32x4.mul(value, y)));
            });
          });
        }
        for (const at of [...a, ...b]) f.set(at, i32.add(at, 16 * vectors));
      };
      f.while(i32.ltU(a[0]!, unrolled), () => turn(4));
      f.while(i32.ltU(a[0]!, end), () => turn(1));
      sums.forEach((row, r) => {
        const at = r === 0 ? out : f.local("i32", i32.add(out, p.outStep), "second");
        for (let c = 0; c < keys; c += 4) {
          f.store("v128", at, laneSums(row.slice(c, c + 4), f), 4 * c);
        }
      });
      f.set(out, i32.add(out, 4 * keys));
      f.set(key, next);
    });
  });
}

/** Room that f32_dots may use behind `count` results of a row: it stores whole groups. */
export const DOT_GROUP = 8;

/** f32_dots: out[r, j] = a[r] · b[j], r < rows, j < count; `bytes` of a row, a multiple of 16. */
export function emitDots(m: ModuleBuilder): Void {
  const [two, one] = [emitDotsOf(m, 2, 4), emitDotsOf(m, 1, 8)];
  const parameters = i32s("rows", "a", "aStep", "b", "bStep", "count", "bytes", "out", "outStep");
  return m.function("f32_dots", parameters, (f, p) => {
    const { rows, a, aStep, out, outStep } = p;
    const variant = (callee: Void, n: number) => {
      f.call(callee, a, aStep, p.b, p.bStep, p.count, p.bytes, out, outStep);
      f.set(a, i32.add(a, i32.mul(aStep, n)));
      f.set(out, i32.add(out, i32.mul(outStep, n)));
      f.set(rows, i32.sub(rows, n));
    };
    f.while(i32.geU(rows, 2), () => variant(two, 2));
    f.if(rows, () => variant(one, 1));
  });
}

/** out[r] = Σₙ w[r, n] x[n] (plus out[r] where `keep` is -1, not 0), in columns of each width. */
function emitCombineOf(m: ModuleBuilder, rows: number, widths: readonly number[]): Void {
  const weights = i32s("w", "wRow", "wStep", "x", "xStep", "steps");
  const parameters = { ...weights, ...i32s("out", "outRow", "bytes", "keep") };
  return m.function(`f32_combine_${rows}`, parameters, (f, p) => {
    const column = f.local("i32", 0, "column");
    const keep = f.local("v128", f32x4.splat(f32.const(0)), "mask");
    f.if(p.keep, () => f.set(keep, v128.not(keep)));
    const n = f.local("i32", undefined, "n");
    for (const width of widths) {
      f.while(i32.geU(i32.sub(p.bytes, column), 4 * width), () => {
        const lanes = Array.from({ length: width / 4 }, (_, lane) => 16 * lane);
        const out = [f.local("i32", i32.add(p.out, column), "out0")];
        const w = [f.local("i32", p.w, "w0")];
        for (let r = 1; r < rows; r++) {
          out.push(f.local("i32", i32.add(out[r - 1]!, p.outRow), `out${r}`));
          w.push(f.local("i32", i32.add(w[r - 1]!, p.wRow), `w${r}`));
        }
        const sums = out.map((at) =>
          lanes.map((lane) => f.local("v128", v128.and(v128.load(at, lane), keep), "sum")),
        );
        const x = f.local("i32", i32.add(p.x, column), "from");
        f.for(n, 0, p.steps, 1, () => {
          // For one row each is used once: in locals they would not fit the registers.
          const loads = lanes.map((lane) => v128.load(x, lane));
          const values = rows === 1 ? loads : loads.map((load) => f.local("v128", load, "value"));
          w.forEach((at, r) => {
            const weight = f.local("v128", v128.load32Splat(at), "weight");
            values.forEach((value, c) => {
              f.set(sums[r]![c]!, f32x4.add(sums[r]![c]!, f32x4.mul(weight, value)));
            });
            f.set(at, i32.add(at, p.wStep));
          });
          f.set(x, i32.add(x, p.xStep));
        });
        out.forEach((at, r) => {
          lanes.forEach((lane, c) => {
            f.store("v128", at, sums[r]![c]!, lane);
          });
        });
        f.set(column, i32.add(column, 4 * width));
      });
    }
  });
}

/**
 * f32_combine: out[r] (+)= Σₙ w[r, n] x[n] for rows r and steps n, all strides in bytes; `bytes` of
 * a row, a multiple of 16; keep is -1 to add to what `out` holds, 0 to overwrite it.
 */
export function emitCombine(m: ModuleBuilder): Void {
  const [four, two] = [emitCombineOf(m, 4, [8, 4]), emitCombineOf(m, 2, [16, 8, 4])];
  const one = emitCombineOf(m, 1, [32, 16, 8, 4]);
  const weights = i32s("rows", "w", "wRow", "wStep", "x", "xStep", "steps");
  const parameters = { ...weights, ...i32s("out", "outRow", "bytes", "keep") };
  return m.function("f32_combine", parameters, (f, p) => {
    const { rows, w, out } = p;
    const variant = (callee: Void, n: number) => {
      const { wRow, wStep, x, xStep, steps, outRow, bytes, keep } = p;
      f.call(callee, w, wRow, wStep, x, xStep, steps, out, outRow, bytes, keep);
      f.set(w, i32.add(w, i32.mul(wRow, n)));
      f.set(out, i32.add(out, i32.mul(outRow, n)));
      f.set(rows, i32.sub(rows, n));
    };
    f.while(i32.geU(rows, 4), () => variant(four, 4));
    f.if(i32.geU(rows, 2), () => variant(two, 2));
    f.if(rows, () => variant(one, 1));
  });
}

/**
 * f32_softmax_visible: x[j] = exp(x[j] - max) for the first `visible` elements, 0 for the others up
 * to `count` (a multiple of 4). Returns 1 / Σ, or 0 where nothing is visible.
 */
export function emitSoftmaxVisible(m: ModuleBuilder): Callable<"f32"> {
  const parameters = i32s("x", "visible", "count");
  return m.function(
    "f32_softmax_visible",
    parameters,
    (f, { x, visible, count }) => {
      const end = f.local("i32", i32.add(x, i32.shl(count, 2)), "end");
      const p = f.local("i32", i32.add(x, i32.shl(visible, 2)), "p");
      f.for(p, p, end, 4, () => f.store("f32", p, -Infinity));
      const top = f.local("v128", f32x4.const(-Infinity), "top");
      f.for(p, x, end, 16, () => f.set(top, f32x4.pmax(top, v128.load(p))));
      f.set(top, f32x4.pmax(top, v128.shuffle(top, top, 2, 3, 0, 1)));
      f.set(top, f32x4.pmax(top, v128.shuffle(top, top, 1, 0, 3, 2)));
      // A row of -∞ alone would give -∞ - -∞ = NaN.
      f.set(top, v128.and(top, f32x4.gt(top, -Infinity)));
      const sums = f.local("v128", f32x4.const(0), "sums");
      f.for(p, x, end, 16, () => {
        const e = expNonPositive4(f, f32x4.sub(v128.load(p), top));
        const weight = f.local("v128", e, "weight");
        f.set(sums, f32x4.add(sums, weight));
        f.store("v128", p, weight);
      });
      const total = f.local("f32", sumLanes(sums), "total");
      const inverse = f32.div(f32.const(1), total);
      // A NaN stays NaN.
      f.if(f32.eq(total, 0), () => f.return(f32.const(0)));
      f.return(inverse);
    },
    "f32",
  );
}

/** (0 + 1) + (2 + 3). */
export function sumLanes(x: Local<"v128">): Value<"f32"> {
  const lane = (i: number) => f32x4.extractLane(x, i);
  return f32.add(f32.add(lane(0), lane(1)), f32.add(lane(2), lane(3)));
}

/** to[i] = factor from[i] for the vectors of a row of `bytes`. */
export function emitScaled(m: ModuleBuilder): Void {
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
export function emitSoftmaxVjp(m: ModuleBuilder): Void {
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
