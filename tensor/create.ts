/** Making tensors: from JavaScript values, constants, ranges; which device they go to. */

import { setFiller } from "./autograd.ts";
import type { Device } from "./device/device.ts";
import { ReferenceDevice } from "./device/reference.ts";
import type { DType } from "./dtype.ts";
import { rowMajor, type Shape, ShapeError, sizeOf } from "./shape.ts";
import { Storage, Tensor } from "./tensor.ts";

export interface CreateOptions {
  readonly dtype?: DType;
  readonly device?: Device;
}

/** The f64 device of plain loops: the living definition of every op. */
export const reference: Device = new ReferenceDevice();

let current: Device | undefined;
let makeDefault: () => Device = () => reference;
/** Plugged in by mod.ts: the device used until setDevice is called, made at first use. */
export const setDefaultDevice = (make: () => Device): void => {
  makeDefault = make;
};
export const currentDevice = (): Device => {
  current ??= makeDefault();
  return current;
};
/** Makes `device` the one on which new tensors are made. Returns the one before. */
export function useDevice(device: Device): Device {
  const before = currentDevice();
  current = device;
  return before;
}

/** Nested arrays of numbers or booleans. */
export type Nested = number | boolean | readonly Nested[];

/**
 * A tensor of given values: nested arrays (the shape is theirs), or flat values and a shape.
 * Values default to f32; booleans to bool. Throws where lengths differ.
 */
export function tensor(
  values: Nested | ArrayLike<number>,
  shape?: Shape,
  options: CreateOptions = {},
): Tensor {
  const flat: number[] = [];
  const own = ArrayBuffer.isView(values)
    ? [(values as unknown as ArrayLike<number>).length]
    : flatten(values as Nested, flat);
  const data = ArrayBuffer.isView(values) ? (values as unknown as ArrayLike<number>) : flat;
  const target = shape ?? own;
  if (sizeOf(target) !== data.length) {
    throw new ShapeError(`tensor: ${data.length} values don't fill shape [${target.join(" ")}]`);
  }
  const inferred = ArrayBuffer.isView(values)
    ? values instanceof Int32Array
      ? "i32"
      : "f32"
    : isBoolean(values as Nested)
      ? "bool"
      : "f32";
  return fromData(data, target, options.dtype ?? inferred, options.device ?? currentDevice());
}

function flatten(values: Nested, into: number[]): Shape {
  if (typeof values === "number" || typeof values === "boolean") {
    into.push(Number(values));
    return [];
  }
  const shapes = values.map((item) => flatten(item, into));
  const [first] = shapes;
  if (shapes.some((s) => s.join() !== first!.join())) {
    throw new ShapeError("tensor: the nested arrays have different lengths");
  }
  return [values.length, ...(first ?? [])];
}

const isBoolean = (values: Nested): boolean =>
  Array.isArray(values) ? values.length > 0 && isBoolean(values[0]) : typeof values === "boolean";

function fromData(data: ArrayLike<number>, shape: Shape, dtype: DType, device: Device): Tensor {
  const buffer = device.allocate(data.length, dtype);
  device.write(buffer, data);
  const layout = { shape, strides: rowMajor(shape), offset: 0, dtype };
  return new Tensor(layout, device, new Storage(device, buffer), undefined);
}

/** A tensor without axes. */
export const scalar = (value: number, dtype: DType = "f32", device = currentDevice()): Tensor =>
  fromData([value], [], dtype, device);

/** Every element is `value`: one stored number, seen through strides of 0. */
export function full(shape: Shape, value: number, options: CreateOptions = {}): Tensor {
  const { dtype = "f32", device = currentDevice() } = options;
  const buffer = device.allocate(1, dtype);
  device.write(buffer, [value]);
  const layout = { shape, strides: shape.map(() => 0), offset: 0, dtype };
  return new Tensor(layout, device, new Storage(device, buffer), undefined);
}

/** Packed memory of zeros or ones, filled by the device: fit to be written in place. */
function packed(shape: Shape, value: number, options: CreateOptions): Tensor {
  const one = full(shape, value, options);
  const made = one.contiguous();
  one.dispose();
  return made;
}
export const zeros = (shape: Shape, options: CreateOptions = {}): Tensor =>
  packed(shape, 0, options);
export const ones = (shape: Shape, options: CreateOptions = {}): Tensor =>
  packed(shape, 1, options);

/** 0, 1, …, n-1. */
export const arange = (n: number, options: CreateOptions = {}): Tensor => {
  const values = Float64Array.from({ length: n }, (_, i) => i);
  return fromData(values, [n], options.dtype ?? "i32", options.device ?? currentDevice());
};

setFiller((device, shape, value) => full(shape, value, { device }));
