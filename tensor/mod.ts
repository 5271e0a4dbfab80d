/** The public surface of the tensor library. */

import "./engine.ts";

export {
  backward,
  type GradientOptions,
  grad,
  gradients,
  isRecording,
  noGrad,
  requireGrad,
  valueAndGrad,
} from "./autograd.ts";
export {
  arange,
  currentDevice,
  full,
  ones,
  reference,
  scalar,
  tensor,
  useDevice,
  zeros,
} from "./create.ts";
export type { Buffer, Device, View } from "./device/device.ts";
export { ReferenceDevice } from "./device/reference.ts";
export { setDevice, type WasmOptions } from "./devices.ts";
export type { DType, TypedArray } from "./dtype.ts";
export { halfBits, halfToFloat, roundToHalf } from "./half.ts";
export { firstNonFinite, type NonFinite } from "./non_finite.ts";
export { type Definition, isMissing } from "./op.ts";
export { concat } from "./ops/gather.ts";
export { ops } from "./ops/mod.ts";
export { adamWAll } from "./ops/optimizer.ts";
export { globalNorm } from "./ops/reduce.ts";
export { philox4x32, randomStream, uniform01 } from "./random.ts";
export { keep, scope } from "./scope.ts";
export { type Shape, ShapeError } from "./shape.ts";
export { Tensor } from "./tensor.ts";
