/** Rotary positions; and with them, how new keys and values enter a cache. */

import { type Block, type Call, fused, missing, primitive } from "../op.ts";
import { formatShape, type Shape, ShapeError, sameShape } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { checkIndices, concat } from "./gather.ts";
import * as wasm from "./wasm/rope.ts";
import * as wgsl from "./wgsl/rope.ts";

/** Whether cos and sin are tables [p d/2] for rows of d elements. */
const areTables = (cos: Shape, sin: Shape, d: number): boolean =>
  cos.length === 2 && sameShape(cos, sin) && 2 * cos[1]! === d;

export interface RopeOptions {
  /** Turn back: the transpose, and the inverse, of turning. */
  readonly inverse?: boolean;
}

/**
 * Rotary positions (https://arxiv.org/abs/2104.09864), halves convention of Hugging Face: with x =
 * [x₁ x₂] split in the middle and p = positions[b, t], y = [x₁cos_p - x₂sin_p, x₂cos_p + x₁sin_p].
 * x [b h t d], positions i32 [b t], cos and sin [p d/2]: tables, so that any scaling rule fits.
 */
export const rope: Call<
  [x: Tensor, positions: Tensor, cos: Tensor, sin: Tensor, options?: RopeOptions]
> = fused<RopeOptions | undefined>({
  arity: 4,
  shape: ([x, positions, cos, sin]) => {
    const [b, , t, d] = x!;
    const rows = x!.length === 4 && sameShape(positions!, [b!, t!]);
    if (rows && areTables(cos!, sin!, d!)) return [x!];
    const shapes = [x!, positions!, cos!, sin!].map(formatShape).join(", ");
    throw new ShapeError(`rope: got ${shapes}, expected [b h t d], [b t], [p d/2], [p d/2]`);
  },
  types: { inputs: ["f32", "i32", "f32", "f32"], outputs: ["f32"] },
  composed: ([x, positions, cos, sin], { inverse = false } = {}) => {
    const [b, , t, d] = x!.shape as [number, number, number, number];
    const c = cos!.embedding(positions!).reshape([b, 1, t, d / 2]);
    const turn = sin!.embedding(positions!).reshape([b, 1, t, d / 2]);
    const s = inverse ? turn.neg() : turn;
    const first = x!.slice([null, null, null, [0, d / 2]]);
    const second = x!.slice([null, null, null, [d / 2, d]]);
    return concat([first.mul(c).sub(second.mul(s)), second.mul(c).add(first.mul(s))], -1);
  },
  // The tables are constants.
  vjp: (g, [, positions, cos, sin], { options: { inverse = false } = {} }) => [
    g.rope(positions!, cos!, sin!, { inverse: !inverse }),
    null,
    null,
    null,
  ],
  constants: [2, 3],
  keeps: [1, 2, 3],
  wasm: wasm.rope,
  wgsl: wgsl.rope,
  sample: (draw) => {
    const [b, h, t, half] = [draw.int(1, 2), draw.int(1, 2), draw.size(), draw.int(1, 5)];
    const table: Shape = [draw.int(1, 9), half];
    const positions = { shape: [b, t], dtype: "i32", low: 0, high: table[0]! - 1 } as const;
    const x = { shape: [b, h, t, 2 * half] };
    const options = draw.choice([undefined, { inverse: true }]);
    return { inputs: [x, positions, { shape: table }, { shape: table }], options };
  },
});

/**
 * A pass with a cache, all that is between its projections and its attention, in one launch: turns
 * the queries (see rope), and in place writes the turned keys and the values at their positions,
 * keys[b, g, positions[b, i]] = rope(k)[b, g, i], like writeRows. Returns the turned queries.
 * q [b h t d], k and v [b g t d], keys and values [b g s d], positions i32 [b t], tables [p d/2].
 */
export const extendCache: Call<
  [
    q: Tensor,
    k: Tensor,
    v: Tensor,
    keys: Tensor,
    values: Tensor,
    positions: Tensor,
    cos: Tensor,
    sin: Tensor,
  ]
> = primitive({
  arity: 8,
  shape: ([q, k, v, keys, values, positions, cos, sin]) => {
    const [b, , t, d] = q!;
    const [, g, s] = keys!;
    const rows = q!.length === 4 && sameShape(k!, [b!, g!, t!, d!]) && sameShape(v!, k!);
    const cache = sameShape(keys!, [b!, g!, s!, d!]) && sameShape(values!, keys!);
    if (rows && cache && sameShape(positions!, [b!, t!]) && areTables(cos!, sin!, d!)) return [q!];
    const shapes = [q!, k!, v!, keys!, values!, positions!, cos!, sin!].map(formatShape).join(", ");
    throw new ShapeError(
      `extendCache: got ${shapes}, expected [b h t d], twice [b g t d], twice [b g s d], [b t], ` +
        "twice [p d/2]",
    );
  },
  types: {
    inputs: ["f32", "f32", "f32", "f32", "f32", "i32", "f32", "f32"],
    outputs: ["f32"],
  },
  updates: [3, 4],
  reference: ({ inputs, outputs: [out] }) => {
    const [q, k, v, keys, values, positions, cos, sin] = inputs as Block[];
    const [, , s] = keys!.shape as [number, number, number];
    checkIndices("extendCache", positions!.data, Math.min(s, cos!.shape[0]!));
    const turned = (x: Float64Array, place: number) => {
      const half = x.length / 2;
      return x.map((value, i) => {
        const at = place * half + (i % half);
        const other = i < half ? -x[i + half]! : x[i - half]!;
        return value * cos!.data[at]! + other * sin!.data[at]!;
      });
    };
    const same = (x: Float64Array) => x;
    eachRow(q!, positions!, (x, at, place) => out!.data.set(turned(x, place), at * x.length));
    for (const [from, to, change] of [
      [k!, keys!, turned],
      [v!, values!, same],
    ] as const) {
      eachRow(from, positions!, (x, _, place, head) => {
        to.data.set(change(x, place), (head * s + place) * x.length);
      });
    }
  },
  vjp: missing("writes in place"),
  wasm: wasm.extendCache,
  wgsl: wgsl.extendCache,
  sample: (draw) => {
    const [b, g, s, half] = [draw.int(1, 3), draw.int(1, 2), draw.int(1, 5), draw.int(1, 5)];
    const [table, x] = [{ shape: [s, half] }, { shape: [b, g, 1, 2 * half] }];
    const queries = { shape: [b, g * draw.int(1, 3), 1, 2 * half] };
    const cache = { shape: [b, g, s, 2 * half] };
    const positions = { shape: [b, 1], dtype: "i32", low: 0, high: s - 1 } as const;
    const inputs = [queries, x, x, cache, cache, positions, table, table];
    return { inputs, options: undefined };
  },
});

/** Visits the rows of x [b h t d] with their number, position and plane (batch · h + head). */
function eachRow(
  { data, shape }: Block,
  positions: Block,
  visit: (row: Float64Array, at: number, place: number, plane: number) => void,
): void {
  const [b, h, t, d] = shape as [number, number, number, number];
  for (let at = 0; at < b * h * t; at++) {
    const plane = Math.floor(at / t);
    const place = positions.data[Math.floor(plane / h) * t + (at % t)]!;
    visit(data.subarray(at * d, (at + 1) * d), at, place, plane);
  }
}
