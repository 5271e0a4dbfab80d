/** GEMM on the wasm machine against f64 loops: sizes, transposes, strides, threads, bits. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import type { Gemm } from "../tensor/device/wasm/gemm.ts";
import { emitGemm, gemm } from "../tensor/device/wasm/gemm.ts";
import type { Machine } from "../tensor/device/wasm/machine.ts";
import { createMachine } from "../tensor/device/wasm/machine.ts";

describe("gemm", () => {
  const machines = [1, 2, 3].map((threads) => createMachine([emitGemm], { threads }));
  for (const machine of machines) machine.warmUp(5000);
  const [single] = machines as [Machine, ...Machine[]];

  interface Case {
    readonly m: number;
    readonly k: number;
    readonly n: number;
    readonly aTransposed: boolean;
    readonly bTransposed: boolean;
    /** Extra elements between rows (or columns) of A, B and C, and between products of a batch. */
    readonly gap: number;
    readonly count: number;
    readonly accumulate: boolean;
  }

  /** Numbers in [-1, 1) from a fixed linear congruence: cheap, and independent of the sizes. */
  function fill(target: Float32Array, seed: number): void {
    let state = seed;
    for (let i = 0; i < target.length; i++) {
      state = (Math.imul(state, 1664525) + 1013904223) | 0;
      target[i] = state / 2 ** 31;
    }
  }

  const SENTINEL = 12345.5;

  /** Runs a case; the whole memory around C must keep its sentinels, and inputs their values. */
  function product(machine: Machine, it: Case): Float32Array {
    const { m, k, n, gap, count, accumulate } = it;
    const [aRow, aCol] = it.aTransposed ? [1, m + gap] : [k + gap, 1];
    const [bRow, bCol] = it.bTransposed ? [1, k + gap] : [n + gap, 1];
    const aStride = (it.aTransposed ? k * (m + gap) : m * (k + gap)) + gap;
    const bStride = (it.bTransposed ? n * (k + gap) : k * (n + gap)) + gap;
    const ldc = n + gap;
    const cStride = m * ldc + gap;
    const place = (size: number, seed: number) => {
      const address = machine.arena.allocate(4 * size);
      // What lies behind the operands must never reach a result: it is NaN.
      machine.f32.fill(Number.NaN, address / 4, address / 4 + size + 4);
      const view = machine.f32.subarray(address / 4, address / 4 + size);
      fill(view, seed);
      return { address, view };
    };
    const a = place(count * aStride, 1);
    const b = place(count * bStride, 2);
    const c = place(count * cStride + 32, 3);
    const start = new Float32Array(count * cStride);
    fill(start, 4);
    c.view.fill(SENTINEL);
    const inside = (visit: (at: number) => void) => {
      for (let q = 0; q < count; q++) {
        for (let i = 0; i < m; i++) {
          for (let j = 0; j < n; j++) visit(q * cStride + i * ldc + j);
        }
      }
    };
    inside((at) => {
      c.view[16 + at] = accumulate ? start[at]! : Number.NaN;
    });
    const operands = { a: a.address, aRow, aCol, b: b.address, bRow, bCol, c: c.address + 64, ldc };
    const batch = { count, aStride, bStride, cStride };
    gemm(machine, { m, k, n, ...operands, batch, accumulate });
    const result = c.view.slice();
    const checked = new Uint8Array(result.length);
    inside((at) => {
      checked[16 + at] = 1;
    });
    for (const [at, value] of result.entries()) {
      if (checked[at] === 0) assert.equal(value, SENTINEL, `wrote outside C at ${at - 16}`);
    }
    for (let q = 0; q < count; q++) {
      for (let i = 0; i < m; i++) {
        for (let j = 0; j < n; j++) {
          const at = q * cStride + i * ldc + j;
          let sum = accumulate ? start[at]! : 0;
          let size = Math.abs(sum);
          for (let p = 0; p < k; p++) {
            const x = a.view[q * aStride + i * aRow + p * aCol]!;
            const term = x * b.view[q * bStride + p * bRow + j * bCol]!;
            sum += term;
            size += Math.abs(term);
          }
          const error = Math.abs(sum - result[16 + at]!);
          const bound = (k + 1) * 2 ** -23 * size;
          assert.ok(error <= bound, `C[${q}, ${i}, ${j}] is ${result[16 + at]}, not ${sum}`);
        }
      }
    }
    for (const { address } of [a, b, c]) machine.arena.free(address);
    return result;
  }

  const around = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 15, 16, 17, 23, 24, 25, 31, 32, 33];
  const sizes = fc.constantFrom(...around, 37, 47, 48, 49, 61, 64, 67);
  const cases: fc.Arbitrary<Case> = fc.record({
    m: sizes,
    k: sizes,
    n: sizes,
    aTransposed: fc.boolean(),
    bTransposed: fc.boolean(),
    gap: fc.constantFrom(0, 0, 1, 3, 4),
    count: fc.constantFrom(1, 1, 2, 3),
    accumulate: fc.boolean(),
  });

  test("random sizes, transposes, strides, batches: f64 loops agree, threads change no bit", () => {
    fc.assert(
      fc.property(cases, (it) => {
        const [first, ...others] = machines.map((machine) => product(machine, it));
        for (const other of others) assert.deepEqual(bits(other), bits(first!));
      }),
      { seed: 20260, numRuns: 400 },
    );
  });

  test("few rows or columns: f64 loops agree, threads change no bit", () => {
    const few = fc.integer({ min: 1, max: 13 });
    const some = fc.integer({ min: 1, max: 70 });
    const thin = fc.record({
      sizes: fc.oneof(fc.tuple(few, some), fc.tuple(some, few)),
      k: fc.integer({ min: 0, max: 70 }),
      aTransposed: fc.boolean(),
      bTransposed: fc.boolean(),
      gap: fc.constantFrom(0, 0, 1, 3, 4),
      count: fc.constantFrom(1, 1, 2),
      accumulate: fc.boolean(),
    });
    fc.assert(
      fc.property(thin, ({ sizes: [m, n], ...rest }) => {
        const [first, ...others] = machines.map((machine) => product(machine, { m, n, ...rest }));
        for (const other of others) assert.deepEqual(bits(other), bits(first!));
      }),
      { seed: 20261, numRuns: 400 },
    );
  });

  const bits = (x: Float32Array) => new Uint32Array(x.buffer, x.byteOffset, x.length);

  const large: [number, number, number][] = [
    [121, 513, 9],
    [127, 129, 131],
    [7, 1025, 70],
    [241, 31, 1031],
    [1, 700, 1100],
    [1100, 700, 1],
    [130, 1, 130],
    [9, 40, 2060],
    // Few rows or columns: blocks of k and of columns, strides of 4 KiB.
    [3, 300, 1100],
    [5, 20, 1024],
    [1, 4200, 13],
    [2, 1024, 21],
    [1030, 260, 6],
  ];
  for (const [m, k, n] of large) {
    test(`blocks of all loops: ${m} x ${k} x ${n} in all four transposes`, () => {
      for (const aTransposed of [false, true]) {
        for (const bTransposed of [false, true]) {
          const it = { m, k, n, aTransposed, bTransposed, gap: 0, count: 1, accumulate: false };
          const [first, ...others] = machines.map((machine) => product(machine, it));
          for (const other of others) assert.deepEqual(bits(other), bits(first!));
        }
      }
    });
  }

  test("a row of the product has the same bits alone and among others, in every transpose", () => {
    const [m, k, n] = [70, 530, 45];
    const one = (aTransposed: boolean, bTransposed: boolean) => {
      const a = single.arena.allocate(4 * m * k);
      const b = single.arena.allocate(4 * k * n);
      const c = single.arena.allocate(4 * m * n);
      const [aRow, aCol] = aTransposed ? [1, m] : [k, 1];
      const [bRow, bCol] = bTransposed ? [1, k] : [n, 1];
      const x = new Float32Array(m * k);
      const y = new Float32Array(k * n);
      fill(x, 5);
      fill(y, 6);
      for (let i = 0; i < m; i++) {
        for (let p = 0; p < k; p++) single.f32[a / 4 + i * aRow + p * aCol] = x[i * k + p]!;
      }
      for (let p = 0; p < k; p++) {
        for (let j = 0; j < n; j++) single.f32[b / 4 + p * bRow + j * bCol] = y[p * n + j]!;
      }
      const operands: Gemm = { m, k, n, a, aRow, aCol, b, bRow, bCol, c, ldc: n };
      gemm(single, operands);
      const all = single.f32.slice(c / 4, c / 4 + m * n);
      for (let i = 0; i < m; i++) {
        gemm(single, { ...operands, m: 1, a: a + 4 * i * aRow });
        const row = single.f32.slice(c / 4, c / 4 + n);
        assert.deepEqual(bits(row), bits(all.slice(i * n, (i + 1) * n)));
      }
      for (const address of [a, b, c]) single.arena.free(address);
      return all;
    };
    const [first, ...others] = [
      one(false, false),
      one(false, true),
      one(true, false),
      one(true, true),
    ];
    for (const other of others) assert.deepEqual(bits(other), bits(first));
  });

  test("deterministic products round term by term: f32 loops in JS give the same bits", () => {
    const machine = createMachine([emitGemm], { threads: 1, deterministic: true });
    const [m, k, n] = [13, 77, 21];
    const [a, b, c] = [m * k, k * n, m * n].map((size) => machine.arena.allocate(4 * size)) as [
      number,
      number,
      number,
    ];
    const x = machine.f32.subarray(a / 4, a / 4 + m * k);
    const y = machine.f32.subarray(b / 4, b / 4 + k * n);
    fill(x, 7);
    fill(y, 8);
    gemm(machine, { m, k, n, a, aRow: k, aCol: 1, b, bRow: n, bCol: 1, c, ldc: n });
    for (let i = 0; i < m; i++) {
      for (let j = 0; j < n; j++) {
        let sum = 0;
        for (let p = 0; p < k; p++)
          sum = Math.fround(sum + Math.fround(x[i * k + p]! * y[p * n + j]!));
        assert.equal(machine.f32[c / 4 + i * n + j], sum);
      }
    }
  });

  test("along an axis of size 1 any stride will do", () => {
    const address = single.arena.allocate(4 * 200);
    const view = single.f32.subarray(address / 4, address / 4 + 200);
    fill(view, 9);
    const a = { a: address, b: address + 4 * 64, c: address + 4 * 192, ldc: 3 };
    const at = (i: number) => view[i]!;
    const near = (value: number, expected: number) => assert.ok(Math.abs(value - expected) < 1e-5);
    gemm(single, { m: 1, k: 9, n: 1, ...a, aRow: 2, aCol: 7, bRow: 5, bCol: 3 });
    let dot = 0;
    for (let p = 0; p < 9; p++) dot += at(7 * p) * at(64 + 5 * p);
    near(at(192), dot);
    gemm(single, { m: 2, k: 1, n: 2, ...a, aRow: 7, aCol: 3, bRow: 9, bCol: 4 });
    for (const [i, j] of [
      [0, 0],
      [0, 1],
      [1, 0],
      [1, 1],
    ] as const) {
      near(at(192 + 3 * i + j), at(7 * i) * at(64 + 4 * j));
    }
    single.arena.free(address);
  });

  test("strides that are not a matrix's are refused", () => {
    const operands = { a: 65536, aRow: 7, aCol: 2, b: 65536, bRow: 3, bCol: 1, c: 65536, ldc: 3 };
    assert.throws(
      () => gemm(single, { m: 2, k: 3, n: 3, ...operands }),
      /A \[2 x 3\] has strides 7 and 2: one must be 1/,
    );
  });
});
