/** A rival: three loops over Float32Arrays, innermost over the columns of C where that is possible. */

import { Cannot, serve } from "./protocol.ts";
import { input, samplesOf } from "./tasks.ts";

type Loops = (a: Float32Array, b: Float32Array, c: Float32Array, sizes: Sizes) => void;
interface Sizes {
  readonly m: number;
  readonly k: number;
  readonly n: number;
}

const NN: Loops = (a, b, c, { m, k, n }) => {
  c.fill(0);
  for (let i = 0; i < m; i++) {
    for (let p = 0; p < k; p++) {
      const x = a[i * k + p]!;
      for (let j = 0; j < n; j++) c[i * n + j]! += x * b[p * n + j]!;
    }
  }
};
const NT: Loops = (a, b, c, { m, k, n }) => {
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < n; j++) {
      let sum = 0;
      for (let p = 0; p < k; p++) sum += a[i * k + p]! * b[j * k + p]!;
      c[i * n + j] = sum;
    }
  }
};
const TN: Loops = (a, b, c, { m, k, n }) => {
  c.fill(0);
  for (let p = 0; p < k; p++) {
    for (let i = 0; i < m; i++) {
      const x = a[p * m + i]!;
      for (let j = 0; j < n; j++) c[i * n + j]! += x * b[p * n + j]!;
    }
  }
};

await serve(async () => ({
  ...{ version: `Node ${process.versions.node}`, threads: 1 },
  prepare: (task) => {
    if (task.kind !== "gemm") throw new Cannot("the plain loops are matrix products only");
    const { m, k, n, transpose } = task;
    const [a, b, c] = [input(m * k, 1), input(k * n, 2), new Float32Array(m * n)];
    const run = () => ({ NN, NT, TN })[transpose](a, b, c, { m, k, n });
    return {
      run,
      check: () => {
        run();
        return samplesOf(c);
      },
    };
  },
}));
