/** Products with few rows or columns: the same bits as inside a large product, in every transpose. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Gemm } from "../tensor/device/wasm/gemm.ts";
import { emitGemm, gemm } from "../tensor/device/wasm/gemm.ts";
import { createMachine } from "../tensor/device/wasm/machine.ts";

/** Numbers in [-1, 1) from a fixed linear congruence. */
function fill(target: Float32Array, seed: number): void {
  let state = seed;
  for (let i = 0; i < target.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    target[i] = state / 2 ** 31;
  }
}

const bits = (x: Float32Array) => new Uint32Array(x.buffer, x.byteOffset, x.length);

for (const deterministic of [false, true]) {
  test(`few rows or columns, ${deterministic ? "" : "not "}deterministic`, () => {
    const single = createMachine([emitGemm], { threads: 1, deterministic });
    const [m, n] = [30, 45];
    for (const k of [1, 3, 70, 131]) {
      const [a, b, c] = [m * k, k * n, m * n].map((size) => single.arena.allocate(4 * size)) as [
        number,
        number,
        number,
      ];
      fill(single.f32.subarray(a / 4, a / 4 + m * k), 10);
      fill(single.f32.subarray(b / 4, b / 4 + k * n), 11);
      const start = new Float32Array(m * n);
      fill(start, 12);
      const run = (rows: number, columns: number, operands: Omit<Gemm, "m" | "k" | "n">) => {
        single.f32.set(start, c / 4);
        gemm(single, { ...operands, m: rows, k, n: columns, accumulate: true });
        return single.f32.slice(c / 4, c / 4 + m * n);
      };
      for (const [aRow, aCol] of [[k, 1] as const, [1, m] as const]) {
        for (const [bRow, bCol] of [[n, 1] as const, [1, k] as const]) {
          const operands = { a, aRow, aCol, b, bRow, bCol, c, ldc: n };
          const whole = run(m, n, operands);
          const same = (rows: number, columns: number) => {
            const part = run(rows, columns, operands);
            const expected = start.slice();
            for (let i = 0; i < rows; i++) {
              expected.set(whole.subarray(i * n, i * n + columns), i * n);
            }
            assert.deepEqual(bits(part), bits(expected), `${rows} x ${k} x ${columns}`);
          };
          for (let few = 1; few <= 13; few++) {
            same(few, n);
            same(m, few);
            for (const fewer of [1, 2, 5, 9]) same(few, fewer);
          }
        }
      }
      for (const address of [a, b, c]) single.arena.free(address);
    }
  });
}
