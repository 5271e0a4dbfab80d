/** Matrix products: tiles of C in registers, blocks of A and B in workgroup memory. */

import type { Launcher, WgslKernel } from "../../device/webgpu/kernel.ts";
import { findElements, walk, walkUniforms } from "../../device/webgpu/strides.ts";
import { broadcastStrides } from "../../shape.ts";
import type { Dims } from "../../signature.ts";

/** A tile of C for a workgroup: tile x tile elements, `own` x `own` of them for each thread. */
interface Tile {
  readonly tile: number;
  readonly own: number;
}
const LARGE: Tile = { tile: 64, own: 4 };
const SMALL: Tile = { tile: 16, own: 2 };
/** Steps of k between two barriers. */
const DEPTH = 16;

/** Which index runs fastest where a block is read: neighbours read neighbours. */
type Fast = "k" | "m" | "n";

const threadsOf = ({ tile, own }: Tile): number => (tile / own) ** 2;

/** Reads DEPTH x tile elements of an operand, zeros behind its edges. */
function readBlock(name: "a" | "b", fast: Fast, shape: Tile): string {
  const { tile } = shape;
  const side = name === "a" ? "m" : "n";
  const [first, bound] = name === "a" ? ["row0", "p.m"] : ["column0", "p.n"];
  const split =
    fast === "k"
      ? `let kk = e % ${DEPTH}u; let ${side} = e / ${DEPTH}u;`
      : `let ${side} = e % ${tile}u; let kk = e / ${tile}u;`;
  const threads = threadsOf(shape);
  return `
    for (var e = l; e < ${tile * DEPTH}u; e += ${threads}u) {
      ${split}
      let inside = ${first} + ${side} < ${bound} && k0 + kk < p.k;
      let at = ${name}_i + (${first} + ${side}) * p.${name}_${side} + (k0 + kk) * p.${name}_k;
      tile_${name}[kk * ${tile}u + ${side}] = select(0.0, ${name}[select(p.${name}_at, at, inside)], inside);
    }`;
}

/** Lines for each index below n, one behind the other. */
const lines = (n: number, line: (i: number) => string): string =>
  Array.from({ length: n }, (_, i) => line(i)).join("\n      ");

function code(fastA: Fast, fastB: Fast, axes: number, shape: Tile): string {
  const { tile, own } = shape;
  const each = (line: (i: number, j: number) => string) =>
    lines(own, (i) => lines(own, (j) => line(i, j)));
  return `
var<workgroup> tile_a: array<f32, ${tile * DEPTH}>;
var<workgroup> tile_b: array<f32, ${tile * DEPTH}>;

@compute @workgroup_size(${threadsOf(shape)})
fn main(@builtin(workgroup_id) w: vec3u, @builtin(num_workgroups) grid: vec3u,
    @builtin(local_invocation_index) l: u32) {
  let unit = unit_of(w, grid);
  let at_tile = unit % (p.tiles_m * p.tiles_n);
  let batch = unit / (p.tiles_m * p.tiles_n);
  if (batch >= p.batch) { return; }
  let row0 = at_tile / p.tiles_n * ${tile}u;
  let column0 = at_tile % p.tiles_n * ${tile}u;
${findElements(["a", "b"], axes, "batch")}
  let x = l % ${tile / own}u * ${own}u;
  let y = l / ${tile / own}u * ${own}u;
      ${each((i, j) => `var sum${i}${j} = 0.0;`)}
  for (var k0 = 0u; k0 < p.k; k0 += ${DEPTH}u) {${readBlock("a", fastA, shape)}${readBlock("b", fastB, shape)}
    workgroupBarrier();
    for (var kk = 0u; kk < ${DEPTH}u; kk++) {
      let at = kk * ${tile}u;
      ${lines(own, (i) => `let a${i} = tile_a[at + y + ${i}u];`)}
      ${lines(own, (j) => `let b${j} = tile_b[at + x + ${j}u];`)}
      ${each((i, j) => `sum${i}${j} = fma(a${i}, b${j}, sum${i}${j});`)}
    }
    workgroupBarrier();
  }
  let target_row = p.c_at + (batch * p.m + row0 + y) * p.n + column0 + x;
  let rows = p.m - min(p.m, row0 + y);
  let columns = p.n - min(p.n, column0 + x);
      ${each((i, j) => `if (${i}u < rows && ${j}u < columns) { c[target_row + ${i}u * p.n + ${j}u] = sum${i}${j}; }`)}
}
`;
}

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
    const shape = Math.min(m, n) <= 2 * SMALL.tile ? SMALL : LARGE;
    const [tilesM, tilesN] = [Math.ceil(m / shape.tile), Math.ceil(n / shape.tile)];
    gpu.dispatch({
      name: `f32_matmul_${shape.tile}x${shape.tile}_${fastA}${fastB}${axes}`,
      code: () => code(fastA, fastB, axes, shape),
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
