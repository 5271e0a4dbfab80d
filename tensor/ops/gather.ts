/** Indexed reads and writes: embedding rows, entries along the last axis, concatenation, caches. */

import { broadcasting, type Call, type Draw, missing, primitive } from "../op.ts";
import { formatShape, normalAxis, type Shape, ShapeError } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import * as wasm from "./wasm/gather.ts";
import * as wgsl from "./wgsl/gather.ts";

/** Refuses an index outside of [0, n): where a kernel would read somebody else's memory. */
export function checkIndices(op: string, indices: ArrayLike<number>, n: number): void {
  for (let i = 0; i < indices.length; i++) {
    const index = indices[i]!;
    if (!(index >= 0 && index < n)) {
      throw new RangeError(`${op}: index ${index} at position ${i} is outside of [0, ${n})`);
    }
  }
}

/** Rows of a table: table [v d], ids i32 [...] -> [... d]. Throws where an id is not in [0, v). */
export const embedding: Call<[table: Tensor, ids: Tensor]> = primitive({
  arity: 2,
  shape: ([table, ids]) => {
    if (table!.length !== 2) {
      throw new ShapeError(`embedding: the table has shape ${formatShape(table!)}, expected [v d]`);
    }
    return [[...ids!, table![1]!]];
  },
  types: { inputs: ["real", "i32"], outputs: ["f32"] },
  reference: ({ inputs: [table, ids], outputs: [out] }) => {
    const [v, d] = table!.shape as [number, number];
    checkIndices("embedding", ids!.data, v);
    ids!.data.forEach((id, i) => {
      out!.data.set(table!.data.subarray(id * d, (id + 1) * d), i * d);
    });
  },
  vjp: (g, [table, ids]) => [g.scatterRows(ids!, table!.shape[0]!), null],
  wasm: wasm.embedding,
  wgsl: wgsl.embedding,
  sample: (draw) => {
    const v = Math.max(1, draw.size());
    const ids = { shape: draw.shape(0, 2), dtype: "i32", low: 0, high: v - 1 } as const;
    return { inputs: [{ shape: [v, draw.size()] }, ids], options: undefined };
  },
});

/** Adds rows into a table of zeros: values [... d], ids i32 [...], v -> [v d]. Transpose of embedding. */
export const scatterRows: Call<[values: Tensor, ids: Tensor, rows: number]> = primitive<number>({
  arity: 2,
  shape: ([values, ids], rows) => {
    if (formatShape(values!.slice(0, -1)) !== formatShape(ids!)) {
      const [a, b] = [formatShape(values!), formatShape(ids!)];
      throw new ShapeError(`scatterRows: values ${a} need one id a row, got ids ${b}`);
    }
    return [[rows, values!.at(-1)!]];
  },
  types: { inputs: ["f32", "i32"], outputs: ["f32"] },
  reference: ({ inputs: [values, ids], outputs: [out], options: rows }) => {
    const d = values!.shape.at(-1)!;
    checkIndices("scatterRows", ids!.data, rows);
    ids!.data.forEach((id, i) => {
      for (let j = 0; j < d; j++) out!.data[id * d + j]! += values!.data[i * d + j]!;
    });
  },
  vjp: (g, [, ids]) => [g.embedding(ids!), null],
  wasm: wasm.scatterRows,
  wgsl: wgsl.scatterRows,
  sample: (draw) => {
    const shape = draw.shape(0, 2);
    const rows = Math.max(1, draw.size());
    const ids = { shape, dtype: "i32", low: 0, high: rows - 1 } as const;
    return { inputs: [{ shape: [...shape, draw.size()] }, ids], options: rows };
  },
});

const alongTypes = { inputs: ["f32", "i32"], outputs: ["f32"] } as const;

/** y[..., j] = x[..., indices[..., j]]: entries of the last axis. */
export const takeAlong: Call<[x: Tensor, indices: Tensor]> = primitive({
  shape: "... n, ... k -> ... k",
  types: alongTypes,
  reference: ({ inputs: [x, indices], outputs: [out], dims: { n, k } }) => {
    checkIndices("takeAlong", indices!.data, n);
    indices!.data.forEach((index, i) => {
      out!.data[i] = x!.data[Math.floor(i / k) * n + index]!;
    });
  },
  vjp: (g, [x, indices]) => [g.scatterAlong(indices!.expand(g.shape), x!.shape.at(-1)!), null],
  wasm: wasm.takeAlong,
  wgsl: wgsl.takeAlong,
  sample: (draw) => {
    const shape = draw.shape(0, 2);
    const n = Math.max(1, draw.size());
    const own = [...broadcasting(draw, shape), draw.size()];
    const indices = { shape: own, dtype: "i32", low: 0, high: n - 1 } as const;
    const x = { shape: [...broadcasting(draw, shape), n] };
    return { inputs: [x, indices], options: undefined };
  },
});

/** y[..., indices[..., j]] += values[..., j], y of n entries a row: the transpose of takeAlong. */
export const scatterAlong: Call<[values: Tensor, indices: Tensor, n: number]> = primitive<number>({
  arity: 2,
  shape: ([values, indices], n) => {
    if (formatShape(values!) !== formatShape(indices!)) {
      const [a, b] = [formatShape(values!), formatShape(indices!)];
      throw new ShapeError(`scatterAlong: values ${a} and indices ${b} must have one shape`);
    }
    return [[...values!.slice(0, -1), n]];
  },
  types: alongTypes,
  reference: ({ inputs: [values, indices], outputs: [out], options: n }) => {
    const k = values!.shape.at(-1)!;
    checkIndices("scatterAlong", indices!.data, n);
    values!.data.forEach((value, i) => {
      out!.data[Math.floor(i / k) * n + indices!.data[i]!]! += value;
    });
  },
  vjp: (g, [, indices]) => [g.takeAlong(indices!), null],
  wasm: wasm.scatterAlong,
  wgsl: wgsl.scatterAlong,
  sample: (draw) => {
    const shape = [...draw.shape(0, 2), draw.size()];
    const n = Math.max(1, draw.size());
    const indices = { shape, dtype: "i32", low: 0, high: n - 1 } as const;
    return { inputs: [{ shape }, indices], options: n };
  },
});

/** Arrays one behind the other along an axis; all other sizes agree. */
export const concat: Call<[parts: readonly Tensor[], axis: number]> = primitive<number>({
  arity: "list",
  shape: (shapes, axis) => {
    const [first] = shapes as [Shape];
    const along = normalAxis(axis, first.length, "concat");
    shapes.forEach((s, i) => {
      if (s.length !== first.length || s.some((n, a) => a !== along && n !== first[a])) {
        const [a, b] = [formatShape(first), formatShape(s)];
        throw new ShapeError(
          `concat: part ${i} has shape ${b}, which doesn't fit ${a} along ${axis}`,
        );
      }
    });
    const total = shapes.reduce((n, s) => n + s[along]!, 0);
    return [first.map((n, a) => (a === along ? total : n))];
  },
  types: { inputs: ["T"], outputs: ["T"], T: ["f32", "i32"] },
  reference: ({ inputs, outputs: [out], options: axis }) => {
    const along = normalAxis(axis, out!.shape.length, "concat");
    const span = out!.shape.slice(along).reduce((product, n) => product * n, 1);
    let start = 0;
    for (const { data, shape } of inputs) {
      const own = shape.slice(along).reduce((product, n) => product * n, 1);
      data.forEach((value, i) => {
        out!.data[Math.floor(i / own) * span + start + (i % own)] = value;
      });
      start += own;
    }
  },
  vjp: (g, parts, { options: axis }) => {
    let from = 0;
    return parts.map((part) => {
      const along = normalAxis(axis, part.rank, "concat");
      const to = from + part.shape[along]!;
      const ranges = part.shape.map((_, a) => (a === along ? ([from, to] as const) : null));
      from = to;
      return g.slice(ranges);
    });
  },
  keeps: "nothing",
  wasm: wasm.concat,
  wgsl: wgsl.concat,
  sample: (draw) => {
    const shape = draw.shape(1, 3);
    const axis = draw.int(0, shape.length - 1);
    const parts = Array.from({ length: draw.int(1, 3) }, () => ({
      shape: shape.map((n, a) => (a === axis ? draw.size() : n)),
    }));
    return { inputs: parts, options: axis };
  },
});

/**
 * In place: cache[b, g, positions[b, i], :] = values[b, g, i, :]; how a KV cache grows.
 * cache [b g s d], values [b g t d], positions i32 [b t].
 */
export const writeRows: Call<[cache: Tensor, values: Tensor, positions: Tensor], unknown> =
  primitive({
    arity: 3,
    shape: ([cache, values, positions]) => {
      const [b, g, , d] = cache!;
      const t = values![2];
      const fits = `${values!}` === `${[b, g, t, d]}` && `${positions!}` === `${[b, t]}`;
      if (cache!.length === 4 && fits) return [];
      const shapes = [cache!, values!, positions!].map(formatShape).join(", ");
      throw new ShapeError(`writeRows: got ${shapes}, expected [b g s d], [b g t d], [b t]`);
    },
    types: { inputs: ["f32", "f32", "i32"], outputs: [] },
    updates: [0],
    reference: ({ inputs: [cache, values, positions] }) => {
      const [b, g, s, d] = cache!.shape as [number, number, number, number];
      const t = values!.shape[2]!;
      checkIndices("writeRows", positions!.data, s);
      for (let row = 0; row < b * g * t; row++) {
        const [batch, head] = [Math.floor(row / t / g), Math.floor(row / t)];
        const at = head * s + positions!.data[batch * t + (row % t)]!;
        cache!.data.set(values!.data.subarray(row * d, (row + 1) * d), at * d);
      }
    },
    vjp: missing("writes in place"),
    wasm: wasm.writeRows,
    wgsl: wgsl.writeRows,
    sample: (draw: Draw) => {
      const [b, g, t, d] = [draw.int(1, 3), draw.int(1, 2), draw.int(1, 3), draw.size()];
      const cache = { shape: [b, g, t, d] };
      // One row a cache entry, so that no two writes meet.
      const positions = { shape: [b, 1], dtype: "i32", low: 0, high: t - 1 } as const;
      return { inputs: [cache, { shape: [b, g, 1, d] }, positions], options: undefined };
    },
  });
