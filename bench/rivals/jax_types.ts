/** The part of jax-js that is used here. Every call takes over its arguments; `ref` keeps one. */

import { load } from "./load.ts";

export interface JaxArray {
  readonly ref: JaxArray;
  readonly shape: number[];
  add(other: JaxArray | number): JaxArray;
  sub(other: JaxArray | number): JaxArray;
  mul(other: JaxArray | number): JaxArray;
  div(other: JaxArray | number): JaxArray;
  reshape(shape: readonly number[]): JaxArray;
  data(): Promise<ArrayLike<number>>;
  dispose(): void;
}

export type Tree = JaxArray | readonly Tree[] | { readonly [key: string]: Tree };
type AnyFunction = (...inputs: never[]) => Tree;

interface Numpy {
  array(values: Float32Array | Int32Array): JaxArray;
  zeros(shape: readonly number[]): JaxArray;
  ones(shape: readonly number[]): JaxArray;
  tril(x: JaxArray): JaxArray;
  matmul(a: JaxArray, b: JaxArray): JaxArray;
  einsum(subscripts: string, ...operands: JaxArray[]): JaxArray;
  transpose(x: JaxArray, axes?: readonly number[]): JaxArray;
  take(x: JaxArray, indices: JaxArray, axis: number): JaxArray;
  split(x: JaxArray, sections: number, axis: number): JaxArray[];
  concatenate(xs: readonly JaxArray[], axis: number): JaxArray;
  where(condition: JaxArray, x: JaxArray | number, y: JaxArray | number): JaxArray;
  greater(x: JaxArray, y: JaxArray | number): JaxArray;
  lessEqual(x: JaxArray, y: JaxArray | number): JaxArray;
  equal(x: JaxArray, y: JaxArray | number): JaxArray;
  arange(end: number): JaxArray;
  minimum(x: JaxArray, y: JaxArray | number): JaxArray;
  argmax(x: JaxArray, axis: number): JaxArray;
  square(x: JaxArray): JaxArray;
  sqrt(x: JaxArray): JaxArray;
  sum(x: JaxArray, axis?: number, options?: { keepdims: boolean }): JaxArray;
  mean(x: JaxArray, axis?: number, options?: { keepdims: boolean }): JaxArray;
}

export interface Jax {
  readonly numpy: Numpy;
  readonly nn: {
    softmax(x: JaxArray): JaxArray;
    logSoftmax(x: JaxArray): JaxArray;
    silu(x: JaxArray): JaxArray;
    oneHot(x: JaxArray, classes: number): JaxArray;
  };
  readonly random: {
    key(seed: number): JaxArray;
    categorical(key: JaxArray, logits: JaxArray): JaxArray;
  };
  readonly tree: { ref<T extends Tree>(tree: T): T; dispose(tree: Tree): void };
  jit<F extends AnyFunction>(f: F): F & { dispose(): void };
  grad<F extends AnyFunction>(
    f: F,
    options: { argnums: number[] },
  ): (...inputs: Parameters<F>) => JaxArray[];
  valueAndGrad<T extends Tree, R extends JaxArray[]>(
    f: (tree: T, ...rest: R) => JaxArray,
  ): (tree: T, ...rest: R) => [JaxArray, T];
  blockUntilReady<T extends Tree>(tree: T): Promise<T>;
  init(device: "wasm"): Promise<readonly string[]>;
  defaultDevice(device: "wasm"): string;
}

/** jax-js on its WebAssembly device. */
export async function loadJax(): Promise<Jax> {
  const jax = await load<Jax>("@jax-js/jax");
  const found = await jax.init("wasm");
  if (!found.includes("wasm")) throw new Error("jax-js found no wasm device");
  jax.defaultDevice("wasm");
  return jax;
}
