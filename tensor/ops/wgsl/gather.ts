/** Indexed reads and writes. An index outside of its range reads some row, or writes none. */

import { copy, fillZero } from "../../device/webgpu/copy.ts";
import { element, type WgslKernel } from "../../device/webgpu/kernel.ts";
import { launchRows, launchThreads } from "../../device/webgpu/rows.ts";
import { normalAxis, rowMajor, sizeOf } from "../../shape.ts";

export const embedding: WgslKernel = {
  halves: true,
  run: (gpu, { inputs: [table, ids], outputs: [y] }) => {
    const [v, d] = table!.shape as [number, number];
    const body = `
  let id = min(u32(ids[p.ids_at + i / p.d]), p.v - 1u);
  y[p.y_at + i] = ${element("table", table!.dtype, "p.table_at + id * p.d + i % p.d")};`;
    launchThreads(gpu, {
      ...{
        name: `${table!.dtype}_embedding_thread`,
        body,
        size: sizeOf(y!.shape),
        uniforms: { v, d },
      },
      ...{ reads: { table: table!, ids: ids! }, writes: { y: y! } },
    });
  },
};

/**
 * No atomic additions, for these come in any order: the workgroup of an id's first occurrence adds
 * up all of its rows, from the first to the last.
 */
export const scatterRows: WgslKernel = {
  run: (gpu, { inputs: [x, ids], outputs: [y], options }) => {
    const [n, d] = [sizeOf(ids!.shape), x!.shape.at(-1)!];
    fillZero(gpu, y!);
    if (d === 0) return;
    const functions = "var<workgroup> earlier: atomic<u32>;\n";
    const body = `
  let id = ids[p.ids_at + row];
  for (var i = l; i < row; i += WIDTH) {
    if (ids[p.ids_at + i] == id) { atomicStore(&earlier, 1u); }
  }
  workgroupBarrier();
  if (atomicLoad(&earlier) == 0u && id >= 0 && u32(id) < p.v) {
    for (var column = l; column < p.d; column += WIDTH) {
      var total = 0.0;
      for (var i = row; i < p.n; i++) {
        if (ids[p.ids_at + i] == id) { total += x[p.x_at + i * p.d + column]; }
      }
      y[p.y_at + u32(id) * p.d + column] = total;
    }
  }`;
    launchRows(gpu, {
      ...{ name: "f32_scatter_rows_row", functions, body, rows: n, n, whole: true },
      ...{ reads: { x: x!, ids: ids! }, writes: { y: y! } },
      uniforms: { d, v: options as number },
    });
  },
};

export const takeAlong: WgslKernel = {
  run: (gpu, { inputs: [x, indices], outputs: [y], dims }) => {
    const { n, k } = dims as { n: number; k: number };
    const body = `
  let index = min(u32(indices[p.indices_at + i]), p.n - 1u);
  y[p.y_at + i] = x[p.x_at + i / p.k * p.n + index];`;
    launchThreads(gpu, {
      ...{ name: "f32_take_along_thread", body, size: sizeOf(y!.shape), uniforms: { n, k } },
      ...{ reads: { x: x!, indices: indices! }, writes: { y: y! } },
    });
  },
};

/** A thread for each element of y: it adds up the values that name it, from the first to the last. */
export const scatterAlong: WgslKernel = {
  run: (gpu, { inputs: [x, indices], outputs: [y], options }) => {
    const [n, k] = [options as number, x!.shape.at(-1)!];
    const body = `
  let first = i / p.n * p.k;
  let own = i32(i % p.n);
  var total = 0.0;
  for (var j = first; j < first + p.k; j++) {
    if (indices[p.indices_at + j] == own) { total += x[p.x_at + j]; }
  }
  y[p.y_at + i] = total;`;
    launchThreads(gpu, {
      ...{ name: "f32_scatter_along_thread", body, size: sizeOf(y!.shape), uniforms: { n, k } },
      ...{ reads: { x: x!, indices: indices! }, writes: { y: y! } },
    });
  },
};

export const concat: WgslKernel = {
  strided: true,
  run: (gpu, { inputs, outputs: [y], options }) => {
    const along = normalAxis(options as number, y!.shape.length, "concat");
    const strides = rowMajor(y!.shape);
    let start = 0;
    for (const part of inputs) {
      const offset = y!.offset + start * strides[along]!;
      copy(gpu, part, { ...y!, shape: part.shape, strides, offset });
      start += part.shape[along]!;
    }
  },
};

export const writeRows: WgslKernel = {
  run: (gpu, { inputs: [cache, values, positions] }) => {
    const [, g, s, d] = cache!.shape as [number, number, number, number];
    const t = values!.shape[2]!;
    const body = `
  let column = i % p.d;
  let row = i / p.d;
  let head = row / p.t;
  let place = positions[p.positions_at + head / p.g * p.t + row % p.t];
  if (place >= 0 && u32(place) < p.s) {
    cache[p.cache_at + (head * p.s + u32(place)) * p.d + column] = values[p.values_at + i];
  }`;
    launchThreads(gpu, {
      ...{ name: "f32_write_rows_thread", body, size: sizeOf(values!.shape) },
      uniforms: { g, s, d, t },
      ...{ reads: { values: values!, positions: positions! }, writes: { cache: cache! } },
    });
  },
};
