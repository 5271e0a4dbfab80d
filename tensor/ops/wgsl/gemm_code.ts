/** WGSL of matrix products: tiles of C in registers, blocks of A and B in workgroup memory. */

import { element } from "../../device/webgpu/kernel.ts";
import { findElements } from "../../device/webgpu/strides.ts";

/** Which index runs fastest in memory, where neighbouring threads should read neighbours. */
export type Fast = "k" | "side";

export interface Layout {
  readonly fastA: Fast;
  readonly fastB: Fast;
  /** Whether an operand lies in memory as f16. */
  readonly halfA: boolean;
  readonly halfB: boolean;
  /** Batch axes that are left after merging. */
  readonly axes: number;
  readonly add: boolean;
}

/** Steps of k between two barriers of the programs in this file. */
const DEPTH = 16;

export const four = (line: (i: number) => string): string =>
  [0, 1, 2, 3].map(line).join("\n      ");

/** The workgroup's tile of C: row0, column0, batch and where both operands' matrices begin. */
export const begin = (tile: number, axes: number, threads: number): string => `
@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) w: vec3u, @builtin(num_workgroups) grid: vec3u,
    @builtin(local_invocation_index) l: u32) {
  let unit = unit_of(w, grid);
  let at_tile = unit % (p.tiles_m * p.tiles_n);
  let batch = unit / (p.tiles_m * p.tiles_n);
  if (batch >= p.batch) { return; }
  let row0 = at_tile / p.tiles_n * ${tile}u;
  let column0 = at_tile % p.tiles_n * ${tile}u;
${findElements(["a", "b"], axes, "batch")}`;

export interface Tiled extends Layout {
  readonly tile: number;
  /** Arrays that are read or written four elements at a time. */
  readonly wide: ReadonlySet<string>;
  /** Operands are rounded to f16 on their way into workgroup memory; sums stay f32. */
  readonly half?: boolean;
}

export const halfOf = ({ halfA, halfB }: Pick<Layout, "halfA" | "halfB">, name: "a" | "b") =>
  (name === "a" ? halfA : halfB) ? "f16" : "f32";

/**
 * WGSL: load_NAME(base, side0, k0, e), the 4 x 4 block number e of an operand's tile: column i of
 * the result has four neighbouring rows (of B: columns), zeros behind the edges, at depth 4·k4 + i.
 */
export function loader(
  name: "a" | "b",
  fast: Fast,
  { tile, wide, ...how }: Pick<Tiled, "tile" | "wide" | "halfA" | "halfB">,
  depth = DEPTH,
): string {
  const dtype = halfOf(how, name);
  const side = name === "a" ? "m" : "n";
  const place = placeOf(fast, tile, depth);
  // A loop: over 16 calls in a row a software GPU's compiler takes minutes.
  const scalar = `
  var lines: array<vec4f, 4>;
  for (var j = 0u; j < 4u; j++) {
    lines[j] = vec4f(${[0, 1, 2, 3].map((i) => `${name}_at(base, side + ${i}u, k + j)`).join(", ")});
  }
  return mat4x4f(lines[0], lines[1], lines[2], lines[3]);`;
  const [line, along] = fast === "k" ? ["side + i", "k"] : ["k + i", "side"];
  const [bound, end] = fast === "k" ? [`p.${side}`, "p.k"] : ["p.k", `p.${side}`];
  const stride = fast === "k" ? `p.${name}_${side}` : `p.${name}_k`;
  const vectors = `
  var lines: array<vec4f, 4>;
  for (var i = 0u; i < 4u; i++) {
    let inside = ${line} < ${bound} && ${along} < ${end};
    let at = (base + (${line}) * ${stride} + ${along}) / 4u;
    lines[i] = select(vec4f(), ${element(name, dtype, "select(0u, at, inside)")}, inside);
  }
  let block = mat4x4f(lines[0], lines[1], lines[2], lines[3]);
  return ${fast === "k" ? "transpose(block)" : "block"};`;
  return `
${
  wide.has(name)
    ? ""
    : `fn ${name}_at(base: u32, side: u32, k: u32) -> f32 {
  let inside = side < p.${side} && k < p.k;
  let at = base + side * p.${name}_${side} + k * p.${name}_k;
  return select(0.0, ${element(name, dtype, `select(p.${name}_at, at, inside)`)}, inside);
}`
}
fn load_${name}(base: u32, side0: u32, k0: u32, e: u32) -> mat4x4f {
  ${place}
  let side = side0 + 4u * side4;
  let k = k0 + 4u * k4;${wide.has(name) ? vectors : scalar}
}`;
}

/** WGSL: where block e of a tile lies, so that neighbouring threads read neighbouring memory. */
export const placeOf = (fast: Fast, tile: number, depth = DEPTH): string =>
  fast === "k"
    ? `let k4 = e % ${depth / 4}u; let side4 = e / ${depth / 4}u;`
    : `let side4 = e % ${tile / 4}u; let k4 = e / ${tile / 4}u;`;

/**
 * Tiles of 64 x 64 or 128 x 128, of which each thread has 8 x 8: two by two blocks of 4 x 4, half
 * a tile apart. A tile lies in workgroup memory as vectors [depth][side / 4], with side / 4 exclusive-or'd by the depth
 * so that threads that write at once write to different banks.
 */
export function tiledCode(how: Tiled): string {
  const { tile, fastA, fastB, axes, add, wide, half = false } = how;
  const across = tile / 8;
  const kept = half ? "vec4h" : "vec4f";
  const narrow = (x: string) => (half ? `vec4h(${x})` : x);
  const widen = (x: string) => (half ? `vec4f(${x})` : x);
  const threads = across * across;
  const pitch = tile / 4;
  const blocks = tile; // 4 x 4 blocks of an operand's tile x DEPTH elements
  /** Reads block e of an operand's tile into workgroup memory. */
  const load = (name: "a" | "b", e: string) => {
    const [fast, from, at] =
      name === "a" ? [fastA, "a_i, row0", 0] : [fastB, "b_i, column0", DEPTH * pitch];
    return `{
        let e = ${e};
        let block = load_${name}(${from}, k0, e);
        ${placeOf(fast, tile)}
        let to = ${at}u + 4u * k4 * ${pitch}u + (side4 ^ (2u * k4));
        ${four((i) => `tiles[to + ${i * pitch}u] = ${narrow(`block[${i}]`)};`)}
      }`;
  };
  /** Threads enough for the blocks of both operands, or each thread reads one of either. */
  const loads =
    threads === 2 * blocks
      ? `if (l < ${blocks}u) ${load("a", "l")} else ${load("b", `l - ${blocks}u`)}`
      : `${load("a", "l")}\n      ${load("b", "l")}`;
  const halves = [0, 1] as const;
  const step = `
      let at = kk * ${pitch}u;
      let turned = kk / 4u * 2u;
      ${halves.map((h) => `let a${h} = ${widen(`tiles[at + ((y + ${h * across}u) ^ turned)]`)};`).join(" ")}
      ${halves.map((h) => `let b${h} = ${widen(`tiles[at + ${DEPTH * pitch}u + ((x + ${h * across}u) ^ turned)]`)};`).join(" ")}
      ${halves.map((h) => four((r) => halves.map((g) => `sum${h}${r}${g} = fma(vec4f(a${h}[${r}]), b${g}, sum${h}${r}${g});`).join(" "))).join("\n      ")}`;
  const total = (h: number, r: number, g: number) => `p.scale * sum${h}${r}${g}`;
  const put = (h: number, r: number, g: number) => {
    const at = `(c_i + ${h * (tile / 2) + r}u * p.n + ${g * (tile / 2)}u)`;
    if (wide.has("c")) {
      const where = `c[${at} / 4u]`;
      return `if (${g * (tile / 2)}u < columns) { ${where} = ${add ? `${where} + ` : ""}${total(h, r, g)}; }`;
    }
    return `{ let sum = ${total(h, r, g)}; ${[0, 1, 2, 3]
      .map((j) => {
        const where = `c[${at} + ${j}u]`;
        return `if (${g * (tile / 2) + j}u < columns) { ${where} = ${add ? `${where} + ` : ""}sum[${j}]; }`;
      })
      .join(" ")} }`;
  };
  return `
var<workgroup> tiles: array<${kept}, ${2 * DEPTH * pitch}>;
${loader("a", fastA, how)}${loader("b", fastB, how)}
${begin(tile, axes, threads)}
  let x = l % ${across}u;
  let y = l / ${across}u;
  ${halves.map((h) => four((r) => halves.map((g) => `var sum${h}${r}${g} = vec4f();`).join(" "))).join("\n      ")}
  for (var k0 = 0u; k0 < p.k; k0 += ${DEPTH}u) {
    ${loads}
    workgroupBarrier();
    for (var kk = 0u; kk < ${DEPTH}u; kk++) {${step}
    }
    workgroupBarrier();
  }
  let c_i = p.c_at + (batch * p.m + row0 + 4u * y) * p.n + column0 + 4u * x;
  let rows = p.m - min(p.m, row0 + 4u * y);
  let columns = p.n - min(p.n, column0 + 4u * x);
  ${halves.map((h) => four((r) => `if (${h * (tile / 2) + r}u < rows) { ${halves.map((g) => put(h, r, g)).join(" ")} }`)).join("\n      ")}
}
`;
}

/** Tiles of 16 x 16, of which each thread has 2 x 2, for products with few rows or columns. */
export const THREADS_SMALL_TILE = 16;
const OWN = 2;

export function smallCode(how: Layout): string {
  const { fastA, fastB, axes, add } = how;
  const tile = THREADS_SMALL_TILE;
  const threads = (tile / OWN) ** 2;
  const lines = (line: (i: number) => string) => [0, 1].map(line).join("\n      ");
  const each = (line: (i: number, j: number) => string) => lines((i) => lines((j) => line(i, j)));
  const read = (name: "a" | "b", fast: Fast) => {
    const side = name === "a" ? "m" : "n";
    const first = name === "a" ? "row0" : "column0";
    const split =
      fast === "k"
        ? `let kk = e % ${DEPTH}u; let side = e / ${DEPTH}u;`
        : `let side = e % ${tile}u; let kk = e / ${tile}u;`;
    return `
    for (var e = l; e < ${tile * DEPTH}u; e += ${threads}u) {
      ${split}
      let inside = ${first} + side < p.${side} && k0 + kk < p.k;
      let at = ${name}_i + (${first} + side) * p.${name}_${side} + (k0 + kk) * p.${name}_k;
      let x = ${element(name, halfOf(how, name), `select(p.${name}_at, at, inside)`)};
      tile_${name}[kk * ${tile}u + side] = select(0.0, x, inside);
    }`;
  };
  return `
var<workgroup> tile_a: array<f32, ${tile * DEPTH}>;
var<workgroup> tile_b: array<f32, ${tile * DEPTH}>;
${begin(tile, axes, threads)}
  let x = l % ${tile / OWN}u * ${OWN}u;
  let y = l / ${tile / OWN}u * ${OWN}u;
      ${each((i, j) => `var sum${i}${j} = 0.0;`)}
  for (var k0 = 0u; k0 < p.k; k0 += ${DEPTH}u) {${read("a", fastA)}${read("b", fastB)}
    workgroupBarrier();
    for (var kk = 0u; kk < ${DEPTH}u; kk++) {
      let at = kk * ${tile}u;
      ${lines((i) => `let a${i} = tile_a[at + y + ${i}u];`)}
      ${lines((j) => `let b${j} = tile_b[at + x + ${j}u];`)}
      ${each((i, j) => `sum${i}${j} = fma(a${i}, b${j}, sum${i}${j});`)}
    }
    workgroupBarrier();
  }
  let c_i = p.c_at + (batch * p.m + row0 + y) * p.n + column0 + x;
  let rows = p.m - min(p.m, row0 + y);
  let columns = p.n - min(p.n, column0 + x);
      ${each((i, j) => `if (${i}u < rows && ${j}u < columns) { c[c_i + ${i}u * p.n + ${j}u] ${add ? "+=" : "="} p.scale * sum${i}${j}; }`)}
}
`;
}
