/** Matrix products: tiles of C in registers, blocks of A and B in workgroup memory. */

import type { Launcher, WgslKernel } from "../../device/webgpu/kernel.ts";
import { findElements, walk, walkUniforms } from "../../device/webgpu/strides.ts";
import { broadcastStrides } from "../../shape.ts";
import type { Dims } from "../../signature.ts";

/** Rows and columns of C in a workgroup of 16 x 16 threads, each with FOUR x FOUR of them. */
const TILE = 64;
const FOUR = 4;
const DEPTH = 16;

/** Which index runs fastest where a block is read: neighbours read neighbours. */
type Fast = "k" | "m" | "n";

/** Reads DEPTH x TILE elements of an operand, four for each thread, zeros behind its edges. */
function readBlock(name: "a" | "b", fast: Fast): string {
  const side = name === "a" ? "m" : "n";
  const [first, bound] = name === "a" ? ["row0", "p.m"] : ["column0", "p.n"];
  const split =
    fast === "k"
      ? `let kk = e % ${DEPTH}u; let ${side} = e / ${DEPTH}u;`
      : `let ${side} = e % ${TILE}u; let kk = e / ${TILE}u;`;
  return `
    for (var turn = 0u; turn < ${(TILE * DEPTH) / 256}u; turn++) {
      let e = l + turn * 256u;
      ${split}
      let inside = ${first} + ${side} < ${bound} && k0 + kk < p.k;
      let at = ${name}_i + (${first} + ${side}) * p.${name}_${side} + (k0 + kk) * p.${name}_k;
      tile_${name}[kk * ${TILE}u + ${side}] = select(0.0, ${name}[select(p.${name}_at, at, inside)], inside);
    }`;
}

const each = (body: (i: number) => string): string =>
  Array.from({ length: FOUR }, (_, i) => body(i)).join("\n      ");

const code = (fastA: Fast, fastB: Fast, axes: number): string => `
var<workgroup> tile_a: array<f32, ${TILE * DEPTH}>;
var<workgroup> tile_b: array<f32, ${TILE * DEPTH}>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(num_workgroups) grid: vec3u,
    @builtin(local_invocation_index) l: u32) {
  let unit = unit_of(w, grid);
  let tile = unit % (p.tiles_m * p.tiles_n);
  let batch = unit / (p.tiles_m * p.tiles_n);
  if (batch >= p.batch) { return; }
  let row0 = tile / p.tiles_n * ${TILE}u;
  let column0 = tile % p.tiles_n * ${TILE}u;
${findElements(["a", "b"], axes, "batch")}
  let x = l % ${TILE / FOUR}u * ${FOUR}u;
  let y = l / ${TILE / FOUR}u * ${FOUR}u;
  ${each((i) => `var sum${i} = vec4f(0.0);`)}
  for (var k0 = 0u; k0 < p.k; k0 += ${DEPTH}u) {${readBlock("a", fastA)}${readBlock("b", fastB)}
    workgroupBarrier();
    for (var kk = 0u; kk < ${DEPTH}u; kk++) {
      let at = kk * ${TILE}u + x;
      let right = vec4f(tile_b[at], tile_b[at + 1u], tile_b[at + 2u], tile_b[at + 3u]);
      ${each((i) => `sum${i} = fma(vec4f(tile_a[kk * ${TILE}u + y + ${i}u]), right, sum${i});`)}
    }
    workgroupBarrier();
  }
  let sums = array<vec4f, ${FOUR}>(${Array.from({ length: FOUR }, (_, i) => `sum${i}`).join(", ")});
  for (var i = 0u; i < ${FOUR}u; i++) {
    for (var j = 0u; j < ${FOUR}u; j++) {
      let row = row0 + y + i;
      let column = column0 + x + j;
      if (row < p.m && column < p.n) {
        c[p.c_at + (batch * p.m + row) * p.n + column] = sums[i][j];
      }
    }
  }
}
`;

export const matmul: WgslKernel = {
  strided: true,
  run(gpu: Launcher, { inputs: [a, b], outputs: [c], dims, batch }) {
    const { m, k, n, batch: count } = dims as Dims<"... m k, ... k n -> ... m n">;
    const lead = [a!, b!].map((view) =>
      broadcastStrides(view.shape.slice(0, -2), view.strides.slice(0, -2), batch),
    );
    const path = walk(batch, lead);
    const axes = path.sizes.length;
    const [[aM, aK], [bK, bN]] = [a!.strides.slice(-2), b!.strides.slice(-2)] as [
      [number, number],
      [number, number],
    ];
    const [fastA, fastB]: [Fast, Fast] = [aK === 1 ? "k" : "m", bN === 1 ? "n" : "k"];
    const [tilesM, tilesN] = [Math.ceil(m / TILE), Math.ceil(n / TILE)];
    gpu.dispatch({
      name: `f32_matmul_${TILE}x${TILE}_${fastA}${fastB}${axes}`,
      code: () => code(fastA, fastB, axes),
      ...{ reads: { a: a!, b: b! }, writes: { c: c! } },
      uniforms: {
        ...{ m, k, n, batch: count, tiles_m: tilesM, tiles_n: tilesN },
        ...{ a_m: aM, a_k: aK, b_k: bK, b_n: bN },
        ...walkUniforms(["a", "b"], path),
      },
      groups: count * tilesM * tilesN,
    });
  },
};
