/** The wasm foundation: assembler, arena and threads against plain models of each. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { Arena } from "../tensor/device/wasm/arena.ts";
import type { Value } from "../tensor/device/wasm/assembler.ts";
import {
  f32,
  f32x4,
  i32,
  i64,
  ModuleBuilder,
  scratch,
  select,
  v128,
} from "../tensor/device/wasm/assembler.ts";
import { createMachine, SCRATCH_BYTES } from "../tensor/device/wasm/machine.ts";

const property = { seed: 20260, numRuns: 60 };

describe("assembler", () => {
  type Tree =
    | { op: "leaf"; value: number | "x" | "y" }
    | { op: keyof typeof OPERATORS; a: Tree; b: Tree };
  const OPERATORS = {
    add: (a: number, b: number) => (a + b) | 0,
    sub: (a: number, b: number) => (a - b) | 0,
    mul: Math.imul,
    and: (a: number, b: number) => a & b,
    or: (a: number, b: number) => a | b,
    xor: (a: number, b: number) => a ^ b,
    shl: (a: number, b: number) => a << b,
    shrU: (a: number, b: number) => (a >>> b) | 0,
    shrS: (a: number, b: number) => a >> b,
    ltU: (a: number, b: number) => Number(a >>> 0 < b >>> 0),
    geS: (a: number, b: number) => Number(a >= b),
    eq: (a: number, b: number) => Number(a === b),
  };
  const trees = fc.letrec<{ tree: Tree }>((tie) => ({
    tree: fc.oneof(
      { maxDepth: 5 },
      fc.record({
        op: fc.constant("leaf" as const),
        value: fc.oneof(fc.integer(), fc.constantFrom("x" as const, "y" as const)),
      }),
      fc.record({
        op: fc.constantFrom(...(Object.keys(OPERATORS) as (keyof typeof OPERATORS)[])),
        a: tie("tree"),
        b: tie("tree"),
      }),
    ),
  })).tree;

  test("random integer expressions give what JS gives", () => {
    fc.assert(
      fc.property(trees, fc.integer(), fc.integer(), (tree, x, y) => {
        const evaluate = (t: Tree): number => {
          if (t.op !== "leaf") return OPERATORS[t.op](evaluate(t.a), evaluate(t.b));
          return t.value === "x" ? x : t.value === "y" ? y : t.value;
        };
        const machine = createMachine(
          [
            (m) =>
              m.function(
                "run",
                { x: "i32", y: "i32" },
                (f, p) => {
                  const emit = (t: Tree): Value<"i32"> => {
                    if (t.op !== "leaf") return i32[t.op](emit(t.a), emit(t.b));
                    return typeof t.value === "number" ? i32.const(t.value) : p[t.value];
                  };
                  f.return(emit(tree));
                },
                "i32",
              ),
          ],
          { threads: 1 },
        );
        assert.equal(machine.call("run", x, y), evaluate(tree));
      }),
      property,
    );
  });

  const kernels = (m: ModuleBuilder) => {
    const gauss = m.function(
      "gauss",
      { n: "i32" },
      (f, { n }) => {
        const sum = f.local("i32", 0, "sum");
        const i = f.local("i32", undefined, "i");
        f.for(i, 1, i32.add(n, 1), 1, () => f.set(sum, i32.add(sum, i)));
        f.return(sum);
      },
      "i32",
    );
    m.function(
      "branch",
      { n: "i32" },
      (f, { n }) => {
        f.if(
          i32.eqz(n),
          () => f.return(i32.const(-1)),
          () => f.return(f.call(gauss, i32.mul(n, 2))),
        );
        f.trap();
      },
      "i32",
    );
    m.function(
      "high",
      { a: "i32", b: "i32" },
      (f, { a, b }) => {
        const product = i64.mul(i64.extendU(a), i64.extendU(b));
        f.return(i32.wrap(i64.shrU(product, 32)));
      },
      "i32",
    );
    m.function("lanes", { from: "i32", to: "i32" }, (f, { from, to }) => {
      const x = f.local("v128", v128.load(from), "x");
      const scaled = f.local("v128", f32x4.add(f32x4.mul(x, 2), f32x4.const(1, 2, 3, 4)), "scaled");
      f.store("v128", to, v128.bitselect(scaled, 0, f32x4.gt(x, 0)));
      f.store("v128", to, v128.shuffle(x, scaled, 3, 0, 7, 4), 16);
      f.store("f32", to, select(f32.lt(f32.load(from), 0), f32.const(-0.5), 7), 32);
      f.store("i8", to, 0x1ff, 36);
      f.copy(i32.add(to, 40), from, 8);
      f.fill(i32.add(to, 48), 0xff, 4);
    });
  };

  test("control flow, calls, 64-bit products, vectors and memory work", () => {
    const machine = createMachine([kernels], { threads: 1 });
    assert.equal(machine.call("gauss", 100), 5050);
    assert.equal(machine.call("branch", 0), -1);
    assert.equal(machine.call("branch", 50), 5050);
    const high = Number((0xd2511f53n * 0xcd9e8d57n) >> 32n);
    assert.equal(machine.call("high", 0xd2511f53, 0xcd9e8d57) >>> 0, high);
    const from = machine.arena.allocate(16);
    const to = machine.arena.allocate(64);
    machine.f32.set([-1, 2, -3, 4], from / 4);
    machine.u32[to / 4 + 9] = 0;
    machine.call("lanes", from, to);
    const out = [...machine.f32.subarray(to / 4, to / 4 + 9)];
    assert.deepEqual(out.slice(0, 4), [0, 6, 0, 12]);
    assert.deepEqual(out.slice(4), [4, -1, 12, -1, -0.5]);
    assert.equal(machine.u32[to / 4 + 9], 0xff);
    assert.deepEqual([...machine.f32.subarray(to / 4 + 10, to / 4 + 12)], [-1, 2]);
    assert.equal(machine.u32[to / 4 + 12], 0xffffffff);
  });

  test("a function prints as WebAssembly text, its constants hoisted", () => {
    const m = new ModuleBuilder();
    m.function("f32_scale", { x: "i32", end: "i32" }, (f, { x, end }) => {
      f.for(x, x, end, 16, () => f.store("v128", x, f32x4.mul(v128.load(x, 32), 2.5)));
    });
    const expected = `(func $f32_scale (export "f32_scale") (param $x i32) (param $end i32)
  (local $c v128)
  (local.set $c (v128.load offset=16 (i32.const 0)))
  (if
    (i32.lt_u (local.get $x) (local.get $end))
    (then
      (loop
        (v128.store
          (local.get $x)
          (f32x4.mul (v128.load offset=32 (local.get $x)) (local.get $c)))
        (local.set $x (i32.add (local.get $x) (i32.const 16)))
        (br_if 0 (i32.lt_u (local.get $x) (local.get $end)))))))`;
    assert.equal(m.wat("f32_scale").replace(/\s+/g, " "), expected.replace(/\s+/g, " "));
    assert.ok(WebAssembly.validate(m.bytes()));
  });

  test("mistakes are refused where they are made", () => {
    const m = new ModuleBuilder();
    const two = m.function("two", { a: "i32", b: "i32" }, () => {});
    assert.throws(() => m.function("two", {}, () => {}), /"two" is defined twice/);
    m.function("bad", { x: "f32" }, (f, { x }) => {
      assert.throws(() => i32.add(x as never, 1), /local.get gives f32, but i32 is expected/);
      assert.throws(() => f.call(two, 1), /two takes 2 arguments, got 1/);
    });
    const machine = createMachine([], { threads: 1 });
    assert.throws(() => machine.call("absent"), /no kernel "absent"/);
    assert.throws(() => createMachine([], { threads: 0 }), /threads is 0: expected a whole number/);
  });
});

describe("arena", () => {
  type Block = { address: number; bytes: number };
  const newArena = () => {
    const memory = new WebAssembly.Memory({ initial: 1, maximum: 65536, shared: true });
    return { memory, arena: new Arena(memory, 1000) };
  };

  test("blocks never overlap, are aligned with spare bytes, counted, and all come back", () => {
    const command = fc.oneof(
      fc.record({ allocate: fc.oneof(fc.nat(300), fc.nat(100_000), fc.nat(3_000_000)) }),
      fc.record({ free: fc.nat() }),
    );
    fc.assert(
      fc.property(fc.array(command, { maxLength: 120 }), (commands) => {
        const { memory, arena } = newArena();
        const model: Block[] = [];
        let peak = 0;
        for (const step of commands) {
          if ("allocate" in step) {
            const bytes = step.allocate;
            const address = arena.allocate(bytes);
            assert.equal(address % 64, 0);
            assert.ok(address >= 1000 && address + bytes + 16 <= memory.buffer.byteLength);
            for (const other of model) {
              const apart =
                address + bytes + 16 <= other.address ||
                other.address + other.bytes + 16 <= address;
              assert.ok(apart, `${address}+${bytes} overlaps ${other.address}+${other.bytes}`);
            }
            model.push({ address, bytes });
          } else if (model.length > 0) {
            const [{ address }] = model.splice(step.free % model.length, 1) as [Block, ...Block[]];
            arena.free(address);
            assert.throws(() => arena.free(address), /no block in use/);
          }
          const total = model.reduce((sum, { bytes }) => sum + bytes, 0);
          peak = Math.max(peak, total);
          assert.deepEqual(
            [arena.live, arena.liveBytes, arena.peakBytes],
            [model.length, total, peak],
          );
        }
        for (const { address } of model) arena.free(address);
        // Everything merged again: one block of the whole size fits without growth.
        const size = memory.buffer.byteLength;
        if (size > 65536) arena.allocate(Math.floor(size * 0.85));
        assert.equal(memory.buffer.byteLength, size);
      }),
      property,
    );
  });

  test("memory is reused: a loop of the same sizes does not grow it", () => {
    const { memory, arena } = newArena();
    const sizes = [100, 70_000, 4096, 1_000_001, 33];
    const round = () => {
      for (const address of sizes.map((bytes) => arena.allocate(bytes))) arena.free(address);
    };
    round();
    const size = memory.buffer.byteLength;
    for (let turn = 0; turn < 200; turn++) round();
    assert.equal(memory.buffer.byteLength, size);
    assert.equal(arena.live, 0);
  });

  test("exhaustion and nonsense are clear errors", () => {
    const { arena } = newArena();
    arena.allocate(64);
    assert.throws(
      () => arena.allocate(2 ** 33),
      /out of memory: 8589934592 bytes .* 64 bytes in 1/,
    );
    assert.throws(() => arena.allocate(-1), /allocate\(-1\): expected a whole number/);
    arena.free(arena.allocate(64));
  });
});

describe("threads", () => {
  const machine = createMachine(
    [
      (m) => {
        m.function(
          "count_visits",
          { counts: "i32", log: "i32", begin: "i32", end: "i32" },
          (f, { counts, log, begin, end }) => {
            const i = f.local("i32", undefined, "i");
            const at = i32.add(counts, i32.shl(i, 2));
            f.for(i, begin, end, 1, () => f.store("i32", at, i32.add(i32.load(at), 1)));
            f.store("i32", i32.add(log, i32.shl(begin, 2)), 1);
          },
        );
        m.function("note_scratch", { log: "i32", begin: "i32", end: "i32" }, (f, p) => {
          const i = f.local("i32", undefined, "i");
          // Long enough that one thread does not do it all.
          f.for(i, 0, 20_000, 1, () => f.store("i32", scratch, i));
          f.for(i, p.begin, p.end, 1, () => f.store("i32", i32.add(p.log, i32.shl(i, 2)), scratch));
        });
        m.function("trap_from", { limit: "i32", begin: "i32", end: "i32" }, (f, { limit, end }) =>
          f.if(i32.gtU(end, limit), () => f.trap()),
        );
      },
    ],
    { threads: 3 },
  );
  const ready = machine.warmUp(5000);

  test("every index is visited once, cut at multiples of the grain, on all threads", () => {
    assert.equal(ready, 3);
    const counts = machine.arena.allocate(4 * 5000);
    const log = machine.arena.allocate(4 * 5001);
    fc.assert(
      fc.property(fc.nat(5000), fc.integer({ min: 1, max: 700 }), (total, grain) => {
        machine.i32.fill(0, counts / 4, counts / 4 + 5000);
        machine.i32.fill(0, log / 4, log / 4 + 5001);
        machine.parallel("count_visits", [counts, log], total, { grain, work: 1e6 });
        for (let i = 0; i < 5000; i++) {
          assert.equal(machine.i32[counts / 4 + i], i < total ? 1 : 0);
        }
        const starts = [...machine.i32.subarray(log / 4, log / 4 + 5001).entries()].filter(
          ([, hit]) => hit === 1,
        );
        const grains = Math.ceil(total / grain);
        assert.ok(starts.length <= grains && starts.length >= Math.min(2, grains));
        for (const [start] of starts) assert.equal(start % grain, 0);
      }),
      property,
    );
    machine.arena.free(counts);
    machine.arena.free(log);
  });

  test("all threads take part, each with scratch memory of its own", () => {
    const log = machine.arena.allocate(4 * 12);
    const seen = new Set<number>();
    const until = performance.now() + 10_000;
    while (seen.size < 3 && performance.now() < until) {
      machine.parallel("note_scratch", [log], 12, { grain: 1, work: 1e6 });
      for (const address of machine.i32.subarray(log / 4, log / 4 + 12)) seen.add(address);
    }
    assert.equal(seen.size, 3);
    const [a, b, c] = [...seen].sort((x, y) => x - y) as [number, number, number];
    assert.ok(b - a >= SCRATCH_BYTES && c - b >= SCRATCH_BYTES);
    machine.arena.free(log);
  });

  test("an error on any thread reaches the caller, by kernel; the pool survives", () => {
    const run = (limit: number) =>
      machine.parallel("trap_from", [limit], 9, { grain: 1, work: 1e6 });
    for (const limit of [0, 8, 3]) assert.throws(() => run(limit), /kernel "trap_from" failed on/);
    for (let turn = 0; turn < 100; turn++) run(9);
  });

  test("a process ends at once while its workers start or sleep", () => {
    const child = fileURLToPath(new URL("./children/exit.ts", import.meta.url));
    const run = "Deno" in globalThis ? ["run", "--quiet", "-A", child] : [child];
    for (const mode of ["starting", "asleep"]) {
      const result = spawnSync(process.execPath, [...run, mode], { timeout: 20_000 });
      const output = `${result.stdout}${result.stderr}`;
      assert.equal(result.status, 0, `${mode}: status ${result.status} ${result.signal} ${output}`);
      assert.match(output, /end of the program/);
    }
  });
});
