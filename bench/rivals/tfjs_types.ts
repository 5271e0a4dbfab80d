/** The part of TensorFlow.js that is used here, and its start on the wasm backend. */

import { dirname, join } from "node:path";
import { folder } from "./install.ts";
import { load } from "./load.ts";

export interface TfTensor {
  readonly shape: readonly number[];
  add(other: TfTensor | number): TfTensor;
  sub(other: TfTensor | number): TfTensor;
  mul(other: TfTensor | number): TfTensor;
  div(other: TfTensor | number): TfTensor;
  square(): TfTensor;
  sqrt(): TfTensor;
  sum(axis?: number, keepDims?: boolean): TfTensor;
  mean(axis: number, keepDims?: boolean): TfTensor;
  minimum(other: TfTensor | number): TfTensor;
  softmax(): TfTensor;
  logSoftmax(): TfTensor;
  sigmoid(): TfTensor;
  reshape(shape: readonly number[]): TfTensor;
  transpose(axes: readonly number[]): TfTensor;
  matMul(other: TfTensor, transposeA?: boolean, transposeB?: boolean): TfTensor;
  gather(indices: TfTensor): TfTensor;
  dataSync(): Float32Array;
  dispose(): void;
}
export interface TfVariable extends TfTensor {
  assign(value: TfTensor): void;
}

export interface Tf {
  tensor(values: Float32Array, shape: readonly number[]): TfTensor;
  tensor1d(values: Int32Array, dtype: "int32"): TfTensor;
  variable(value: TfTensor, trainable: boolean, name: string): TfVariable;
  zeros(shape: readonly number[]): TfTensor;
  oneHot(indices: TfTensor, depth: number): TfTensor;
  split(x: TfTensor, parts: number, axis: number): TfTensor[];
  concat(xs: readonly TfTensor[], axis: number): TfTensor;
  cast(x: TfTensor, dtype: "float32"): TfTensor;
  tidy<T>(body: () => T): T;
  keep(x: TfTensor): TfTensor;
  grads(
    f: (...inputs: TfTensor[]) => TfTensor,
  ): (inputs: readonly TfTensor[], dy?: TfTensor) => TfTensor[];
  variableGrads(
    f: () => TfTensor,
    variables: readonly TfVariable[],
  ): { value: TfTensor; grads: Record<string, TfTensor> };
  setBackend(name: "wasm"): Promise<boolean>;
  ready(): Promise<void>;
}

/** TensorFlow.js on its wasm backend: SIMD, one thread (it has threads in browsers only). */
export async function loadTf(): Promise<Tf> {
  const tf = await load<Tf>("@tensorflow/tfjs");
  const backend = "@tensorflow/tfjs-backend-wasm";
  const wasm = await load<{ setWasmPaths(path: string): void }>(backend);
  wasm.setWasmPaths(`${dirname(join(folder, "node_modules", backend, "dist", "index.js"))}/`);
  if (!(await tf.setBackend("wasm"))) throw new Error("TensorFlow.js has no wasm backend here");
  await tf.ready();
  return tf;
}
