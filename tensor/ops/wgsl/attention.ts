/** Attention without its score matrix: blocks of scores in registers, a running softmax over them. */

import type { View } from "../../device/device.ts";
import type { Launcher, WgslKernel } from "../../device/webgpu/kernel.ts";
import { eachElement, LOWEST, launchRows } from "../../device/webgpu/rows.ts";

/**
 * One program for the forward pass and for each gradient. A workgroup has `tile` rows of its own
 * and goes through the rows of the other side, OTHERS at a time: a block of scores and, for some,
 * of products g·vᵀ; from both the weights; and what the weights multiply, summed in registers.
 *
 *            own    others   weight                     sums
 *   forward  query  key      exp(s - running maximum)   weight · v, divided by their total
 *   dq       query  key      scale · P (dP - delta)     weight · k
 *   dk       key    query    scale · P (dP - delta)     weight · q
 *   dv       key    query    P                          weight · g
 *
 * with P = exp(s - logTotal) and delta = Σ P dP = g · forward. The query rows of a group's heads
 * stand behind one another, so that sums over the heads of a group are sums over rows. Based on
 * https://arxiv.org/abs/2307.08691.
 */
interface Sweep {
  readonly name: string;
  readonly own: "query" | "key";
  /** The arrays whose rows give scores, and products g·vᵀ: those of own rows, those of others. */
  readonly scores: readonly [own: string, other: string];
  readonly slopes?: readonly [own: string, other: string];
  /** Rows of the other side that the weights multiply. */
  readonly values: string;
}
const FORWARD: Sweep = { name: "attention", own: "query", scores: ["q", "k"], values: "v" };
const SLOPES = { scores: ["q", "k"], slopes: ["g", "v"] } as const;
const DQ: Sweep = { name: "attention_dq", own: "query", ...SLOPES, values: "k" };
const MIRRORED = { scores: ["k", "q"], slopes: ["v", "g"] } as const;
const DK: Sweep = { name: "attention_dk", own: "key", ...MIRRORED, values: "q" };
const DV: Sweep = { name: "attention_dv", own: "key", scores: ["k", "q"], values: "g" };

/** Rows of the other side in a block, each thread having 4 x 4 elements of it. */
const OTHERS = 32;
const ACROSS = OTHERS / 4;
/** Components of a head between two barriers. */
const DEPTH = 16;
/** Columns of the result in a chunk, and chunks in a workgroup: more columns are other workgroups. */
const CHUNK = 32;
const CHUNKS = 4;

const FOUR = [0, 1, 2, 3] as const;
const four = (line: (i: number) => string): string => FOUR.map(line).join("\n    ");
const vector = (element: (j: number) => string): string => `vec4f(${FOUR.map(element).join(", ")})`;

function code(sweep: Sweep, tile: number, chunks: number): string {
  const threads = (tile / 4) * ACROSS;
  const pitch = tile + 1; // no two threads of a warp write to one bank
  const others = DEPTH * pitch;
  const scratch = Math.max(others + DEPTH * (OTHERS + 1), OTHERS * CHUNK);
  const online = sweep === FORWARD;
  const own = sweep.own === "query" ? "p.queries" : "p.keys";
  const other = sweep.own === "query" ? "p.keys" : "p.queries";

  const read = (array: string, side: "own" | "other") => {
    const [rows, count, at] =
      side === "own" ? [tile, own, `e % ${DEPTH}u * ${pitch}u + r`] : [OTHERS, other, ""];
    const place = at || `${others}u + e % ${DEPTH}u * ${OTHERS + 1}u + r`;
    return `
      for (var e = l; e < ${rows * DEPTH}u; e += ${threads}u) {
        let r = e / ${DEPTH}u;
        let c = c0 + e % ${DEPTH}u;
        let inside = ${side}0 + r < ${count} && c < p.d;
        let at = p.${array}_at + (pair * ${count} + ${side}0 + r) * p.d + c;
        scratch[${place}] = select(0.0, ${array}[select(p.${array}_at, at, inside)], inside);
      }`;
  };
  const product = (name: string, [left, right]: readonly [string, string]) => `
    ${four((i) => `var ${name}${i} = vec4f();`)}
    for (var c0 = 0u; c0 < p.d; c0 += ${DEPTH}u) {
      workgroupBarrier();${read(left, "own")}${read(right, "other")}
      workgroupBarrier();
      for (var c = 0u; c < ${DEPTH}u; c++) {
        let at = ${others}u + c * ${OTHERS + 1}u + x;
        let b = ${vector((j) => `scratch[at + ${j}u]`)};
        ${four((i) => `${name}${i} = fma(vec4f(scratch[c * ${pitch}u + y + ${i}u]), b, ${name}${i});`)}
      }
    }`;

  /** Which of a thread's 4 x 4 scores count: key j for query i iff j <= positions[i]. */
  const visible =
    sweep.own === "query"
      ? four((i) => `let visible${i} = other_index <= vec4i(seen${i});`)
      : `let seen = ${vector((j) => `f32(seen_by(pair, other0 + x + ${j}u))`)};
    ${four((i) => `let visible${i} = vec4f(f32(own0 + y + ${i}u)) <= seen;`)}`;
  const known = (array: string, i: number) =>
    sweep.own === "query"
      ? `vec4f(${array}${i})`
      : vector((j) => `${array}[p.${array}_at + min(first + ${j}u, last_query)]`);
  const factor = (i: number) => (sweep.slopes ? ` * (dp${i} - delta_of${i}) * p.scale` : "");
  const weights = online
    ? `
    ${four((i) => `s${i} = select(vec4f(${LOWEST}), s${i} * p.scale, visible${i});`)}
    workgroupBarrier();
    ${four((i) => `scratch[(y + ${i}u) * ${ACROSS}u + x / 4u] = max(max(s${i}.x, s${i}.y), max(s${i}.z, s${i}.w));`)}
    workgroupBarrier();
    ${four(
      (i) => `
    let most${i} = max(shift${i}, largest(y + ${i}u));
    let keep${i} = exp(shift${i} - most${i});
    shift${i} = most${i};
    let w${i} = select(vec4f(), exp(s${i} - most${i}), visible${i});
    total${i} = total${i} * keep${i} + (w${i}.x + w${i}.y + w${i}.z + w${i}.w);
    ${Array.from({ length: chunks }, (_, c) => `sum${c}_${i} *= keep${i};`).join(" ")}`,
    )}`
    : `
    let first = pair * p.queries + other0 + x;
    let last_query = p.pairs * p.queries - 1u;
    ${four((i) => `let log_total_of${i} = ${known("log_total", i)};`)}
    ${sweep.slopes ? four((i) => `let delta_of${i} = ${known("delta", i)};`) : ""}
    ${four((i) => `let w${i} = select(vec4f(), exp(s${i} * p.scale - log_total_of${i})${factor(i)}, visible${i});`)}`;
  const accumulate = (c: number) => `
    workgroupBarrier();
    for (var e = l; e < ${OTHERS * CHUNK}u; e += ${threads}u) {
      let r = e / ${CHUNK}u;
      let c = column0 + ${c * CHUNK}u + e % ${CHUNK}u;
      let inside = other0 + r < ${other} && c < p.d;
      let at = p.${sweep.values}_at + (pair * ${other} + other0 + r) * p.d + c;
      scratch[e] = select(0.0, ${sweep.values}[select(p.${sweep.values}_at, at, inside)], inside);
    }
    workgroupBarrier();
    for (var r = 0u; r < ${OTHERS}u; r++) {
      let at = r * ${CHUNK}u + x;
      let b = ${vector((j) => `scratch[at + ${j}u]`)};
      ${four((i) => `sum${c}_${i} = fma(vec4f(weights[r * ${pitch}u + y + ${i}u]), b, sum${c}_${i});`)}
    }`;
  const eachChunk = (text: (c: number) => string) =>
    Array.from({ length: chunks }, (_, c) => text(c)).join("\n  ");

  const span =
    sweep.own === "query"
      ? `
  var most_seen = -1;
  for (var i = 0u; i < ${tile}u; i++) { most_seen = max(most_seen, seen_by(pair, own0 + i)); }
  let end = min(p.keys, u32(most_seen + 1));`
      : "\n  let end = p.queries;";
  /** Queries that see none of the own keys: causal attention skips half of the blocks. */
  const skip =
    sweep.own === "query"
      ? ""
      : `
    var most_seen = -1;
    for (var i = 0u; i < ${OTHERS}u; i++) { most_seen = max(most_seen, seen_by(pair, other0 + i)); }
    if (most_seen < i32(own0)) { continue; }`;
  const perRow = (i: number) => {
    const seen = `let seen${i} = min(seen_by(pair, own0 + y + ${i}u), i32(p.keys) - 1);`;
    if (online) return `${seen} var shift${i} = ${LOWEST}; var total${i} = 0.0;`;
    const at = `min(pair * p.queries + own0 + y + ${i}u, p.pairs * p.queries - 1u)`;
    const loaded = `let log_total${i} = log_total[p.log_total_at + ${at}]; let delta${i} = delta[p.delta_at + ${at}];`;
    return sweep.own === "query" ? `${seen} ${loaded}` : "";
  };
  const finish = online
    ? `
  workgroupBarrier();
  ${four((i) => `scratch[(y + ${i}u) * ${ACROSS}u + x / 4u] = total${i};`)}
  workgroupBarrier();
  ${four(
    (i) => `{
    let total = sum_of(y + ${i}u);
    let share = select(0.0, 1.0 / total, total > 0.0);
    ${eachChunk((c) => `sum${c}_${i} *= share;`)}
    if (x + column0 == 0u && own0 + y + ${i}u < p.queries) {
      log_total[p.log_total_at + pair * p.queries + own0 + y + ${i}u] = select(0.0, shift${i} + log(total), total > 0.0);
    }
  }`,
  )}`
    : "";

  return `
var<workgroup> scratch: array<f32, ${scratch}>;
var<workgroup> weights: array<f32, ${OTHERS * pitch}>;

/** The last key that a query row sees; -1: none. */
fn seen_by(pair: u32, row: u32) -> i32 {
  if (row >= p.queries) { return -1; }
  return positions[p.positions_at + pair / p.groups * p.t + row % p.t];
}
fn largest(row: u32) -> f32 {
  var most = ${LOWEST};
  for (var i = 0u; i < ${ACROSS}u; i++) { most = max(most, scratch[row * ${ACROSS}u + i]); }
  return most;
}
fn sum_of(row: u32) -> f32 {
  var sum = 0.0;
  for (var i = 0u; i < ${ACROSS}u; i++) { sum += scratch[row * ${ACROSS}u + i]; }
  return sum;
}

@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) w: vec3u, @builtin(num_workgroups) grid: vec3u,
    @builtin(local_invocation_index) l: u32) {
  let unit = unit_of(w, grid);
  let column0 = unit % p.parts * ${CHUNK * CHUNKS}u;
  let own0 = unit / p.parts % p.blocks * ${tile}u;
  let pair = unit / p.parts / p.blocks;
  if (pair >= p.pairs) { return; }
  let x = l % ${ACROSS}u * 4u;
  let y = l / ${ACROSS}u * 4u;${span}
  ${four(perRow)}
  ${eachChunk((c) => FOUR.map((i) => `var sum${c}_${i} = vec4f();`).join(" "))}
  for (var other0 = 0u; other0 < end; other0 += ${OTHERS}u) {${skip}${product("s", sweep.scores)}
    ${sweep.slopes ? product("dp", sweep.slopes) : ""}
    let other_index = vec4i(i32(other0 + x)) + vec4i(0, 1, 2, 3);
    ${visible}${weights}
    ${four((i) => FOUR.map((j) => `weights[(x + ${j}u) * ${pitch}u + y + ${i}u] = w${i}[${j}];`).join(" "))}
    ${eachChunk(accumulate)}
  }${finish}
  for (var j = 0u; j < 4u; j++) {
    ${eachChunk(
      (c) => `{
      let column = column0 + ${c * CHUNK}u + x + j;
      ${four((i) => `if (column < p.d && own0 + y + ${i}u < ${own}) { y_out[p.y_out_at + (pair * ${own} + own0 + y + ${i}u) * p.d + column] = sum${c}_${i}[j]; }`)}
    }`,
    )}
  }
}
`;
}

interface Sizes {
  readonly pairs: number;
  readonly groups: number;
  readonly queries: number;
  readonly keys: number;
  readonly t: number;
  readonly d: number;
  readonly scale: number;
}

function sizesOf(q: View, k: View, options: unknown): Sizes {
  const [b, h, t, d] = q.shape as [number, number, number, number];
  const [, groups, keys] = k.shape as [number, number, number];
  const { scale } = options as { scale: number };
  return { pairs: b * groups, groups, queries: (h / groups) * t, keys, t, d, scale };
}

interface Arrays {
  readonly reads: Readonly<Record<string, View>>;
  readonly writes: Readonly<Record<string, View>>;
}

function launch(gpu: Launcher, sweep: Sweep, sizes: Sizes, { reads, writes }: Arrays): void {
  const { scale, ...whole } = sizes;
  const own = sweep.own === "query" ? sizes.queries : sizes.keys;
  const tile = own <= 16 ? 16 : 64;
  const chunks = Math.min(CHUNKS, Math.ceil(sizes.d / CHUNK));
  const [blocks, parts] = [Math.ceil(own / tile), Math.ceil(sizes.d / (CHUNK * CHUNKS))];
  gpu.dispatch({
    name: `f32_${sweep.name}_${tile}x${OTHERS}_${chunks * CHUNK}`,
    code: () => code(sweep, tile, chunks),
    ...{ reads, writes },
    ...{ uniforms: { ...whole, blocks, parts }, floats: { scale } },
    groups: sizes.pairs * blocks * parts,
  });
}

export const attention: WgslKernel = {
  run: (gpu, { inputs: [q, k, v, positions], outputs: [y], options }) => {
    const sizes = sizesOf(q!, k!, options);
    const reads = { q: q!, k: k!, v: v!, positions: positions! };
    const log_total = gpu.temporary(sizes.pairs * sizes.queries);
    launch(gpu, FORWARD, sizes, { reads, writes: { y_out: y!, log_total } });
  },
};

/** The forward pass once more, for each query's total and its delta; then a sweep per gradient. */
export const attentionVjp: WgslKernel = {
  run: (gpu, { inputs: [g, q, k, v, positions], outputs: [dq, dk, dv], options }) => {
    const sizes = sizesOf(q!, k!, options);
    const rows = sizes.pairs * sizes.queries;
    const [forward, log_total, delta] = [rows * sizes.d, rows, rows].map((n) => gpu.temporary(n));
    const reads = { q: q!, k: k!, v: v!, positions: positions! };
    const writes = { y_out: forward!, log_total: log_total! };
    launch(gpu, FORWARD, sizes, { reads, writes });
    launchRows(gpu, {
      ...{ name: "f32_attention_delta_row", folds: ["sum"], rows, n: sizes.d },
      body: `
  var part = 0.0;
  ${eachElement("part += g[p.g_at + row * p.n + i] * y[p.y_at + row * p.n + i];")}
  let delta_of = fold_sum(part);
  if (l == 0u) { delta[p.delta_at + row] = delta_of; }`,
      ...{ reads: { g: g!, y: forward! }, writes: { delta: delta! } },
    });
    const known = { log_total: log_total!, delta: delta! };
    launch(gpu, DQ, sizes, { reads: { ...reads, g: g!, ...known }, writes: { y_out: dq! } });
    launch(gpu, DK, sizes, { reads: { ...reads, g: g!, ...known }, writes: { y_out: dk! } });
    const { q: queries, k: keys } = reads;
    const few = { q: queries, k: keys, g: g!, positions: positions!, log_total: log_total! };
    launch(gpu, DV, sizes, { reads: few, writes: { y_out: dv! } });
  },
};
