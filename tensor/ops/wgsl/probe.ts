/** What a device may use: programs that an adapter gets wrong are found out before they are trusted. */

import type { View } from "../../device/device.ts";
import { type Choice, WebGpuDevice } from "../../device/webgpu/device.ts";
import { findGpu, type Gpu, type GpuOptions } from "../../device/webgpu/gpu.ts";
import { eachElement, launchRows } from "../../device/webgpu/rows.ts";
import { launchGemm, matrix } from "./gemm.ts";

/** Small whole numbers: their products and sums are exact in f16 and f32. */
const wholeNumbers = (size: number, step: number): number[] =>
  Array.from({ length: size }, (_, i) => ((i * step) % 9) - 4);

type Filled = readonly [values: readonly number[] | number, shape: readonly number[]];

/** Runs `body` on arrays with these values (or so many) and compares the last one; false on errors. */
async function isRight(
  device: WebGpuDevice,
  arrays: readonly Filled[],
  body: (views: readonly View[]) => void,
  expected: (i: number) => number,
): Promise<boolean> {
  const views = arrays.map(([values, shape]): View => {
    const size = typeof values === "number" ? values : values.length;
    const buffer = device.allocate(size, "f32");
    const strides = shape.map((_, axis) => shape.slice(axis + 1).reduce((a, b) => a * b, 1));
    return { buffer, dtype: "f32", shape, strides, offset: 0 };
  });
  try {
    arrays.forEach(([values], i) => {
      if (typeof values !== "number") device.write(views[i]!.buffer, values);
    });
    body(views);
    return (await device.read(views.at(-1)!)).every((x, i) => x === expected(i));
  } catch (error) {
    console.warn(error instanceof Error ? error.message : error);
    return false;
  } finally {
    for (const { buffer } of views) device.free(buffer);
  }
}

/** Larger than a tile, with edges everywhere. */
const TILES = { m: 150, k: 70, n: 140, turned: false } as const;
/** Few rows; vectors along the columns of B, along k, and none. */
const THIN = [
  { m: 8, k: 70, n: 140, turned: false },
  { m: 3, k: 72, n: 35, turned: true },
  { m: 1, k: 71, n: 35, turned: true },
] as const;

/** Whether the device multiplies two matrices of small whole numbers exactly; false also on errors. */
export function multipliesExactly(
  device: WebGpuDevice,
  { m, k, n, turned }: { m: number; k: number; n: number; turned: boolean } = TILES,
): Promise<boolean> {
  const [left, right] = [wholeNumbers(m * k, 7), wholeNumbers(k * n, 5)];
  const strides = turned ? ([1, k] as const) : ([n, 1] as const);
  const arrays = [[left, [m, k]] as const, [right, [k, n]] as const, [m * n, [m, n]] as const];
  const multiply = ([a, b, c]: readonly View[]) =>
    device.launch((gpu) => {
      const operands = { a: matrix(a!, [k, 1]), b: matrix(b!, strides) };
      launchGemm(gpu, { m, k, n, batch: [], ...operands, c: c! });
    });
  return isRight(device, arrays, multiply, (at) => {
    const [row, column] = [Math.floor(at / n), at % n];
    let sum = 0;
    for (let i = 0; i < k; i++) {
      sum += left[row * k + i]! * right[i * strides[0] + column * strides[1]]!;
    }
    return sum;
  });
}

/** Whether rows of n whole numbers, more of them than one workgroup takes, are folded exactly. */
function foldsExactly(device: WebGpuDevice, n: number): Promise<boolean> {
  const rows = 19;
  const values = wholeNumbers(rows * n, 11).map((x, i) => x + (i % 101));
  const body = `
  var sum = 0.0;
  var largest = x[p.x_at + row * p.n];
  var least = largest;
  ${eachElement("let own = x[p.x_at + row * p.n + i]; sum += own; largest = max(largest, own); least = min(least, own);")}
  sum = fold_sum(sum);
  largest = fold_max(largest);
  sum += fold_sum(select(0.0, 1.0, l < 1u));
  least = fold_min(least);
  if (l == 0u) { y[3u * row] = sum; y[3u * row + 1u] = largest; y[3u * row + 2u] = least; }`;
  const fold = ([x, y]: readonly View[]) =>
    device.launch((gpu) =>
      launchRows(gpu, {
        ...{ name: "f32_probe_row", folds: ["sum", "max", "min"], body, rows, n },
        ...{ reads: { x: x! }, writes: { y: y! } },
      }),
    );
  const arrays = [[values, [rows, n]] as const, [3 * rows, [rows, 3]] as const];
  return isRight(device, arrays, fold, (at) => {
    const row = Math.floor(at / 3);
    const own = values.slice(row * n, (row + 1) * n);
    const sum = 1 + own.reduce((all, x) => all + x, 0);
    return [sum, Math.max(...own), Math.min(...own)][at % 3]!;
  });
}

/** Rows of 16, 32, 64 and 128 threads. */
const ROWS = [61, 127, 200, 1000] as const;

/** Whether folds of all widths are exact, and products of few rows where the device has them. */
export async function subgroupsAreRight(device: WebGpuDevice): Promise<boolean> {
  for (const n of ROWS) if (!(await foldsExactly(device, n))) return false;
  for (const sizes of device.thinProducts ? THIN : []) {
    if (!(await multipliesExactly(device, sizes))) return false;
  }
  return true;
}

/**
 * A device whose products have f16 operands: on subgroup matrices where the adapter has them and
 * they multiply right, else on tiles. Throws an Error where there is no such device.
 */
export async function deviceWithHalf(
  find: () => Promise<Gpu>,
  choice: Choice = {},
): Promise<WebGpuDevice> {
  let refused = "this adapter lacks shader-f16";
  for (const products of ["subgroup-matrix", "f16"] as const) {
    const gpu = await find();
    const offered = products === "f16" ? gpu.features.includes("shader-f16") : gpu.subgroupMatrix;
    if (offered) {
      const device = new WebGpuDevice(gpu, { ...choice, products });
      if (await multipliesExactly(device)) return device;
      refused = `this adapter multiplies wrongly with ${products}`;
      console.warn(`webgpu: ${refused}; it is not used`);
    }
    gpu.device.destroy();
  }
  throw new Error(`webgpu: no products with matmulPrecision f16: ${refused}; use f32`);
}

/** A device as asked for; without subgroups where the adapter gets these wrong, and says so. */
export async function probedDevice(
  options: GpuOptions,
  find: () => Promise<Gpu> = () => findGpu(options),
): Promise<WebGpuDevice> {
  const { storage = "f32", subgroups = "rows" } = options;
  const make = async (choice: Choice): Promise<WebGpuDevice> =>
    options.matmulPrecision === "f16"
      ? deviceWithHalf(find, choice)
      : new WebGpuDevice(await find(), choice);
  const device = await make({ storage, subgroups });
  if (device.subgroups === undefined || (await subgroupsAreRight(device))) return device;
  console.warn("webgpu: this adapter computes wrongly with subgroups; they are not used");
  device.destroy();
  return make({ storage, subgroups: false, refused: "this adapter computes wrongly with them" });
}
